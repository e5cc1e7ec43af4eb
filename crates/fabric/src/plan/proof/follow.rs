//! Following a single frame, for pairs that need it and for telling what goes wrong.

use super::Violation;
use crate::{
    model::{EndpointIndex, Fabric, SwitchIndex},
    plan::entry::{Egress, Exit, ZoneEntry},
};

/// Where a frame ends.
pub(super) enum Fate {
    /// At its destination.
    Arrives(Vec<SwitchIndex>),
    /// Dropped: the switches passed, and why.
    Dropped(Vec<SwitchIndex>, String),
    /// Somewhere it must not: a loop, a wrong port, two ports at once.
    Astray(Vec<SwitchIndex>, String),
}

/// Follows a unicast frame through the entries of some zones.
pub(super) fn follow(
    fabric: &Fabric,
    zones: &[&[ZoneEntry]],
    from: EndpointIndex,
    to: EndpointIndex,
) -> Fate {
    let (Some(source), Some(destination)) = (fabric.endpoint(from), fabric.endpoint(to)) else {
        return Fate::Dropped(Vec::new(), "one of them is no longer on the fabric".to_owned());
    };
    let mut at = source.switch;
    let mut path = vec![at];
    loop {
        let port = match egress(zones, at, from, to) {
            Ok(Some(port)) => port,
            Ok(None) => {
                let why = format!("switch {} has no entry that lets it pass", fabric.switch(at).id);
                return Fate::Dropped(path, why);
            }
            Err((one, other)) => {
                let (one, other) = (one.name(fabric), other.name(fabric));
                let why = format!(
                    "two zones of switch {} send it by ports {one} and {other}",
                    fabric.switch(at).id
                );
                return Fate::Astray(path, why);
            }
        };
        if at == destination.switch && port == Egress::edge(destination.port) {
            return Fate::Arrives(path);
        }
        let Exit::Link(link) = port.exit() else {
            let why = wrong_port(fabric, at, port);
            return Fate::Astray(path, why);
        };
        if !fabric.link(link).up {
            let why =
                format!("the link at port {} of switch {} is down", port.name(fabric), fabric.switch(at).id);
            return Fate::Dropped(path, why);
        }
        at = fabric.link(link).peer;
        if path.contains(&at) {
            path.push(at);
            return Fate::Astray(path, "the tables contain a loop".to_owned());
        }
        path.push(at);
    }
}

/// The port by which a switch sends a frame on, over all zones that permit it; an error if they disagree.
fn egress(
    zones: &[&[ZoneEntry]],
    at: SwitchIndex,
    from: EndpointIndex,
    to: EndpointIndex,
) -> Result<Option<Egress>, (Egress, Egress)> {
    let mut found: Option<Egress> = None;
    for entries in zones {
        let Ok(place) = entries.binary_search_by_key(&at, |entry| entry.switch) else { continue };
        let entry = &entries[place];
        let Some(port) = entry.egress(to).filter(|_| entry.permits(from, to)) else { continue };
        match found {
            Some(other) if other != port => return Err((other, port)),
            _ => found = Some(port),
        }
    }
    Ok(found)
}

/// What is wrong with leaving a switch by an edge port that is not the destination's.
pub(super) fn wrong_port(fabric: &Fabric, at: SwitchIndex, port: Egress) -> String {
    let switch = &fabric.switch(at).id;
    let Exit::Edge(edge) = port.exit() else {
        return format!("it leaves switch {switch} by a port that the fabric does not have");
    };
    let name = port.name(fabric);
    match fabric.endpoints_at(at, edge).next() {
        Some(other) => {
            let other = fabric.endpoint_name(other);
            format!(
                "it leaves by the wrong edge port {name} of switch {switch} and would have to pass through endpoint {other}"
            )
        }
        None => format!("it leaves by the wrong edge port {name} of switch {switch}"),
    }
}

/// A violation by a unicast frame.
pub(super) fn refuted(
    fabric: &Fabric,
    from: EndpointIndex,
    to: EndpointIndex,
    path: &[SwitchIndex],
    what: &str,
) -> Violation {
    let path: Vec<&str> = path.iter().map(|switch| &*fabric.switch(*switch).id).collect();
    let via = if path.is_empty() { String::new() } else { format!(" via {}", path.join(" → ")) };
    let (from, to) = (fabric.endpoint_name(from), fabric.endpoint_name(to));
    Violation(format!("a frame from {from} to {to}{via} {what}"))
}
