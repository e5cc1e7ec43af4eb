//! Tables of zones.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::{
    site::{a_deal, a_fabric, build, program, read, zone, zones},
    wire::{behaviour, wanted},
};
use crate::{
    model::EndpointIndex,
    plan::{
        proof::{prove, prove_all},
        routes::tree::SpanningTree,
        zone::{ConnectionRequest, ZoneError, plan, tables, validate},
    },
};

proptest! {
    #[test]
    fn zones_connect_whom_they_join_and_nobody_else(fabric in a_fabric(), deal in a_deal()) {
        let zones = zones(&fabric, &deal);
        for zone in &zones { prop_assert_eq!(validate(&fabric, zone, &zones), Ok(())); }
        let tables = program(&fabric, &zones);
        let joined = |a, b| zones.iter().any(|zone| zone.joins(a, b));
        prop_assert_eq!(behaviour(&fabric, &tables), wanted(&fabric, joined));
        for zone in &zones {
            let proof = prove(&fabric, zone, &zones, &tables);
            prop_assert!(proof.holds(), "{:?}", proof.counter_example);
        }
        let all = prove_all(&fabric, &zones, &read(&fabric, &tables), 2);
        prop_assert!(all.holds(), "{:?}", all.counter_example);
    }

    #[test]
    fn only_involved_switches_carry_a_zone(
        fabric in a_fabric(), members in prop::collection::btree_set(0_u32..24, 2..6), more in prop::collection::btree_set(0_u32..12, 0..6),
    ) {
        let members: BTreeSet<EndpointIndex> =
            members.into_iter().filter(|index| fabric.endpoint(*index).is_some()).collect();
        prop_assume!(members.len() > 1);
        let homes = members.iter().map(|index| fabric.endpoint(*index).expect("present").switch);
        let mut request = zone("ns.z", 1, members.iter().copied());
        request.involved = Some(homes.chain(more.into_iter().map(|switch| switch % fabric.switch_count())).collect());
        match plan(&fabric, &request, None, &SpanningTree::new(&fabric, None)) {
            Err(error) => prop_assert!(matches!(error, ZoneError::Disconnected { .. }), "{error}"),
            Ok(plan) => {
                let involved = request.involved.as_ref().expect("given");
                prop_assert!(plan.entries.iter().all(|entry| involved.contains(&entry.switch)));
                let tables = program(&fabric, std::slice::from_ref(&request));
                prop_assert_eq!(behaviour(&fabric, &tables), wanted(&fabric, |a, b| request.joins(a, b)));
                let proof = prove(&fabric, &request, &[], &tables);
                prop_assert!(proof.holds(), "{:?}", proof.counter_example);
            }
        }
    }
}

#[test]
fn an_endpoint_in_two_exclusive_zones_is_refused() {
    let fabric = build(&[0], &[], 4, 1);
    let mut zones = [zone("ns/a", 1, [0, 1, 2]), zone("ns/b", 2, [0, 2, 3])];
    for zone in &mut zones {
        zone.gateways.insert(0);
    }
    let error = validate(&fabric, &zones[1], &zones).expect_err("e002 is in both");
    assert!(error.to_string().contains("e002 of fabric F is in zone ns/a already"), "{error}");
}

#[test]
fn a_cut_off_switch_is_named() {
    let mut fabric = build(&[0], &[], 4, 0);
    fabric.set_link(0, false);
    let error = tables(&fabric, &zone("ns/a", 1, 0..4)).expect_err("two islands");
    assert_eq!(error, ZoneError::Disconnected { switch: "sw001".to_owned(), fabric: "F".to_owned() });
}

#[test]
fn only_switches_on_the_way_are_concerned() {
    // A line of five switches; the zone lives at the first two.
    let fabric = build(&[0, 1, 2, 3], &[], 5, 0);
    let near = fabric.endpoints().filter(|(_, endpoint)| endpoint.switch < 2).map(|(index, _)| index);
    let tables = tables(&fabric, &zone("ns/a", 1, near)).expect("connected");
    assert!(tables.keys().all(|switch| *switch < 2), "{tables:?}");
}

#[test]
fn peers_are_listed_at_the_members_own_switch_only() {
    let fabric = build(&[0, 1], &[], 6, 0);
    let mut request = zone("ns.z", 1, 0..6);
    let pair = |initiators: &[u32], targets: &[u32]| ConnectionRequest {
        initiators: initiators.iter().copied().collect(),
        targets: targets.iter().copied().collect(),
    };
    request.connections = Some(vec![pair(&[0, 1], &[2]), pair(&[3], &[2])]);
    let tables = tables(&fabric, &request).expect("connected");
    for (switch, table) in &tables {
        for (mac, member) in &table.members {
            let index = fabric.endpoint_by_mac(mac).expect("known");
            let home = fabric.endpoint(index).expect("present").switch == *switch;
            // Endpoint 2 may talk to all that are connected, so that nothing needs to be said of it.
            assert_eq!(member.peers.is_some(), home && index != 2, "{mac} at {switch}: {member:?}");
            assert!(index < 4, "5 and 6 are connected with nobody: {table:?}");
        }
    }
    let text = serde_json::to_string(&tables[&0]).expect("JSON");
    assert!(text.contains(r#""Peers":["02:00:00:00:00:02"]"#), "{text}");
}

#[test]
fn mistakes_are_named() {
    let mut fabric = build(&[0], &[], 4, 0);
    let mut request = zone("ns.z", 1, [0, 1]);
    let tree = SpanningTree::new(&fabric, None);
    let pair = ConnectionRequest { initiators: [0].into(), targets: [3].into() };
    request.connections = Some(vec![ConnectionRequest::default(), pair]);
    let error = plan(&fabric, &request, None, &tree).expect_err("3 is outside");
    assert_eq!(error, ZoneError::ConnectionOutside { connection: 1, endpoint: "e003".to_owned() });
    request.connections = None;
    request.involved = Some([0].into());
    let error = plan(&fabric, &request, None, &tree).expect_err("1 is elsewhere");
    assert_eq!(error, ZoneError::NotInvolved { endpoint: "e001".to_owned(), switch: "sw001".to_owned() });
    fabric.remove_endpoint(1);
    let error = plan(&fabric, &request, None, &tree).expect_err("1 is gone");
    assert_eq!(error, ZoneError::Vanished { endpoint: "e001".to_owned(), fabric: "F".to_owned() });
}
