//! Merging what agents serve into fabrics.

use std::collections::{BTreeMap, HashMap};

use drystone_api::{FabricEndpoint, FabricSwitch, FabricTopology};

use super::{
    builder::{FabricBuilder, LinkEnd},
    topology::{EndpointSpec, Fabric, Role, SwitchIndex},
};

/// Merges what agents serve into fabrics: parts with the same id and UUID are one fabric. Endpoints on unknown switches
/// and links that not both switches report are left out; they appear once the other side has been crawled.
pub fn merge<'a>(parts: impl IntoIterator<Item = (&'a str, &'a FabricTopology)>) -> Vec<Fabric> {
    let mut groups: BTreeMap<(&str, &str), Vec<(&str, &FabricTopology)>> = BTreeMap::new();
    for (agent, part) in parts {
        groups.entry((&part.fabric, &part.uuid)).or_default().push((agent, part));
    }
    groups.into_values().map(|parts| merge_one(&parts)).collect()
}

fn merge_one(parts: &[(&str, &FabricTopology)]) -> Fabric {
    let mut switches: BTreeMap<&str, (&str, &FabricSwitch)> = BTreeMap::new();
    let mut endpoints: BTreeMap<&str, &FabricEndpoint> = BTreeMap::new();
    for (agent, part) in parts {
        for switch in &part.switches {
            switches.entry(&switch.id).or_insert((agent, switch));
        }
        for endpoint in &part.endpoints {
            endpoints.entry(&endpoint.id).or_insert(endpoint);
        }
    }
    let first = parts.first().map(|(_, part)| *part);
    let mut builder = FabricBuilder::new(
        first.map(|part| part.fabric.clone()).unwrap_or_default(),
        first.map(|part| part.fabric_type.clone()).unwrap_or_default(),
    );
    for (id, (agent, _)) in &switches {
        builder.switch(id, agent);
    }
    for cable in cables(&builder, switches.values().map(|(_, switch)| *switch)) {
        let [a, b] = [&cable.ends.0, &cable.ends.1].map(|end| LinkEnd { switch: end.0, port: end.1 });
        builder.link(a, b, cable.speed_gbps, true);
    }
    for endpoint in endpoints.into_values() {
        let Some(switch) = builder.find_switch(&endpoint.switch) else { continue };
        builder.endpoint(EndpointSpec {
            id: endpoint.id.clone(),
            mac: endpoint.mac.clone(),
            switch,
            port: endpoint.port.clone(),
            role: if endpoint.shared { Role::Target } else { Role::Both },
            speed_gbps: endpoint.speed_gbps,
        });
    }
    let (fabric, left_out) = builder.build();
    for error in left_out {
        tracing::warn!(fabric = fabric.id, "{error}");
    }
    fabric
}

struct Cable<'a> {
    ends: ((SwitchIndex, &'a str), (SwitchIndex, &'a str)),
    speed_gbps: u32,
}

/// One side's word about a link.
struct Half<'a> {
    own: SwitchIndex,
    port: &'a str,
    peer: SwitchIndex,
    peer_port: &'a str,
    speed_gbps: u32,
}

/// Pairs what both sides say. Where a side does not say the other's port, the n-th unpaired link of one side is taken to be the
/// n-th unpaired one of the other.
fn cables<'a>(builder: &FabricBuilder, switches: impl Iterator<Item = &'a FabricSwitch>) -> Vec<Cable<'a>> {
    let mut halves: Vec<Half<'a>> = Vec::new();
    for switch in switches {
        let Some(own) = builder.find_switch(&switch.id) else { continue };
        halves.extend(switch.links.iter().filter_map(|link| {
            let peer = builder.find_switch(&link.peer_switch)?;
            let (port, peer_port, speed_gbps) =
                (link.port.as_str(), link.peer_port.as_str(), link.speed_gbps);
            (own != peer).then_some(Half { own, port, peer, peer_port, speed_gbps })
        }));
    }
    halves.sort_by(|a, b| (a.own, a.port).cmp(&(b.own, b.port)));
    let by_port: HashMap<(SwitchIndex, &str), usize> =
        halves.iter().enumerate().rev().map(|(at, half)| ((half.own, half.port), at)).collect();
    let mut paired = vec![false; halves.len()];
    let mut cables = Vec::with_capacity(halves.len() / 2);
    let mut pair = |a: usize, b: usize, paired: &mut Vec<bool>| {
        (paired[a], paired[b]) = (true, true);
        let (a, b) = (&halves[a], &halves[b]);
        // Should the two sides disagree, the link is as fast as its slower end.
        let speed_gbps = match (a.speed_gbps, b.speed_gbps) {
            (0, speed) | (speed, 0) => speed,
            (one, other) => one.min(other),
        };
        cables.push(Cable { ends: ((a.own, a.port), (b.own, b.port)), speed_gbps });
    };
    for (at, half) in halves.iter().enumerate() {
        let Some(other) = by_port.get(&(half.peer, half.peer_port)).copied() else { continue };
        let back = &halves[other];
        if !paired[at] && !paired[other] && back.peer == half.own && back.peer_port == half.port {
            pair(at, other, &mut paired);
        }
    }
    let mut vague: HashMap<(SwitchIndex, SwitchIndex), Vec<usize>> = HashMap::new();
    for (at, half) in halves.iter().enumerate().filter(|(at, _)| !paired[*at]) {
        vague.entry((half.own, half.peer)).or_default().push(at);
    }
    let mut keys: Vec<_> = vague.keys().copied().filter(|(own, peer)| own < peer).collect();
    keys.sort_unstable();
    for (own, peer) in keys {
        let back = vague.get(&(peer, own)).into_iter().flatten();
        for (a, b) in vague[&(own, peer)].iter().zip(back) {
            let fits =
                |half: &Half<'_>, other: &Half<'_>| half.peer_port.is_empty() || half.peer_port == other.port;
            if fits(&halves[*a], &halves[*b]) && fits(&halves[*b], &halves[*a]) {
                pair(*a, *b, &mut paired);
            }
        }
    }
    cables
}
