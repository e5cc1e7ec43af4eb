//! From zones to the tables of the switches concerned.
//!
//! A zone costs what it is big, not what the fabric is: a search from its own edge switches, a walk from each of them to each
//! member, and the part of the fabric's flooding tree that connects them. Endpoints never forward: every way ends at the first
//! edge port, so that nothing passes *through* a member.
//!
//! Switches of the zone's part of the flooding tree list all its members, for a broadcast passes only where its sender is
//! listed. Switches that only lie on a way between some members list those. Members that may not talk to all others (no
//! default routing) carry the list of those they may at their own switch, where every frame from or to them passes.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    entry::{Egress, ZoneEntry},
    membership::Isolation,
    routes::{Routes, SwitchSet, tree::SpanningTree},
};
use crate::model::{EndpointIndex, Fabric, ForwardingZone, LinkIndex, SwitchIndex};

/// Endpoints that may talk to each other: each initiator with each target.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConnectionRequest {
    /// One side.
    pub initiators: BTreeSet<EndpointIndex>,
    /// The other side; the same endpoints as on the first make a mesh.
    pub targets: BTreeSet<EndpointIndex>,
}

/// A zone of one fabric with its members resolved.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ZoneRequest {
    /// Id inside switches.
    pub id: String,
    /// Tag inside switches.
    pub tag: u32,
    /// Whether members may be in other zones too.
    pub isolation: Isolation,
    /// Endpoints, gateways included.
    pub members: BTreeSet<EndpointIndex>,
    /// Those of the members that joined as gateways: services of the fabric that any zone may have.
    pub gateways: BTreeSet<EndpointIndex>,
    /// `None`: all members talk to each other (default routing). Else only those that a connection joins.
    pub connections: Option<Vec<ConnectionRequest>>,
    /// The only switches that may carry the zone's frames; `None`: any.
    pub involved: Option<BTreeSet<SwitchIndex>>,
}

impl ZoneRequest {
    /// Whether two members may talk to each other.
    pub fn joins(&self, a: EndpointIndex, b: EndpointIndex) -> bool {
        let either = |connection: &ConnectionRequest| {
            let way = |x: &EndpointIndex, y: &EndpointIndex| {
                connection.initiators.contains(x) && connection.targets.contains(y)
            };
            way(&a, &b) || way(&b, &a)
        };
        a != b
            && self.members.contains(&a)
            && self.members.contains(&b)
            && self.connections.as_ref().is_none_or(|connections| connections.iter().any(either))
    }
}

/// A zone that cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ZoneError {
    /// An endpoint is a member of another zone, and the isolation of one of the two does not allow that.
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
    /// A member is not on the fabric.
    #[error("endpoint {endpoint} is no longer on fabric {fabric}; leave it out, or wait until it is back")]
    Vanished {
        /// The endpoint.
        endpoint: String,
        /// The fabric.
        fabric: String,
    },
    /// A member's own switch may not carry the zone.
    #[error(
        "endpoint {endpoint} is cabled to switch {switch}, which is not among the involved switches; add it or leave the endpoint out"
    )]
    NotInvolved {
        /// The endpoint.
        endpoint: String,
        /// Its switch.
        switch: String,
    },
    /// A connection names an endpoint that is no member.
    #[error(
        "connection {connection} names endpoint {endpoint}, which is no member of the zone; add it to the zone first"
    )]
    ConnectionOutside {
        /// Position of the connection.
        connection: usize,
        /// The endpoint.
        endpoint: String,
    },
    /// The zone's broadcasts would leave the fabric's flooding tree, and a member has other zones' broadcasts too.
    #[error(
        "the involved switches do not contain the fabric's flooding tree between the members, so that broadcasts of {endpoint}, \
         which is in zone {other} too, could go round in a circle; involve more switches or leave {endpoint} out"
    )]
    OwnTree {
        /// The shared endpoint.
        endpoint: String,
        /// The other zone.
        other: String,
    },
}

/// What a zone needs of the switches.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ZonePlan {
    /// Entries in order of switch; switches that need none are absent.
    pub entries: Vec<ZoneEntry>,
    /// Whether broadcasts take a tree of the zone's own, because the fabric's leaves the involved switches.
    pub own_tree: bool,
}

impl ZonePlan {
    /// The entry of a switch.
    pub fn entry(&self, switch: SwitchIndex) -> Option<&ZoneEntry> {
        let at = self.entries.binary_search_by_key(&switch, |entry| entry.switch).ok()?;
        Some(&self.entries[at])
    }

    /// What has to be written to get from this plan to another one: by switch, the new entry or none.
    pub fn difference<'a>(&self, to: &'a Self) -> BTreeMap<SwitchIndex, Option<&'a ZoneEntry>> {
        let gone = self.entries.iter().filter(|entry| to.entry(entry.switch).is_none());
        let mut changes: BTreeMap<SwitchIndex, Option<&ZoneEntry>> =
            gone.map(|entry| (entry.switch, None)).collect();
        let changed = to.entries.iter().filter(|entry| self.entry(entry.switch) != Some(*entry));
        changes.extend(changed.map(|entry| (entry.switch, Some(entry))));
        changes
    }
}

/// Checks a zone against the others of its fabric.
pub fn validate(fabric: &Fabric, zone: &ZoneRequest, others: &[ZoneRequest]) -> Result<(), ZoneError> {
    others.iter().filter(|other| other.id != zone.id).try_for_each(|other| compatible(fabric, zone, other))
}

/// Checks two zones against each other.
pub fn compatible(fabric: &Fabric, zone: &ZoneRequest, other: &ZoneRequest) -> Result<(), ZoneError> {
    for index in zone.members.intersection(&other.members) {
        let Some(endpoint) = fabric.endpoint(*index) else { continue };
        let tolerated =
            |zone: &ZoneRequest| zone.isolation.tolerates(endpoint.role, zone.gateways.contains(index));
        if !tolerated(zone) || !tolerated(other) {
            return Err(ZoneError::Conflict {
                endpoint: endpoint.id.to_string(),
                fabric: fabric.id.clone(),
                other: other.id.clone(),
            });
        }
    }
    Ok(())
}

/// The part of every switch's table that a zone needs, ready to be written; switches that need nothing are absent. Computes
/// the routes it needs; [`plan`] takes those that are there.
pub fn tables(
    fabric: &Fabric,
    zone: &ZoneRequest,
) -> Result<BTreeMap<SwitchIndex, ForwardingZone>, ZoneError> {
    let plan = plan(fabric, zone, None, &SpanningTree::new(fabric, None))?;
    Ok(plan.entries.iter().map(|entry| (entry.switch, render(fabric, zone, entry))).collect())
}

/// An entry of a zone as a switch takes it.
pub fn render(fabric: &Fabric, zone: &ZoneRequest, entry: &ZoneEntry) -> ForwardingZone {
    entry.render(fabric, |index| {
        zone.isolation == Isolation::Shared
            || fabric.endpoint(index).is_some_and(crate::model::Endpoint::is_service)
    })
}

/// What a zone needs of the switches. `routes` are used if they have what it takes; `tree` is that of the whole fabric.
pub fn plan(
    fabric: &Fabric,
    zone: &ZoneRequest,
    routes: Option<&Routes>,
    tree: &SpanningTree,
) -> Result<ZonePlan, ZoneError> {
    let members = Members::new(fabric, zone)?;
    let edge: BTreeSet<SwitchIndex> =
        positions(&members.connected).map(|position| members.switches[position]).collect();
    let allowed: Option<SwitchSet> = zone.involved.as_ref().map(|set| set.iter().copied().collect());
    let computed;
    let routes = match routes.filter(|_| allowed.is_none()) {
        Some(routes) if edge.iter().all(|switch| !routes.row(*switch).is_empty()) => routes,
        _ => {
            let destinations: Vec<SwitchIndex> = edge.iter().copied().collect();
            computed = Routes::to(fabric, &destinations, allowed.as_ref());
            &computed
        }
    };
    let cut_off = |switch: SwitchIndex| ZoneError::Disconnected {
        switch: fabric.switch(switch).id.to_string(),
        fabric: fabric.id.clone(),
    };
    let inside = |part: &BTreeMap<SwitchIndex, Vec<LinkIndex>>| {
        allowed.as_ref().is_none_or(|allowed| part.keys().all(|switch| allowed.contains(*switch)))
    };
    let mut own_tree = false;
    let part = match tree.connecting(fabric, &edge) {
        Ok(part) if inside(&part) => part,
        Err(switch) if allowed.is_none() => return Err(cut_off(switch)),
        _ => {
            own_tree = true;
            SpanningTree::new(fabric, allowed.as_ref()).connecting(fabric, &edge).map_err(cut_off)?
        }
    };
    let mut walk = Walk { fabric, routes, members: &members, place: BTreeMap::new() };
    for switch in part.keys() {
        walk.place.insert(*switch, members.connected.clone());
    }
    walk.all(&edge).map_err(cut_off)?;
    let entries = walk.entries(zone, &part).map_err(cut_off)?;
    Ok(ZonePlan { entries, own_tree })
}

/// The members of a zone in order, with who may talk to whom, as sets of positions.
struct Members {
    endpoints: Vec<EndpointIndex>,
    switches: Vec<SwitchIndex>,
    flows: Vec<u32>,
    /// By member, whom it may talk to; `None`: all may talk to all.
    peers: Option<Vec<Vec<u64>>>,
    /// Those that may talk to anybody.
    connected: Vec<u64>,
}

impl Members {
    fn new(fabric: &Fabric, zone: &ZoneRequest) -> Result<Self, ZoneError> {
        let mut members = Self {
            endpoints: zone.members.iter().copied().collect(),
            switches: Vec::with_capacity(zone.members.len()),
            flows: Vec::with_capacity(zone.members.len()),
            peers: None,
            connected: vec![0; zone.members.len().div_ceil(64)],
        };
        for index in &zone.members {
            let endpoint = fabric.endpoint(*index).ok_or_else(|| ZoneError::Vanished {
                endpoint: fabric.endpoint_name(*index).to_owned(),
                fabric: fabric.id.clone(),
            })?;
            if zone.involved.as_ref().is_some_and(|involved| !involved.contains(&endpoint.switch)) {
                return Err(ZoneError::NotInvolved {
                    endpoint: endpoint.id.to_string(),
                    switch: fabric.switch(endpoint.switch).id.to_string(),
                });
            }
            members.switches.push(endpoint.switch);
            members.flows.push(endpoint.flow);
        }
        match &zone.connections {
            None => (0..members.endpoints.len()).for_each(|at| set(&mut members.connected, at)),
            Some(connections) => members.connect(fabric, connections)?,
        }
        Ok(members)
    }

    fn connect(&mut self, fabric: &Fabric, connections: &[ConnectionRequest]) -> Result<(), ZoneError> {
        let words = self.connected.len();
        let mut peers = vec![vec![0_u64; words]; self.endpoints.len()];
        for (connection, request) in connections.iter().enumerate() {
            let mut sides = [Vec::new(), Vec::new()];
            for (side, endpoints) in sides.iter_mut().zip([&request.initiators, &request.targets]) {
                for index in endpoints {
                    side.push(self.endpoints.binary_search(index).map_err(|_| {
                        let endpoint = fabric.endpoint_name(*index).to_owned();
                        ZoneError::ConnectionOutside { connection, endpoint }
                    })?);
                }
            }
            for (initiator, target) in sides[0].iter().flat_map(|i| sides[1].iter().map(move |t| (*i, *t))) {
                if initiator != target {
                    set(&mut peers[initiator], target);
                    set(&mut peers[target], initiator);
                }
            }
        }
        for (at, own) in peers.iter().enumerate() {
            if own.iter().any(|word| *word != 0) {
                set(&mut self.connected, at);
            }
        }
        self.peers = Some(peers);
        Ok(())
    }

    fn is_connected(&self, at: usize) -> bool {
        has(&self.connected, at)
    }

    /// Peers of a member, if they are not all the others that are connected.
    fn restriction(&self, at: usize) -> Option<Vec<EndpointIndex>> {
        let own = &self.peers.as_ref()?[at];
        let others = |position: &usize| *position != at && self.is_connected(*position);
        let all = (0..self.endpoints.len()).filter(others).all(|position| has(own, position));
        (!all).then(|| positions(own).map(|position| self.endpoints[position]).collect())
    }
}

fn set(words: &mut [u64], at: usize) {
    words[at / 64] |= 1 << (at % 64);
}

fn has(words: &[u64], at: usize) -> bool {
    words[at / 64] >> (at % 64) & 1 == 1
}

fn positions(words: &[u64]) -> impl Iterator<Item = usize> + '_ {
    words.iter().enumerate().flat_map(|(index, word)| {
        let mut rest = *word;
        std::iter::from_fn(move || {
            let bit = (rest != 0).then(|| rest.trailing_zeros() as usize)?;
            rest &= rest - 1;
            Some(index * 64 + bit)
        })
    })
}

/// Follows the ways of a zone and notes which switches have to list whom.
struct Walk<'a> {
    fabric: &'a Fabric,
    routes: &'a Routes,
    members: &'a Members,
    /// By switch, the positions of the members it lists.
    place: BTreeMap<SwitchIndex, Vec<u64>>,
}

impl Walk<'_> {
    /// Every way from every edge switch to every member; the error is a switch that is cut off.
    fn all(&mut self, edge: &BTreeSet<SwitchIndex>) -> Result<(), SwitchIndex> {
        let words = self.members.connected.len();
        let mut at_switch: BTreeMap<SwitchIndex, Vec<u64>> = BTreeMap::new();
        for (position, switch) in self.members.switches.iter().enumerate() {
            if self.members.is_connected(position) {
                set(at_switch.entry(*switch).or_insert_with(|| vec![0; words]), position);
            }
        }
        // By switch: the way to the member at hand, and for which member that was found.
        let mut known: Vec<(usize, LinkIndex)> = vec![(usize::MAX, 0); self.fabric.switch_count() as usize];
        for to in positions(&self.members.connected) {
            let destination = self.members.switches[to];
            for from in edge.iter().copied().filter(|from| *from != destination) {
                let Some(own) = at_switch.get(&from) else { continue };
                let mut passing = own.clone();
                if let Some(peers) = &self.members.peers {
                    passing.iter_mut().zip(&peers[to]).for_each(|(word, allowed)| *word &= allowed);
                    if passing.iter().all(|word| *word == 0) {
                        continue;
                    }
                }
                set(&mut passing, to);
                self.one(from, to, &passing, &mut known)?;
            }
        }
        Ok(())
    }

    fn one(
        &mut self,
        from: SwitchIndex,
        to: usize,
        passing: &[u64],
        known: &mut [(usize, LinkIndex)],
    ) -> Result<(), SwitchIndex> {
        let destination = self.members.switches[to];
        let mut at = from;
        while at != destination {
            let slot = &mut known[at as usize];
            if slot.0 != to {
                let way = self.routes.way(self.fabric, at, destination, self.members.flows[to]);
                *slot = (to, way.ok_or(from)?);
            }
            at = self.fabric.link(slot.1).peer;
            let listed = self.place.entry(at).or_insert_with(|| vec![0; passing.len()]);
            listed.iter_mut().zip(passing).for_each(|(word, more)| *word |= more);
        }
        Ok(())
    }

    fn entries(
        self,
        zone: &ZoneRequest,
        part: &BTreeMap<SwitchIndex, Vec<LinkIndex>>,
    ) -> Result<Vec<ZoneEntry>, SwitchIndex> {
        let (fabric, members) = (self.fabric, self.members);
        let mut entries = Vec::with_capacity(self.place.len());
        for (switch, listed) in &self.place {
            let mut entry = ZoneEntry {
                switch: *switch,
                tag: zone.tag,
                members: Vec::with_capacity(listed.iter().map(|word| word.count_ones() as usize).sum()),
                peers: Vec::new(),
                flood: part.get(switch).into_iter().flatten().map(|link| Egress::link(*link)).collect(),
                strangers: Vec::new(),
            };
            for position in positions(listed) {
                let (index, home) = (members.endpoints[position], members.switches[position]);
                if home != *switch {
                    let way = self.routes.way(fabric, *switch, home, members.flows[position]);
                    entry.members.push((index, Egress::link(way.ok_or(home)?)));
                    continue;
                }
                let Some(endpoint) = fabric.endpoint(index) else { continue };
                let port = Egress::edge(endpoint.port);
                entry.members.push((index, port));
                entry.flood.push(port);
                entry.peers.extend(members.restriction(position).map(|peers| (index, peers)));
            }
            entry.flood.sort_unstable();
            entry.flood.dedup();
            if !entry.members.is_empty() {
                entries.push(entry);
            }
        }
        Ok(entries)
    }
}

/// The smallest tag from 1 that no zone of the fabric uses.
pub fn free_tag(used: &BTreeSet<u32>) -> u32 {
    (1..).find(|tag| !used.contains(tag)).unwrap_or(1)
}
