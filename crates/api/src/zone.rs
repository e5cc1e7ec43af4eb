//! `Zone`: who may exchange packets with whom.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{cluster::Isolation, fabric_switch::EndpointRole};

/// Finalizer of every Zone: it is out of all switches before it goes. Whoever creates a Zone may set it at once.
pub const ZONE_FINALIZER: &str = "drystone.dev/zone";

/// Reason of a Zone's condition `Ready` where a switch or its agent does not take what the zone needs: for good (phase `Failed`), or as
/// things are, which is tried again (phase `Programming`).
pub const ZONE_REFUSED: &str = "Refused";

/// A set of hosts that may exchange traffic over every fabric they share, and with nobody else but shared endpoints.
/// Carried out as one Redfish zone (`ZoneOfEndpoints`) per fabric.
#[derive(CustomResource, Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "drystone.dev",
    version = "v1alpha1",
    kind = "Zone",
    plural = "zones",
    category = "drystone",
    namespaced,
    status = "ZoneStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Phase","type":"string","jsonPath":".status.phase"}"#,
    printcolumn = r#"{"name":"Isolated","type":"boolean","jsonPath":".status.isolation.proven"}"#,
    printcolumn = r#"{"name":"Members","type":"integer","jsonPath":".status.endpointCount"}"#,
    printcolumn = r#"{"name":"Message","type":"string","jsonPath":".status.message","priority":1}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct ZoneSpec {
    /// What the zone is made of.
    #[serde(default, rename = "type")]
    pub kind: ZoneType,
    /// The fabric that the zone is confined to; every fabric that members are on unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fabric: Option<String>,
    /// The members. A `ZoneOfZones` has none of its own, a `Default` zone contains every endpoint of its fabric.
    #[serde(default)]
    pub members: Vec<ZoneMember>,
    /// Names of the `ZoneOfZones` in the same namespace that this zone is in. They go no deeper.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub contained_by: Vec<String>,
    /// Whether all members may talk to each other at once. If not, only the pairs of Connections may (Redfish
    /// `DefaultRoutingEnabled`).
    #[serde(default = "yes")]
    pub default_routing: bool,
    /// Connect every member with every other one, whatever `defaultRouting` says: as an endpoint group of the members that is
    /// both the initiators and the targets of a connection.
    #[serde(default)]
    pub symmetric_connections: bool,
    /// Ids of the only switches that may carry the zone's traffic; any unless given (Redfish `InvolvedSwitches`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub involved_switches: Vec<String>,
    /// The Composition in the zone's namespace under whose lock the member hosts are; hosts that somebody else has locked are
    /// refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub composition: Option<String>,
    /// Whether an endpoint of this zone may be in other zones too.
    #[serde(default)]
    pub isolation: Isolation,
    /// Whether the shared gateway endpoints of the fabrics are members too, so that the zone has a way in and out.
    #[serde(default = "yes")]
    pub gateways: bool,
    /// Names of address pools in the zone's namespace that its members draw from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub address_pools: Vec<String>,
}

const fn yes() -> bool {
    true
}

impl Default for ZoneSpec {
    fn default() -> Self {
        Self {
            kind: ZoneType::default(),
            fabric: None,
            members: Vec::new(),
            contained_by: Vec::new(),
            default_routing: true,
            symmetric_connections: false,
            involved_switches: Vec::new(),
            composition: None,
            isolation: Isolation::default(),
            gateways: true,
            address_pools: Vec::new(),
        }
    }
}

/// Kind of a zone (Redfish `ZoneType`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ZoneType {
    /// Endpoints that may exchange traffic.
    #[default]
    ZoneOfEndpoints,
    /// Zones; with default routing their members may exchange traffic across them.
    ZoneOfZones,
    /// Every endpoint of a fabric that no other zone lists, from its arrival on.
    Default,
}

/// A member of a zone: a host with all its endpoints, or one endpoint of one fabric.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ZoneMember {
    /// Name of a BareMetalHost; all its network interfaces become members. Either this or `endpoint`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Namespace of the BareMetalHost; `drystone-system` unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_namespace: Option<String>,
    /// Fabric of `endpoint`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fabric: Option<String>,
    /// Id of an endpoint in `fabric`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
}

/// State of a zone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ZonePhase {
    /// Not looked at yet, or waiting for hosts or agents.
    #[default]
    Pending,
    /// Tables are being computed and patched.
    Programming,
    /// Tables are in the switches, read back and proven.
    Ready,
    /// Cannot be carried out as it stands; the message tells why.
    Failed,
    /// Being removed from the switches.
    Deleting,
}

/// What was done for a zone.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ZoneStatus {
    /// State.
    #[serde(default)]
    pub phase: ZonePhase,
    /// Generation of the specification that the state is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Number that stands for the zone inside switches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<u32>,
    /// The members with the endpoints they were resolved to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<ZoneMemberStatus>,
    /// Number of endpoints, shared ones included.
    #[serde(default)]
    pub endpoint_count: u32,
    /// Per fabric, what was programmed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fabrics: Vec<ZoneFabricStatus>,
    /// Connections that are in force in the zone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub connections: Vec<ZoneConnectionStatus>,
    /// Proof of isolation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isolation: Option<IsolationProof>,
    /// Why the zone is in this state.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Conditions: `Ready`, `Isolated`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// One endpoint of a zone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ZoneMemberStatus {
    /// Host, if it belongs to one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub host: String,
    /// Fabric.
    pub fabric: String,
    /// Endpoint id in the fabric.
    pub endpoint: String,
    /// MAC address.
    pub mac: String,
    /// Switch it is cabled to.
    pub switch: String,
    /// Port of that switch.
    pub port: String,
    /// Part that it plays.
    #[serde(default)]
    pub role: EndpointRole,
    /// Whether it joined as a gateway of its fabric.
    #[serde(default)]
    pub gateway: bool,
}

/// A connection that is in force in a zone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ZoneConnectionStatus {
    /// Name of the Connection, in the zone's namespace.
    pub name: String,
    /// Stands for the endpoints of its two sides, groups expanded.
    pub digest: String,
}

/// What was programmed in one fabric.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ZoneFabricStatus {
    /// Fabric.
    pub fabric: String,
    /// The Redfish zone's URI.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub zone: String,
    /// Switches whose tables hold the zone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub switches: Vec<String>,
}

/// Evidence that a zone's members reach each other and nobody else, from tables read back from the switches.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IsolationProof {
    /// Whether it holds.
    pub proven: bool,
    /// Pairs of endpoints looked at.
    #[serde(default)]
    pub checked_pairs: u64,
    /// If it does not hold: the path by which a frame gets where it must not, or the pair that cannot talk.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub counter_example: String,
    /// When it was checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checked_at: Option<Time>,
}
