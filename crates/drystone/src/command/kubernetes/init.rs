//! The first control plane.

use std::{collections::BTreeMap, net::IpAddr, path::Path, time::Duration};

use clap::Args;
use drystone_cluster::bootstrap::ClusterPki;
use drystone_identity::files::write_public;
use ipnet::IpNet;
use jiff::Timestamp;
use serde_json::json;

use super::{
    Machine,
    cluster_info::{self, ClusterInfo},
    files::{self, NodeFacts},
    invite::new_token,
};
use crate::command::Failure;

/// How long the control plane may take to answer: it waits for etcd.
const LIMIT: Duration = Duration::from_secs(300);

/// Arguments.
#[derive(Debug, Args)]
pub(super) struct InitArgs {
    #[command(flatten)]
    machine: Machine,
    /// Addresses of pods
    #[arg(long)]
    pod_cidr: IpNet,
    /// Addresses of Services
    #[arg(long)]
    service_cidr: IpNet,
    /// Further addresses under which the API is reached
    #[arg(long, value_delimiter = ',')]
    sans: Vec<IpAddr>,
    /// Let further control planes join: keeps the state in etcd
    #[arg(long)]
    replicated: bool,
}

/// Makes it. Repeated, it goes on with the keys that are there.
pub(super) async fn run(args: &InitArgs) -> Result<(), Failure> {
    let machine = &args.machine;
    let networks = (args.pod_cidr.trunc(), args.service_cidr.trunc());
    let pki = match files::read_keys()? {
        Some(keys) => keys,
        None => {
            let keys = ClusterPki::generate("kubernetes", Timestamp::now())?;
            files::write_keys(&files::key_files(&keys))?;
            keys
        }
    };
    let authority = pki.authority.certificate_pem();
    files::write_authority(&authority)?;
    // Who has an address that is none of the machine's own is settled in etcd.
    let replicated = args.replicated || machine.endpoint != machine.address;
    let etcd = replicated.then(|| files::etcd_config(machine, &BTreeMap::new())).transpose()?;
    let members = etcd.iter().map(|etcd| (etcd.name.clone(), etcd.address)).collect();
    files::start_control_plane(&files::control_plane_config(machine, networks, &args.sans, etcd)).await?;
    let client = files::administrator(&pki, machine.address).await?;
    files::await_api(&client, LIMIT).await?;
    files::write_admin_conf(&pki, machine.endpoint)?;
    let mut info = ClusterInfo {
        pod_cidr: networks.0,
        service_cidr: networks.1,
        additional_addresses: args.sans.clone(),
        blocks: BTreeMap::new(),
        members,
    };
    info.allocate(&machine.node)?;
    cluster_info::publish(&client, &authority, &info).await?;
    let (block, _) = cluster_info::change(&client, |info| info.allocate(&machine.node)).await?;
    let token = new_token(&client, &machine.node, false).await?;
    let facts = NodeFacts { machine, networks, block, token: &token, is_control_plane: true };
    files::start_node(&facts).await?;
    write_marker(machine.endpoint, "control-plane")?;
    println!("server: {}", files::url(machine.endpoint));
    println!("ssl_ca_cert_hash: {}", drystone_identity::tls::public_key_digest(&authority)?);
    print!("{authority}");
    Ok(())
}

/// Says that this machine belongs to such a cluster.
pub(super) fn write_marker(endpoint: IpAddr, role: &str) -> Result<(), Failure> {
    let text = json!({"endpoint": endpoint, "role": role}).to_string();
    Ok(write_public(Path::new(files::MARKER), text.as_bytes())?)
}
