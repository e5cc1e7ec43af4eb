//! Site files: what is expanded, what is refused and in which words.

mod shapes;

use std::{collections::BTreeSet, time::Duration};

use proptest::prelude::*;

use super::{BackendKind, Cable, FaultKind, SiteFile};

const RACK: &str = include_str!("../../../../examples/sites/rack.yaml");

const SMALL: &str = "
name: small
fabrics:
- {id: Ethernet, switches: [{name: eth-a, ports: 4, speedGbps: 25}, {name: eth-b, ports: 4, speedGbps: 25}],
   links: [{from: eth-a, to: eth-b, speedGbps: 100, count: 2}]}
templates:
  node: {processor: {cores: 4}, memoryMiB: 1024, nics: [{name: eth0, switches: [eth-a, eth-b]}]}
hosts:
- {name: 'c{nn}', count: 3, template: node}
";

/// The problems of a file as `path: message` lines.
fn problems(text: &str) -> Vec<String> {
    match SiteFile::parse(text) {
        Ok(_) => Vec::new(),
        Err(error) => error.problems.iter().map(ToString::to_string).collect(),
    }
}

/// The small site with one more line.
fn small_with(line: &str) -> String {
    format!("{SMALL}{line}\n")
}

#[test]
fn the_example_rack_is_twelve_servers_on_four_switches() {
    let site = SiteFile::parse(RACK).unwrap();
    assert_eq!(site.hosts.len(), 12);
    assert_eq!(site.backend, BackendKind::Netns);
    assert_eq!(site.switches().count(), 4);
    assert_eq!(site.hosts.iter().filter(|host| host.initially_on).count(), 3);
    assert_eq!(site.pools.iter().map(|pool| pool.devices.len()).collect::<Vec<_>>(), [8, 4, 6]);
    let gpu = site.host("gpu-03").unwrap();
    assert_eq!((gpu.gpus.len(), gpu.nics.len(), gpu.nics[1].speed_gbps), (4, 2, 200));
    let gateway = site.gateway.as_ref().unwrap();
    assert_eq!((gateway.switch.as_str(), gateway.port.as_str()), ("eth-a", "p16"));
}

#[test]
fn counts_templates_and_turns_are_expanded() {
    let site = SiteFile::parse(SMALL).unwrap();
    let cables: Vec<_> =
        site.hosts.iter().map(|h| format!("{} {}/{}", h.name, h.nics[0].switch, h.nics[0].port)).collect();
    assert_eq!(cables, ["c01 eth-a/p1", "c02 eth-b/p1", "c03 eth-a/p2"]);
    assert_eq!(site.hosts[0].processor.threads, 8);
    let link = &site.switch("eth-b").unwrap().port("isl1").unwrap().cable;
    assert_eq!(*link, Cable::Switch { switch: "eth-a".into(), port: "isl1".into() });
}

#[test]
fn named_ports_are_taken_before_open_ones_whatever_the_order() {
    let text = small_with("- {name: fixed, template: node, nics: [{name: eth0, switch: eth-a, port: p1}]}");
    let site = SiteFile::parse(&text).unwrap();
    assert_eq!(site.host("fixed").unwrap().nics[0].port, "p1");
    assert_eq!(site.host("c01").unwrap().nics[0].port, "p2");
}

#[test]
fn identities_depend_on_names_only() {
    let one = SiteFile::parse(SMALL).unwrap();
    let more = small_with("- {name: other, template: node}");
    let more = more.replace("count: 3", "count: 1, first: 2");
    let two = SiteFile::parse(&more).unwrap();
    let (a, b) = (one.host("c02").unwrap(), two.host("c02").unwrap());
    assert_eq!((a.uuid, a.nics[0].mac), (b.uuid, b.nics[0].mac));
}

#[test]
fn wrong_fields_types_and_units_are_refused_with_their_path() {
    let cases: [(&str, &str, &str); 12] = [
        ("name: small", "nmae: small", "unknown field"),
        ("cores: 4", "cores: four", "templates.node.processor.cores"),
        ("memoryMiB: 1024", "memory: 1024", "templates.node"),
        (
            "ports: 4, speedGbps: 25}, {",
            "ports: 0, speedGbps: 25}, {",
            "fabrics[0].switches[0].ports: 0 is outside of 1 to 1024",
        ),
        (
            "template: node",
            "template: nod",
            "hosts[0].template: there is no template \"nod\"; there are: node",
        ),
        ("'c{nn}'", "c", "hosts[0].name: \"c\" must hold a number"),
        ("'c{nn}'", "'C{nn}'", "hosts[0].name: \"C01\" must be 1 to 40 lower-case"),
        (
            "[eth-a, eth-b]",
            "[eth-x]",
            "hosts[0].nics[0].switch: the site has no switch \"eth-x\"; it has eth-a, eth-b",
        ),
        ("to: eth-b", "to: eth-a", "fabrics[0].links[0].to: a link joins two different switches"),
        ("count: 3", "count: 30", "has no free port left"),
        ("memoryMiB: 1024", "memoryMiB: 0", "hosts[0].memoryMiB: 0 is outside of 1 to"),
        (
            "cores: 4",
            "cores: 4, sockets: 3",
            "hosts[0].processor.sockets: 4 cores and 8 threads do not divide among 3 sockets",
        ),
    ];
    for (good, bad, expected) in cases {
        let found = problems(&SMALL.replace(good, bad));
        assert!(found.iter().any(|problem| problem.contains(expected)), "{bad}: {found:#?}");
    }
}

#[test]
fn delays_and_faults_are_checked() {
    let faulty =
        small_with("faults: {bmc: [{host: c02, kind: slow, probability: 0.5, delay: 3s, until: 1m 30s}]}");
    let site = SiteFile::parse(&faulty).unwrap();
    let fault = &site.host("c02").unwrap().faults[0];
    assert_eq!((fault.kind, fault.delay), (FaultKind::Slow, Duration::from_secs(3)));
    assert_eq!(fault.until, Some(Duration::from_secs(90)));
    for (line, expected) in [
        ("timing: {post: 2}", "timing.post: "),
        ("timing: {post: -2s}", "no duration from 0s to 24h"),
        ("timing: {scale: -1}", "timing.scale: -1 is outside of 0 to 1000"),
        ("timing: {scale: .nan}", "timing.scale: NaN is outside of 0 to 1000"),
        ("faults: {bmc: [{host: c09, kind: slow}]}", "faults.bmc[0].host: the site has no host \"c09\""),
        ("faults: {bmc: [{host: c01, kind: sloww}]}", "faults.bmc[0].kind"),
        (
            "faults: {bmc: [{host: c01, kind: slow, probability: 2}]}",
            "faults.bmc[0].probability: 2 must be above 0",
        ),
        ("faults: {bmc: [{host: c01, kind: powerStuck, delay: 1s}]}", "faults.bmc[0].delay: only the kinds"),
        ("faults: {fabric: [{service: eth-c, kind: slow}]}", "it has eth-a, eth-b"),
        (
            "pools: [{name: p, fabric: Ethernet, gpus: []}]",
            "pools[0].fabric: \"Ethernet\" is no fabric of the site with services: agent",
        ),
        ("credentials: {password: short}", "credentials.password: must be 8 to 64 characters"),
    ] {
        let found = problems(&small_with(line));
        assert!(found.iter().any(|problem| problem.contains(expected)), "{line}: {found:#?}");
    }
}

#[test]
fn addresses_of_the_gateway_are_checked() {
    let with = |fields: &str| small_with(&format!("gateway: {{switch: eth-a, {fields}}}"));
    let good = "nodeAddress: 10.20.0.1/16, campusAddress: 203.0.113.1/24";
    assert_eq!(problems(&with(good)), Vec::<String>::new());
    for (fields, expected) in [
        (
            "nodeAddress: 10.20.0.0/16, campusAddress: 203.0.113.1/24".to_owned(),
            "gateway.nodeAddress: 10.20.0.0/16 names the network itself",
        ),
        ("nodeAddress: 10.20.0.1/16, campusAddress: 10.20.3.1/24".to_owned(), "overlaps the node network"),
        (
            format!("{good}, nodeAllocation: 10.21.0.0/24"),
            "gateway.nodeAllocation: 10.21.0.0/24 lies outside",
        ),
        (format!("{good}, clients: [{{name: a, address: 203.0.114.1}}]"), "gateway.clients[0].address"),
        (format!("{good}, clients: [{{name: a, address: 203.0.113.1}}]"), "203.0.113.1 is in use already"),
        (
            format!("{good}, externalPools: [{{name: a, ranges: [10.20.9.0/24]}}]"),
            "overlaps 10.20.0.0/16 (the node network)",
        ),
        (
            format!("{good}, externalPools: [{{name: a, ranges: [198.51.100.0/24], blockPrefixLength: 20}}]"),
            "a /20 does not fit",
        ),
        (
            format!("{good}, port: isl0"),
            "gateway.port: \"isl0\" is no edge port of switch eth-a; it has p1 to p4",
        ),
    ] {
        let found = problems(&with(&fields));
        assert!(found.iter().any(|problem| problem.contains(expected)), "{fields}: {found:#?}");
    }
}

#[test]
fn several_problems_are_told_at_once() {
    let found = problems(&SMALL.replace("name: small", "name: Small").replace("cores: 4", "cores: 0"));
    assert!(found.len() >= 2, "{found:#?}");
}

#[test]
fn a_refused_password_is_not_repeated() {
    let error = SiteFile::parse(&small_with("credentials: {password: hush}")).unwrap_err();
    assert!(!error.to_string().contains("hush"));
}

proptest! {
    /// Whatever the text, the parser returns; it never panics.
    #[test]
    fn any_text_is_answered(text in "[ -~\n]{0,200}") {
        let _ = SiteFile::parse(&text);
    }

    /// A site file with a character changed is refused or is a site whose cables are consistent.
    #[test]
    fn damaged_files_never_yield_an_inconsistent_site(at in 0..RACK.len(), with in "[ -~]") {
        let mut text = RACK.to_owned();
        if text.is_char_boundary(at) && text.is_char_boundary(at + 1) {
            text.replace_range(at..=at, &with);
        }
        if let Ok(site) = SiteFile::parse(&text) {
            check_consistent(&site);
        }
    }

    /// Any number of hosts on any number of ports is cabled one to one, or refused.
    #[test]
    fn cables_are_one_to_one(hosts in 1_u32..40, ports in 1_u32..40) {
        let text = SMALL.replace("count: 3", &format!("count: {hosts}")).replace("ports: 4", &format!("ports: {ports}"));
        match SiteFile::parse(&text) {
            Ok(site) => { prop_assert!(hosts.div_ceil(2) <= ports); check_consistent(&site); }
            Err(_) => prop_assert!(hosts.div_ceil(2) > ports),
        }
    }
}

/// Every interface is what its port says, and the other way round; all addresses differ.
fn check_consistent(site: &SiteFile) {
    let mut macs = BTreeSet::new();
    for host in &site.hosts {
        for nic in &host.nics {
            assert!(macs.insert(nic.mac));
            let port = site.switch(&nic.switch).unwrap().port(&nic.port).unwrap();
            assert_eq!(
                port.cable,
                Cable::Nic { host: host.name.clone(), nic: nic.name.clone(), mac: nic.mac }
            );
            assert!(nic.speed_gbps <= port.speed_gbps && nic.speed_gbps > 0);
        }
    }
    let plugged = site.switches().flat_map(|switch| &switch.ports);
    assert_eq!(plugged.filter(|port| matches!(port.cable, Cable::Nic { .. })).count(), macs.len());
}

#[test]
fn single_hosts_of_a_site_of_namespaces_may_be_virtual_machines() {
    let text = small_with("- {name: vm, template: node, backend: qemu}");
    assert_eq!(
        problems(&text),
        [
            "hosts[1].backend: a host may only be `qemu` in a site that is `netns`; all others are as the site is"
        ]
    );
    let site = SiteFile::parse(&format!("backend: netns\n{text}")).unwrap();
    assert!(site.host("vm").unwrap().virtual_machine && !site.host("c01").unwrap().virtual_machine);
    let odd = text.replace("backend: qemu", "backend: sim");
    assert_eq!(problems(&format!("backend: netns\n{odd}")).len(), 1);
    assert!(problems(&text.replace("backend: qemu", "backend: sim")).is_empty());
}
