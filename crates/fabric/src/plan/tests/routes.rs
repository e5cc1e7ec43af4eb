//! Routes, lanes and trees.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::prelude::*;

use super::site::{a_fabric, build};
use crate::{
    model::{EndpointSpec, Fabric, FabricBuilder, LinkEnd, SwitchIndex},
    plan::routes::{
        Routes, UNREACHABLE,
        lanes::{Lanes, check},
        switch_tables::SwitchTables,
        tree::SpanningTree,
    },
};

/// Distances by the plainest search there is.
fn plain(fabric: &Fabric, to: SwitchIndex) -> Vec<u16> {
    let mut row = vec![UNREACHABLE; fabric.switch_count() as usize];
    row[to as usize] = 0;
    let mut queue = VecDeque::from([to]);
    while let Some(switch) = queue.pop_front() {
        for (_, link) in fabric.links_of(switch).filter(|(_, link)| link.up) {
            if row[link.peer as usize] == UNREACHABLE {
                row[link.peer as usize] = row[switch as usize] + 1;
                queue.push_back(link.peer);
            }
        }
    }
    row
}

/// Takes down and up again what the numbers pick. Returns what changed each time.
fn faults(fabric: &mut Fabric, picks: &[(usize, bool)]) -> Vec<u32> {
    let links = fabric.link_count();
    let mut changed = Vec::new();
    for (pick, up) in picks.iter().filter(|_| links > 0) {
        if pick % 3 == 0 {
            let switch = u32::try_from(pick % fabric.switch_count() as usize).expect("few");
            changed.extend(fabric.set_switch(switch, *up));
        } else {
            let link = u32::try_from(pick % links).expect("few");
            changed.extend(fabric.set_link(link, *up).then_some(link));
        }
    }
    changed
}

prop_compose! {
    fn some_faults()(picks in prop::collection::vec((0_usize..1000, any::<bool>()), 0..12)) -> Vec<(usize, bool)> { picks }
}

proptest! {
    #[test]
    fn distances_are_shortest_and_kept_up_to_date(
        fabric in a_fabric(), first in some_faults(), then in some_faults(), threads in 1_usize..4,
    ) {
        let mut fabric = fabric;
        faults(&mut fabric, &first);
        let mut routes = Routes::full(&fabric, threads);
        for switch in 0..fabric.switch_count() {
            prop_assert_eq!(routes.row(switch), plain(&fabric, switch));
        }
        let mut tables = SwitchTables::new(&fabric, &routes, threads);
        let before = routes.clone();
        let changed = faults(&mut fabric, &then);
        let differences = routes.update(&fabric, &changed);
        tables.update(&fabric, &routes, &differences, &changed);
        prop_assert_eq!(&routes, &Routes::full(&fabric, 1));
        prop_assert_eq!(&tables, &SwitchTables::new(&fabric, &routes, 1));
        for to in 0..fabric.switch_count() {
            for at in 0..fabric.switch_count() {
                let differs = before.distance(at, to) != routes.distance(at, to);
                prop_assert_eq!(differs, differences.contains(&(to, at)));
            }
        }
    }

    #[test]
    fn frames_come_closer_with_every_link(fabric in a_fabric(), picks in some_faults(), flow in any::<u32>()) {
        let mut fabric = fabric;
        faults(&mut fabric, &picks);
        let routes = Routes::full(&fabric, 2);
        for (from, to) in (0..fabric.switch_count()).flat_map(|a| (0..fabric.switch_count()).map(move |b| (a, b))) {
            let Some(distance) = routes.distance(from, to) else { continue };
            let mut at = from;
            for left in (0..distance).rev() {
                let link = routes.way(&fabric, at, to, flow).expect("a way");
                prop_assert!(fabric.link(link).up && fabric.ends_of(link).expect("known").0 == at);
                at = fabric.link(link).peer;
                prop_assert_eq!(routes.distance(at, to), Some(left));
            }
            prop_assert_eq!(at, to);
            prop_assert_eq!(routes.way(&fabric, to, to, flow), None);
        }
    }

    #[test]
    fn lanes_have_no_circle(fabric in a_fabric(), picks in some_faults()) {
        let lanes = Lanes::new(&fabric);
        let mut fabric = fabric;
        faults(&mut fabric, &picks);
        let routes = Routes::full(&fabric, 1);
        let proof = check(&fabric, &routes, |lane, incoming, out| lanes.next(&fabric, lane, incoming, out));
        let proof = proof.expect("no circle");
        prop_assert_eq!(proof.lanes, lanes.needed(&fabric, &routes));
        let longest = routes.destinations().iter().flat_map(|to| routes.row(*to)).filter(|d| **d != UNREACHABLE).max();
        prop_assert!(u16::from(proof.lanes) <= 1 + longest.copied().unwrap_or(0) / 2);
    }

    #[test]
    fn a_part_of_the_tree_is_a_tree(fabric in a_fabric(), picks in some_faults(), ends in prop::collection::btree_set(0_u32..12, 1..6)) {
        let mut fabric = fabric;
        faults(&mut fabric, &picks);
        let ends: BTreeSet<SwitchIndex> = ends.into_iter().map(|end| end % fabric.switch_count()).collect();
        let first = *ends.first().expect("one");
        let reachable = plain(&fabric, first);
        match SpanningTree::new(&fabric, None).connecting(&fabric, &ends) {
            Err(switch) => prop_assert_eq!(reachable[switch as usize], UNREACHABLE),
            Ok(part) => {
                prop_assert!(ends.iter().all(|end| reachable[*end as usize] != UNREACHABLE && part.contains_key(end)));
                // Connected, with one link less than switches, each in both directions.
                let halves: usize = part.values().map(Vec::len).sum();
                prop_assert_eq!(halves, 2 * (part.len() - 1));
                let mut seen = BTreeSet::from([first]);
                let mut queue = vec![first];
                while let Some(switch) = queue.pop() {
                    for link in &part[&switch] {
                        prop_assert!(fabric.link(*link).up);
                        let peer = fabric.link(*link).peer;
                        prop_assert!(part[&peer].contains(&fabric.link(*link).twin));
                        if seen.insert(peer) { queue.push(peer); }
                    }
                }
                prop_assert_eq!(seen.len(), part.len());
            }
        }
    }
}

/// Four switches in a ring, each with an endpoint.
fn ring(count: u32) -> Fabric {
    let mut builder = FabricBuilder::new("F", "InfiniBand");
    for switch in 0..count {
        builder.switch(&format!("sw{switch}"), "agent");
    }
    for switch in 0..count {
        let end = |switch, port| LinkEnd { switch, port };
        builder.link(end(switch, "right"), end((switch + 1) % count, "left"), 100, true);
        let mac = format!("02:00:00:00:00:{switch:02x}");
        builder.endpoint(EndpointSpec {
            id: format!("e{switch}"),
            mac,
            switch,
            port: "p".into(),
            ..Default::default()
        });
    }
    builder.build().0
}

#[test]
fn one_lane_alone_has_a_circle_in_a_ring() {
    let fabric = ring(5);
    let routes = Routes::full(&fabric, 1);
    let error = check(&fabric, &routes, |_, _, _| 0).expect_err("a ring waits for itself");
    assert!(error.to_string().contains("sw1 → sw0 in lane 0"), "{error}");
    assert_eq!(error.to_string().matches(" in lane 0").count(), 5, "{error}");
    let lanes = Lanes::new(&fabric);
    let proof = check(&fabric, &routes, |lane, incoming, out| lanes.next(&fabric, lane, incoming, out));
    assert_eq!(proof.expect("no circle").lanes, 2);
}

/// Two tiers: every leaf to every spine, over so many cables.
fn leaf_spine(leaves: u32, spines: u32, cables: u32, speed: impl Fn(u32) -> u32) -> Fabric {
    let mut builder = FabricBuilder::new("F", "Ethernet");
    for switch in 0..leaves + spines {
        builder.switch(&format!("sw{switch:02}"), "agent");
    }
    for (leaf, spine) in (0..leaves).flat_map(|leaf| (0..spines).map(move |spine| (leaf, spine))) {
        for cable in 0..cables {
            let (up, down) = (format!("u{spine}.{cable}"), format!("d{leaf}.{cable}"));
            let ends = [LinkEnd { switch: leaf, port: &up }, LinkEnd { switch: leaves + spine, port: &down }];
            builder.link(ends[0], ends[1], speed(spine), true);
        }
    }
    for number in 0..leaves * 100 {
        let mac = format!("02:00:00:00:{:02x}:{:02x}", number / 256, number % 256);
        let (id, port) = (format!("e{number}"), format!("p{number}"));
        builder.endpoint(EndpointSpec { id, mac, switch: number / 100, port, ..Default::default() });
    }
    builder.build().0
}

/// How many endpoints of leaf 1 each link of leaf 0 leads to.
fn spread(fabric: &Fabric) -> BTreeMap<u32, u32> {
    let routes = Routes::full(fabric, 1);
    let mut load = BTreeMap::new();
    for endpoint in fabric.endpoints_of(1).iter().filter_map(|index| fabric.endpoint(*index)) {
        *load.entry(routes.way(fabric, 0, 1, endpoint.flow).expect("a way")).or_default() += 1;
    }
    load
}

#[test]
fn the_load_is_spread_over_equal_ways_and_parallel_links_by_speed() {
    let even = spread(&leaf_spine(2, 2, 2, |_| 100));
    assert_eq!(even.len(), 4, "all four ways carry something: {even:?}");
    assert!(even.values().all(|load| (12..=40).contains(load)), "about a quarter each: {even:?}");
    let fabric = leaf_spine(2, 2, 1, |spine| if spine == 0 { 300 } else { 100 });
    let weighted = spread(&fabric);
    let (fast, slow) = (weighted[&fabric.link_range(0).start], weighted[&(fabric.link_range(0).start + 1)]);
    assert!(
        (62..=88).contains(&fast) && fast + slow == 100,
        "three quarters over the fast link: {weighted:?}"
    );
}

#[test]
fn a_failed_link_moves_only_what_used_it() {
    let mut fabric = leaf_spine(2, 4, 1, |_| 100);
    let ways = |fabric: &Fabric| -> Vec<Option<u32>> {
        let routes = Routes::full(fabric, 1);
        let endpoints = fabric.endpoints_of(1).iter().filter_map(|index| fabric.endpoint(*index));
        endpoints.map(|endpoint| routes.way(fabric, 0, 1, endpoint.flow)).collect()
    };
    let before = ways(&fabric);
    let failed = fabric.link_range(0).start;
    fabric.set_link(failed, false);
    for (old, new) in before.iter().zip(ways(&fabric)) {
        assert!(new != Some(failed) && (*old == new || *old == Some(failed)), "{old:?} became {new:?}");
    }
}

#[test]
fn fat_trees_need_one_lane() {
    let fabric = leaf_spine(4, 3, 1, |_| 100);
    let mut fabric = fabric;
    let lanes = Lanes::new(&fabric);
    assert_eq!(lanes.needed(&fabric, &routes_between_leaves(&fabric)), 1);
    // With leaf 0 cut off from all spines but one, leaves still go up and down only.
    fabric.set_link(fabric.link_range(0).start, false);
    fabric.set_link(fabric.link_range(0).start + 1, false);
    assert_eq!(lanes.needed(&fabric, &routes_between_leaves(&fabric)), 1);
}

/// Frames begin and end at leaves; ways between spines do not count.
fn routes_between_leaves(fabric: &Fabric) -> Routes {
    Routes::to(fabric, &[0, 1, 2, 3], None)
}

#[test]
fn a_line_of_switches_is_measured_to_its_end() {
    let parents: Vec<usize> = (0..300).collect();
    let fabric = build(&parents, &[], 4, 0);
    assert_eq!(Routes::full(&fabric, 2).distance(0, 300), Some(300));
}
