//! The forwarding table of a switch, as its OEM resource shows it (see "Switch forwarding table" in the architecture).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A whole table: zone id → zone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ForwardingTable {
    /// The zones that the switch carries.
    #[serde(default)]
    pub zones: BTreeMap<String, ForwardingZone>,
}

/// One zone in a switch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ForwardingZone {
    /// Number that stands for the zone inside switches, unique in the fabric.
    pub tag: u32,
    /// Every member of the zone by MAC address (lower case) with its way out of this switch.
    #[serde(default)]
    pub members: BTreeMap<String, Member>,
    /// Ports that broadcast and multicast frames of the zone leave by, in order.
    #[serde(default)]
    pub flood_ports: Vec<String>,
}

/// A member of a zone as one switch sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Member {
    /// Egress port.
    pub port: String,
    /// Whether several zones may contain it.
    #[serde(default)]
    pub shared: bool,
    /// Addresses of the members that this one exchanges frames with; `None`: all of them. An empty list: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peers: Option<Vec<String>>,
}
