//! Random fabrics and zones.

use std::collections::BTreeSet;

use proptest::prelude::*;

use crate::{
    model::{EndpointIndex, EndpointSpec, Fabric, FabricBuilder, LinkEnd, Role, SwitchIndex},
    plan::{
        entry::ReadTables,
        membership::Isolation,
        proof::Tables,
        routes::tree::SpanningTree,
        zone::{ConnectionRequest, ZoneRequest, plan, render},
    },
};

/// Another look at a fabric: without some of its cables and endpoints, some endpoints elsewhere, perhaps with more cables and a
/// switch that was not there.
pub(super) fn look(fabric: &Fabric, lost: &[usize], moved: &[usize], new: &[(u32, u32)]) -> Fabric {
    let mut builder = FabricBuilder::new("F", "Ethernet");
    let count = fabric.switch_count() + u32::from(new.len() > 2);
    // In another order: numbers are of no account.
    for switch in (0..count).rev() {
        builder.switch(&format!("sw{switch:03}"), "agent");
    }
    let name =
        |builder: &FabricBuilder, switch: u32| builder.find_switch(&format!("sw{switch:03}")).expect("added");
    for (index, link) in (0..fabric.switch_count()).flat_map(|switch| fabric.links_of(switch)) {
        if index > link.twin || lost.contains(&(index as usize)) {
            continue;
        }
        let (own, peer) = fabric.ends_of(index).expect("known");
        let (port, far) = (fabric.port_name(link.port), fabric.port_name(fabric.link(link.twin).port));
        let speed = if lost.len() == 1 { 25 } else { link.speed_gbps };
        let ends = [(own, port), (peer, far)].map(|(at, port)| LinkEnd { switch: name(&builder, at), port });
        builder.link(ends[0], ends[1], speed, link.up);
    }
    for (number, (a, b)) in new.iter().map(|(a, b)| (a % count, b % count)).enumerate() {
        let port = format!("new{number}");
        let ends = [a, b].map(|at| LinkEnd { switch: name(&builder, at), port: &port });
        builder.link(ends[0], ends[1], 100, true);
    }
    for (index, endpoint) in fabric.endpoints().filter(|(index, _)| !moved.contains(&(*index as usize + 100)))
    {
        let away = moved.contains(&(index as usize));
        let at = if away { (endpoint.switch + 1) % fabric.switch_count() } else { endpoint.switch };
        builder.endpoint(EndpointSpec {
            id: endpoint.id.to_string(),
            mac: endpoint.mac.to_string(),
            switch: name(&builder, at),
            port: fabric.port_name(endpoint.port).to_owned(),
            role: endpoint.role,
            speed_gbps: endpoint.speed_gbps,
        });
    }
    builder.build().0
}

/// A connected fabric: a random tree of switches, extra links (some of them parallel), endpoints dealt round. The first
/// `services` endpoints are services.
pub(super) fn build(
    parents: &[usize],
    extra: &[(usize, usize)],
    endpoints: usize,
    services: usize,
) -> Fabric {
    let count = parents.len() + 1;
    let mut builder = FabricBuilder::new("F", "Ethernet");
    for switch in 0..count {
        builder.switch(&format!("sw{switch:03}"), "agent");
    }
    let mut ports = vec![0; count];
    let mut connect = |a: usize, b: usize| {
        let [pa, pb] = [a, b].map(|switch| format!("isl{}", ports[switch]));
        ports[a] += 1;
        ports[b] += 1;
        let end = |switch: usize, port| LinkEnd { switch: u32::try_from(switch).expect("few"), port };
        builder.link(end(a, &pa), end(b, &pb), if (a + b).is_multiple_of(3) { 400 } else { 100 }, true);
    };
    for (child, parent) in parents.iter().enumerate() {
        connect(child + 1, parent % (child + 1));
    }
    for (a, b) in extra.iter().map(|(a, b)| (a % count, b % count)).filter(|(a, b)| a != b) {
        connect(a, b);
    }
    for number in 0..endpoints {
        builder.endpoint(endpoint(
            number,
            u32::try_from((number * 7) % count).expect("few"),
            number < services,
        ));
    }
    let (fabric, left_out) = builder.build();
    assert_eq!(left_out, []);
    fabric
}

pub(super) fn endpoint(number: usize, switch: SwitchIndex, service: bool) -> EndpointSpec {
    EndpointSpec {
        id: format!("e{number:03}"),
        mac: format!("02:00:00:00:{:02x}:{:02x}", number / 256, number % 256),
        switch,
        port: format!("p{number}"),
        role: if service { Role::Target } else { Role::Both },
        speed_gbps: 100,
    }
}

prop_compose! {
    /// Up to 12 switches, up to 24 endpoints, two of them services.
    pub(super) fn a_fabric()(
        parents in prop::collection::vec(0_usize..100, 0..12),
        extra in prop::collection::vec((0_usize..100, 0_usize..100), 0..10),
        endpoints in 4_usize..24,
    ) -> Fabric {
        build(&parents, &extra, endpoints, 2)
    }
}

pub(super) fn zone(id: &str, tag: u32, members: impl IntoIterator<Item = EndpointIndex>) -> ZoneRequest {
    ZoneRequest { id: id.to_owned(), tag, members: members.into_iter().collect(), ..Default::default() }
}

/// A random way to deal endpoints to zones: by endpoint the zone; by zone how it is made.
#[derive(Debug, Clone)]
pub(super) struct Deal {
    pub(super) zone_of: Vec<u32>,
    pub(super) connections: Vec<Option<Vec<(u32, u32)>>>,
}

prop_compose! {
    pub(super) fn a_deal()(
        zone_of in prop::collection::vec(0_u32..4, 24),
        connections in prop::collection::vec(prop::option::weighted(0.4, prop::collection::vec((0_u32..40, 0_u32..40), 0..12)), 3),
    ) -> Deal {
        Deal { zone_of, connections }
    }
}

/// Three zones: both services in all of them, the other endpoints in one or none.
pub(super) fn zones(fabric: &Fabric, deal: &Deal) -> Vec<ZoneRequest> {
    (1..4)
        .map(|tag| {
            let own = fabric.endpoints().map(|(index, _)| index).filter(|index| *index > 1);
            let own = own.filter(|index| deal.zone_of[*index as usize % deal.zone_of.len()] == tag);
            let mut zone = zone(&format!("ns.z{tag}"), tag, own.chain([0, 1]));
            zone.gateways = BTreeSet::from([0, 1]);
            zone.isolation =
                [Isolation::Exclusive, Isolation::ServiceOnly, Isolation::Shared][tag as usize - 1];
            let members: Vec<EndpointIndex> = zone.members.iter().copied().collect();
            let pick = |number: u32| BTreeSet::from([members[number as usize % members.len()]]);
            zone.connections = deal.connections[tag as usize - 1].as_ref().map(|pairs| {
                let pairs = pairs.iter().map(|(a, b)| (pick(*a), pick(*b)));
                pairs.map(|(initiators, targets)| ConnectionRequest { initiators, targets }).collect()
            });
            zone
        })
        .collect()
}

/// The tables that zones need, as switches hold them.
pub(super) fn program(fabric: &Fabric, zones: &[ZoneRequest]) -> Tables {
    let tree = SpanningTree::new(fabric, None);
    let mut all = Tables::new();
    for zone in zones {
        for entry in plan(fabric, zone, None, &tree).expect("connected").entries {
            let table = all.entry(entry.switch).or_default();
            table.zones.insert(zone.id.clone(), render(fabric, zone, &entry));
        }
    }
    all
}

pub(super) fn read(fabric: &Fabric, tables: &Tables) -> ReadTables {
    let mut read = ReadTables::default();
    for (switch, table) in tables {
        read.add(fabric, *switch, table);
    }
    read
}
