//! Boot data of one host: everything that its first boot needs, as cloud-init files. Pure.

use std::{collections::BTreeMap, net::IpAddr};

use drystone_api::{MemberRole, Taint};
use drystone_identity::{Secret, authn::BootstrapToken};
use ipnet::IpNet;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    config::{ControlPlaneConfig, EtcdConfig, ExternalAddresses, NodeToken},
    network_data::{NODE_INTERFACE, network_config},
    pki::ClusterPki,
    ssh_server::SshServer,
    user_data::UserData,
};

/// Where things are on every host.
const CONFIG_DIR: &str = "/etc/drystone";
const PROGRAM: &str = "/usr/local/bin/drystone";

/// What a node offers, by resource name: `cpu`, `memory`, `pods`, extended resources.
pub type NodeCapacity = BTreeMap<String, String>;

/// What is known of a host before it boots.
#[derive(Debug, Clone)]
pub struct HostPlan {
    /// Name of host and node.
    pub name: String,
    /// Role.
    pub role: MemberRole,
    /// Address with the prefix length of the node network.
    pub address: IpNet,
    /// Default gateway.
    pub gateway: Option<IpAddr>,
    /// MAC address of the interface on the node network.
    pub mac: String,
    /// What the node offers.
    pub capacity: NodeCapacity,
    /// Labels of the node.
    pub labels: BTreeMap<String, String>,
    /// Taints of the node.
    pub taints: Vec<Taint>,
    /// Its place in etcd, if it is one of several control planes.
    pub etcd: Option<EtcdPlace>,
}

/// A host's place in etcd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EtcdPlace {
    /// Addresses of all members by host, this one's among them.
    pub members: BTreeMap<String, IpAddr>,
    /// Whether the others are there already.
    pub join: bool,
}

/// What all hosts of a cluster share.
#[derive(Debug)]
pub struct ClusterPlan<'a> {
    /// Name of the cluster.
    pub name: &'a str,
    /// Its keys.
    pub pki: &'a ClusterPki,
    /// Address of the control plane: that of its host, or the one that its hosts take turns to have.
    pub control_plane: IpAddr,
    /// Addresses of pods.
    pub pod_cidr: IpNet,
    /// Addresses of Services.
    pub service_cidr: IpNet,
    /// The cluster's share of external pools.
    pub external: Vec<ExternalAddresses>,
    /// How hosts lease pod address blocks.
    pub address_daemon: AddressDaemonAccess,
    /// Image archives that nodes import when they start.
    pub images: &'a [String],
    /// Who joins.
    pub joining: Joining,
}

/// The hosts that join a cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Joining {
    /// Names of all hosts that were composed for the cluster.
    pub hosts: Vec<String>,
    /// When the tokens end that they get now.
    pub until: Option<Timestamp>,
}

/// How a host reaches the fabric manager's address daemon.
#[derive(Debug, Clone)]
pub struct AddressDaemonAccess {
    /// `https://10.20.0.1:6443`.
    pub url: String,
    /// Certificate authority of Drystone's HTTPS port (PEM).
    pub ca_pem: String,
    /// The hosts' token.
    pub token: Secret,
    /// Namespace of the pool.
    pub namespace: String,
    /// Name of the pool.
    pub pool: String,
}

/// The three documents of a NoCloud seed, without metadata, which is Metal3's.
#[derive(Debug, Clone)]
pub struct BootData {
    /// `user-data`; holds keys.
    pub user_data: Secret,
    /// `network-config`.
    pub network_config: String,
}

/// Makes the boot data of a host.
///
/// # Errors
/// When a document cannot be written as JSON.
pub fn boot_data(cluster: &ClusterPlan<'_>, host: &HostPlan) -> Result<BootData, serde_json::Error> {
    let mut data = UserData::new(&host.name);
    let authority = cluster.pki.authority.certificate_pem();
    data.file(&format!("{CONFIG_DIR}/pki/ca.crt"), authority.as_bytes());
    data.secret_file(
        &format!("{CONFIG_DIR}/bootstrap-token"),
        node_token(cluster, &host.name).token().expose().as_bytes(),
    );
    if host.role == MemberRole::ControlPlane {
        control_plane(cluster, host, &mut data)?;
    }
    let daemon = &cluster.address_daemon;
    data.file(&format!("{CONFIG_DIR}/pki/drystone-ca.crt"), daemon.ca_pem.as_bytes());
    data.secret_file(&format!("{CONFIG_DIR}/address-daemon-token"), daemon.token.expose().as_bytes());
    let config = serde_json::to_vec_pretty(&node_config(cluster, host))?;
    data.file(&format!("{CONFIG_DIR}/node.yaml"), &config);
    data.service(
        "drystone-node",
        "Drystone node agent",
        &format!("{PROGRAM} node --config {CONFIG_DIR}/node.yaml"),
    );
    let network = network_config(&host.mac, host.address, host.gateway);
    Ok(BootData {
        user_data: Secret::new(data.render()?),
        network_config: serde_json::to_string_pretty(&network)?,
    })
}

/// Boot data of a host that gets nothing but a network and an SSH server: what else it needs comes over SSH.
///
/// # Errors
/// When a document cannot be written as JSON.
pub fn reachable_boot_data(host: &HostPlan, server: &SshServer) -> Result<BootData, serde_json::Error> {
    let mut data = UserData::new(&host.name);
    server.add_to(&mut data);
    let network = network_config(&host.mac, host.address, host.gateway);
    Ok(BootData {
        user_data: Secret::new(data.render()?),
        network_config: serde_json::to_string_pretty(&network)?,
    })
}

/// What a host joins with: nobody else's token opens the cluster to it, and its own opens it to nobody else.
fn node_token(cluster: &ClusterPlan<'_>, node: &str) -> BootstrapToken {
    BootstrapToken::for_node(&cluster.pki.bootstrap_token, node, cluster.joining.until)
}

fn node_tokens(cluster: &ClusterPlan<'_>) -> Vec<NodeToken> {
    let token = |node: &String| NodeToken {
        node: node.clone(),
        token: node_token(cluster, node).token().expose().to_owned(),
        expires: cluster.joining.until,
    };
    cluster.joining.hosts.iter().map(token).collect()
}

fn control_plane(
    cluster: &ClusterPlan<'_>,
    host: &HostPlan,
    data: &mut UserData,
) -> Result<(), serde_json::Error> {
    let pki = cluster.pki;
    data.secret_file(&format!("{CONFIG_DIR}/pki/ca.key"), pki.authority.key_pem().expose().as_bytes());
    data.secret_file(
        &format!("{CONFIG_DIR}/pki/service-account.key"),
        pki.service_account_key.expose().as_bytes(),
    );
    let tokens = format!("{CONFIG_DIR}/pki/node-tokens");
    data.secret_file(&tokens, &serde_json::to_vec(&node_tokens(cluster))?);
    let sealing_key = pki.sealing_key.as_ref().map(|key| {
        let path = format!("{CONFIG_DIR}/pki/sealing-key");
        data.secret_file(&path, key.expose());
        path.into()
    });
    let config = ControlPlaneConfig {
        cluster_name: cluster.name.to_owned(),
        listen: std::net::SocketAddr::from(([0, 0, 0, 0], 6443)),
        advertise_address: cluster.control_plane,
        additional_addresses: Vec::new(),
        data_dir: "/var/lib/drystone/control-plane".into(),
        ca_cert: format!("{CONFIG_DIR}/pki/ca.crt").into(),
        ca_key: format!("{CONFIG_DIR}/pki/ca.key").into(),
        service_account_key: format!("{CONFIG_DIR}/pki/service-account.key").into(),
        bootstrap_token_file: None,
        node_tokens_file: Some(tokens.into()),
        sealing_key,
        pod_cidr: cluster.pod_cidr,
        service_cidr: cluster.service_cidr,
        external_pools: cluster.external.clone(),
        etcd: etcd(cluster, host, data),
    };
    data.file(&format!("{CONFIG_DIR}/control-plane.yaml"), &serde_json::to_vec_pretty(&config)?);
    if config.etcd.is_some() {
        let command = format!("{PROGRAM} etcd --config {CONFIG_DIR}/control-plane.yaml");
        data.service("drystone-etcd", "Member of etcd", &command);
    }
    let command = format!("{PROGRAM} control-plane --config {CONFIG_DIR}/control-plane.yaml");
    data.service("drystone-control-plane", "Drystone control plane", &command);
    Ok(())
}

/// The host's member of etcd, if it has one, with the keys that it needs.
fn etcd(cluster: &ClusterPlan<'_>, host: &HostPlan, data: &mut UserData) -> Option<EtcdConfig> {
    let place = host.etcd.as_ref()?;
    let authority = cluster.pki.etcd_authority.as_ref()?;
    let (ca_cert, ca_key) =
        (format!("{CONFIG_DIR}/pki/etcd-ca.crt"), format!("{CONFIG_DIR}/pki/etcd-ca.key"));
    data.file(&ca_cert, authority.certificate_pem().as_bytes());
    data.secret_file(&ca_key, authority.key_pem().expose().as_bytes());
    Some(EtcdConfig {
        name: host.name.clone(),
        address: host.address.addr(),
        interface: NODE_INTERFACE.to_owned(),
        data_dir: "/var/lib/drystone/etcd".into(),
        ca_cert: ca_cert.into(),
        ca_key: ca_key.into(),
        members: place.members.clone(),
        join: place.join,
    })
}

/// Where pods find the cluster's name server: the tenth address of the Service network, as everywhere.
fn name_server(service_cidr: IpNet) -> Option<IpAddr> {
    service_cidr.hosts().nth(9)
}

/// `/etc/drystone/node.yaml`; the node agent's `NodeConfig` is its definition.
pub fn node_config(cluster: &ClusterPlan<'_>, host: &HostPlan) -> Value {
    let taints: Vec<Value> = host
        .taints
        .iter()
        .map(|taint| json!({"key": taint.key, "value": taint.value, "effect": taint.effect}))
        .collect();
    json!({
        "nodeName": host.name,
        "clusterName": cluster.name,
        "nodeAddress": host.address.addr(),
        "interface": NODE_INTERFACE,
        "apiServer": format!("https://{}:6443", cluster.control_plane),
        "caFile": format!("{CONFIG_DIR}/pki/ca.crt"),
        "bootstrapTokenFile": format!("{CONFIG_DIR}/bootstrap-token"),
        "podCIDR": cluster.pod_cidr,
        "serviceCIDR": cluster.service_cidr,
        "clusterDNS": name_server(cluster.service_cidr).into_iter().collect::<Vec<_>>(),
        "addressDaemon": {
            "url": cluster.address_daemon.url,
            "caFile": format!("{CONFIG_DIR}/pki/drystone-ca.crt"),
            "tokenFile": format!("{CONFIG_DIR}/address-daemon-token"),
            "namespace": cluster.address_daemon.namespace,
            "pool": cluster.address_daemon.pool,
        },
        "capacity": host.capacity,
        "labels": host.labels,
        "taints": taints,
        "images": cluster.images,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user_data(pki: &ClusterPki, host: &str, role: MemberRole) -> String {
        use base64::Engine as _;
        let cluster = ClusterPlan {
            name: "mlops",
            pki,
            control_plane: [10, 20, 1, 1].into(),
            pod_cidr: "10.42.0.0/16".parse().expect("a network"),
            service_cidr: "10.43.0.0/16".parse().expect("a network"),
            external: Vec::new(),
            address_daemon: AddressDaemonAccess {
                url: String::new(),
                ca_pem: String::new(),
                token: Secret::new("t"),
                namespace: String::new(),
                pool: String::new(),
            },
            images: &[],
            joining: Joining { hosts: vec!["a".into(), "b".into()], until: None },
        };
        let plan = HostPlan {
            name: host.to_owned(),
            role,
            address: "10.20.1.1/24".parse().expect("an address"),
            gateway: None,
            mac: "02:00:00:00:00:01".to_owned(),
            capacity: NodeCapacity::new(),
            labels: BTreeMap::new(),
            taints: Vec::new(),
            etcd: None,
        };
        let text = boot_data(&cluster, &plan).expect("boot data").user_data;
        let (_, json) = text.expose().split_once('\n').expect("a document");
        let document: Value = serde_json::from_str(json).expect("JSON");
        let decode = |file: &Value| {
            let content = file["content"].as_str().expect("content");
            let bytes = base64::engine::general_purpose::STANDARD.decode(content).expect("base64");
            format!("{}: {}", file["path"], String::from_utf8_lossy(&bytes))
        };
        let files = document["write_files"].as_array().expect("files");
        files.iter().map(decode).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn a_worker_gets_its_own_token_and_no_other_secret_of_the_cluster() {
        let now = Timestamp::from_second(1_800_000_000).expect("valid");
        let pki = ClusterPki::generate("mlops", now).expect("keys");
        let token = |node: &str| BootstrapToken::for_node(&pki.bootstrap_token, node, None).token();
        let worker = user_data(&pki, "b", MemberRole::Worker);
        assert!(worker.contains(token("b").expose()));
        for (what, secret) in [
            ("another's token", token("a")),
            ("what tokens are made of", pki.bootstrap_token.clone()),
            ("the authority's key", pki.authority.key_pem()),
            ("the key of service accounts", pki.service_account_key.clone()),
        ] {
            assert!(!worker.contains(secret.expose()), "{what} is in a worker's boot data");
        }
        assert!(!worker.contains("sealing-key"));
        let first = user_data(&pki, "a", MemberRole::ControlPlane);
        assert!(first.contains(token("a").expose()) && first.contains(token("b").expose()));
        assert!(first.contains("pki/sealing-key"));
        assert!(!first.contains(pki.bootstrap_token.expose()), "no host can make tokens of its own");
    }

    #[test]
    fn the_name_server_is_the_tenth_address() {
        let network = "10.43.0.0/16".parse().expect("a network");
        assert_eq!(name_server(network), Some([10, 43, 0, 10].into()));
        assert_eq!(name_server("10.43.0.0/30".parse().expect("a network")), None);
    }
}
