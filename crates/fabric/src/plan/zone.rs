//! From zones to the tables of the switches concerned.

use std::collections::{BTreeMap, BTreeSet};

use drystone_api::Isolation;

use super::routes::{Ways, flooding_tree, ways_to};
use crate::model::{EndpointIndex, Fabric, ForwardingZone, Member, SwitchIndex};

/// A zone of one fabric with its members resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZoneRequest {
    /// Id inside switches: `namespace/name`.
    pub id: String,
    /// Tag inside switches.
    pub tag: u32,
    /// Whether members may be in other zones too.
    pub isolation: Isolation,
    /// Endpoints, gateways included.
    pub members: BTreeSet<EndpointIndex>,
}

/// A zone that cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ZoneError {
    /// An endpoint is a member of another zone, and at least one of the two zones is exclusive.
    #[error(
        "endpoint {endpoint} of fabric {fabric} is in zone {other} already; remove it there, or make both zones Shared"
    )]
    Conflict {
        /// The endpoint.
        endpoint: String,
        /// The fabric.
        fabric: String,
        /// The other zone.
        other: String,
    },
    /// Members cannot reach each other over links that are up.
    #[error(
        "switch {switch} of fabric {fabric} is cut off from the zone's other switches; repair a link or leave out its hosts"
    )]
    Disconnected {
        /// The switch.
        switch: String,
        /// The fabric.
        fabric: String,
    },
}

/// Checks a zone against the others of its fabric.
pub fn validate(fabric: &Fabric, zone: &ZoneRequest, others: &[ZoneRequest]) -> Result<(), ZoneError> {
    for other in others.iter().filter(|other| other.id != zone.id) {
        let shared_zones = zone.isolation == Isolation::Shared && other.isolation == Isolation::Shared;
        let clash = zone.members.intersection(&other.members).find(|index| !fabric.endpoints[**index].shared);
        if let Some(index) = clash.filter(|_| !shared_zones) {
            return Err(ZoneError::Conflict {
                endpoint: fabric.endpoints[*index].id.clone(),
                fabric: fabric.id.clone(),
                other: other.id.clone(),
            });
        }
    }
    Ok(())
}

/// The part of every switch's table that a zone needs; switches that need nothing are absent.
pub fn tables(
    fabric: &Fabric,
    zone: &ZoneRequest,
) -> Result<BTreeMap<SwitchIndex, ForwardingZone>, ZoneError> {
    let edge: BTreeSet<SwitchIndex> =
        zone.members.iter().map(|index| fabric.endpoints[*index].switch).collect();
    let tree = flooding_tree(fabric, &edge).map_err(|switch| ZoneError::Disconnected {
        switch: fabric.switches[switch].id.clone(),
        fabric: fabric.id.clone(),
    })?;
    let ways: BTreeMap<SwitchIndex, Ways> =
        edge.iter().map(|switch| (*switch, ways_to(fabric, *switch))).collect();
    let concerned = concerned_switches(fabric, zone, &edge, &ways, tree.keys().copied());
    let mut tables = BTreeMap::new();
    for switch in concerned {
        let mut flood: BTreeSet<String> = tree.get(&switch).cloned().unwrap_or_default();
        let mut members = BTreeMap::new();
        for index in &zone.members {
            let endpoint = &fabric.endpoints[*index];
            let port = if endpoint.switch == switch {
                flood.insert(endpoint.port.clone());
                Some(endpoint.port.as_str())
            } else {
                ways[&endpoint.switch].next_port(fabric, switch, *index).map(|(port, _)| port)
            };
            if let Some(port) = port {
                let shared = endpoint.shared || zone.isolation == Isolation::Shared;
                members.insert(endpoint.mac.clone(), Member { port: port.to_owned(), shared });
            }
        }
        tables.insert(
            switch,
            ForwardingZone { tag: zone.tag, members, flood_ports: flood.into_iter().collect() },
        );
    }
    Ok(tables)
}

/// The switches that frames between members pass.
fn concerned_switches(
    fabric: &Fabric,
    zone: &ZoneRequest,
    edge: &BTreeSet<SwitchIndex>,
    ways: &BTreeMap<SwitchIndex, Ways>,
    tree: impl Iterator<Item = SwitchIndex>,
) -> BTreeSet<SwitchIndex> {
    let mut concerned: BTreeSet<SwitchIndex> = tree.chain(edge.iter().copied()).collect();
    for index in &zone.members {
        let destination = fabric.endpoints[*index].switch;
        for start in edge {
            let mut at = *start;
            while let Some((_, peer)) = ways[&destination].next_port(fabric, at, *index) {
                concerned.insert(peer);
                at = peer;
            }
        }
    }
    concerned
}

/// The smallest tag from 1 that no zone of the fabric uses.
pub fn free_tag(used: &BTreeSet<u32>) -> u32 {
    (1..).find(|tag| !used.contains(tag)).unwrap_or(1)
}
