//! Where an emulated site can be reached: `endpoints.json` in its state directory, there once everything answers.

use std::path::Path;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::{
    site::ExternalPoolSpec,
    state::{self, StateError},
};

/// Name of the file in the state directory.
const FILE: &str = "endpoints.json";

/// Everything a user of the site has to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Endpoints {
    /// Name of the site.
    pub site: String,
    /// The emulator's process. Whether it still runs tells whether the rest is true.
    pub pid: u32,
    /// BMCs, in the order of the site file.
    pub bmcs: Vec<Service>,
    /// Fabric services: switches by name, agents by the id of their fabric.
    pub fabric_services: Vec<Service>,
    /// Agents in the manner of Sunfish, by the id of their fabric. They register with their core by themselves, and ask
    /// nobody for credentials but for faults.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sunfish_agents: Vec<Service>,
    /// The gateway, if the site has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<Gateway>,
    /// The cloud, if the site has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cloud: Option<CloudEndpoint>,
}

/// The cloud: an OpenStack, whose users and projects are in the domain `Default`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CloudEndpoint {
    /// Address of Keystone: `http://127.0.0.1:40125/identity/v3`.
    pub auth_url: String,
    /// Name of the region.
    pub region: String,
    /// Who may use it.
    pub users: Vec<CloudUserEndpoint>,
}

/// A user of the cloud.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CloudUserEndpoint {
    /// User name.
    pub name: String,
    /// Password.
    pub password: String,
    /// Name of the project.
    pub project: String,
}

impl std::fmt::Debug for CloudUserEndpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CloudUserEndpoint")
            .field("name", &self.name)
            .field("project", &self.project)
            .finish_non_exhaustive()
    }
}

/// A Redfish service.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Service {
    /// Name of the host, the switch or the fabric.
    pub name: String,
    /// Base URL: `http://127.0.0.1:40123`.
    pub url: String,
    /// User name.
    pub user: String,
    /// Password.
    pub password: String,
}

/// The gateway.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Gateway {
    /// CONNECT proxy that dials from the site's campus network: `http://127.0.0.1:40124`; empty if the backend has none.
    pub proxy_url: String,
    /// User name of the proxy.
    pub user: String,
    /// Password of the proxy.
    pub password: String,
    /// What hosts use to reach Drystone: `10.20.0.1:6443`.
    pub controller_address: String,
    /// The gateway's address on the node network with the network's prefix length: `10.20.0.1/16`.
    pub node_network: IpNet,
    /// The part of the node network that hosts get addresses from; all of it if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_allocation: Option<IpNet>,
    /// Pools of addresses that Services may show outside.
    #[serde(default)]
    pub external_pools: Vec<ExternalPoolSpec>,
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service").field("name", &self.name).field("url", &self.url).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gateway")
            .field("proxy_url", &self.proxy_url)
            .field("controller_address", &self.controller_address)
            .finish_non_exhaustive()
    }
}

/// Reads the file of a state directory; `None` if no emulator has been ready there.
///
/// # Errors
/// The file cannot be read, or holds something else.
pub fn read(state_directory: &Path) -> Result<Option<Endpoints>, StateError> {
    state::read_json(&state_directory.join(FILE))
}

/// Writes the file, mode 0600, in one piece.
pub(crate) fn write(state_directory: &Path, endpoints: &Endpoints) -> Result<(), StateError> {
    state::write_json(&state_directory.join(FILE), endpoints)
}

/// Removes the file: what it says is not true any more.
pub(crate) fn remove(state_directory: &Path) {
    let path = state_directory.join(FILE);
    if let Err(error) = std::fs::remove_file(&path)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "cannot be removed");
    }
}
