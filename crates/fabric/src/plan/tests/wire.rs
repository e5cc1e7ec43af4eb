//! What switches do with tables, written down straight from the description of the table, by names and one frame at a time: the
//! measure for proofs, which work otherwise.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    model::{EndpointIndex, Fabric, ForwardingZone, SwitchIndex},
    plan::proof::Tables,
};

/// What becomes of the frames of an endpoint: for every other one whether a unicast frame arrives there and at nobody else, and
/// who hears a broadcast how many times (`None`: it goes round for ever).
pub(super) type Behaviour = BTreeMap<EndpointIndex, (Vec<(EndpointIndex, Fate)>, Option<Vec<EndpointIndex>>)>;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fate {
    Arrives,
    Dropped,
    Leaks(String),
}

/// What all endpoints' frames do.
pub(super) fn behaviour(fabric: &Fabric, tables: &Tables) -> Behaviour {
    let all: Vec<EndpointIndex> = fabric.endpoints().map(|(index, _)| index).collect();
    all.iter()
        .map(|from| {
            let others = all.iter().filter(|to| *to != from);
            let unicast = others.map(|to| (*to, unicast(fabric, tables, *from, *to))).collect();
            (*from, (unicast, broadcast(fabric, tables, *from)))
        })
        .collect()
}

fn mac(fabric: &Fabric, index: EndpointIndex) -> &str {
    &fabric.endpoint(index).expect("present").mac
}

fn hears(zone: &ForwardingZone, own: &str, other: &str) -> bool {
    zone.members[own].peers.as_ref().is_none_or(|peers| peers.iter().any(|peer| peer == other))
}

fn permits(zone: &ForwardingZone, from: &str, to: &str) -> bool {
    let listed = zone.members.contains_key(from) && zone.members.contains_key(to);
    listed && hears(zone, from, to) && hears(zone, to, from)
}

/// The next switch behind a port, with the port that the frame comes in by.
fn behind(fabric: &Fabric, at: SwitchIndex, port: &str) -> Option<(SwitchIndex, String)> {
    let (_, link) = fabric.links_of(at).find(|(_, link)| fabric.port_name(link.port) == port)?;
    link.up.then(|| (link.peer, fabric.port_name(fabric.link(link.twin).port).to_owned()))
}

fn unicast(fabric: &Fabric, tables: &Tables, from: EndpointIndex, to: EndpointIndex) -> Fate {
    let (source, destination) = (mac(fabric, from), mac(fabric, to));
    let target = fabric.endpoint(to).expect("present");
    let mut at = fabric.endpoint(from).expect("present").switch;
    for _ in 0..1000 {
        let zones = tables.get(&at).into_iter().flat_map(|table| table.zones.values());
        let ports: BTreeSet<&str> = zones
            .filter(|zone| permits(zone, source, destination))
            .map(|zone| zone.members[destination].port.as_str())
            .collect();
        let mut ports = ports.into_iter();
        let port = match (ports.next(), ports.next()) {
            (None, _) => return Fate::Dropped,
            (Some(port), None) => port,
            (Some(_), Some(_)) => return Fate::Leaks(format!("two ports at {at}")),
        };
        if at == target.switch && port == fabric.port_name(target.port) {
            return Fate::Arrives;
        }
        match behind(fabric, at, port) {
            Some((next, _)) => at = next,
            None if fabric.links_of(at).any(|(_, link)| fabric.port_name(link.port) == port) => {
                return Fate::Dropped;
            }
            None => return Fate::Leaks(format!("port {port} of {at}")),
        }
    }
    Fate::Leaks("round and round".to_owned())
}

fn broadcast(fabric: &Fabric, tables: &Tables, from: EndpointIndex) -> Option<Vec<EndpointIndex>> {
    let source = fabric.endpoint(from).expect("present");
    let mut heard = Vec::new();
    let mut queue = vec![(source.switch, fabric.port_name(source.port).to_owned())];
    let mut hops = 0;
    while let Some((at, arrival)) = queue.pop() {
        hops += 1;
        if hops > 1000 {
            return None;
        }
        let zones = tables.get(&at).into_iter().flat_map(|table| table.zones.values());
        let mut ports: BTreeSet<&str> = BTreeSet::new();
        for zone in zones.filter(|zone| zone.members.contains_key(&*source.mac)) {
            ports.extend(zone.flood_ports.iter().map(String::as_str).filter(|port| {
                let mut there = zone.members.iter().filter(|(_, member)| member.port == *port);
                let quiet = there.clone().any(|(_, member)| member.peers.is_some());
                !quiet || there.any(|(mac, _)| permits(zone, &source.mac, mac))
            }));
        }
        for port in ports.into_iter().filter(|port| *port != arrival) {
            if let Some(next) = behind(fabric, at, port) {
                queue.push(next);
            } else {
                let attached = fabric.endpoints_of(at).iter().copied();
                heard.extend(attached.filter(|index| {
                    fabric.endpoint(*index).is_some_and(|other| fabric.port_name(other.port) == port)
                }));
                if fabric.port_index(port).is_none_or(|port| fabric.endpoints_at(at, port).next().is_none())
                    && !fabric.links_of(at).any(|(_, link)| fabric.port_name(link.port) == port)
                {
                    // A port where nobody known is: whoever sits there would hear it.
                    heard.push(EndpointIndex::MAX);
                }
            }
        }
    }
    heard.sort_unstable();
    Some(heard)
}

/// What ought to happen, from the zones alone.
pub(super) fn wanted(fabric: &Fabric, joined: impl Fn(EndpointIndex, EndpointIndex) -> bool) -> Behaviour {
    let all: Vec<EndpointIndex> = fabric.endpoints().map(|(index, _)| index).collect();
    all.iter()
        .map(|from| {
            let others = || all.iter().copied().filter(|to| to != from);
            let fate = |to| if joined(*from, to) { Fate::Arrives } else { Fate::Dropped };
            let heard = others().filter(|to| joined(*from, *to)).collect();
            (*from, (others().map(|to| (to, fate(to))).collect(), Some(heard)))
        })
        .collect()
}
