//! From Switch objects to fabrics.

use std::collections::{BTreeMap, HashMap};

use drystone_api::{EndpointRole, Switch, SwitchLink, SwitchState};

use super::{
    builder::{FabricBuilder, LinkEnd},
    topology::{EndpointSpec, Fabric, Role, SwitchIndex},
};

/// What tells fabrics apart: id and UUID.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FabricKey {
    /// Id.
    pub id: String,
    /// UUID; may be empty.
    pub uuid: String,
}

/// The switches of each fabric, in order of id; of two with one id the first one counts.
pub fn by_fabric<'a>(switches: impl IntoIterator<Item = &'a Switch>) -> BTreeMap<FabricKey, Vec<&'a Switch>> {
    let mut fabrics: BTreeMap<FabricKey, BTreeMap<&str, &Switch>> = BTreeMap::new();
    for switch in switches {
        let key = FabricKey { id: switch.spec.fabric.clone(), uuid: switch.spec.fabric_uuid.clone() };
        fabrics.entry(key).or_default().entry(&switch.spec.id).or_insert(switch);
    }
    fabrics.into_iter().map(|(key, switches)| (key, switches.into_values().collect())).collect()
}

/// Makes a fabric of its switches. Cables that not both ends report are left out; they appear once the other end has been
/// crawled. A cable is up if both ends say so.
pub fn merge(switches: &[&Switch]) -> Fabric {
    let first = switches.first().map(|switch| &switch.spec);
    let mut builder = FabricBuilder::new(
        first.map(|spec| spec.fabric.clone()).unwrap_or_default(),
        first.map(|spec| spec.fabric_type.clone()).unwrap_or_default(),
    );
    for switch in switches {
        let index = builder.switch(&switch.spec.id, &switch.spec.agent);
        builder.switch_up(index, is_up(switch));
    }
    for cable in cables(&builder, switches) {
        let [a, b] = [&cable.ends.0, &cable.ends.1].map(|end| LinkEnd { switch: end.0, port: end.1 });
        builder.link(a, b, cable.speed_gbps, cable.up);
    }
    for switch in switches {
        let Some(index) = builder.find_switch(&switch.spec.id) else { continue };
        endpoints_of(switch, index).for_each(|endpoint| builder.endpoint(endpoint));
    }
    let (fabric, left_out) = builder.build();
    for error in left_out {
        tracing::warn!(fabric = fabric.id, "{error}");
    }
    fabric
}

/// Whether a switch forwards.
fn is_up(switch: &Switch) -> bool {
    switch.status.as_ref().is_none_or(|status| status.state == SwitchState::Up)
}

/// The endpoints of a switch that has the given number. Those without an address cannot be told apart by switches.
fn endpoints_of(switch: &Switch, index: SwitchIndex) -> impl Iterator<Item = EndpointSpec> {
    let endpoints = switch.status.iter().flat_map(|status| &status.endpoints);
    endpoints.filter(|endpoint| !endpoint.mac.is_empty()).map(move |endpoint| EndpointSpec {
        id: endpoint.id.clone(),
        mac: endpoint.mac.clone(),
        switch: index,
        port: endpoint.port.clone(),
        role: match endpoint.role {
            EndpointRole::Target => Role::Target,
            EndpointRole::Initiator => Role::Initiator,
            EndpointRole::Both => Role::Both,
        },
        speed_gbps: endpoint.speed_gbps,
    })
}

fn links_of(switch: &Switch) -> impl Iterator<Item = &SwitchLink> {
    switch.status.iter().flat_map(|status| &status.links)
}

struct Cable<'a> {
    ends: ((SwitchIndex, &'a str), (SwitchIndex, &'a str)),
    speed_gbps: u32,
    up: bool,
}

/// One side's word about a link.
struct Half<'a> {
    own: SwitchIndex,
    port: &'a str,
    peer: SwitchIndex,
    peer_port: &'a str,
    speed_gbps: u32,
    up: bool,
}

/// Pairs what both sides say. Where a side does not say the other's port, the n-th unpaired link of one side is taken to be the
/// n-th unpaired one of the other.
fn cables<'a>(builder: &FabricBuilder, switches: &[&'a Switch]) -> Vec<Cable<'a>> {
    let mut halves: Vec<Half<'a>> = Vec::new();
    for switch in switches {
        let Some(own) = builder.find_switch(&switch.spec.id) else { continue };
        halves.extend(links_of(switch).filter_map(|link| {
            let peer = builder.find_switch(&link.peer_switch)?;
            let (port, peer_port, speed_gbps) =
                (link.port.as_str(), link.peer_port.as_str(), link.speed_gbps);
            (own != peer).then_some(Half { own, port, peer, peer_port, speed_gbps, up: !link.down })
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
        cables.push(Cable { ends: ((a.own, a.port), (b.own, b.port)), speed_gbps, up: a.up && b.up });
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

#[cfg(test)]
mod tests {
    use drystone_api::{SwitchLink, SwitchSpec};

    use drystone_api::SwitchStatus;

    use super::*;

    fn merge<'a>(switches: impl IntoIterator<Item = &'a Switch>) -> Vec<Fabric> {
        by_fabric(switches).values().map(|switches| super::merge(switches)).collect()
    }

    fn switch(id: &str, links: &[(&str, &str, &str, u32, bool)]) -> Switch {
        let spec =
            SwitchSpec { id: id.into(), fabric: "F".into(), agent: "agent".into(), ..Default::default() };
        let link = |(port, peer, peer_port, speed_gbps, down): &(&str, &str, &str, u32, bool)| SwitchLink {
            port: (*port).into(),
            peer_switch: (*peer).into(),
            peer_port: (*peer_port).into(),
            speed_gbps: *speed_gbps,
            down: *down,
        };
        let mut switch = Switch::new(id, spec);
        switch.status = Some(SwitchStatus { links: links.iter().map(link).collect(), ..Default::default() });
        switch
    }

    /// The links of the first switch: own port, port of the other side, speed, up.
    fn links(switches: &[Switch]) -> Vec<(String, String, u32, bool)> {
        let fabric = merge(switches).remove(0);
        let name = |port| fabric.port_name(port).to_owned();
        let all = fabric
            .links_of(0)
            .map(|(_, link)| (name(link.port), name(fabric.link(link.twin).port), link.speed_gbps, link.up));
        all.collect()
    }

    fn link(own: &str, far: &str, speed_gbps: u32, up: bool) -> (String, String, u32, bool) {
        (own.to_owned(), far.to_owned(), speed_gbps, up)
    }

    #[test]
    fn links_are_what_both_sides_say() {
        // Crossed parallel cables; the slower word on speed counts; one side that is down is enough.
        let a = switch(
            "a",
            &[("1", "b", "2", 100, false), ("2", "b", "1", 400, false), ("3", "b", "3", 0, true)],
        );
        let b = switch(
            "b",
            &[("1", "a", "2", 200, false), ("2", "a", "1", 0, false), ("3", "a", "3", 50, false)],
        );
        let found = links(&[a, b]);
        assert_eq!(found, [link("1", "2", 100, true), link("2", "1", 200, true), link("3", "3", 50, false)]);
    }

    #[test]
    fn what_one_side_alone_says_is_left_out() {
        let a = switch(
            "a",
            &[
                ("1", "b", "1", 100, false),
                ("2", "b", "9", 100, false),
                ("3", "ghost", "1", 100, false),
                ("4", "a", "5", 1, false),
            ],
        );
        let b = switch("b", &[("1", "a", "1", 100, false), ("2", "a", "8", 100, false)]);
        assert_eq!(links(&[a, b]), [link("1", "1", 100, true)]);
    }

    #[test]
    fn ports_that_are_not_told_are_paired_in_order() {
        let a = switch("a", &[("1", "b", "", 100, false), ("2", "b", "", 100, false)]);
        let b = switch("b", &[("7", "a", "", 100, false), ("8", "a", "2", 100, false)]);
        assert_eq!(links(&[a, b]), [link("1", "7", 100, true), link("2", "8", 100, true)]);
    }

    #[test]
    fn nothing_passes_a_switch_that_is_down() {
        let a = switch("a", &[("1", "b", "1", 100, false)]);
        let mut b = switch("b", &[("1", "a", "1", 100, false)]);
        b.status.as_mut().expect("given").state = SwitchState::Down;
        assert_eq!(links(&[a, b]), [link("1", "1", 100, false)]);
    }
}
