//! `Site`: where hardware is and how it is reached.

use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A place with servers and fabrics.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "drystone.dev",
    version = "v1alpha1",
    kind = "Site",
    plural = "sites",
    category = "drystone",
    namespaced,
    status = "SiteStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Hosts","type":"integer","jsonPath":".status.hosts"}"#,
    printcolumn = r#"{"name":"Inspected","type":"integer","jsonPath":".status.inspectedHosts"}"#,
    printcolumn = r#"{"name":"Fabrics","type":"integer","jsonPath":".status.fabricServices"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct SiteSpec {
    /// The servers, by their baseboard management controllers.
    #[serde(default)]
    pub bmcs: Vec<SiteBmc>,
    /// Redfish services of switches and fabric agents.
    #[serde(default)]
    pub fabric_services: Vec<SiteFabricService>,
    /// How the site's inside and Drystone reach each other; absent where they are on one network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<SiteGateway>,
    /// The network that hosts get their addresses from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_network: Option<NodeNetwork>,
    /// Pools of addresses that Services may show to the world outside.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub external_pools: Vec<ExternalPool>,
    /// Whether this site is emulated; shown to users, decides nothing.
    #[serde(default)]
    pub emulated: bool,
}

/// A server's baseboard management controller.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SiteBmc {
    /// Name the host gets.
    pub name: String,
    /// Address in Metal3's form: `redfish-virtualmedia+http://127.0.0.1:8401/redfish/v1/Systems/1`.
    pub address: String,
    /// Secret in the site's namespace with keys `username` and `password`.
    pub credentials_name: String,
}

/// A Redfish service of a switch or a fabric agent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SiteFabricService {
    /// Name the FabricAgent gets.
    pub name: String,
    /// Base URL.
    pub address: String,
    /// Secret in the site's namespace with keys `username` and `password`.
    pub credentials_name: String,
}

/// How a site is reached.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SiteGateway {
    /// HTTP CONNECT proxy that dials from inside the site: `http://127.0.0.1:8400`.
    #[serde(rename = "proxyURL", default, skip_serializing_if = "String::is_empty")]
    pub proxy_url: String,
    /// Secret in the site's namespace with keys `username` and `password` for the proxy.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub proxy_credentials_name: String,
    /// What hosts of the site use to reach Drystone's HTTPS port: `10.20.0.1:6443`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub controller_address: String,
}

/// The network of the hosts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeNetwork {
    /// Its range: `10.20.0.0/16`.
    #[schemars(with = "String")]
    pub cidr: IpNet,
    /// Default gateway of the hosts.
    #[schemars(with = "String")]
    pub gateway: IpAddr,
    /// Part of the range that hosts get addresses from; all of it unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub allocation: Option<IpNet>,
}

/// A pool of external addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExternalPool {
    /// Name that clusters use in `network.externalPool`; becomes an AddressPool.
    pub name: String,
    /// The ranges.
    #[schemars(with = "Vec<String>", length(min = 1))]
    pub ranges: Vec<IpNet>,
    /// Prefix length of the block that one cluster gets; 28 unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 8, max = 128))]
    pub block_prefix_length: Option<u8>,
}

/// What has been found.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SiteStatus {
    /// Hosts declared.
    #[serde(default)]
    pub hosts: u32,
    /// Hosts inspected.
    #[serde(default)]
    pub inspected_hosts: u32,
    /// Fabric services declared.
    #[serde(default)]
    pub fabric_services: u32,
    /// Conditions: `Ready` once every host is inspected.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}
