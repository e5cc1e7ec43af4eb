//! `/etc/drystone/control-plane.yaml`: what `drystone control-plane` reads on a control-plane host.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use ipnet::IpNet;
use k8s_openapi::jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Configuration of an embedded control plane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ControlPlaneConfig {
    /// Name of the cluster.
    pub cluster_name: String,
    /// Where the API server listens.
    pub listen: SocketAddr,
    /// Address under which nodes and users reach it.
    pub advertise_address: IpAddr,
    /// Further addresses under which it is reached, such as one that leads to it from outside: its certificate is for them as well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub additional_addresses: Vec<IpAddr>,
    /// Where the store is kept.
    pub data_dir: PathBuf,
    /// Certificate and key of the cluster's certificate authority (PEM).
    pub ca_cert: PathBuf,
    /// Key of the certificate authority.
    pub ca_key: PathBuf,
    /// Key that signs the tokens of ServiceAccounts (PEM, P-256).
    pub service_account_key: PathBuf,
    /// File with one bootstrap token (`id.secret`) for all nodes: of clusters that were made before each node had its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bootstrap_token_file: Option<PathBuf>,
    /// File with the tokens ([`NodeToken`]s, JSON) by which the first nodes join.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_tokens_file: Option<PathBuf>,
    /// File with the key (32 bytes) under which Secrets are kept; without it they are in clear, as in clusters that were made before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealing_key: Option<PathBuf>,
    /// Addresses of pods.
    #[serde(rename = "podCIDR")]
    pub pod_cidr: IpNet,
    /// Addresses of Services.
    #[serde(rename = "serviceCIDR")]
    pub service_cidr: IpNet,
    /// Addresses that LoadBalancer Services get.
    #[serde(default)]
    pub external_pools: Vec<ExternalAddresses>,
    /// This host's place among several control planes, with state in etcd; without it, state is in the embedded store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etcd: Option<EtcdConfig>,
}

/// What one node joins with.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodeToken {
    /// The node.
    pub node: String,
    /// Its token, `id.secret`.
    pub token: String,
    /// When it ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
}

impl std::fmt::Debug for NodeToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { node, expires, .. } = self;
        f.debug_struct("NodeToken").field("node", node).field("expires", expires).finish_non_exhaustive()
    }
}

/// A member of etcd on a control-plane host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EtcdConfig {
    /// Name of the member: that of the host.
    pub name: String,
    /// Address of the host.
    pub address: IpAddr,
    /// Interface that gets the advertised address while this host answers for the cluster.
    pub interface: String,
    /// Where etcd keeps its data.
    pub data_dir: PathBuf,
    /// Certificate of etcd's certificate authority (PEM).
    pub ca_cert: PathBuf,
    /// Key of that authority.
    pub ca_key: PathBuf,
    /// All members by name, this one among them.
    pub members: BTreeMap<String, IpAddr>,
    /// Whether the other members are there already and this one is added to them, instead of beginning together with them.
    pub join: bool,
}

impl EtcdConfig {
    /// Port that clients use.
    pub const CLIENT_PORT: u16 = 2379;
    /// Port that members use among themselves.
    pub const PEER_PORT: u16 = 2380;

    /// Where clients reach the member at an address.
    pub fn client_url(address: IpAddr) -> String {
        format!("https://{}", SocketAddr::new(address, Self::CLIENT_PORT))
    }

    /// Where other members reach the member at an address.
    pub fn peer_url(address: IpAddr) -> String {
        format!("https://{}", SocketAddr::new(address, Self::PEER_PORT))
    }
}

/// A pool of external addresses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExternalAddresses {
    /// Name of the pool.
    pub name: String,
    /// The cluster's share of it.
    pub ranges: Vec<IpNet>,
}
