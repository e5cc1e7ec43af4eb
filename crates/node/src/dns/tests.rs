use std::collections::BTreeSet;

use serde_json::json;

use super::*;

const DNS: Ipv4Addr = Ipv4Addr::new(10, 43, 0, 10);
const NODE: Ipv4Addr = Ipv4Addr::new(10, 20, 0, 5);

fn config(servers: &[&str], data_plane: bool) -> NodeConfig {
    serde_json::from_value(json!({
        "nodeName": "n1", "nodeAddress": NODE, "interface": "eth0", "apiServer": "https://10.20.0.4:6443", "caFile": "/none",
        "podCIDR": "10.42.0.0/16", "serviceCIDR": "10.43.0.0/16", "clusterDNS": servers, "serviceDataPlane": data_plane,
    }))
    .unwrap()
}

#[test]
fn a_node_answers_where_pods_are_told_to_ask() {
    assert_eq!(address(&config(&["10.43.0.10", "192.0.2.1"], true)), Some(DNS));
    assert_eq!(address(&config(&["10.43.0.10"], false)), None);
    assert_eq!(address(&config(&[], true)), None);
    // Somebody else's.
    assert_eq!(address(&config(&["192.0.2.1", "10.43.0.10"], true)), None);
    assert_eq!(address(&config(&["fd00::10"], true)), None);
}

fn claimed(namespace: &str, endpoints: usize) -> ServicePort {
    let endpoint =
        Endpoint { address: [10, 42, 0, 7].into(), port: 53, local: false, ready: true, serving: false };
    ServicePort {
        namespace: namespace.to_owned(),
        service: "coredns".to_owned(),
        external_addresses: [DNS].into(),
        load_balancer_addresses: [DNS].into(),
        endpoints: vec![endpoint; endpoints],
        ..own_port(Protocol::Udp, DNS, NODE)
    }
}

/// Who has the address, by protocol.
fn holders(mut ports: Vec<ServicePort>) -> BTreeSet<String> {
    redirect(&mut ports, DNS, NODE);
    let has_it = |port: &&ServicePort| {
        let all = [&port.cluster_addresses, &port.external_addresses, &port.load_balancer_addresses];
        all.iter().any(|addresses| addresses.contains(&DNS)) && !port.endpoints.is_empty()
    };
    ports
        .iter()
        .filter(has_it)
        .map(|port| format!("{}/{} {}", port.namespace, port.service, port.protocol))
        .collect()
}

#[test]
fn the_address_leads_to_the_node_unless_the_cluster_serves_it() {
    let own = ["kube-system/drystone-node-dns udp", "kube-system/drystone-node-dns tcp"];
    assert_eq!(holders(vec![]), own.map(str::to_owned).into());
    // Whoever may create Services somewhere does not read everybody's questions.
    assert_eq!(holders(vec![claimed("evil", 1)]), own.map(str::to_owned).into());
    // A name server that is not up yet does not take the address.
    assert_eq!(holders(vec![claimed("kube-system", 0)]), own.map(str::to_owned).into());
    let replaced = ["kube-system/coredns udp", "kube-system/drystone-node-dns tcp"];
    assert_eq!(holders(vec![claimed("kube-system", 1)]), replaced.map(str::to_owned).into());
}
