//! `Connection` and `EndpointGroup`: who may talk to whom inside a zone that does not route by default, and which volumes
//! and memory an initiator may use at a target.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Permission for initiators to reach targets of one fabric. Initiators and targets must share a zone.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "drystone.dev",
    version = "v1alpha1",
    kind = "Connection",
    plural = "connections",
    category = "drystone",
    namespaced,
    status = "ConnectionStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Fabric","type":"string","jsonPath":".spec.fabric"}"#,
    printcolumn = r#"{"name":"Phase","type":"string","jsonPath":".status.phase"}"#,
    printcolumn = r#"{"name":"Pairs","type":"integer","jsonPath":".status.pairs"}"#,
    printcolumn = r#"{"name":"Message","type":"string","jsonPath":".status.message","priority":1}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionSpec {
    /// Fabric id.
    pub fabric: String,
    /// `Storage` or `Memory`; absent for plain traffic (Redfish `ConnectionType`).
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<ConnectionType>,
    /// Ids of the endpoints that begin; either these or `initiatorGroups`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub initiators: Vec<String>,
    /// Ids of the endpoints that are reached; either these or `targetGroups`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<String>,
    /// Names of EndpointGroups in the same namespace. The same group on both sides connects each with each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub initiator_groups: Vec<String>,
    /// Names of EndpointGroups in the same namespace.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub target_groups: Vec<String>,
    /// What else an agent is to be told, as Redfish has it: `VolumeInfo`, `MemoryChunkInfo`, `MemoryRegionInfo`.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    #[schemars(with = "PreservedObject")]
    pub redfish: Map<String, Value>,
}

/// An object whose content is not looked into.
#[derive(JsonSchema)]
#[schemars(extend("x-kubernetes-preserve-unknown-fields" = true))]
pub(crate) struct PreservedObject {}

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConnectionType {
    /// Volumes.
    Storage,
    /// Memory chunks and regions.
    Memory,
}

/// State of a connection or a group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConnectionPhase {
    /// Not looked at yet.
    #[default]
    Pending,
    /// In the switches, or accepted by the agent.
    Ready,
    /// Cannot be carried out as it stands; the message tells why.
    Failed,
}

/// What became of a connection.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionStatus {
    /// State.
    #[serde(default)]
    pub phase: ConnectionPhase,
    /// Generation of the specification that the state is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ordered pairs of endpoints that it lets through.
    #[serde(default)]
    pub pairs: u64,
    /// Generations of the EndpointGroups that the state is about, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub groups: BTreeMap<String, i64>,
    /// URI at the agent, for fabrics that route themselves.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uri: String,
    /// Why it is in this state.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Conditions: `Ready`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// Endpoints of one fabric under one name.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "drystone.dev",
    version = "v1alpha1",
    kind = "EndpointGroup",
    plural = "endpointgroups",
    shortname = "epg",
    category = "drystone",
    namespaced,
    derive = "PartialEq",
    printcolumn = r#"{"name":"Fabric","type":"string","jsonPath":".spec.fabric"}"#,
    printcolumn = r#"{"name":"Type","type":"string","jsonPath":".spec.type"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct EndpointGroupSpec {
    /// Fabric id.
    pub fabric: String,
    /// Which side of a connection the group may be; either unless given.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<EndpointGroupType>,
    /// Ids of the endpoints.
    #[serde(default)]
    pub endpoints: Vec<String>,
}

/// Side of a connection (Redfish `GroupType`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum EndpointGroupType {
    /// Begins.
    Initiator,
    /// Is reached.
    Target,
}
