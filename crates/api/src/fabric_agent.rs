//! `FabricAgent`: a Redfish service that stands for a fabric or a part of one (a switch, a fabric manager).

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where the service is and how to log in.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "drystone.dev",
    version = "v1alpha1",
    kind = "FabricAgent",
    plural = "fabricagents",
    shortname = "fa",
    category = "drystone",
    namespaced,
    status = "FabricAgentStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Address","type":"string","jsonPath":".spec.address"}"#,
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].status"}"#,
    printcolumn = r#"{"name":"Switches","type":"integer","jsonPath":".status.switchCount"}"#,
    printcolumn = r#"{"name":"Endpoints","type":"integer","jsonPath":".status.endpointCount"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct FabricAgentSpec {
    /// Base URL of the Redfish service: `http://127.0.0.1:8431`.
    pub address: String,
    /// Secret in the same namespace with keys `username` and `password`.
    pub credentials_name: String,
    /// Accept any server certificate.
    #[serde(default)]
    pub disable_certificate_verification: bool,
}

/// What the last crawl found.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FabricAgentStatus {
    /// What the service serves, by fabric.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fabrics: Vec<FabricTopology>,
    /// Number of switches.
    #[serde(default)]
    pub switch_count: u32,
    /// Number of endpoints.
    #[serde(default)]
    pub endpoint_count: u32,
    /// When the last complete crawl ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_crawl: Option<Time>,
    /// Conditions: `Ready`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// A fabric, or the part of it that one service knows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FabricTopology {
    /// Fabric id; parts with the same id and UUID are one fabric.
    pub fabric: String,
    /// Redfish `FabricType`: `Ethernet`, `InfiniBand`, `PCIe` …
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub fabric_type: String,
    /// UUID.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uuid: String,
    /// Switches.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub switches: Vec<FabricSwitch>,
    /// Endpoints.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<FabricEndpoint>,
}

/// A switch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FabricSwitch {
    /// Switch id in the fabric.
    pub id: String,
    /// Links to other switches that are up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<FabricLink>,
}

/// A link from a switch to another one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FabricLink {
    /// Own port.
    pub port: String,
    /// The other switch.
    pub peer_switch: String,
    /// The other switch's port.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub peer_port: String,
    /// Speed in Gbit/s.
    #[serde(default)]
    pub speed_gbps: u32,
}

/// An endpoint: where something is attached to the fabric.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FabricEndpoint {
    /// Endpoint id in the fabric.
    pub id: String,
    /// MAC address, lower case.
    pub mac: String,
    /// The switch it is cabled to.
    pub switch: String,
    /// The switch's port.
    pub port: String,
    /// Speed in Gbit/s.
    #[serde(default)]
    pub speed_gbps: u32,
    /// Whether several zones may contain it (role `Target`).
    #[serde(default)]
    pub shared: bool,
}
