use std::time::Instant;

use drystone_cni::dataplane::model::Endpoint;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const NODE: &str = "n1";

fn service(change: &Value) -> Arc<Service> {
    let mut service = json!({
        "metadata": {"namespace": "default", "name": "web"},
        "spec": {"type": "ClusterIP", "clusterIP": "10.43.0.80", "clusterIPs": ["10.43.0.80", "fd00::80"],
            "ports": [{"port": 80}]},
    });
    json_patch::merge(&mut service, change);
    Arc::new(serde_json::from_value(service).unwrap())
}

fn slice(endpoints: &Value) -> Arc<EndpointSlice> {
    slice_with(endpoints, &json!([{"port": 8080, "name": "", "protocol": "TCP"}]))
}

fn slice_with(endpoints: &Value, ports: &Value) -> Arc<EndpointSlice> {
    let slice = json!({
        "metadata": {"namespace": "default", "name": "web-1", "labels": {SERVICE_LABEL: "web"}},
        "addressType": "IPv4", "endpoints": endpoints, "ports": ports,
    });
    Arc::new(serde_json::from_value(slice).unwrap())
}

fn one(service: Arc<Service>, slices: &[Arc<EndpointSlice>]) -> ServicePort {
    let mut ports = service_ports(&[service], slices, NODE);
    assert_eq!(ports.len(), 1, "{ports:#?}");
    ports.remove(0)
}

fn addresses(set: &BTreeSet<Ipv4Addr>) -> String {
    set.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

#[test]
fn services_without_addresses_of_their_own_are_not_programmed() {
    for change in [
        json!({"spec": {"clusterIP": "None", "clusterIPs": ["None"]}}),
        json!({"spec": {"type": "ExternalName", "externalName": "example.com"}}),
        json!({"spec": {"clusterIP": null, "clusterIPs": null}}),
        json!({"spec": {"clusterIP": "", "clusterIPs": null}}),
        json!({"spec": {"clusterIP": "fd00::80", "clusterIPs": ["fd00::80"]}}),
        json!({"metadata": {"labels": {OTHER_PROXY: "other"}}}),
        json!({"spec": null}),
        json!({"spec": {"ports": null}}),
        json!({"spec": {"ports": [{"port": 80, "protocol": "QUIC"}, {"port": 0}, {"port": 65_536}, {"port": -1}]}}),
    ] {
        assert_eq!(service_ports(&[service(&change)], &[], NODE), [], "{change}");
    }
    let port = one(service(&json!({})), &[]);
    assert_eq!((addresses(&port.cluster_addresses).as_str(), port.port), ("10.43.0.80", 80));
    assert_eq!(port.protocol, Protocol::Tcp);
    assert_eq!((port.node_port, port.client_affinity), (None, None));
}

#[test]
fn conditions_decide_about_endpoints() {
    // Conditions, publishNotReadyAddresses, and then: ready, serving while terminating.
    for (conditions, publish, expected) in [
        (json!(null), false, (true, false)),
        (json!({}), false, (true, false)),
        (json!({"ready": true, "serving": true, "terminating": false}), false, (true, false)),
        (json!({"ready": false, "serving": false, "terminating": false}), false, (false, false)),
        (json!({"ready": false}), false, (false, false)),
        (json!({"ready": false, "terminating": true}), false, (false, true)),
        (json!({"ready": false, "serving": true, "terminating": true}), false, (false, true)),
        (json!({"ready": false, "serving": false, "terminating": true}), false, (false, false)),
        (json!({"ready": false, "serving": false, "terminating": false}), true, (true, false)),
        (json!({"ready": true, "serving": true, "terminating": true}), true, (true, true)),
    ] {
        let slice = slice(&json!([{"addresses": ["10.42.0.7"], "conditions": conditions}]));
        let port = one(service(&json!({"spec": {"publishNotReadyAddresses": publish}})), &[slice]);
        let endpoint = &port.endpoints[0];
        assert_eq!((endpoint.ready, endpoint.serving), expected, "{conditions} {publish}");
    }
}

#[test]
fn ports_are_found_by_name_and_protocol() {
    let spec = json!({"spec": {"ports": [
        {"name": "http", "port": 80, "targetPort": "web"},
        {"name": "dns", "port": 53, "protocol": "UDP", "targetPort": 5353},
        {"name": "dns-tcp", "port": 53, "protocol": "TCP", "targetPort": 5353},
        {"name": "signal", "port": 2905, "protocol": "SCTP"},
        {"name": "late", "port": 9, "targetPort": "unknown"},
    ]}});
    let ports = json!([{"name": "http", "port": 8080, "protocol": "TCP"}, {"name": "dns", "port": 5353, "protocol": "UDP"},
        {"name": "dns-tcp", "port": 5353}, {"name": "signal", "port": 2905, "protocol": "SCTP"}, {"name": "late", "port": null}]);
    // Pods of another version name another number.
    let other = json!([{"name": "http", "port": 9090, "protocol": "TCP"}, {"name": "dns", "port": 1, "protocol": "TCP"}]);
    let slices = [
        slice_with(&json!([{"addresses": ["10.42.0.7"], "nodeName": NODE}]), &ports),
        slice_with(&json!([{"addresses": ["10.42.1.7"], "nodeName": "n2"}]), &other),
    ];
    let found: Vec<String> = service_ports(&[service(&spec)], &slices, NODE)
        .iter()
        .map(|port| {
            let endpoints: Vec<String> = port
                .endpoints
                .iter()
                .map(|e| format!("{}:{}{}", e.address, e.port, if e.local { " here" } else { "" }))
                .collect();
            format!("{} {} {} -> {}", port.name, port.protocol, port.port, endpoints.join(", "))
        })
        .collect();
    assert_eq!(
        found,
        [
            "http tcp 80 -> 10.42.0.7:8080 here, 10.42.1.7:9090",
            "dns udp 53 -> 10.42.0.7:5353 here",
            "dns-tcp tcp 53 -> 10.42.0.7:5353 here",
            "signal sctp 2905 -> 10.42.0.7:2905 here",
            "late tcp 9 -> ",
        ]
    );
}

#[test]
fn slices_are_merged_and_strangers_left_out() {
    let foreign = |change: Value| {
        let mut foreign = serde_json::to_value(&*slice(&json!([{"addresses": ["10.42.9.9"]}]))).unwrap();
        json_patch::merge(&mut foreign, &change);
        Arc::new(serde_json::from_value(foreign).unwrap())
    };
    let slices = [
        slice(
            &json!([{"addresses": ["10.42.0.7", "10.42.0.8"], "conditions": {"ready": false}}, {"addresses": []}]),
        ),
        slice(&json!([{"addresses": ["10.42.0.7"], "conditions": {"ready": true}, "nodeName": NODE}])),
        slice(
            &json!([{"addresses": ["127.0.0.1"]}, {"addresses": ["169.254.1.1"]}, {"addresses": ["x"]}, {"addresses": ["224.0.0.1"]}]),
        ),
        foreign(json!({"addressType": "IPv6"})),
        foreign(json!({"addressType": "FQDN"})),
        foreign(json!({"metadata": {"namespace": "other"}})),
        foreign(json!({"metadata": {"labels": {SERVICE_LABEL: "other"}}})),
        foreign(json!({"metadata": {"labels": null}})),
    ];
    let expected =
        Endpoint { address: [10, 42, 0, 7].into(), port: 8080, local: true, ready: true, serving: false };
    assert_eq!(one(service(&json!({})), &slices).endpoints, [expected]);
}

#[test]
fn the_way_in_from_outside_is_as_the_service_says() {
    let port = one(
        service(&json!({
            "spec": {"type": "LoadBalancer", "ports": [{"port": 80, "nodePort": 30080}], "externalIPs": ["192.0.2.1", "fd00::1"],
                "externalTrafficPolicy": "Local", "internalTrafficPolicy": "Local", "sessionAffinity": "ClientIP",
                "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}}},
            "status": {"loadBalancer": {"ingress": [{"ip": "10.20.0.200"}, {"ip": "10.20.0.201", "ipMode": "VIP"},
                {"ip": "10.20.0.202", "ipMode": "Proxy"}, {"hostname": "example.com"}, {"ip": "fd00::2"}]}},
        })),
        &[],
    );
    assert_eq!(addresses(&port.external_addresses), "192.0.2.1");
    assert_eq!(addresses(&port.load_balancer_addresses), "10.20.0.200 10.20.0.201");
    assert_eq!(port.node_port, Some(30080));
    assert_eq!((port.external_policy, port.internal_policy), (TrafficPolicy::Local, TrafficPolicy::Local));
    assert_eq!(port.client_affinity, Some(Duration::from_secs(60)));

    let port = one(
        service(&json!({
            "spec": {"sessionAffinity": "ClientIP", "ports": [{"port": 80, "nodePort": 30080}]},
            "status": {"loadBalancer": {"ingress": [{"ip": "10.20.0.200"}]}},
        })),
        &[],
    );
    assert_eq!(port.client_affinity, Some(DEFAULT_AFFINITY));
    // What is left of a time as a load balancer does not count.
    assert_eq!((port.node_port, port.load_balancer_addresses.len()), (None, 0));
}

#[test]
fn source_ranges_close_rather_than_open() {
    for (ranges, expected) in [
        (json!(null), ""),
        (json!([]), ""),
        (json!(["10.0.0.0/8", " 192.0.2.7/24 "]), "10.0.0.0/8 192.0.2.0/24"),
        // Overlaps and neighbours.
        (json!(["10.0.0.0/8", "10.1.0.0/16", "192.0.2.0/25", "192.0.2.128/25"]), "10.0.0.0/8 192.0.2.0/24"),
        (json!(["10.0.0.0/8", "0.0.0.0/0"]), ""),
        (json!(["0.0.0.0/1", "128.0.0.0/1"]), ""),
        (json!(["fd00::/8"]), "0.0.0.0/32"),
        (json!(["nonsense"]), "0.0.0.0/32"),
    ] {
        let port = one(service(&json!({"spec": {"loadBalancerSourceRanges": ranges}})), &[]);
        let shown: Vec<String> = port.source_ranges.iter().map(ToString::to_string).collect();
        assert_eq!(shown.join(" "), expected, "{ranges}");
    }
}

#[test]
fn the_node_that_is_named_announces() {
    let balanced = |node: Option<&str>, address: &str| {
        service(&json!({
            "metadata": {"annotations": node.map(|node| json!({ANNOUNCED_BY: node}))},
            "spec": {"type": "LoadBalancer"},
            "status": {"loadBalancer": {"ingress": [{"ip": address}]}},
        }))
    };
    let services = [
        balanced(Some(NODE), "10.20.0.200"),
        balanced(Some("n2"), "10.20.0.201"),
        balanced(None, "10.20.0.202"),
        // The address of a node.
        balanced(Some(NODE), "10.20.0.6"),
        service(&json!({"metadata": {"annotations": {ANNOUNCED_BY: NODE}}})),
    ];
    let found = announced(&services, NODE, |address| address == Ipv4Addr::new(10, 20, 0, 6));
    assert_eq!(addresses(&found), "10.20.0.200");
}

/// So many Services with so many endpoints each.
fn many(services: u32, endpoints: u32) -> (Vec<Arc<Service>>, Vec<Arc<EndpointSlice>>) {
    let make = |index: u32| {
        let name = format!("s{index}");
        let address = Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 43, 1, 0)) + index).to_string();
        let service = service(
            &json!({"metadata": {"name": name}, "spec": {"clusterIP": address, "clusterIPs": [address]}}),
        );
        let address = |n: u32| {
            Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 42, 0, 1)) + index * endpoints + n).to_string()
        };
        let endpoints: Vec<Value> = (0..endpoints).map(|n| json!({"addresses": [address(n)]})).collect();
        let mut slice = EndpointSlice::clone(&slice(&json!(endpoints)));
        slice.metadata.labels = Some([(SERVICE_LABEL.to_owned(), name)].into());
        (service, Arc::new(slice))
    };
    (0..services).map(make).unzip()
}

#[test]
fn work_grows_with_the_cluster_and_not_with_its_square() {
    let best = |count: u32| {
        let (services, slices) = many(count, 10);
        let run = || {
            let begin = Instant::now();
            let ports = service_ports(&services, &slices, NODE);
            assert_eq!(ports.iter().map(|port| port.endpoints.len()).sum::<usize>(), count as usize * 10);
            begin.elapsed()
        };
        (0..5).map(|_| run()).min().unwrap()
    };
    // Eight times as much to do; sixty-four times as long if each Service looked at each slice. Others use the machine too, so
    // one measurement out of several has to show it.
    let measured: Vec<_> = (0..10).map(|_| (best(125), best(1000))).collect();
    assert!(
        measured.iter().any(|(small, large)| *large < *small * 32),
        "125 and 1,000 Services: {measured:?}"
    );
}

proptest! {
    #[test]
    fn the_order_of_objects_and_their_division_make_no_difference(
        endpoints in prop::collection::vec((0u8..20, any::<Option<bool>>(), any::<Option<bool>>(), any::<Option<bool>>()), 0..20),
        cut in 0usize..20,
    ) {
        let endpoints: Vec<Value> = endpoints
            .iter()
            .map(|(address, ready, serving, terminating)| json!({
                "addresses": [format!("10.42.0.{}", address + 1)],
                "conditions": {"ready": ready, "serving": serving, "terminating": terminating},
            }))
            .collect();
        let (one, other) = endpoints.split_at(cut.min(endpoints.len()));
        let whole = service_ports(&[service(&json!({}))], &[slice(&json!(endpoints))], NODE);
        let parts = service_ports(&[service(&json!({}))], &[slice(&json!(other)), slice(&json!(one))], NODE);
        prop_assert_eq!(&whole, &parts);
        let distinct: BTreeSet<_> = whole[0].endpoints.iter().map(|endpoint| endpoint.address).collect();
        prop_assert_eq!(distinct.len(), whole[0].endpoints.len());
    }
}
