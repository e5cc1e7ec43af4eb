//! Proof of isolation, from tables read back from the switches.
//!
//! For every pair of endpoints that share a zone a frame must arrive; for every other pair that has a member of the zone at
//! one end it must not. Only entries that name a member of the zone can carry such a frame, so that the effort follows the
//! zone, not the fabric.

use std::collections::{BTreeMap, BTreeSet};

use super::zone::ZoneRequest;
use crate::model::{EndpointIndex, Fabric, ForwardingTable, SwitchIndex};

/// Tables by switch, as read back.
pub type Tables = BTreeMap<SwitchIndex, ForwardingTable>;

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proof {
    /// Ordered pairs of endpoints that a frame was followed between.
    pub checked_pairs: u64,
    /// The first violation, in words, with the path.
    pub counter_example: Option<String>,
}

impl Proof {
    /// Whether isolation (and connectivity) holds.
    pub const fn holds(&self) -> bool {
        self.counter_example.is_none()
    }
}

/// Where a frame ends.
enum Fate {
    Arrives(Vec<SwitchIndex>),
    Lost(Vec<SwitchIndex>, &'static str),
    Leaks(Vec<SwitchIndex>, String),
}

/// Checks one zone of a fabric against the tables, given all zones that ought to exist.
pub fn prove(fabric: &Fabric, zone: &ZoneRequest, all: &[ZoneRequest], tables: &Tables) -> Proof {
    let mut proof = Proof::default();
    let allowed = |a: EndpointIndex, b: EndpointIndex| {
        all.iter().any(|zone| zone.members.contains(&a) && zone.members.contains(&b))
            || (zone.members.contains(&a) && zone.members.contains(&b))
    };
    for from in &zone.members {
        for to in zone.members.iter().filter(|to| *to != from) {
            proof.checked_pairs += 1;
            match follow(fabric, tables, *from, *to) {
                Fate::Arrives(_) => {}
                Fate::Lost(path, why) => {
                    return refuted(proof, fabric, *from, *to, &path, &format!("is lost: {why}"));
                }
                Fate::Leaks(path, port) => {
                    return refuted(
                        proof,
                        fabric,
                        *from,
                        *to,
                        &path,
                        &format!("leaves by the wrong edge port {port}"),
                    );
                }
            }
        }
    }
    for (from, to) in suspects(fabric, zone, tables) {
        if allowed(from, to) {
            continue;
        }
        proof.checked_pairs += 1;
        if let Fate::Arrives(path) = follow(fabric, tables, from, to) {
            return refuted(proof, fabric, from, to, &path, "arrives although they share no zone");
        }
    }
    for from in &zone.members {
        if let Some(example) = flood_violation(fabric, tables, *from, &allowed) {
            proof.counter_example = Some(example);
            return proof;
        }
    }
    proof
}

fn refuted(
    mut proof: Proof,
    fabric: &Fabric,
    from: usize,
    to: usize,
    path: &[SwitchIndex],
    what: &str,
) -> Proof {
    let path: Vec<&str> = path.iter().map(|switch| fabric.switches[*switch].id.as_str()).collect();
    let (from, to) = (&fabric.endpoints[from].id, &fabric.endpoints[to].id);
    proof.counter_example = Some(format!("a frame from {from} to {to} via {} {what}", path.join(" → ")));
    proof
}

/// Follows a unicast frame through the tables.
fn follow(fabric: &Fabric, tables: &Tables, from: EndpointIndex, to: EndpointIndex) -> Fate {
    let (source, destination) = (&fabric.endpoints[from], &fabric.endpoints[to]);
    let mut at = source.switch;
    let mut path = vec![at];
    loop {
        let zones = tables.get(&at).map(|table| table.zones.values());
        let port = zones.into_iter().flatten().find_map(|zone| {
            zone.members.contains_key(&source.mac).then(|| zone.members.get(&destination.mac)).flatten()
        });
        let Some(port) = port.map(|member| member.port.as_str()) else {
            return Fate::Lost(path, "no entry has both");
        };
        if at == destination.switch && port == destination.port {
            return Fate::Arrives(path);
        }
        let Some(link) = fabric.link(at, port) else { return Fate::Leaks(path, port.to_owned()) };
        at = link.peer;
        if path.contains(&at) {
            return Fate::Lost(path, "the tables contain a loop");
        }
        path.push(at);
    }
}

/// Pairs that some entry could carry a frame between: a member of the zone and anything that shares an entry with it.
fn suspects(
    fabric: &Fabric,
    zone: &ZoneRequest,
    tables: &Tables,
) -> BTreeSet<(EndpointIndex, EndpointIndex)> {
    let mut pairs = BTreeSet::new();
    for table in tables.values() {
        for entry in table.zones.values() {
            let inside: Vec<EndpointIndex> = zone
                .members
                .iter()
                .copied()
                .filter(|i| entry.members.contains_key(&fabric.endpoints[*i].mac))
                .collect();
            if inside.is_empty() {
                continue;
            }
            let present = entry.members.keys().filter_map(|mac| fabric.endpoint_by_mac(mac));
            for other in present {
                for member in inside.iter().copied().filter(|member| *member != other) {
                    pairs.insert((member, other));
                    pairs.insert((other, member));
                }
            }
        }
    }
    pairs
}

/// Floods a broadcast frame and looks at every edge port that it leaves by.
fn flood_violation(
    fabric: &Fabric,
    tables: &Tables,
    from: EndpointIndex,
    allowed: &impl Fn(EndpointIndex, EndpointIndex) -> bool,
) -> Option<String> {
    let source = &fabric.endpoints[from];
    let mut reached: BTreeSet<(SwitchIndex, String)> = BTreeSet::new();
    let mut seen: BTreeSet<SwitchIndex> = BTreeSet::new();
    let mut queue = vec![(source.switch, source.port.clone())];
    while let Some((at, ingress)) = queue.pop() {
        if !seen.insert(at) {
            return Some(format!(
                "a broadcast from {} goes round in a loop at switch {}",
                source.id, fabric.switches[at].id
            ));
        }
        let Some(table) = tables.get(&at) else { continue };
        let ports: BTreeSet<&String> = table
            .zones
            .values()
            .filter(|zone| zone.members.contains_key(&source.mac))
            .flat_map(|zone| &zone.flood_ports)
            .filter(|port| **port != ingress)
            .collect();
        for port in ports {
            match fabric.link(at, port) {
                Some(link) => queue.push((link.peer, arriving_port(fabric, at, link.peer, port))),
                None => {
                    reached.insert((at, port.clone()));
                }
            }
        }
    }
    let stranger = fabric.endpoints.iter().enumerate().find(|(index, endpoint)| {
        *index != from
            && reached.contains(&(endpoint.switch, endpoint.port.clone()))
            && !allowed(from, *index)
    })?;
    Some(format!("a broadcast from {} reaches {}, which shares no zone with it", source.id, stranger.1.id))
}

fn arriving_port(fabric: &Fabric, from: SwitchIndex, to: SwitchIndex, port: &str) -> String {
    let nth =
        fabric.switches[from].links.iter().filter(|link| link.peer == to).position(|link| link.port == port);
    let mut back = fabric.switches[to].links.iter().filter(|link| link.peer == from);
    nth.and_then(|nth| back.nth(nth)).map(|link| link.port.clone()).unwrap_or_default()
}
