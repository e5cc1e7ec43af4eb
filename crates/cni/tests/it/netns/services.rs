//! Services: real packets through the real rules.

use std::{
    collections::BTreeSet,
    io::ErrorKind,
    net::{IpAddr, Ipv4Addr},
    time::{Duration, Instant},
};

use drystone_cni::dataplane::model::{Endpoint, Protocol, ServicePort, TrafficPolicy};

use super::lab;
use crate::lab::{CLIENT, Lab, Namespace, PATIENCE, Pod};

const CLUSTER: Ipv4Addr = Ipv4Addr::new(10, 43, 0, 80);
const EXTERNAL: Ipv4Addr = Ipv4Addr::new(10, 20, 0, 200);
const NODE_PORT: u16 = 30080;

/// A Service with these pods: each the node that it runs on, and itself.
fn service(pods: &[(usize, &Pod)], node: usize) -> ServicePort {
    let endpoint = |(own, pod): &(usize, &Pod)| Endpoint {
        address: pod.address,
        port: 8080,
        local: *own == node,
        ready: true,
        serving: true,
    };
    ServicePort {
        namespace: "default".into(),
        service: "web".into(),
        name: String::new(),
        protocol: Protocol::Tcp,
        port: 80,
        cluster_addresses: [CLUSTER].into(),
        external_addresses: BTreeSet::new(),
        load_balancer_addresses: [EXTERNAL].into(),
        source_ranges: BTreeSet::new(),
        node_port: Some(NODE_PORT),
        client_affinity: None,
        external_policy: TrafficPolicy::Cluster,
        internal_policy: TrafficPolicy::Cluster,
        endpoints: pods.iter().map(endpoint).collect(),
    }
}

/// Applies a Service on both nodes; node `announcer` answers for the external address.
async fn apply(lab: &Lab, pods: &[(usize, &Pod)], announcer: usize, change: impl Fn(&mut ServicePort)) {
    for (index, node) in lab.nodes.iter().enumerate() {
        let mut port = service(pods, index);
        change(&mut port);
        let announced: &[Ipv4Addr] = if index == announcer { &[EXTERNAL] } else { &[] };
        node.dataplane.apply(&[port], &node.view(announced)).await.unwrap();
    }
}

/// Asks until every one of these has answered; nobody else may.
fn meets(from: &Namespace, to: (Ipv4Addr, u16), expected: &[&str]) {
    let mut missing: BTreeSet<&str> = expected.iter().copied().collect();
    let deadline = Instant::now() + PATIENCE;
    while !missing.is_empty() {
        assert!(Instant::now() < deadline, "{missing:?} never answered at {to:?}");
        let (name, _) = from.ask(to).unwrap();
        assert!(expected.contains(&name.as_str()), "{name} answered at {to:?}");
        missing.remove(name.as_str());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_address_reaches_every_endpoint_from_everywhere() {
    let lab = lab!();
    let (near, far, asker) = (lab.pod(0, "near").await, lab.pod(1, "far").await, lab.pod(0, "asker").await);
    apply(&lab, &[(0, &near), (1, &far)], 0, |_| {}).await;
    for from in [&asker.namespace, &near.namespace, &lab.nodes[0].namespace, &lab.nodes[1].namespace] {
        meets(from, (CLUSTER, 80), &["near", "far"]);
    }
    // Endpoints see the pod that asks.
    assert_eq!(asker.namespace.ask((CLUSTER, 80)).unwrap().1, IpAddr::from(asker.address));
    // A pod that reaches itself sees the node.
    apply(&lab, &[(0, &near)], 0, |_| {}).await;
    let node = IpAddr::from(lab.nodes[0].address);
    assert_eq!(near.namespace.ask((CLUSTER, 80)).unwrap(), ("near".into(), node));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_endpoints_clients_are_refused_at_once() {
    let lab = lab!();
    let asker = lab.pod(0, "asker").await;
    apply(&lab, &[], 0, |_| {}).await;
    for from in [&asker.namespace, &lab.nodes[0].namespace] {
        let begin = Instant::now();
        assert_eq!(from.ask((CLUSTER, 80)).unwrap_err().kind(), ErrorKind::ConnectionRefused);
        assert!(begin.elapsed() < PATIENCE);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_ports_and_external_addresses_are_open_to_the_outside() {
    let lab = lab!();
    let (near, far) = (lab.pod(0, "near").await, lab.pod(1, "far").await);
    apply(&lab, &[(0, &near), (1, &far)], 0, |_| {}).await;
    for node in &lab.nodes {
        meets(&lab.client, (node.address, NODE_PORT), &["near", "far"]);
    }
    meets(&lab.client, (EXTERNAL, 80), &["near", "far"]);
    // Pods use the external address without leaving the cluster.
    meets(&far.namespace, (EXTERNAL, 80), &["near", "far"]);
    // An announced address is no back door to the host.
    lab.nodes[0].namespace.serve("host", 2222);
    assert_eq!(lab.client.ask((lab.nodes[0].address, 2222)).unwrap().0, "host");
    assert_eq!(lab.client.ask((EXTERNAL, 2222)).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    // Another node takes the address over, and the client, which has the old one in its ARP cache, is told.
    apply(&lab, &[(0, &near), (1, &far)], 1, |_| {}).await;
    meets(&lab.client, (EXTERNAL, 80), &["near", "far"]);
    assert!(!lab.nodes[0].namespace.ip(&["address"]).contains("10.20.0.200"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn local_traffic_keeps_the_address_of_the_client() {
    let lab = lab!();
    let (near, far) = (lab.pod(0, "near").await, lab.pod(1, "far").await);
    let local = |port: &mut ServicePort| port.external_policy = TrafficPolicy::Local;
    apply(&lab, &[(0, &near), (1, &far)], 0, local).await;
    for _ in 0..10 {
        assert_eq!(lab.client.ask((EXTERNAL, 80)).unwrap(), ("near".into(), IpAddr::from(CLIENT)));
        let second = (lab.nodes[1].address, NODE_PORT);
        assert_eq!(lab.client.ask(second).unwrap(), ("far".into(), IpAddr::from(CLIENT)));
    }
    meets(&near.namespace, (EXTERNAL, 80), &["near", "far"]);
    // Inside the cluster likewise, if asked for.
    apply(&lab, &[(0, &near), (1, &far)], 0, |port| port.internal_policy = TrafficPolicy::Local).await;
    for _ in 0..10 {
        assert_eq!(near.namespace.ask((CLUSTER, 80)).unwrap().0, "near");
        assert_eq!(far.namespace.ask((CLUSTER, 80)).unwrap().0, "far");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_keep_their_endpoint_when_others_come() {
    let lab = lab!();
    let (one, two, asker) = (lab.pod(0, "one").await, lab.pod(1, "two").await, lab.pod(0, "asker").await);
    let sticky = |port: &mut ServicePort| port.client_affinity = Some(Duration::from_secs(600));
    apply(&lab, &[(0, &one)], 0, sticky).await;
    assert_eq!(asker.namespace.ask((CLUSTER, 80)).unwrap().0, "one");
    apply(&lab, &[(0, &one), (1, &two)], 0, sticky).await;
    for _ in 0..20 {
        assert_eq!(asker.namespace.ask((CLUSTER, 80)).unwrap().0, "one");
    }
    apply(&lab, &[(1, &two)], 0, sticky).await;
    assert_eq!(asker.namespace.ask((CLUSTER, 80)).unwrap().0, "two");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn source_ranges_are_kept() {
    let lab = lab!();
    let near = lab.pod(0, "near").await;
    let only = |range: &'static str| {
        move |port: &mut ServicePort| port.source_ranges = [range.parse().unwrap()].into()
    };
    apply(&lab, &[(0, &near)], 0, only("10.20.0.100/32")).await;
    assert_eq!(lab.client.ask((EXTERNAL, 80)).unwrap().0, "near");
    apply(&lab, &[(0, &near)], 0, only("10.20.0.101/32")).await;
    let socket = lab.client.run(|| {
        std::net::TcpStream::connect_timeout(&(EXTERNAL, 80).into(), Duration::from_millis(500)).map(drop)
    });
    assert_eq!(socket.join().unwrap().unwrap_err().kind(), ErrorKind::TimedOut);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn udp_clients_follow_to_the_next_endpoint() {
    let lab = lab!();
    if std::process::Command::new("conntrack").arg("--version").output().is_err() {
        println!("skipped: `conntrack` is not installed");
        assert!(std::env::var_os("CI").is_none(), "must not be skipped in CI");
        return;
    }
    let (one, two, asker) = (lab.pod(0, "one").await, lab.pod(1, "two").await, lab.pod(0, "asker").await);
    one.namespace.serve_udp("one", 8080);
    two.namespace.serve_udp("two", 8080);
    let udp = |port: &mut ServicePort| port.protocol = Protocol::Udp;
    apply(&lab, &[(0, &one)], 0, udp).await;
    let socket = asker.namespace.udp();
    let ask = || {
        socket.send_to(b"?", (CLUSTER, 80)).unwrap();
        let mut buffer = [0; 16];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    assert_eq!(ask(), "one");
    apply(&lab, &[(1, &two)], 0, udp).await;
    assert_eq!(ask(), "two");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_lead_to_the_same_table_as_a_fresh_start() {
    let lab = lab!();
    let (near, far) = (lab.pod(0, "near").await, lab.pod(1, "far").await);
    let node = &lab.nodes[0];
    let sticky = |port: &mut ServicePort| port.client_affinity = Some(Duration::from_secs(60));
    let local = |port: &mut ServicePort| port.external_policy = TrafficPolicy::Local;
    let plain = |_: &mut ServicePort| {};
    let changes: [&dyn Fn(&mut ServicePort); 3] = [&sticky, &local, &plain];
    let sets: [&[(usize, &Pod)]; 3] = [&[], &[(0, &near)], &[(0, &near), (1, &far)]];
    for (step, index) in [0, 8, 1, 5, 7, 2, 3, 6, 4, 0].into_iter().enumerate() {
        let mut port = service(sets[index / 3], 0);
        changes[index % 3](&mut port);
        node.dataplane.apply(std::slice::from_ref(&port), &node.view(&[])).await.unwrap();
        let incremental = table(&node.namespace);
        let fresh = drystone_cni::dataplane::DataPlane::new(drystone_cni::tools::Tools::inside(
            node.namespace.path(),
        ));
        fresh.apply(&[port], &node.view(&[])).await.unwrap();
        assert_eq!(incremental, table(&node.namespace), "step {step}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_somebody_removed_is_repaired() {
    let lab = lab!();
    let near = lab.pod(0, "near").await;
    let node = &lab.nodes[0];
    apply(&lab, &[(0, &near)], 0, |_| {}).await;
    assert!(!node.dataplane.repair().await.unwrap());
    let flush = || {
        crate::lab::sh(
            "nsenter",
            &[&format!("--net={}", node.namespace.path().display()), "nft", "flush", "ruleset"],
        )
    };
    flush();
    assert!(node.dataplane.repair().await.unwrap());
    meets(&near.namespace, (CLUSTER, 80), &["near"]);
    // A change on top of a table that is gone writes it anew, too.
    flush();
    apply(&lab, &[], 0, |_| {}).await;
    apply(&lab, &[(0, &near)], 0, |_| {}).await;
    meets(&near.namespace, (CLUSTER, 80), &["near"]);
    node.dataplane.remove(&node.view(&[])).await.unwrap();
    assert_eq!(table(&node.namespace), Vec::<String>::new());
}

/// The table as nftables lists it; the order in which chains and sets were made does not matter.
fn table(namespace: &Namespace) -> Vec<String> {
    let path = format!("--net={}", namespace.path().display());
    let text = crate::lab::sh("nsenter", &[&path, "nft", "--stateless", "list", "ruleset"]);
    let mut blocks: Vec<String> = text.split("\n\t}").map(|block| block.trim().to_owned()).collect();
    blocks.iter_mut().for_each(|block| *block = block.replace("table ip drystone {\n\t", ""));
    blocks.retain(|block| !block.is_empty() && block != "}");
    blocks.sort();
    blocks
}
