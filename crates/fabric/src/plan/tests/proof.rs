//! Proofs: every kind of damage is found.

use proptest::prelude::*;

use super::{
    site::{a_deal, a_fabric, build, program, read, zone, zones},
    wire::behaviour,
};
use crate::{
    model::{Fabric, ForwardingZone, Member},
    plan::{
        proof::{Proof, Tables, prove, prove_all, prove_zone},
        zone::{ConnectionRequest, ZoneRequest},
    },
};

/// What may happen to a table. Numbers are picked modulo what there is.
#[derive(Debug, Clone)]
enum Damage {
    Port { member: usize, port: usize },
    Forget { member: usize },
    Stray { endpoint: usize, port: usize },
    Unknown { port: usize },
    FloodMore { port: usize },
    FloodLess { port: usize },
    Unrestrict { member: usize },
    Restrict { member: usize },
    Tag,
    DropZone,
    CopyZone { from: usize },
}

fn damage() -> impl Strategy<Value = Damage> {
    let n = || 0_usize..1000;
    prop_oneof![
        (n(), n()).prop_map(|(member, port)| Damage::Port { member, port }),
        n().prop_map(|member| Damage::Forget { member }),
        (n(), n()).prop_map(|(endpoint, port)| Damage::Stray { endpoint, port }),
        n().prop_map(|port| Damage::Unknown { port }),
        n().prop_map(|port| Damage::FloodMore { port }),
        n().prop_map(|port| Damage::FloodLess { port }),
        n().prop_map(|member| Damage::Unrestrict { member }),
        n().prop_map(|member| Damage::Restrict { member }),
        Just(Damage::Tag),
        Just(Damage::DropZone),
        n().prop_map(|from| Damage::CopyZone { from }),
    ]
}

/// All ports of a switch by name, and one that it does not have.
fn ports(fabric: &Fabric, switch: u32) -> Vec<String> {
    let links = fabric.links_of(switch).map(|(_, link)| link.port);
    let edges =
        fabric.endpoints_of(switch).iter().filter_map(|index| fabric.endpoint(*index)).map(|e| e.port);
    links.chain(edges).map(|port| fabric.port_name(port).to_owned()).chain(["nowhere".to_owned()]).collect()
}

fn apply(fabric: &Fabric, tables: &mut Tables, at: (usize, usize), damage: &Damage) {
    let switches: Vec<u32> = tables.keys().copied().collect();
    let Some(switch) = switches.get(at.0 % switches.len().max(1)).copied() else { return };
    let ids: Vec<String> = tables[&switch].zones.keys().cloned().collect();
    let Some(id) = ids.get(at.1 % ids.len().max(1)).cloned() else { return };
    let port = |number: usize| {
        let all = ports(fabric, switch);
        all[number % all.len()].clone()
    };
    let copied = |from: usize| {
        let other = tables[&switches[from % switches.len()]].zones.get(&id).cloned();
        other.unwrap_or_default()
    };
    let copied = if let Damage::CopyZone { from } = damage { Some(copied(*from)) } else { None };
    let table = tables.get_mut(&switch).expect("picked");
    let zone: &mut ForwardingZone = table.zones.get_mut(&id).expect("picked");
    let macs: Vec<String> = zone.members.keys().cloned().collect();
    if macs.is_empty() {
        return;
    }
    let mac = |number: &usize| macs[number % macs.len()].clone();
    match damage {
        Damage::Port { member, port: number } => {
            zone.members.get_mut(&mac(member)).expect("listed").port = port(*number);
        }
        Damage::Forget { member } => drop(zone.members.remove(&mac(member))),
        Damage::Stray { endpoint, port: number } => {
            let all: Vec<_> = fabric.endpoints().map(|(_, endpoint)| endpoint.mac.to_string()).collect();
            let member = Member { port: port(*number), ..Default::default() };
            zone.members.entry(all[endpoint % all.len()].clone()).or_insert(member);
        }
        Damage::Unknown { port: number } => {
            let member = Member { port: port(*number), ..Default::default() };
            zone.members.insert("02:ff:ff:ff:ff:ff".to_owned(), member);
        }
        Damage::FloodMore { port: number } => zone.flood_ports.push(port(*number)),
        Damage::FloodLess { port } if !zone.flood_ports.is_empty() => {
            zone.flood_ports.remove(port % zone.flood_ports.len());
        }
        Damage::FloodLess { .. } => {}
        Damage::Unrestrict { member } => zone.members.get_mut(&mac(member)).expect("listed").peers = None,
        Damage::Restrict { member } => {
            zone.members.get_mut(&mac(member)).expect("listed").peers = Some(Vec::new());
        }
        Damage::Tag => zone.tag += 7,
        Damage::DropZone => drop(table.zones.remove(&id)),
        Damage::CopyZone { .. } => *zone = copied.expect("made"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn damage_that_changes_anything_is_found(
        fabric in a_fabric(), deal in a_deal(), at in (0_usize..100, 0_usize..100), damage in prop::collection::vec(damage(), 1..3),
    ) {
        let zones = zones(&fabric, &deal);
        let right = program(&fabric, &zones);
        let mut wrong = right.clone();
        for damage in &damage { apply(&fabric, &mut wrong, at, damage); }
        let harmless = behaviour(&fabric, &right) == behaviour(&fabric, &wrong);
        let proof = prove_all(&fabric, &zones, &read(&fabric, &wrong), 2);
        prop_assert!(harmless || !proof.holds(), "{damage:?} does harm and was not found");
        if wrong == right { prop_assert!(proof.holds(), "{:?}", proof.counter_example); }
        // Zone by zone it is found as well, by the zone that it harms or its neighbour.
        let each = zones.iter().all(|zone| prove(&fabric, zone, &zones, &wrong).holds());
        prop_assert!(harmless || !each, "{damage:?} does harm and no zone noticed");
    }
}

/// A ring of four switches with two endpoints each; endpoints 0 and 1 are services.
fn four() -> Fabric {
    build(&[0, 1, 2], &[(3, 0)], 8, 2)
}

fn home(fabric: &Fabric, index: u32) -> u32 {
    fabric.endpoint(index).expect("present").switch
}

fn whole(fabric: &Fabric, zones: &[ZoneRequest], tables: &Tables) -> Proof {
    prove_all(fabric, zones, &read(fabric, tables), 1)
}

/// Two zones with the services 0 and 1 in both, damaged by `harm`: both proofs find it, the zone's own in these words.
fn found(harm: impl Fn(&Fabric, &mut Tables), words: &[&str]) {
    let fabric = four();
    let zones = [zone("a", 1, [0, 1, 2, 3, 4]), zone("b", 2, [0, 1, 5, 6, 7])];
    let mut tables = program(&fabric, &zones);
    assert!(whole(&fabric, &zones, &tables).holds());
    harm(&fabric, &mut tables);
    let proof = prove(&fabric, &zones[0], &zones, &tables);
    let text = proof.counter_example.expect("refuted");
    assert!(words.iter().all(|word| text.contains(word)), "{text}");
    assert!(!whole(&fabric, &zones, &tables).holds(), "{text}");
}

fn entry<'a>(tables: &'a mut Tables, switch: u32, zone: &str) -> &'a mut ForwardingZone {
    tables.get_mut(&switch).and_then(|table| table.zones.get_mut(zone)).expect("an entry")
}

fn mac(fabric: &Fabric, index: u32) -> String {
    fabric.endpoint(index).expect("present").mac.to_string()
}

#[test]
fn a_foreign_entry_is_found_with_the_way_it_opens() {
    let put_in = |fabric: &Fabric, tables: &mut Tables| {
        // Endpoint 5 of zone b is put into zone a wherever a switch has both, with its right port.
        for table in tables.values_mut() {
            if let Some(theirs) = table.zones.get("b").and_then(|b| b.members.get(&mac(fabric, 5))).cloned()
                && let Some(zone) = table.zones.get_mut("a")
            {
                zone.members.insert(mac(fabric, 5), theirs);
            }
        }
    };
    found(put_in, &["a frame from e005 to e002 via", "arrives although they share no zone"]);
}

#[test]
fn an_unknown_address_is_found() {
    let put_in = |fabric: &Fabric, tables: &mut Tables| {
        let entry = entry(tables, home(fabric, 2), "a");
        entry.members.insert("02:ee:00:00:00:01".into(), Member { port: "p2".into(), ..Default::default() });
    };
    found(put_in, &["02:ee:00:00:00:01, which is no endpoint of the fabric"]);
}

#[test]
fn a_missing_entry_is_found() {
    let forget = |fabric: &Fabric, tables: &mut Tables| {
        drop(entry(tables, home(fabric, 2), "a").members.remove(&mac(fabric, 4)));
    };
    found(forget, &["e004", "is lost: switch sw", "has no entry that lets it pass"]);
}

#[test]
fn a_way_through_a_shared_endpoint_is_found() {
    let through = |fabric: &Fabric, tables: &mut Tables| {
        // At the switch of service 0, frames for endpoint 2 leave by the service's port.
        entry(tables, home(fabric, 0), "a").members.get_mut(&mac(fabric, 2)).expect("listed").port =
            "p0".into();
    };
    found(through, &["would have to pass through endpoint e000"]);
}

#[test]
fn a_loop_is_found() {
    let turn = |fabric: &Fabric, tables: &mut Tables| {
        // Towards endpoint 3, its neighbours on the ring send to each other.
        let (to, [a, b]) = (mac(fabric, 3), [0, 1]);
        assert_eq!(home(fabric, 3), 1, "the damage below is made for this place");
        for (at, next) in [(a, 3), (3, a)] {
            let port = fabric.links_of(at).find(|(_, link)| link.peer == next).expect("neighbours").1.port;
            let port = fabric.port_name(port).to_owned();
            entry(tables, at, "a").members.get_mut(&to).expect("listed").port = port;
        }
        let _ = b;
    };
    found(turn, &["e003", "the tables contain a loop"]);
}

#[test]
fn a_leak_by_flooding_is_found() {
    let leak = |fabric: &Fabric, tables: &mut Tables| {
        let stranger = fabric.endpoint(6).expect("present");
        let ports = &mut entry(tables, stranger.switch, "a").flood_ports;
        ports.push(fabric.port_name(stranger.port).to_owned());
    };
    found(leak, &["a broadcast from e000 reaches e006, which shares no zone with it"]);
}

#[test]
fn a_circle_of_flooding_is_found() {
    let close = |fabric: &Fabric, tables: &mut Tables| {
        for (switch, table) in tables.iter_mut() {
            let all = fabric.links_of(*switch).map(|(_, link)| fabric.port_name(link.port).to_owned());
            if let Some(zone) = table.zones.get_mut("a") {
                zone.flood_ports.extend(all);
            }
        }
    };
    found(close, &["a broadcast from e000 goes round in a loop at switch"]);
}

#[test]
fn a_broadcast_that_goes_round_over_two_zones_is_found() {
    // On a ring: zone a floods one half, zone b the other; each is a tree, together they are not.
    let fabric = four();
    let zones = [zone("a", 1, [0, 2]), zone("b", 2, [0, 2])];
    let mut tables = program(&fabric, &zones);
    let other_way = program(&fabric, &[ZoneRequest { involved: Some([0, 3, 2].into()), ..zones[1].clone() }]);
    assert_eq!((home(&fabric, 0), home(&fabric, 2)), (0, 2));
    let one_way = program(&fabric, &[ZoneRequest { involved: Some([0, 1, 2].into()), ..zones[0].clone() }]);
    tables.values_mut().for_each(|table| table.zones.clear());
    for (switch, table) in one_way.into_iter().chain(other_way) {
        tables.entry(switch).or_default().zones.extend(table.zones);
    }
    let proof = whole(&fabric, &zones, &tables);
    let text = proof.counter_example.expect("refuted");
    assert!(text.contains("two zones of switch") || text.contains("goes round in a loop"), "{text}");
    assert!(!prove(&fabric, &zones[0], &zones, &tables).holds());
}

#[test]
fn a_zone_that_ought_not_to_exist_is_found() {
    let fabric = four();
    let zones = [zone("a", 1, [2, 3, 4]), zone("old", 2, [3, 5])];
    let tables = program(&fabric, &zones);
    let text = whole(&fabric, &zones[..1], &tables).counter_example.expect("refuted");
    assert!(text.contains("carries zone old, which does not exist, with e003, e005"), "{text}");
    let text = prove(&fabric, &zones[0], &[], &tables).counter_example.expect("refuted");
    assert!(
        text.contains("e003 to e005 via") && text.contains("arrives although they share no zone"),
        "{text}"
    );
}

#[test]
fn a_pair_that_no_connection_joins_is_found() {
    let fabric = four();
    let pair = |a, b| ConnectionRequest { initiators: [a].into(), targets: [b].into() };
    let connections = Some(vec![pair(2, 3), pair(3, 4), pair(4, 5)]);
    let zones = [ZoneRequest { connections, ..zone("a", 1, [2, 3, 4, 5]) }];
    let mut tables = program(&fabric, &zones);
    assert!(whole(&fabric, &zones, &tables).holds());
    for table in tables.values_mut() {
        for index in [2, 4] {
            if let Some(member) =
                table.zones.get_mut("a").and_then(|zone| zone.members.get_mut(&mac(&fabric, index)))
            {
                member.peers = None;
            }
        }
    }
    let text = whole(&fabric, &zones, &tables).counter_example.expect("refuted");
    assert!(text.contains("a frame from e002 to e004 via sw002 → "), "{text}");
    assert!(text.contains("arrives although no connection of zone a joins them"), "{text}");
    let read = read(&fabric, &tables);
    assert!(!prove_zone(&fabric, &zones[0], &[], &read).holds());
}

#[test]
fn a_vanished_endpoint_is_found() {
    let mut fabric = four();
    let zones = [zone("a", 1, [2, 3])];
    let tables = program(&fabric, &zones);
    fabric.remove_endpoint(3);
    let text = whole(&fabric, &zones, &tables).counter_example.expect("refuted");
    assert!(text.contains("endpoint e003 of zone a is no longer on the fabric"), "{text}");
}
