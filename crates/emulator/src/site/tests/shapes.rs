//! Fabrics that are described by their shape.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::problems;
use crate::site::{Cable, FabricSpec, SiteFile};

fn fabric(topology: &str, rest: &str) -> String {
    format!("name: shapes\nfabrics:\n- {{id: HSN, services: agent, topology: {{{topology}}}{rest}}}\n")
}

fn parse(topology: &str, rest: &str) -> FabricSpec {
    SiteFile::parse(&fabric(topology, rest)).unwrap().fabrics.remove(0)
}

/// What must hold of every fabric: cables have two ends that name each other, no switch has more ports than it may, and no
/// address is there twice. Returns how many cables join two switches, by their names.
fn check(fabric: &FabricSpec, most_ports: usize) -> BTreeMap<(String, String), usize> {
    let ports: BTreeMap<(&str, &str), &Cable> = fabric
        .switches
        .iter()
        .flat_map(|switch| switch.ports.iter().map(move |port| ((&*switch.name, &*port.name), &port.cable)))
        .collect();
    let mut macs = BTreeSet::new();
    let mut joined = BTreeMap::new();
    for switch in &fabric.switches {
        assert!(switch.ports.len() <= most_ports, "{} has {} ports", switch.name, switch.ports.len());
        for port in &switch.ports {
            assert!(port.cable.mac().is_none_or(|mac| macs.insert(mac)), "no address twice");
            if let Cable::Switch { switch: peer, port: peer_port } = &port.cable {
                let back = Cable::Switch { switch: switch.name.clone(), port: port.name.clone() };
                assert_eq!(ports[&(&**peer, &**peer_port)], &back);
                *joined.entry((switch.name.to_string(), peer.to_string())).or_default() += 1;
            }
        }
    }
    joined
}

fn endpoints(fabric: &FabricSpec) -> usize {
    let ports = fabric.switches.iter().flat_map(|switch| &switch.ports);
    ports.filter(|port| matches!(port.cable, Cable::Endpoint { .. })).count()
}

#[test]
fn a_dragonfly_joins_all_in_a_group_and_all_groups() {
    let text = "kind: dragonfly, groups: 5, switchesPerGroup: 4, portsPerSwitch: 12, endpointsPerSwitch: 3, speedGbps: 200, linkSpeedGbps: 400";
    let fabric = parse(text, ", bareEndpoints: 50");
    assert_eq!((fabric.switches.len(), endpoints(&fabric)), (20, 50));
    assert_eq!((&*fabric.switches[0].name, &*fabric.switches[19].name), ("hsn-g0s0", "hsn-g4s3"));
    let speed = |name: &str| fabric.switches[7].port(name).unwrap().speed_gbps;
    assert_eq!((speed("p1"), speed("isl0")), (200, 400));
    let joined = check(&fabric, 12);
    let group = |name: &str| name.split('s').nth(1).unwrap().to_owned();
    let mut pairs: BTreeMap<(String, String), usize> = BTreeMap::new();
    for ((from, to), count) in &joined {
        *pairs.entry((group(from), group(to))).or_default() += count;
    }
    // 12 ports, 3 down, 3 in the group: 24 of a group for 4 others.
    for ((from, to), count) in &pairs {
        assert_eq!(*count, if from == to { 12 } else { 6 }, "{from} {to}");
    }
    assert_eq!(pairs.len(), 25);
    assert_eq!(parse(text, ", bareEndpoints: 50"), fabric, "the same every time");
}

#[test]
fn a_fabric_as_large_as_the_largest() {
    let text = "kind: dragonfly, groups: 74, switchesPerGroup: 32, portsPerSwitch: 64, endpointsPerSwitch: 16, speedGbps: 200";
    let fabric = parse(text, ", bareEndpoints: all");
    assert_eq!((fabric.switches.len(), endpoints(&fabric)), (2368, 37_888));
    check(&fabric, 64);
}

#[test]
fn fat_trees_of_two_and_three_levels() {
    let three = parse("kind: fatTree, portsPerSwitch: 8, speedGbps: 100", ", bareEndpoints: all");
    assert_eq!((three.switches.len(), endpoints(&three)), (80, 128));
    let joined = check(&three, 8);
    assert!(joined.values().all(|count| *count == 1));
    let up = |name: &str| joined.keys().filter(|(from, _)| from == name).count();
    assert_eq!((up("hsn-pod0e0"), up("hsn-pod0a0"), up("hsn-core00")), (4, 8, 8));
    let part = parse("kind: fatTree, portsPerSwitch: 8, pods: 3, endpointsPerSwitch: 2, speedGbps: 100", "");
    assert_eq!((part.switches.len(), endpoints(&part)), (40, 0));
    check(&part, 8);
    let two = parse(
        "kind: fatTree, levels: 2, portsPerSwitch: 32, leaves: 6, endpointsPerSwitch: 24, prefix: eth, speedGbps: 25",
        ", bareEndpoints: 144",
    );
    assert_eq!((two.switches.len(), endpoints(&two)), (14, 144));
    assert_eq!(check(&two, 32)[&("eth-leaf5".to_owned(), "eth-spine7".to_owned())], 1);
}

#[test]
fn shapes_that_cannot_be_are_refused_by_their_fields() {
    let dragonfly = "kind: dragonfly, groups: 4, switchesPerGroup: 2, portsPerSwitch: 8, speedGbps: 100";
    let cases: [(&str, &str, &str); 14] = [
        ("kind: torus, portsPerSwitch: 8, speedGbps: 1", "", "fabrics[0].topology.kind"),
        (
            "kind: dragonfly, portsPerSwitch: 8, speedGbps: 1",
            "",
            "topology.groups: a topology of this kind needs it",
        ),
        (
            "kind: dragonfly, groups: 1, switchesPerGroup: 1, portsPerSwitch: 8, speedGbps: 1",
            "",
            "groups: 1 is outside of 2 to 4096",
        ),
        (
            "kind: dragonfly, groups: 4000, switchesPerGroup: 500, portsPerSwitch: 600, speedGbps: 1",
            "",
            "groups: 2000000 switches with 600 ports are too many",
        ),
        (
            "kind: dragonfly, groups: 3, switchesPerGroup: 9, portsPerSwitch: 8, speedGbps: 1",
            "",
            "leave none of 8 ports for other groups",
        ),
        (
            "kind: dragonfly, groups: 3, switchesPerGroup: 2, portsPerSwitch: 8, linksPerGroupPair: 9, speedGbps: 1",
            "",
            "linksPerGroupPair: 9 is outside of 1 to 5",
        ),
        (
            "kind: dragonfly, groups: 3, switchesPerGroup: 2, portsPerSwitch: 8, pods: 3, speedGbps: 1",
            "",
            "pods: only the kind fatTree has this",
        ),
        ("kind: fatTree, portsPerSwitch: 7, speedGbps: 1", "", "portsPerSwitch: 7 is odd"),
        ("kind: fatTree, levels: 4, portsPerSwitch: 8, speedGbps: 1", "", "levels: 4 is outside of 2 to 3"),
        ("kind: fatTree, levels: 2, pods: 2, portsPerSwitch: 8, speedGbps: 1", "", "has leaves, no pods"),
        (dragonfly, ", switches: [{name: a, ports: 1, speedGbps: 1}]", "either a topology or a list"),
        (dragonfly, ", bareEndpoints: 17", "fabrics[0].bareEndpoints: 17 are more than the 16 edge ports"),
        (dragonfly, ", bareEndpoints: some", "a number of endpoints, or all"),
        (
            "kind: fatTree, portsPerSwitch: 8, prefix: 'A b', speedGbps: 1",
            "",
            "topology.prefix: \"A b\" must be",
        ),
    ];
    for (topology, rest, expected) in cases {
        let found = problems(&fabric(topology, rest));
        assert!(found.iter().any(|problem| problem.contains(expected)), "{topology}{rest}: {found:#?}");
    }
    let none = problems("name: shapes\nfabrics: [{id: HSN}]\n");
    assert_eq!(none, ["fabrics[0].switches: a fabric has at least one, or a topology"]);
}

#[test]
fn hosts_and_bare_endpoints_share_the_ports() {
    let hosts = "hosts:\n- {name: 'c{nn}', count: 4, processor: {cores: 4}, memoryMiB: 1024, nics: [{name: hsn0, switch: hsn-g0s0}]}\n";
    let dragonfly = "kind: dragonfly, groups: 2, switchesPerGroup: 2, portsPerSwitch: 8, endpointsPerSwitch: 5, speedGbps: 100";
    let site = SiteFile::parse(&format!("{}{hosts}", fabric(dragonfly, ", bareEndpoints: 6"))).unwrap();
    check(&site.fabrics[0], 8);
    let bare = site.fabrics[0].switches.iter().map(|switch| {
        switch.ports.iter().filter(|port| matches!(port.cable, Cable::Endpoint { .. })).count()
    });
    assert_eq!(
        bare.collect::<Vec<_>>(),
        [1, 2, 2, 1],
        "one on every switch in turn, as long as it has ports"
    );
}

#[test]
fn faults_of_switches_and_cables_name_what_there_is() {
    let dragonfly = "kind: dragonfly, groups: 2, switchesPerGroup: 2, portsPerSwitch: 8, speedGbps: 100";
    let with = |fault: &str| {
        format!("{}faults: {{fabric: [{{{fault}}}]}}\n", fabric(dragonfly, ", bareEndpoints: 1"))
    };
    for good in [
        "service: HSN, kind: linkDown, switch: hsn-g0s1, port: isl0, until: 5s",
        "service: HSN, kind: switchDown, switch: hsn-g1s0",
        "service: HSN, kind: unplugged, switch: hsn-g0s0, port: p1",
        "service: HSN, kind: tableRefused, status: 507, count: 2",
        "service: HSN, kind: tableIgnored, switch: hsn-g1s0",
        "service: HSN, kind: diesAfter, delay: 1s, count: 1",
    ] {
        assert_eq!(problems(&with(good)), Vec::<String>::new(), "{good}");
    }
    for (bad, expected) in [
        ("service: HSN, kind: linkDown", "port: the kinds linkDown and unplugged need a port"),
        (
            "service: HSN, kind: linkDown, port: isl0",
            "switch: the agent speaks for several switches; name one",
        ),
        (
            "service: HSN, kind: linkDown, switch: hsn-g0s9, port: isl0",
            "fabric HSN has no switch \"hsn-g0s9\"",
        ),
        (
            "service: HSN, kind: linkDown, switch: hsn-g0s1, port: isl9",
            "switch hsn-g0s1 has no port \"isl9\"",
        ),
        ("service: HSN, kind: linkDown, switch: hsn-g0s1, port: p2", "has nothing plugged in"),
        ("service: HSN, kind: unplugged, switch: hsn-g0s1, port: isl0", "has nothing plugged in"),
        (
            "service: HSN, kind: switchDown, switch: hsn-g0s1, count: 3",
            "count: no request meets a fault of a switch",
        ),
        ("service: HSN, kind: slow, switch: hsn-g0s1", "switch: only faults of switches"),
        ("service: HSN, kind: tableRefused, status: 404", "status: 404 is none of 400, 503 and 507"),
        ("service: HSN, kind: slow, status: 400", "status: only the kind tableRefused"),
        ("service: HSN, kind: tableRefused, delay: 1s", "delay: only the kinds"),
    ] {
        let found = problems(&with(bad));
        assert!(found.iter().any(|problem| problem.contains(expected)), "{bad}: {found:#?}");
    }
}

#[test]
fn sunfish_agents_are_checked() {
    let with = |fields: &str| {
        format!(
            "name: s\nfabrics: [{{id: HSN, services: agent, switches: [{{name: a, ports: 1, speedGbps: 1}}]}}]\n\
             hosts: [{{name: c1, processor: {{cores: 4}}, memoryMiB: 1024}}]\nsunfishAgents: [{{{fields}}}]\n"
        )
    };
    let good = "id: CXL, appliances: [{name: fam, memoryMiB: 1024}], hosts: [c1], core: 'http://127.0.0.1:5000', heartbeat: 5s";
    let site = SiteFile::parse(&with(good)).unwrap();
    assert_eq!(site.sunfish_agents[0].appliances[0].adapters, 1);
    for (fields, expected) in [
        ("id: HSN, appliances: [{name: fam, memoryMiB: 1}]", "sunfishAgents[0].id: another service"),
        ("id: 'a b', appliances: [{name: fam, memoryMiB: 1}]", "sunfishAgents[0].id: \"a b\" must be"),
        ("id: CXL", "sunfishAgents[0].appliances: an agent has 1 to 64"),
        ("id: CXL, appliances: [{name: F, memoryMiB: 1}]", "appliances[0].name: \"F\" must be"),
        ("id: CXL, appliances: [{name: f, memoryMiB: 0}]", "appliances[0].memoryMiB: 0 is outside"),
        (
            "id: CXL, appliances: [{name: f, memoryMiB: 1, adapters: 65}]",
            "appliances[0].adapters: 65 is outside",
        ),
        (
            "id: CXL, appliances: [{name: f, memoryMiB: 1}, {name: f, memoryMiB: 1}]",
            "another appliance is called",
        ),
        (
            "id: CXL, appliances: [{name: f, memoryMiB: 1}], hosts: [c9]",
            "hosts[0]: the site has no host \"c9\"",
        ),
        (
            "id: CXL, appliances: [{name: f, memoryMiB: 1}], hosts: [c1, c1]",
            "hosts[1]: \"c1\" is there twice",
        ),
        (
            "id: CXL, appliances: [{name: f, memoryMiB: 1}], core: 'ftp://x'",
            "core: \"ftp://x\" is no address",
        ),
        ("id: CXL, appliances: [{name: f, memoryMiB: 1}], core: 'http://u:p@x'", "is no address of a core"),
        ("id: CXL, appliances: [{name: f, memoryMiB: 1}], heartbeat: 0s", "heartbeat: must be longer"),
    ] {
        let found = problems(&with(fields));
        assert!(found.iter().any(|problem| problem.contains(expected)), "{fields}: {found:#?}");
    }
    let fault = |kind: &str| format!("{}faults: {{fabric: [{{service: CXL, kind: {kind}}}]}}\n", with(good));
    assert_eq!(problems(&fault("diesBefore, count: 1")), Vec::<String>::new());
    assert!(problems(&fault("tableIgnored"))[0].contains("a Sunfish agent has no such switches"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the numbers: a fabric that holds together, or problems.
    #[test]
    fn any_shape_is_good_or_refused(
        kind in prop::sample::select(vec!["dragonfly", "fatTree"]), first in prop::option::of(0_u32..12), second in prop::option::of(0_u32..12),
        ports in 0_u32..20, edge in prop::option::of(0_u32..12), links in prop::option::of(0_u32..5), bare in 0_u32..40,
    ) {
        let names = if kind == "dragonfly" { ["groups", "switchesPerGroup", "linksPerGroupPair"] } else { ["pods", "leaves", "levels"] };
        let mut topology = format!("kind: {kind}, portsPerSwitch: {ports}, speedGbps: 100");
        for (name, value) in [(names[0], first), (names[1], second), (names[2], links), ("endpointsPerSwitch", edge)] {
            if let Some(value) = value {
                topology.push_str(&format!(", {name}: {value}"));
            }
        }
        if let Ok(site) = SiteFile::parse(&fabric(&topology, &format!(", bareEndpoints: {bare}"))) {
            check(&site.fabrics[0], ports as usize);
            prop_assert_eq!(endpoints(&site.fabrics[0]), bare as usize);
        }
    }

    #[test]
    fn huge_numbers_end_soon(numbers in prop::collection::vec(prop::sample::select(vec![0_u32, 1, 2, 63, 1024, 65_536, u32::MAX - 1, u32::MAX]), 5)) {
        let [groups, switches, ports, edge, pair] = numbers.as_slice() else { return Ok(()) };
        let _ = problems(&fabric(&format!("kind: dragonfly, groups: {groups}, switchesPerGroup: {switches}, portsPerSwitch: {ports}, \
            endpointsPerSwitch: {edge}, linksPerGroupPair: {pair}, speedGbps: {ports}"), &format!(", bareEndpoints: {edge}")));
        let _ = problems(&fabric(&format!("kind: fatTree, pods: {groups}, portsPerSwitch: {ports}, endpointsPerSwitch: {edge}, speedGbps: 1"), ""));
        let _ = problems(&fabric(&format!("kind: fatTree, levels: 2, leaves: {groups}, portsPerSwitch: {ports}, endpointsPerSwitch: {edge}, speedGbps: 1"), ""));
    }
}
