//! `AgentResource`: something that was made at a fabric agent through Drystone: a volume, a memory chunk, a connection. Hardware
//! forgets; what a client was told that it has is made again.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::connection::PreservedObject;

/// What is to be at an agent.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "drystone.dev",
    version = "v1alpha1",
    kind = "AgentResource",
    plural = "agentresources",
    category = "drystone",
    namespaced,
    status = "AgentResourceStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Agent","type":"string","jsonPath":".spec.agent"}"#,
    printcolumn = r#"{"name":"URI","type":"string","jsonPath":".spec.uri"}"#,
    printcolumn = r#"{"name":"Made again","type":"integer","jsonPath":".status.madeAgain"}"#,
    printcolumn = r#"{"name":"Message","type":"string","jsonPath":".status.message"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct AgentResourceSpec {
    /// Name of the FabricAgent in the same namespace.
    pub agent: String,
    /// UUID of the fabric that the agent had then: an agent that comes under another address is known by it.
    #[serde(default, rename = "fabricUUID", skip_serializing_if = "String::is_empty")]
    pub fabric_uuid: String,
    /// URI at the agent.
    pub uri: String,
    /// What it was made with, and changed to since, with the agent's own URIs.
    #[schemars(with = "PreservedObject")]
    pub body: Map<String, Value>,
    /// Milliseconds since 1970 when it was made: what was made later may refer to it.
    pub made: u64,
}

/// What became of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentResourceStatus {
    /// How often the agent had lost it, and it was made again.
    #[serde(default)]
    pub made_again: u32,
    /// When it was last made again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_made: Option<Time>,
    /// Why it cannot be made again, if it is lost.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}
