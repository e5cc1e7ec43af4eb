//! Files and services of a node.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use drystone_cluster::bootstrap::{ClusterPki, ControlPlaneConfig, EtcdConfig};
use drystone_identity::{
    Secret,
    files::{private_directory, write_private, write_public},
};
use ipnet::{IpNet, Ipv4Net};
use jiff::Timestamp;
use k8s_openapi::ByteString;
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::json;
use tokio::process::Command;

use super::Machine;
use crate::command::Failure;

pub(super) const CONFIG: &str = "/etc/drystone";
pub(super) const PKI: &str = "/etc/drystone/pki";
/// Says that this machine belongs to such a cluster.
pub(super) const MARKER: &str = "/etc/drystone/cluster.json";
pub(super) const ADMIN_CONF: &str = "/etc/kubernetes/admin.conf";
/// Port of the API.
pub(super) const PORT: u16 = 6443;
const PROGRAM: &str = "/usr/local/bin/drystone";

/// What every control plane has of the cluster's keys.
const KEYS: [&str; 6] =
    ["ca.crt", "ca.key", "service-account.key", "sealing-key", "etcd-ca.crt", "etcd-ca.key"];

/// URL of an API server.
pub(super) fn url(address: IpAddr) -> String {
    format!("https://{}", std::net::SocketAddr::new(address, PORT))
}

/// The keys that are here; nothing if there are none, or not all.
pub(super) fn read_keys() -> Result<Option<ClusterPki>, Failure> {
    let mut data = BTreeMap::new();
    for name in KEYS {
        match std::fs::read(Path::new(PKI).join(name)) {
            Ok(bytes) => drop(data.insert(name.to_owned(), ByteString(bytes))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(format!("{PKI}/{name}: {error}").into()),
        }
    }
    // Tokens are made one by one here.
    data.insert("bootstrap-token".to_owned(), ByteString(b"unused".to_vec()));
    Ok(Some(ClusterPki::from_secret_data(&data)?))
}

/// The keys as files, by name.
pub(super) fn key_files(pki: &ClusterPki) -> BTreeMap<String, Vec<u8>> {
    let data = pki.to_secret_data().into_iter();
    data.filter(|(name, _)| KEYS.contains(&name.as_str())).map(|(name, bytes)| (name, bytes.0)).collect()
}

/// Writes keys; nothing else than these names.
pub(super) fn write_keys(files: &BTreeMap<String, Vec<u8>>) -> Result<(), Failure> {
    private_directory(Path::new(PKI))?;
    for name in KEYS {
        let bytes = files.get(name).ok_or_else(|| format!("{name} is missing among the cluster's keys"))?;
        write_private(&Path::new(PKI).join(name), bytes)?;
    }
    Ok(())
}

/// Writes the authority's certificate where the programs of the node, and others, look for it.
pub(super) fn write_authority(pem: &str) -> Result<(), Failure> {
    private_directory(Path::new(PKI))?;
    write_public(&Path::new(PKI).join("ca.crt"), pem.as_bytes())?;
    std::fs::create_dir_all("/etc/kubernetes/pki")?;
    write_public(Path::new("/etc/kubernetes/pki/ca.crt"), pem.as_bytes())?;
    Ok(())
}

/// The interface that has an address.
pub(super) fn interface(address: IpAddr) -> Result<String, Failure> {
    let all = nix::ifaddrs::getifaddrs()?;
    let has = |found: &nix::ifaddrs::InterfaceAddress| {
        let storage = found.address?;
        let own = match (storage.as_sockaddr_in(), storage.as_sockaddr_in6()) {
            (Some(v4), _) => IpAddr::V4(v4.ip()),
            (_, Some(v6)) => IpAddr::V6(v6.ip()),
            _ => return None,
        };
        (own == address).then(|| found.interface_name.clone())
    };
    let name = all.into_iter().find_map(|found| has(&found));
    name.ok_or_else(|| format!("{address} is no address of this machine").into())
}

/// The control plane's configuration. Several control planes, or an address that is none of this machine's, take etcd.
pub(super) fn control_plane_config(
    machine: &Machine,
    networks: (IpNet, IpNet),
    additional: &[IpAddr],
    etcd: Option<EtcdConfig>,
) -> ControlPlaneConfig {
    let file = |name: &str| PathBuf::from(PKI).join(name);
    ControlPlaneConfig {
        cluster_name: "kubernetes".to_owned(),
        listen: ([0, 0, 0, 0], PORT).into(),
        advertise_address: machine.endpoint,
        additional_addresses: std::iter::once(machine.address).chain(additional.iter().copied()).collect(),
        data_dir: "/var/lib/drystone/control-plane".into(),
        ca_cert: file("ca.crt"),
        ca_key: file("ca.key"),
        service_account_key: file("service-account.key"),
        bootstrap_token_file: None,
        node_tokens_file: None,
        sealing_key: Some(file("sealing-key")),
        pod_cidr: networks.0,
        service_cidr: networks.1,
        external_pools: Vec::new(),
        etcd,
    }
}

/// A member of etcd on this machine.
pub(super) fn etcd_config(
    machine: &Machine,
    others: &BTreeMap<String, IpAddr>,
) -> Result<EtcdConfig, Failure> {
    let mut members = others.clone();
    members.insert(machine.node.clone(), machine.address);
    Ok(EtcdConfig {
        name: machine.node.clone(),
        address: machine.address,
        interface: interface(machine.address)?,
        data_dir: "/var/lib/drystone/etcd".into(),
        ca_cert: PathBuf::from(PKI).join("etcd-ca.crt"),
        ca_key: PathBuf::from(PKI).join("etcd-ca.key"),
        members,
        join: !others.is_empty(),
    })
}

/// Writes the control plane's configuration and starts what it says.
pub(super) async fn start_control_plane(config: &ControlPlaneConfig) -> Result<(), Failure> {
    let path = format!("{CONFIG}/control-plane.yaml");
    write_public(Path::new(&path), &serde_json::to_vec_pretty(config)?)?;
    if config.etcd.is_some() {
        start("drystone-etcd", "Member of etcd", &format!("{PROGRAM} etcd --config {path}")).await?;
    }
    let command = format!("{PROGRAM} control-plane --config {path}");
    start("drystone-control-plane", "Drystone control plane", &command).await
}

/// What a node is told of the cluster.
pub(super) struct NodeFacts<'a> {
    pub(super) machine: &'a Machine,
    pub(super) networks: (IpNet, IpNet),
    pub(super) block: Ipv4Net,
    pub(super) token: &'a Secret,
    pub(super) is_control_plane: bool,
}

/// Writes the node agent's configuration and starts it.
pub(super) async fn start_node(facts: &NodeFacts<'_>) -> Result<(), Failure> {
    let machine = facts.machine;
    let (pods, services) = facts.networks;
    let token = format!("{CONFIG}/bootstrap-token");
    write_private(Path::new(&token), facts.token.expose().as_bytes())?;
    let role = "node-role.kubernetes.io/control-plane";
    let taint = json!({"key": role, "effect": "NoSchedule"});
    let config = json!({
        "nodeName": machine.node,
        "clusterName": "kubernetes",
        "nodeAddress": machine.address,
        "interface": interface(machine.address)?,
        "apiServer": url(machine.endpoint),
        "caFile": format!("{PKI}/ca.crt"),
        "bootstrapTokenFile": token,
        "podCIDR": pods,
        "podBlocks": [facts.block],
        "serviceCIDR": services,
        "clusterDNS": services.hosts().nth(9).into_iter().collect::<Vec<_>>(),
        "images": images()?,
        "labels": if facts.is_control_plane { json!({role: ""}) } else { json!({}) },
        "taints": if facts.is_control_plane { json!([taint]) } else { json!([]) },
    });
    let path = format!("{CONFIG}/node.yaml");
    write_public(Path::new(&path), &serde_json::to_vec_pretty(&config)?)?;
    start("drystone-node", "Drystone node agent", &format!("{PROGRAM} node --config {path}")).await
}

/// Image archives that were brought to this machine.
fn images() -> Result<Vec<PathBuf>, Failure> {
    let entries = match std::fs::read_dir("/var/lib/drystone/images") {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(format!("/var/lib/drystone/images: {error}").into()),
    };
    let mut found: Vec<PathBuf> =
        entries.map(|entry| Ok(entry?.path())).collect::<Result<_, std::io::Error>>()?;
    found.retain(|path| path.extension().is_some_and(|end| end == "tar"));
    found.sort();
    Ok(found)
}

/// Makes a service, and starts it; one that runs goes on with what it has.
async fn start(name: &str, description: &str, command: &str) -> Result<(), Failure> {
    let unit = format!(
        "[Unit]\nDescription={description}\nWants=network-online.target\nAfter=network-online.target\nStartLimitIntervalSec=0\n\n\
         [Service]\nExecStart={command}\nRestart=always\nRestartSec=1\n\n[Install]\nWantedBy=multi-user.target\n"
    );
    std::fs::create_dir_all("/etc/systemd/system")?;
    write_public(Path::new(&format!("/etc/systemd/system/{name}.service")), unit.as_bytes())?;
    systemctl(&["daemon-reload"]).await?;
    systemctl(&["enable", "--now", &format!("{name}.service")]).await
}

/// Calls systemctl.
pub(super) async fn systemctl(arguments: &[&str]) -> Result<(), Failure> {
    let output = Command::new("systemctl").args(arguments).kill_on_drop(true).output().await?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(format!("systemctl {}: {words}", arguments.join(" ")).into())
}

/// The administrator's kubeconfig.
pub(super) fn write_admin_conf(pki: &ClusterPki, endpoint: IpAddr) -> Result<(), Failure> {
    let text = pki.admin_kubeconfig("kubernetes", &url(endpoint), None, Timestamp::now())?;
    private_directory(Path::new("/etc/kubernetes"))?;
    write_private(Path::new(ADMIN_CONF), text.expose().as_bytes())?;
    Ok(())
}

/// A client of the API server at an address, as an administrator.
pub(super) async fn administrator(pki: &ClusterPki, address: IpAddr) -> Result<Client, Failure> {
    let text = pki.admin_kubeconfig("kubernetes", &url(address), None, Timestamp::now())?;
    let kubeconfig = Kubeconfig::from_yaml(text.expose())?;
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    // The machine's own proxies lead elsewhere.
    config.proxy_url = None;
    Ok(Client::try_from(config)?)
}

/// Waits until the API server answers that it is ready.
pub(super) async fn await_api(client: &Client, limit: Duration) -> Result<(), Failure> {
    let end = tokio::time::Instant::now() + limit;
    loop {
        let request = http::Request::get("/readyz").body(Vec::new())?;
        let asked = tokio::time::timeout(Duration::from_secs(5), client.request_text(request)).await;
        let why = match asked {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer".to_owned(),
        };
        if tokio::time::Instant::now() >= end {
            return Err(format!("the control plane is not ready after {} s: {why}", limit.as_secs()).into());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
