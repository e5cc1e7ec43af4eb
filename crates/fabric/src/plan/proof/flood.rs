//! Broadcasts of one zone: they reach every member that may hear them, once, and nobody else.

use std::collections::{BTreeSet, HashSet};

use super::{Violation, delivery::ZoneView, follow::wrong_port};
use crate::{
    model::{EndpointIndex, Fabric, SwitchIndex},
    plan::{
        entry::{Egress, Exit, ZoneEntry},
        zone::ZoneRequest,
    },
};

impl ZoneView<'_> {
    /// Looks at the zone's flooding as one tree if it is one, else at the broadcast of each member.
    pub(super) fn floods(&self) -> Result<(), Violation> {
        if self.members.len() < 2 || self.is_sound_tree() {
            return Ok(());
        }
        self.members.iter().try_for_each(|from| self.broadcast(*from))
    }

    /// Whether the flood ports form one tree that lists every member everywhere and reaches every member's port and no other:
    /// then the broadcast of each member does what that of any other does.
    fn is_sound_tree(&self) -> bool {
        let (Some(first), None) = (self.members.first(), &self.zone.connections) else { return false };
        let Some(start) = self.fabric.endpoint(*first).map(|endpoint| endpoint.switch) else { return false };
        let mut seen: HashSet<SwitchIndex> = HashSet::from([start]);
        let mut queue: Vec<(SwitchIndex, Option<Egress>)> = vec![(start, None)];
        let mut reached = 0;
        while let Some((at, arrival)) = queue.pop() {
            let Some(entry) = self.entry(at) else { return false };
            if entry.members.len() != self.members.len() || !entry.peers.is_empty() {
                return false;
            }
            if arrival.is_some_and(|arrival| entry.flood.binary_search(&arrival).is_err()) {
                return false;
            }
            for port in entry.flood.iter().filter(|port| Some(**port) != arrival) {
                match port.exit() {
                    Exit::Link(link) => {
                        let record = self.fabric.link(link);
                        if !record.up || !seen.insert(record.peer) {
                            return false;
                        }
                        queue.push((record.peer, Some(Egress::link(record.twin))));
                    }
                    Exit::Edge(edge) => {
                        let before = reached;
                        for other in self.fabric.endpoints_at(at, edge) {
                            if self.rank(other).is_none() {
                                return false;
                            }
                            reached += 1;
                        }
                        if before == reached {
                            return false;
                        }
                    }
                    Exit::Unknown => return false,
                }
            }
        }
        reached == self.members.len()
    }

    /// Follows the broadcast of a member to every port.
    fn broadcast(&self, from: EndpointIndex) -> Result<(), Violation> {
        let Some(source) = self.fabric.endpoint(from) else { return Ok(()) };
        // Who hangs at the sender's own port hears it without the switch.
        let mut reached: BTreeSet<EndpointIndex> =
            self.fabric.endpoints_at(source.switch, source.port).collect();
        let mut seen: HashSet<SwitchIndex> = HashSet::new();
        let mut queue: Vec<(SwitchIndex, Egress)> = vec![(source.switch, Egress::edge(source.port))];
        while let Some((at, arrival)) = queue.pop() {
            if !seen.insert(at) {
                return Err(circle(self.fabric, from, at));
            }
            let Some(entry) = self.entry(at).filter(|entry| entry.lists(from)) else { continue };
            let ports = entry.flood.iter().copied();
            for port in ports.filter(|port| *port != arrival && entry.floods_to(from, *port)) {
                match port.exit() {
                    Exit::Link(link) => {
                        let record = self.fabric.link(link);
                        if record.up {
                            queue.push((record.peer, Egress::link(record.twin)));
                        }
                    }
                    Exit::Edge(edge) => {
                        let before = reached.len();
                        for other in self.fabric.endpoints_at(at, edge) {
                            self.may_hear(from, other, at)?;
                            reached.insert(other);
                        }
                        if reached.len() == before {
                            return Err(nobody(self.fabric, from, at, port));
                        }
                    }
                    Exit::Unknown => return Err(nobody(self.fabric, from, at, port)),
                }
            }
        }
        let deaf = self.members.iter().find(|to| self.zone.joins(from, **to) && !reached.contains(to));
        deaf.map_or(Ok(()), |to| {
            let (from, to) = (self.fabric.endpoint_name(from), self.fabric.endpoint_name(*to));
            Err(Violation(format!("a broadcast from {from} does not reach {to} in zone {}", self.zone.id)))
        })
    }

    fn may_hear(&self, from: EndpointIndex, to: EndpointIndex, at: SwitchIndex) -> Result<(), Violation> {
        if self.zone.joins(from, to) {
            return Ok(());
        }
        let why = if self.rank(to).is_some() {
            "which no connection joins with it"
        } else {
            "which shares no zone with it"
        };
        Err(overheard(self.fabric, from, to, at, why))
    }
}

/// Follows the broadcast of an endpoint that several zones contain, over the flood ports of all of them together: it must not go
/// round in a circle, nor leave a zone's tree by the port of another zone's entry that it meets on the way.
pub(super) fn together(
    fabric: &Fabric,
    from: EndpointIndex,
    zones: &[(&ZoneRequest, &[ZoneEntry])],
) -> Result<(), Violation> {
    let Some(source) = fabric.endpoint(from) else { return Ok(()) };
    let mut ports: Vec<(SwitchIndex, Egress)> = Vec::new();
    let mut may_hear: HashSet<EndpointIndex> = HashSet::new();
    for (zone, entries) in zones {
        if zone.connections.is_none() {
            may_hear.extend(&zone.members);
        } else {
            may_hear.extend(zone.members.iter().filter(|to| zone.joins(from, **to)));
        }
        for entry in entries.iter().filter(|entry| !entry.flood.is_empty() && entry.lists(from)) {
            let out = entry.flood.iter().filter(|port| entry.floods_to(from, **port));
            ports.extend(out.map(|port| (entry.switch, *port)));
        }
    }
    may_hear.extend(fabric.endpoints_at(source.switch, source.port));
    ports.sort_unstable();
    ports.dedup();
    let mut seen: HashSet<SwitchIndex> = HashSet::new();
    let mut queue: Vec<(SwitchIndex, Egress)> = vec![(source.switch, Egress::edge(source.port))];
    while let Some((at, arrival)) = queue.pop() {
        if !seen.insert(at) {
            return Err(circle(fabric, from, at));
        }
        let first = ports.partition_point(|(switch, _)| *switch < at);
        let out = ports[first..].iter().take_while(|(switch, _)| *switch == at).map(|(_, port)| *port);
        for port in out.filter(|port| *port != arrival) {
            let edge = match port.exit() {
                Exit::Link(link) => {
                    let record = fabric.link(link);
                    if record.up {
                        queue.push((record.peer, Egress::link(record.twin)));
                    }
                    continue;
                }
                Exit::Edge(edge) => edge,
                Exit::Unknown => return Err(nobody(fabric, from, at, port)),
            };
            if fabric.endpoints_at(at, edge).next().is_none() {
                return Err(nobody(fabric, from, at, port));
            }
            if let Some(other) = fabric.endpoints_at(at, edge).find(|other| !may_hear.contains(other)) {
                return Err(overheard(fabric, from, other, at, "which may not hear it"));
            }
        }
    }
    Ok(())
}

fn circle(fabric: &Fabric, from: EndpointIndex, at: SwitchIndex) -> Violation {
    let (from, switch) = (fabric.endpoint_name(from), &fabric.switch(at).id);
    Violation(format!("a broadcast from {from} goes round in a loop at switch {switch}"))
}

fn overheard(
    fabric: &Fabric,
    from: EndpointIndex,
    to: EndpointIndex,
    at: SwitchIndex,
    why: &str,
) -> Violation {
    let (from, to) = (fabric.endpoint_name(from), fabric.endpoint_name(to));
    Violation(format!("a broadcast from {from} reaches {to}, {why}, by switch {}", fabric.switch(at).id))
}

fn nobody(fabric: &Fabric, from: EndpointIndex, at: SwitchIndex, port: Egress) -> Violation {
    let (from, what) = (fabric.endpoint_name(from), wrong_port(fabric, at, port));
    Violation(format!("a broadcast from {from} reaches a port where nobody is known: {what}"))
}
