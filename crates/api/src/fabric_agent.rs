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
    /// Secret in the same namespace with keys `username` and `password`; absent for a service that asks for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_name: Option<String>,
    /// The `ConnectionMethod` by which an agent announced itself; absent for services that were declared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection_method: Option<String>,
    /// Whose the forwarding tables of its switches are.
    #[serde(default, skip_serializing_if = "TableOwnership::is_shared")]
    pub tables: TableOwnership,
    /// Accept any server certificate.
    #[serde(default)]
    pub disable_certificate_verification: bool,
}

/// Whose the forwarding tables of switches are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TableOwnership {
    /// Others may write zones of their own into them: entries of zones that Drystone does not know are reported and left alone.
    #[default]
    Shared,
    /// Drystone's alone: such entries are removed.
    Exclusive,
}

impl TableOwnership {
    /// Whether it is [`TableOwnership::Shared`], which goes without saying.
    pub fn is_shared(&self) -> bool {
        *self == Self::Shared
    }
}

/// What the last crawl found.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FabricAgentStatus {
    /// The fabrics that it serves, or parts of them. What they consist of is in the `Switch` objects.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fabrics: Vec<AgentFabric>,
    /// Number of switches.
    #[serde(default)]
    pub switch_count: u32,
    /// Number of endpoints.
    #[serde(default)]
    pub endpoint_count: u32,
    /// Number of Redfish resources read.
    #[serde(default)]
    pub resource_count: u32,
    /// When the last complete crawl ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_crawl: Option<Time>,
    /// Conditions: `Ready`, `TablesClean`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// A fabric of an agent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentFabric {
    /// Fabric id; parts with the same id and UUID are one fabric.
    pub id: String,
    /// Redfish `FabricType`: `Ethernet`, `InfiniBand`, `CXL` …
    #[serde(default, rename = "type", skip_serializing_if = "String::is_empty")]
    pub fabric_type: String,
    /// UUID.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uuid: String,
    /// Who computes its routes.
    #[serde(default)]
    pub routing: FabricRouting,
    /// Number of switches in this part.
    #[serde(default)]
    pub switch_count: u32,
    /// Number of endpoints in this part.
    #[serde(default)]
    pub endpoint_count: u32,
}

/// Who computes the routes of a fabric.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum FabricRouting {
    /// Drystone: the switches take forwarding tables.
    #[default]
    Drystone,
    /// The agent: zones and connections are handed to it as they are.
    Agent,
}
