//! After any sequence of calls and faults, what was kept up to date is what is computed afresh.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::site::{a_deal, a_fabric, endpoint, look, zones};
use crate::{
    model::Fabric,
    plan::{
        entry::ReadTables,
        membership::Isolation,
        planner::{FabricChange, Planner},
        proof::prove_all,
        zone::{ConnectionRequest, ZoneError, ZoneRequest},
    },
};

/// The links that frames can pass, and the endpoints, all by name.
fn named(fabric: &Fabric) -> (BTreeSet<[String; 2]>, BTreeSet<String>) {
    let end = |switch: u32, port: u32| format!("{}/{}", fabric.switch(switch).id, fabric.port_name(port));
    let all = (0..fabric.switch_count())
        .flat_map(|switch| fabric.links_of(switch).map(move |(_, link)| (switch, link)));
    let up = all.filter(|(_, link)| link.up);
    let links = up.map(|(switch, link)| {
        let far = end(link.peer, fabric.link(link.twin).port);
        [format!("{} {}", end(switch, link.port), link.speed_gbps), far]
    });
    let endpoints =
        fabric.endpoints().map(|(_, e)| format!("{} {} {} {:?}", e.id, e.mac, end(e.switch, e.port), e.role));
    (links.collect(), endpoints.collect())
}

#[derive(Debug, Clone)]
enum Call {
    Set {
        id: u8,
        members: BTreeSet<u32>,
        kind: u8,
        involved: Option<BTreeSet<u32>>,
        pairs: Option<Vec<(u32, u32)>>,
    },
    Remove(u8),
    Link(usize, bool),
    Switch(u32, bool),
    Endpoint(usize, u32),
    Gone(u32),
}

fn call() -> impl Strategy<Value = Call> {
    let members = || prop::collection::btree_set(0_u32..26, 0..6);
    let involved = prop::option::weighted(0.25, prop::collection::btree_set(0_u32..12, 4..12));
    let pairs = prop::option::weighted(0.3, prop::collection::vec((0_u32..26, 0_u32..26), 0..4));
    prop_oneof![
        4 => (0_u8..5, members(), 0_u8..3, involved, pairs)
            .prop_map(|(id, members, kind, involved, pairs)| Call::Set { id, members, kind, involved, pairs }),
        1 => (0_u8..5).prop_map(Call::Remove),
        4 => (0_usize..1000, any::<bool>()).prop_map(|(link, up)| Call::Link(link, up)),
        1 => (0_u32..12, any::<bool>()).prop_map(|(switch, up)| Call::Switch(switch, up)),
        1 => (0_usize..26, 0_u32..14).prop_map(|(number, switch)| Call::Endpoint(number, switch)),
        1 => (0_u32..26).prop_map(Call::Gone),
    ]
}

fn perform(planner: &mut Planner, call: Call) -> Result<(), ZoneError> {
    match call {
        Call::Set { id, members, kind, involved, pairs } => {
            let connection = |(a, b)| ConnectionRequest { initiators: [a].into(), targets: [b].into() };
            let request = ZoneRequest {
                id: format!("z{id}"),
                tag: u32::from(id) + 1,
                isolation: [Isolation::Exclusive, Isolation::ServiceOnly, Isolation::Shared]
                    [usize::from(kind)],
                gateways: members.iter().copied().filter(|index| *index < 2).collect(),
                members,
                connections: pairs.map(|pairs| pairs.into_iter().map(connection).collect()),
                involved,
            };
            planner.set_zone(request).map(drop)?;
        }
        Call::Remove(id) => drop(planner.remove_zone(&format!("z{id}"))),
        Call::Link(link, up) => {
            let links = planner.fabric().link_count();
            if links > 0 {
                let link = u32::try_from(link % links).expect("few");
                planner.apply(FabricChange::Link { link, up }).expect("never refused");
            }
        }
        Call::Switch(switch, up) => drop(planner.apply(FabricChange::Switch { switch, up })),
        Call::Endpoint(number, switch) => {
            drop(planner.apply(FabricChange::Endpoint(endpoint(number, switch, number < 2))));
        }
        Call::Gone(index) => drop(planner.apply(FabricChange::EndpointGone(index))),
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn kept_is_as_computed_afresh(fabric in a_fabric(), calls in prop::collection::vec(call(), 1..30)) {
        let mut planner = Planner::new(fabric, 1);
        for call in calls {
            let before = planner.clone();
            let shown = format!("{call:?}");
            let refused = perform(&mut planner, call).is_err();
            if refused {
                prop_assert_eq!(before.zones(), planner.zones(), "{} was refused and changed something", shown);
            }
            let fresh = planner.afresh(1);
            prop_assert_eq!(planner.zones(), fresh.zones(), "after {}", shown);
            prop_assert_eq!(planner.routes(), fresh.routes());
        }
        // What is in force is sound.
        let mut read = ReadTables::default();
        let mut requests = Vec::new();
        for (id, zone) in planner.zones() {
            if let Ok(plan) = &zone.plan {
                read.zones.insert(id.clone(), plan.entries.clone());
                requests.push(zone.request.clone());
            }
        }
        let proof = prove_all(planner.fabric(), &requests, &read, 1);
        prop_assert!(proof.holds(), "{:?}", proof.counter_example);
    }

    #[test]
    fn a_new_crawl_is_taken_over(
        fabric in a_fabric(), deal in a_deal(),
        looks in prop::collection::vec((prop::collection::vec(0_usize..40, 0..3), prop::collection::vec(0_usize..124, 0..4),
            prop::collection::vec((0_u32..13, 0_u32..13), 0..4)), 1..4),
    ) {
        let requests = zones(&fabric, &deal);
        let mut planner = Planner::new(fabric.clone(), 1);
        for request in requests { planner.set_zone(request).expect("valid"); }
        let mut before = planner.clone();
        for (lost, moved, new) in looks {
            // Cables come without warning, but for one look in two.
            let new = if new.len() % 2 == 0 { Vec::new() } else { new };
            let seen = look(&fabric, &lost, &moved, &new);
            let changed = planner.adopt(&seen, 1);
            prop_assert_eq!(named(planner.fabric()), named(&seen));
            let fresh = planner.afresh(1);
            prop_assert_eq!(planner.zones(), fresh.zones());
            prop_assert_eq!(planner.routes(), fresh.routes());
            for (index, endpoint) in before.fabric().endpoints() {
                let known = planner.fabric().endpoint_by_id(&endpoint.id);
                prop_assert!(known.is_none_or(|known| known == index), "endpoints keep their numbers");
            }
            for (id, zone) in planner.zones() {
                let former = &before.zones()[id].plan;
                prop_assert!(changed.get(id).is_none_or(|reported| reported == former));
                prop_assert!(changed.contains_key(id) || zone.plan == *former, "{} changed unsaid", id);
            }
            prop_assert_eq!(planner.adopt(&seen, 1).len(), 0, "the second time there is nothing new");
            before = planner.clone();
        }
    }

    #[test]
    fn a_difference_leads_from_one_plan_to_the_other(
        fabric in a_fabric(), one in prop::collection::btree_set(0_u32..24, 0..8), other in prop::collection::btree_set(0_u32..24, 0..8),
    ) {
        let mut planner = Planner::new(fabric, 1);
        let request = |members: BTreeSet<u32>, planner: &Planner| ZoneRequest {
            id: "z".into(),
            tag: 1,
            members: members.into_iter().filter(|index| planner.fabric().endpoint(*index).is_some()).collect(),
            ..Default::default()
        };
        planner.set_zone(request(one, &planner)).expect("alone");
        let before = planner.set_zone(request(other, &planner)).expect("alone");
        let after = planner.zones()["z"].plan.clone().expect("planned");
        let mut entries: std::collections::BTreeMap<_, _> =
            before.entries.iter().map(|entry| (entry.switch, entry.clone())).collect();
        for (switch, change) in before.difference(&after) {
            prop_assert!(entries.get(&switch) != change, "nothing is written that is there");
            match change {
                Some(entry) => drop(entries.insert(switch, entry.clone())),
                None => drop(entries.remove(&switch)),
            }
        }
        prop_assert_eq!(entries.into_values().collect::<Vec<_>>(), after.entries);
    }
}
