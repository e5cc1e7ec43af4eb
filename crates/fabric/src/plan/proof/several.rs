//! What only several zones together can get wrong: entries that list strangers, endpoints that two zones send by different
//! ways, broadcasts that go round over two zones' trees.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::{
    Violation, flood,
    follow::{Fate, follow, refuted},
};
use crate::{
    model::{EndpointIndex, Fabric, SwitchIndex},
    plan::{
        entry::{Egress, ReadTables, ZoneEntry},
        zone::ZoneRequest,
    },
};

/// A zone with its entries.
type ZoneTables<'a> = (&'a ZoneRequest, &'a [ZoneEntry]);

/// A port with the positions of the zones that send by it.
type Sent = (Egress, Vec<usize>);

/// Two endpoints, from and to.
type Pair = (EndpointIndex, EndpointIndex);

/// Entries of other zones that list a member of the zone together with somebody it shares no zone with.
pub(super) fn intruders(
    fabric: &Fabric,
    zone: &ZoneRequest,
    others: &[ZoneRequest],
    read: &ReadTables,
) -> Result<(), Violation> {
    let known: HashMap<&str, &ZoneRequest> = others.iter().map(|other| (other.id.as_str(), other)).collect();
    let share = |a: EndpointIndex, b: EndpointIndex| {
        let both = |zone: &ZoneRequest| zone.members.contains(&a) && zone.members.contains(&b);
        both(zone) || others.iter().any(both)
    };
    for (id, entry) in read
        .zones
        .iter()
        .filter(|(id, _)| **id != zone.id)
        .flat_map(|(id, entries)| entries.iter().map(move |entry| (id, entry)))
    {
        let right = known.get(id.as_str());
        let belongs = |index: &EndpointIndex| right.is_some_and(|right| right.members.contains(index));
        let listed = || entry.members.iter().map(|(index, _)| *index);
        for member in listed().filter(|index| zone.members.contains(index)) {
            if right.is_none() && !entry.strangers.is_empty() {
                return Err(listing(fabric, entry, id, member, &entry.strangers[0]));
            }
            let inside = belongs(&member);
            let mut suspects = listed().filter(|other| *other != member && !(inside && belongs(other)));
            if let Some(other) = suspects.find(|other| !share(member, *other)) {
                return Err(intruder(fabric, entry, id, (member, other), read));
            }
            if !inside {
                let (switch, name) = (&fabric.switch(entry.switch).id, fabric.endpoint_name(member));
                return Err(Violation(format!(
                    "switch {switch} lists {name} in zone {id}, of which it is no member"
                )));
            }
        }
    }
    Ok(())
}

fn intruder(
    fabric: &Fabric,
    entry: &ZoneEntry,
    id: &str,
    (member, other): (EndpointIndex, EndpointIndex),
    read: &ReadTables,
) -> Violation {
    let all: Vec<&[ZoneEntry]> = read.zones.values().map(Vec::as_slice).collect();
    for (from, to) in [(member, other), (other, member)] {
        if let Fate::Arrives(path) = follow(fabric, &all, from, to) {
            return refuted(fabric, from, to, &path, "arrives although they share no zone");
        }
    }
    listing(fabric, entry, id, member, fabric.endpoint_name(other))
}

fn listing(fabric: &Fabric, entry: &ZoneEntry, id: &str, member: EndpointIndex, other: &str) -> Violation {
    let (switch, member) = (&fabric.switch(entry.switch).id, fabric.endpoint_name(member));
    Violation(format!("switch {switch} lists {member} and {other} in zone {id}, and they share no zone"))
}

/// Zones in the tables that ought not to exist.
pub(super) fn unknown_zones(
    fabric: &Fabric,
    zones: &[ZoneRequest],
    read: &ReadTables,
) -> Result<(), Violation> {
    let known: HashSet<&str> = zones.iter().map(|zone| zone.id.as_str()).collect();
    let unknown = read.zones.iter().filter(|(id, _)| !known.contains(id.as_str()));
    for (id, entry) in unknown.flat_map(|(id, entries)| entries.iter().map(move |entry| (id, entry))) {
        let names = entry.members.iter().map(|(index, _)| fabric.endpoint_name(*index));
        let names: Vec<&str> = names.chain(entry.strangers.iter().map(|mac| &**mac)).take(3).collect();
        if !names.is_empty() {
            let switch = &fabric.switch(entry.switch).id;
            let names = names.join(", ");
            return Err(Violation(format!(
                "switch {switch} carries zone {id}, which does not exist, with {names}"
            )));
        }
    }
    Ok(())
}

/// The zones that a zone's shared members are in, together.
pub(super) fn beside(
    fabric: &Fabric,
    zone: &ZoneRequest,
    others: &[ZoneRequest],
    read: &ReadTables,
) -> Result<(), Violation> {
    let shared: BTreeSet<EndpointIndex> = others
        .iter()
        .filter(|other| other.id != zone.id)
        .flat_map(|other| zone.members.intersection(&other.members).copied())
        .collect();
    if shared.is_empty() {
        return Ok(());
    }
    let entries = |id: &str| read.zones.get(id).map_or(&[][..], Vec::as_slice);
    let near = others.iter().filter(|other| other.id != zone.id && !other.members.is_disjoint(&shared));
    let all: Vec<ZoneTables<'_>> =
        std::iter::once(zone).chain(near).map(|zone| (zone, entries(&zone.id))).collect();
    together(fabric, &all, &shared)
}

/// All zones of the fabric together.
pub(super) fn shared(fabric: &Fabric, zones: &[ZoneRequest], read: &ReadTables) -> Result<(), Violation> {
    let mut count: Vec<u8> = vec![0; fabric.endpoint_limit()];
    for index in zones.iter().flat_map(|zone| &zone.members) {
        if let Some(count) = count.get_mut(*index as usize) {
            *count = count.saturating_add(1);
        }
    }
    let shared: BTreeSet<EndpointIndex> =
        (0..).zip(&count).filter(|(_, count)| **count > 1).map(|(index, _)| index).collect();
    let entries = |id: &str| read.zones.get(id).map_or(&[][..], Vec::as_slice);
    let all: Vec<ZoneTables<'_>> = zones
        .iter()
        .filter(|zone| !zone.members.is_disjoint(&shared))
        .map(|zone| (zone, entries(&zone.id)))
        .collect();
    together(fabric, &all, &shared)
}

fn together(
    fabric: &Fabric,
    zones: &[ZoneTables<'_>],
    shared: &BTreeSet<EndpointIndex>,
) -> Result<(), Violation> {
    one_way(fabric, zones, shared)?;
    for index in shared {
        let theirs: Vec<ZoneTables<'_>> =
            zones.iter().filter(|(zone, _)| zone.members.contains(index)).copied().collect();
        if theirs.len() > 1 {
            flood::together(fabric, *index, &theirs)?;
        }
    }
    Ok(())
}

/// Two zones must not send frames between the same two endpoints by different ports, and what each of two zones refuses the two
/// must not let pass together. That joined pairs arrive is for the proof of the zone that joins them.
fn one_way(
    fabric: &Fabric,
    zones: &[ZoneTables<'_>],
    shared: &BTreeSet<EndpointIndex>,
) -> Result<(), Violation> {
    let mut pairs = forked(zones, shared);
    pairs.extend(unjoined(zones, shared));
    for (from, to) in pairs {
        let theirs =
            zones.iter().filter(|(zone, _)| zone.members.contains(&from) && zone.members.contains(&to));
        let entries: Vec<&[ZoneEntry]> = theirs.clone().map(|(_, entries)| *entries).collect();
        let joined = theirs.into_iter().any(|(zone, _)| zone.joins(from, to));
        match follow(fabric, &entries, from, to) {
            Fate::Astray(path, why) => {
                return Err(refuted(fabric, from, to, &path, &format!("goes astray: {why}")));
            }
            Fate::Arrives(path) if !joined => {
                let what = "arrives although no connection of their zones joins them";
                return Err(refuted(fabric, from, to, &path, what));
            }
            Fate::Arrives(_) | Fate::Dropped(..) => {}
        }
    }
    Ok(())
}

/// Pairs in several zones of which two send the second by different ports of one switch.
fn forked(zones: &[ZoneTables<'_>], shared: &BTreeSet<EndpointIndex>) -> BTreeSet<Pair> {
    // By switch and endpoint: the ports, each with the zones that send by it.
    let mut ports: HashMap<(SwitchIndex, EndpointIndex), Vec<Sent>> = HashMap::new();
    for (place, (zone, entries)) in zones.iter().enumerate() {
        let inside: Vec<EndpointIndex> = zone.members.intersection(shared).copied().collect();
        for entry in *entries {
            for (index, egress) in inside.iter().filter_map(|index| Some((*index, entry.egress(*index)?))) {
                let known = ports.entry((entry.switch, index)).or_default();
                match known.iter_mut().find(|(port, _)| *port == egress) {
                    Some((_, zones)) => zones.push(place),
                    None => known.push((egress, vec![place])),
                }
            }
        }
    }
    let mut pairs = BTreeSet::new();
    for ((_, to), known) in ports.iter().filter(|(_, known)| known.len() > 1) {
        for from in shared.iter().filter(|from| *from != to) {
            let all = known.iter().flat_map(|(_, places)| places);
            if all.filter(|place| zones[**place].0.members.contains(from)).nth(1).is_some() {
                pairs.insert((*from, *to));
            }
        }
    }
    pairs
}

/// Shared pairs in zones without default routing.
fn unjoined(zones: &[ZoneTables<'_>], shared: &BTreeSet<EndpointIndex>) -> BTreeSet<Pair> {
    let mut pairs = BTreeSet::new();
    for (zone, _) in zones.iter().filter(|(zone, _)| zone.connections.is_some()) {
        let inside: Vec<EndpointIndex> = zone.members.intersection(shared).copied().collect();
        let all = inside.iter().flat_map(|from| inside.iter().map(move |to| (*from, *to)));
        pairs.extend(all.filter(|(from, to)| from != to));
    }
    pairs
}
