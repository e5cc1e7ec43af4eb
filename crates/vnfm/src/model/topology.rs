//! What a flavour of a package is made of, as far as planning needs it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What a flavour of a VNFD is made of, by the names of its node templates.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Topology {
    /// VDUs (Vdu.Compute) with the storages (Vdu.VirtualBlockStorage) that each of them requires.
    pub vdus: BTreeMap<String, Vec<String>>,
    /// Connection points (VduCp).
    pub connection_points: BTreeMap<String, ConnectionPoint>,
    /// Internal virtual links (VnfVirtualLink).
    pub virtual_links: Vec<String>,
    /// Scaling aspects with the VDUs that each of them scales.
    pub aspects: BTreeMap<String, Vec<String>>,
}

/// A connection point.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConnectionPoint {
    /// The VDU that it is bound to (requirement `virtual_binding`); none for a port of its own, such as a virtual address.
    pub vdu: Option<String>,
    /// The internal virtual link that it is on (requirement `virtual_link`); none if it is external.
    pub virtual_link: Option<String>,
}

impl Topology {
    /// The VDU that a connection point is bound to.
    pub fn vdu_of_connection_point(&self, connection_point: &str) -> Option<&str> {
        self.connection_points.get(connection_point)?.vdu.as_deref()
    }
}
