//! `Switch`: one switch of a fabric with its links and what is attached to it, as it was found by a crawl.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which switch this is. Made by the fabric manager; owned by the FabricAgent through which it is reached.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "drystone.dev",
    version = "v1alpha1",
    kind = "Switch",
    plural = "switches",
    singular = "switch",
    shortname = "sw",
    category = "drystone",
    namespaced,
    status = "SwitchStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Fabric","type":"string","jsonPath":".spec.fabric"}"#,
    printcolumn = r#"{"name":"Agent","type":"string","jsonPath":".spec.agent"}"#,
    printcolumn = r#"{"name":"State","type":"string","jsonPath":".status.state"}"#,
    printcolumn = r#"{"name":"Links","type":"integer","jsonPath":".status.linkCount"}"#,
    printcolumn = r#"{"name":"Down","type":"integer","jsonPath":".status.linksDown"}"#,
    printcolumn = r#"{"name":"Endpoints","type":"integer","jsonPath":".status.endpointCount"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct SwitchSpec {
    /// Switch id in the fabric.
    pub id: String,
    /// Fabric id.
    pub fabric: String,
    /// UUID of the fabric; parts with the same id and UUID are one fabric.
    #[serde(default, rename = "fabricUUID", skip_serializing_if = "String::is_empty")]
    pub fabric_uuid: String,
    /// Redfish `FabricType`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub fabric_type: String,
    /// Name of the FabricAgent in the same namespace through which it is programmed.
    pub agent: String,
    /// URI of the switch at its agent.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uri: String,
}

/// Whether a switch works.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SwitchState {
    /// It forwards.
    #[default]
    Up,
    /// Its agent says that it does not, or nobody can reach it: routes lead around it.
    Down,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SwitchStatus {
    /// Whether it works.
    #[serde(default)]
    pub state: SwitchState,
    /// Links to other switches, in order of port.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<SwitchLink>,
    /// Endpoints on its edge ports, in order of id.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<SwitchEndpoint>,
    /// Number of links that are up.
    #[serde(default)]
    pub link_count: u32,
    /// Number of links that are down.
    #[serde(default)]
    pub links_down: u32,
    /// Number of endpoints.
    #[serde(default)]
    pub endpoint_count: u32,
    /// Conditions: `TableApplied`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// A link from a switch to another one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SwitchLink {
    /// Own port.
    pub port: String,
    /// The other switch.
    pub peer_switch: String,
    /// The other switch's port, if told.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub peer_port: String,
    /// Speed in Gbit/s.
    #[serde(default)]
    pub speed_gbps: u32,
    /// Whether it carries nothing at the moment.
    #[serde(default, skip_serializing_if = "is_false")]
    pub down: bool,
}

/// An endpoint: where something is attached to the fabric.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SwitchEndpoint {
    /// Endpoint id in the fabric.
    pub id: String,
    /// MAC address, lower case.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub mac: String,
    /// The port that it is cabled to.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub port: String,
    /// Speed in Gbit/s.
    #[serde(default)]
    pub speed_gbps: u32,
    /// Part that it plays.
    #[serde(default, skip_serializing_if = "EndpointRole::is_both")]
    pub role: EndpointRole,
    /// Endpoints that may not be in a zone while this one is (Redfish `MutuallyExclusiveEndpoints`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub excludes: Vec<String>,
}

/// Part that an endpoint plays (Redfish `EntityRole`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum EndpointRole {
    /// Begins exchanges.
    Initiator,
    /// Offers a service: a gateway, a volume, a piece of memory.
    Target,
    /// Both.
    #[default]
    Both,
}

impl EndpointRole {
    /// Whether it is [`EndpointRole::Both`], which goes without saying.
    pub fn is_both(&self) -> bool {
        *self == Self::Both
    }
}

const fn is_false(value: &bool) -> bool {
    !*value
}
