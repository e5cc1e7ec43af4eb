//! `/etc/drystone/control-plane.yaml`: what `drystone control-plane` reads on a control-plane host.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use ipnet::IpNet;
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
    /// Where the store is kept.
    pub data_dir: PathBuf,
    /// Certificate and key of the cluster's certificate authority (PEM).
    pub ca_cert: PathBuf,
    /// Key of the certificate authority.
    pub ca_key: PathBuf,
    /// Key that signs the tokens of ServiceAccounts (PEM, P-256).
    pub service_account_key: PathBuf,
    /// File with the bootstrap token (`id.secret`) by which nodes join.
    pub bootstrap_token_file: PathBuf,
    /// Addresses of pods.
    #[serde(rename = "podCIDR")]
    pub pod_cidr: IpNet,
    /// Addresses of Services.
    #[serde(rename = "serviceCIDR")]
    pub service_cidr: IpNet,
    /// Addresses that LoadBalancer Services get.
    #[serde(default)]
    pub external_pools: Vec<ExternalAddresses>,
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
