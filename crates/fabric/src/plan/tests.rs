//! Properties of routes, zones, proofs and leases over random fabrics.

use std::collections::{BTreeMap, BTreeSet};

use drystone_api::{
    AddressPoolPurpose, AddressPoolSpec, AddressPoolStatus, EndpointRole, Isolation, Switch, SwitchEndpoint,
    SwitchLink, SwitchSpec, SwitchStatus,
};
use proptest::prelude::*;

use super::{
    addresses,
    proof::{Tables, prove},
    zone::{ZoneError, ZoneRequest, tables, validate},
};
use crate::model::{Fabric, merge};

/// A connected fabric: a random tree of switches, some extra links, and endpoints dealt round.
fn topology(parents: &[usize], extra: &[(usize, usize)], endpoints: usize, shared: usize) -> Vec<Switch> {
    let count = parents.len() + 1;
    let mut links: Vec<Vec<SwitchLink>> = vec![Vec::new(); count];
    let mut connect = |a: usize, b: usize| {
        let (pa, pb) =
            (format!("isl{}", links[a].len()), format!("isl{}", links[b].len() + usize::from(a == b)));
        links[a].push(SwitchLink {
            port: pa.clone(),
            peer_switch: format!("sw{b:03}"),
            peer_port: pb.clone(),
            speed_gbps: 100,
            down: false,
        });
        links[b].push(SwitchLink {
            port: pb,
            peer_switch: format!("sw{a:03}"),
            peer_port: pa,
            speed_gbps: 100,
            down: false,
        });
    };
    for (child, parent) in parents.iter().enumerate() {
        connect(child + 1, parent % (child + 1));
    }
    for (a, b) in extra.iter().map(|(a, b)| (a % count, b % count)).filter(|(a, b)| a != b) {
        connect(a, b);
    }
    let mut attached: Vec<Vec<SwitchEndpoint>> = vec![Vec::new(); count];
    for i in 0..endpoints {
        attached[(i * 7) % count].push(SwitchEndpoint {
            id: format!("e{i:03}"),
            mac: format!("02:00:00:00:{:02x}:{:02x}", i / 256, i % 256),
            port: format!("p{i}"),
            speed_gbps: 100,
            role: if i < shared { EndpointRole::Target } else { EndpointRole::Both },
            excludes: Vec::new(),
        });
    }
    let switch = |(i, (links, endpoints))| {
        let id = format!("sw{i:03}");
        let spec = SwitchSpec { id, fabric: "F".to_owned(), agent: "agent".to_owned(), ..Default::default() };
        let mut switch = Switch::new(&format!("sw{i:03}"), spec);
        switch.status = Some(SwitchStatus { links, endpoints, ..Default::default() });
        switch
    };
    links.into_iter().zip(attached).enumerate().map(switch).collect()
}

fn fabric_of(topology: &[Switch]) -> Fabric {
    merge(topology).remove(0)
}

fn zone(id: &str, tag: u32, members: impl IntoIterator<Item = usize>) -> ZoneRequest {
    ZoneRequest {
        id: id.to_owned(),
        tag,
        isolation: Isolation::Exclusive,
        members: members.into_iter().collect(),
    }
}

fn program(fabric: &Fabric, zones: &[ZoneRequest]) -> Tables {
    let mut all: Tables = BTreeMap::new();
    for zone in zones {
        for (switch, entry) in tables(fabric, zone).expect("connected") {
            all.entry(switch).or_default().zones.insert(zone.id.clone(), entry);
        }
    }
    all
}

prop_compose! {
    fn a_fabric()(
        parents in prop::collection::vec(0_usize..100, 0..12),
        extra in prop::collection::vec((0_usize..100, 0_usize..100), 0..8),
        endpoints in 2_usize..24,
    ) -> Fabric {
        fabric_of(&topology(&parents, &extra, endpoints, 1))
    }
}

proptest! {
    #[test]
    fn zones_connect_their_members_and_nobody_else(fabric in a_fabric(), deal in prop::collection::vec(0_u32..4, 24)) {
        let zones: Vec<ZoneRequest> = (1..4).map(|tag| {
            let members = (1..fabric.endpoints.len()).filter(|i| deal[*i] == tag).chain([0]);
            zone(&format!("ns/z{tag}"), tag, members)
        }).collect();
        for zone in &zones { prop_assert_eq!(validate(&fabric, zone, &zones), Ok(())); }
        let tables = program(&fabric, &zones);
        for zone in &zones {
            let proof = prove(&fabric, zone, &zones, &tables);
            prop_assert!(proof.holds(), "{:?}", proof.counter_example);
        }
    }

    #[test]
    fn a_stray_entry_is_found(fabric in a_fabric(), pick in any::<prop::sample::Index>()) {
        prop_assume!(fabric.endpoints.len() >= 4);
        let half = fabric.endpoints.len() / 2;
        let zones = [zone("ns/a", 1, 1..half.max(2)), zone("ns/b", 2, half.max(2)..fabric.endpoints.len())];
        let mut tables = program(&fabric, &zones);
        let intruder = &fabric.endpoints[*pick.get(&zones[1].members.iter().copied().collect::<Vec<_>>())];
        // The intruder is put into zone a in every switch that has a way to it, as a faulty switch would.
        let widened = zone("ns/a", 1, zones[0].members.iter().copied().chain([fabric.endpoint_by_id(&intruder.id).expect("known")]));
        for (switch, entry) in super::zone::tables(&fabric, &widened).expect("connected") {
            tables.entry(switch).or_default().zones.insert("ns/a".to_owned(), entry);
        }
        let proof = prove(&fabric, &zones[0], &zones, &tables);
        prop_assert!(proof.counter_example.as_ref().is_some_and(|text| text.contains(&intruder.id)), "{proof:?}");
    }

    #[test]
    fn a_missing_entry_is_found(fabric in a_fabric(), pick in any::<prop::sample::Index>()) {
        let zones = [zone("ns/a", 1, 0..fabric.endpoints.len())];
        let mut tables = program(&fabric, &zones);
        let victim = pick.get(&fabric.endpoints);
        for table in tables.values_mut() {
            for entry in table.zones.values_mut() { entry.members.remove(&victim.mac); }
        }
        prop_assert!(!prove(&fabric, &zones[0], &zones, &tables).holds());
    }

    #[test]
    fn leases_never_overlap(steps in prop::collection::vec((0_u8..2, 0_usize..8, 1_usize..4), 1..60)) {
        let spec = AddressPoolSpec {
            purpose: AddressPoolPurpose::Pod,
            ranges: vec!["10.42.0.0/20".parse().expect("valid"), "10.60.0.0/22".parse().expect("valid")],
            block_prefix_length: 24,
            reserved: vec!["10.42.3.7/32".parse().expect("valid")],
            ..Default::default()
        };
        let mut status = AddressPoolStatus::default();
        for (kind, holder, count) in steps {
            let holder = format!("h{holder}");
            if kind == 0 {
                match addresses::lease(&spec, &status, &holder, count) {
                    Ok((next, blocks)) => {
                        prop_assert!(blocks.len() >= count);
                        let again = addresses::lease(&spec, &next, &holder, count).expect("it has them");
                        prop_assert_eq!(&again.1, &blocks, "a repeated lease must not change anything");
                        status = next;
                    }
                    Err(addresses::LeaseError::Exhausted { .. }) => {}
                    Err(error) => prop_assert!(false, "{}", error),
                }
            } else {
                status = addresses::release(&spec, &status, &holder);
            }
            let blocks: Vec<_> = status.leases.iter().flat_map(|lease| lease.blocks.iter()).collect();
            prop_assert_eq!(blocks.iter().collect::<BTreeSet<_>>().len(), blocks.len());
            prop_assert_eq!(status.leased_blocks, blocks.len() as u64);
            prop_assert!(blocks.iter().all(|block| block.to_string() != "10.42.3.0/24"), "reserved");
        }
    }
}

#[test]
fn an_endpoint_in_two_exclusive_zones_is_refused() {
    let fabric = fabric_of(&topology(&[0], &[], 4, 1));
    let zones = [zone("ns/a", 1, [0, 1, 2]), zone("ns/b", 2, [0, 2, 3])];
    let error = validate(&fabric, &zones[1], &zones).expect_err("e002 is in both");
    assert!(error.to_string().contains("e002 of fabric F is in zone ns/a already"), "{error}");
}

#[test]
fn a_cut_off_switch_is_named() {
    let mut parts = topology(&[0], &[], 4, 0);
    parts.iter_mut().filter_map(|switch| switch.status.as_mut()).for_each(|status| status.links.clear());
    let fabric = fabric_of(&parts);
    let error = tables(&fabric, &zone("ns/a", 1, 0..4)).expect_err("two islands");
    assert_eq!(error, ZoneError::Disconnected { switch: "sw001".to_owned(), fabric: "F".to_owned() });
}

#[test]
fn only_switches_on_the_way_are_concerned() {
    // A line of five switches; the zone lives at the first two.
    let fabric = fabric_of(&topology(&[0, 1, 2, 3], &[], 5, 0));
    let near: Vec<usize> = (0..5).filter(|i| fabric.endpoints[*i].switch < 2).collect();
    let tables = tables(&fabric, &zone("ns/a", 1, near)).expect("connected");
    assert!(tables.keys().all(|switch| *switch < 2), "{tables:?}");
}

#[test]
fn a_pool_that_makes_no_sense_is_refused() {
    let spec = AddressPoolSpec {
        ranges: vec!["10.0.0.0/30".parse().expect("valid")],
        block_prefix_length: 24,
        ..Default::default()
    };
    let error = addresses::validate(&spec).expect_err("too small");
    assert!(error.to_string().starts_with("spec.ranges[0]: 10.0.0.0/30 is smaller"), "{error}");
}
