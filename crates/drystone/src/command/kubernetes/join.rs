//! Joining a cluster.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use clap::Args;
use drystone_cluster::steps::members::MEMBERS_PATH;
use drystone_identity::Secret;
use drystone_sealing::cipher::Cipher;
use kube::Client;

use super::{
    Machine,
    cluster_info::{self, ClusterInfo},
    files::{self, NodeFacts},
    init::write_marker,
    invite::PLACE,
};
use crate::command::Failure;

/// How long the new control plane may take to answer: its member of etcd gets all data first.
const LIMIT: Duration = Duration::from_secs(600);

/// Arguments.
#[derive(Debug, Args)]
pub(super) struct JoinArgs {
    #[command(flatten)]
    machine: Machine,
    /// SHA-256 of the public key of the cluster's authority, as `invite` prints it
    #[arg(long)]
    authority: String,
    /// Become a control plane; the key is in DRYSTONE_CERTIFICATE_KEY
    #[arg(long)]
    control_plane: bool,
}

fn secret(name: &str) -> Result<Secret, Failure> {
    let value = std::env::var(name).unwrap_or_default();
    if value.is_empty() { Err(format!("{name} is not set").into()) } else { Ok(Secret::new(value)) }
}

/// Joins. Repeated, it goes on where it was.
pub(super) async fn run(args: &JoinArgs) -> Result<(), Failure> {
    let machine = &args.machine;
    let token = secret("DRYSTONE_JOIN_TOKEN")?;
    let url = files::url(machine.endpoint);
    let digest = args.authority.strip_prefix("sha256:").unwrap_or(&args.authority);
    let (info, authority) = cluster_info::discover(&url, digest).await?;
    let block = info.blocks.get(&machine.node).copied().ok_or_else(|| {
        format!(
            "the cluster has not invited {}; run `drystone kubernetes invite --node {}` on a control plane",
            machine.node, machine.node
        )
    })?;
    files::write_authority(&authority)?;
    if args.control_plane {
        join_control_planes(args, &info, &url, &authority, &token).await?;
    }
    let networks = (info.pod_cidr, info.service_cidr);
    let is_control_plane = args.control_plane;
    files::start_node(&NodeFacts { machine, networks, block, token: &token, is_control_plane }).await?;
    write_marker(machine.endpoint, if is_control_plane { "control-plane" } else { "worker" })
}

/// Gets the cluster's keys, becomes a member of etcd, and starts a control plane on it.
async fn join_control_planes(
    args: &JoinArgs,
    info: &ClusterInfo,
    url: &str,
    authority: &str,
    token: &Secret,
) -> Result<(), Failure> {
    let machine = &args.machine;
    if info.members.is_empty() {
        return Err(
            "the cluster was made for one control plane: its state is not in etcd (`init --replicated`)"
                .into(),
        );
    }
    let key =
        unhex(secret("DRYSTONE_CERTIFICATE_KEY")?.expose()).ok_or("DRYSTONE_CERTIFICATE_KEY is no key")?;
    let sealed = cluster_info::keys(url, authority, token.expose()).await?;
    let opened = Cipher::new(&key).open(&sealed, PLACE);
    let opened = opened.ok_or(
        "the control planes' keys cannot be read with DRYSTONE_CERTIFICATE_KEY; invite the node again",
    )?;
    let keys: BTreeMap<String, Vec<u8>> = serde_json::from_slice(&opened)?;
    files::write_keys(&keys)?;
    let pki = files::read_keys()?.ok_or("the cluster's keys are not complete")?;
    if pki.authority.certificate_pem() != authority {
        return Err("the control planes' keys are another cluster's".into());
    }
    let cluster = files::administrator(&pki, machine.endpoint).await?;
    let others: BTreeMap<String, IpAddr> = info
        .members
        .iter()
        .filter(|(node, _)| **node != machine.node)
        .map(|(n, a)| (n.clone(), *a))
        .collect();
    insist(&cluster, "PUT", &format!("{MEMBERS_PATH}/{}", machine.address)).await?;
    let etcd = files::etcd_config(machine, &others)?;
    let config = files::control_plane_config(
        machine,
        (info.pod_cidr, info.service_cidr),
        &info.additional_addresses,
        Some(etcd),
    );
    files::start_control_plane(&config).await?;
    insist(&cluster, "POST", &format!("{MEMBERS_PATH}/{}/promote", machine.address)).await?;
    let own = files::administrator(&pki, machine.address).await?;
    files::await_api(&own, LIMIT).await?;
    files::write_admin_conf(&pki, machine.endpoint)?;
    let add = |info: &mut ClusterInfo| {
        info.members.insert(machine.node.clone(), machine.address);
        Ok(())
    };
    cluster_info::change(&own, add).await?;
    Ok(())
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let text = text.trim();
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}

/// Asks for a change of etcd's members until it is done: etcd does what it can only when it can.
async fn insist(client: &Client, method: &str, path: &str) -> Result<(), Failure> {
    let end = tokio::time::Instant::now() + LIMIT;
    loop {
        let request = http::Request::builder().method(method).uri(path).body(Vec::new())?;
        let asked = tokio::time::timeout(Duration::from_secs(20), client.request_text(request)).await;
        let why = match asked {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer".to_owned(),
        };
        if tokio::time::Instant::now() >= end {
            return Err(format!("{method} {path}: {why}").into());
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read() {
        assert_eq!(unhex(&"0a".repeat(32)), Some(vec![10; 32]));
        for text in ["", "0a", &"zz".repeat(32), &"é".repeat(32)] {
            assert_eq!(unhex(text), None);
        }
    }
}
