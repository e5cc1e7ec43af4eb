use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::dataplane::{
    conntrack::{StaleFlows, stale_flows},
    model::Protocol,
};

fn address(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 42, 0, last)
}

fn node() -> NodeView {
    NodeView {
        address: Ipv4Addr::new(10, 20, 0, 5),
        interface: "eth0".into(),
        nodes: [Ipv4Addr::new(10, 20, 0, 5), Ipv4Addr::new(10, 20, 0, 6)].into(),
        pod_cidr: "10.42.0.0/16".parse().unwrap(),
        service_cidr: "10.43.0.0/16".parse().unwrap(),
        announced: BTreeSet::new(),
    }
}

fn endpoint(last: u8, local: bool) -> Endpoint {
    Endpoint { address: address(last), port: 8080, local, ready: true, serving: true }
}

fn web(endpoints: Vec<Endpoint>) -> ServicePort {
    ServicePort {
        namespace: "default".into(),
        service: "web".into(),
        name: "http".into(),
        protocol: Protocol::Tcp,
        port: 80,
        cluster_addresses: [Ipv4Addr::new(10, 43, 0, 80)].into(),
        external_addresses: BTreeSet::new(),
        load_balancer_addresses: BTreeSet::new(),
        source_ranges: BTreeSet::new(),
        node_port: None,
        client_affinity: None,
        external_policy: TrafficPolicy::Cluster,
        internal_policy: TrafficPolicy::Cluster,
        endpoints,
    }
}

fn both() -> Vec<Endpoint> {
    vec![endpoint(7, true), endpoint(9, false)]
}

/// What the Service adds to an empty table.
fn added(port: &ServicePort) -> String {
    ruleset(std::slice::from_ref(port), &node()).change_from(&ruleset(&[], &node()))
}

#[test]
fn an_empty_cluster() {
    insta::assert_snapshot!(ruleset(&[], &node()).render());
}

#[test]
fn a_cluster_address_with_two_endpoints() {
    insta::assert_snapshot!(added(&web(both())));
}

#[test]
fn a_load_balancer_with_source_ranges_and_a_node_port() {
    let mut port = web(both());
    port.load_balancer_addresses = [Ipv4Addr::new(192, 0, 2, 10)].into();
    port.source_ranges = ["192.0.2.0/24".parse().unwrap(), "198.51.100.0/24".parse().unwrap()].into();
    port.node_port = Some(30080);
    insta::assert_snapshot!(added(&port));
}

#[test]
fn external_traffic_that_stays_local() {
    let mut port = web(both());
    port.external_addresses = [Ipv4Addr::new(192, 0, 2, 10)].into();
    port.external_policy = TrafficPolicy::Local;
    insta::assert_snapshot!(added(&port));
    port.endpoints = vec![endpoint(9, false)];
    let nowhere = added(&port);
    assert!(nowhere.contains("loc-") && nowhere.contains(" drop\n"), "{nowhere}");
}

#[test]
fn clients_that_keep_their_endpoint() {
    let mut port = web(both());
    port.client_affinity = Some(Duration::from_secs(10800));
    insta::assert_snapshot!(added(&port));
}

#[test]
fn a_service_without_endpoints_leaves_no_trace() {
    assert_eq!(added(&web(Vec::new())), "");
}

#[test]
fn terminating_endpoints_serve_only_when_there_is_no_other() {
    let terminating = Endpoint { ready: false, ..endpoint(7, true) };
    let dead = Endpoint { serving: false, ..terminating.clone() };
    let alone = web(vec![terminating.clone(), dead.clone()]);
    assert_eq!(alone.usable_endpoints(false), [&terminating]);
    let beside = web(vec![terminating, endpoint(9, false)]);
    assert_eq!(beside.usable_endpoints(false).len(), 1);
    assert_eq!(beside.usable_endpoints(false)[0].address, address(9));
    assert!(web(vec![dead]).usable_endpoints(false).is_empty());
}

#[test]
fn a_change_touches_only_what_changed() {
    let other = |endpoints| ServicePort {
        service: "api".into(),
        cluster_addresses: [Ipv4Addr::new(10, 43, 0, 81)].into(),
        ..web(endpoints)
    };
    let before = ruleset(&[web(both()), other(both())], &node());
    let after = ruleset(&[web(vec![endpoint(9, false)]), other(both())], &node());
    insta::assert_snapshot!(after.change_from(&before));
    insta::assert_snapshot!(ruleset(&[other(both())], &node()).change_from(&before));
}

#[test]
fn long_names_make_valid_chains() {
    let mut port = web(both());
    port.namespace = "n".repeat(63);
    port.service = "s".repeat(63);
    for name in ruleset(&[port], &node()).chains.keys() {
        assert!(name.len() <= 128 && name.ends_with(|c: char| c.is_ascii_alphanumeric()), "{name}");
    }
}

#[test]
fn the_first_of_two_claims_wins_whatever_the_order() {
    let one = web(vec![endpoint(7, true)]);
    let two = ServicePort { service: "zz".into(), ..web(vec![endpoint(9, true)]) };
    let ruleset_of = |services: &[ServicePort]| ruleset(services, &node());
    let table = ruleset_of(&[two.clone(), one.clone()]);
    assert_eq!(table, ruleset_of(&[one, two]));
    assert!(table.sets[SERVICES].elements["10.43.0.80 . tcp . 80"].contains("default/web"));
}

#[test]
fn udp_flows_to_endpoints_that_are_gone_are_stale() {
    let dns = |endpoints| ServicePort { protocol: Protocol::Udp, port: 53, ..web(endpoints) };
    let flow = |endpoint| StaleFlows { address: Ipv4Addr::new(10, 43, 0, 80), port: 53, endpoint };
    let stale =
        |old: &[ServicePort], new: &[ServicePort]| stale_flows(old, new).into_iter().collect::<Vec<_>>();
    assert_eq!(stale(&[dns(both())], &[dns(vec![endpoint(9, false)])]), [flow(Some(address(7)))]);
    assert_eq!(stale(&[dns(both())], &[]), [flow(Some(address(7))), flow(Some(address(9)))]);
    assert_eq!(stale(&[dns(Vec::new())], &[dns(both())]), [flow(None)]);
    assert_eq!(stale(&[dns(both())], &[dns(both())]), []);
    assert_eq!(stale(&[web(both())], &[]), [], "TCP ends by itself");
}

prop_compose! {
    fn any_port()(
        service in "[a-d]",
        port in 80_u16..83,
        endpoints in proptest::collection::vec((1_u8..9, any::<bool>(), any::<bool>(), any::<bool>()), 0..5),
        node_port in proptest::option::of(30000_u16..30004),
        outside in proptest::option::of(1_u8..4),
        affinity in any::<bool>(),
        policies in any::<(bool, bool)>(),
    ) -> ServicePort {
        let policy = |local| if local { TrafficPolicy::Local } else { TrafficPolicy::Cluster };
        ServicePort {
            cluster_addresses: [Ipv4Addr::new(10, 43, 0, service.as_bytes()[0])].into(),
            service, port, node_port,
            load_balancer_addresses: outside.map(|last| Ipv4Addr::new(192, 0, 2, last)).into_iter().collect(),
            client_affinity: affinity.then_some(Duration::from_secs(60)),
            external_policy: policy(policies.0),
            internal_policy: policy(policies.1),
            ..web(endpoints.into_iter().map(|(last, local, ready, serving)| Endpoint { ready, serving, ..endpoint(last, local) }).collect())
        }
    }
}

/// Names of chains and sets that a rule or element refers to.
fn references(text: &str) -> Vec<&str> {
    let words: Vec<&str> = text.split([' ', ',']).collect();
    let chains = words.windows(2).filter(|pair| matches!(pair[0], "goto" | "jump")).map(|pair| pair[1]);
    let sets = words.iter().filter_map(|word| word.strip_prefix('@'));
    chains.chain(sets).collect()
}

proptest! {
    #[test]
    fn every_reference_has_its_target(services in proptest::collection::vec(any_port(), 0..8)) {
        let table = ruleset(&services, &node());
        let rules = table.chains.values().flat_map(|chain| &chain.rules);
        let values = table.sets.values().flat_map(|set| set.elements.values());
        for name in rules.chain(values).flat_map(|text| references(text)) {
            prop_assert!(table.chains.contains_key(name) || table.sets.contains_key(name), "{}", name);
        }
    }

    #[test]
    fn the_order_of_services_and_endpoints_makes_no_difference(
        services in proptest::collection::vec(any_port(), 0..8).prop_shuffle(),
    ) {
        let mut sorted = services.clone();
        // The same name twice cannot be: Services are named uniquely, and ports of a Service too.
        let key = |port: &ServicePort| (port.service.clone(), port.port);
        sorted.sort_by_key(key);
        sorted.dedup_by_key(|port| key(port));
        let mut reversed: Vec<ServicePort> = sorted.iter().rev().cloned().collect();
        reversed.iter_mut().for_each(|port| port.endpoints.reverse());
        // An endpoint that is listed twice must be listed alike.
        prop_assume!(sorted.iter().all(|port| {
            let mut seen = BTreeSet::new();
            port.endpoints.iter().all(|endpoint| seen.insert((endpoint.address, endpoint.port)))
        }));
        prop_assert_eq!(ruleset(&sorted, &node()), ruleset(&reversed, &node()));
    }

    #[test]
    fn no_change_is_no_transaction(services in proptest::collection::vec(any_port(), 0..8)) {
        let table = ruleset(&services, &node());
        prop_assert_eq!(table.change_from(&table), "");
    }
}
