//! The plugin as a container runtime calls it, and packets between pods.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Instant,
};

use serde_json::{Value, json};

use super::lab;
use crate::lab::{CLIENT, loopback_plugin, plugin};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_version_of_the_specification_is_spoken() {
    let lab = lab!();
    let node = &lab.nodes[0];
    for (version, family) in [("0.3.1", Some("4")), ("0.4.0", Some("4")), ("1.0.0", None), ("1.1.0", None)] {
        let namespace = lab.pod_namespace();
        let path = namespace.path();
        let configuration = node.configuration(version);
        let result = node.call("ADD", &namespace.name, Some(&path), configuration.clone()).await.unwrap();
        assert_eq!(result["cniVersion"], version);
        assert_eq!(result["ips"][0].get("version").and_then(Value::as_str), family);
        let inside = result["ips"][0]["interface"].as_u64().unwrap();
        let interface = &result["interfaces"][usize::try_from(inside).unwrap()];
        assert_eq!(interface["name"], "eth0");
        assert_eq!(interface["sandbox"], path.to_str().unwrap());

        let mut again = configuration.clone();
        again["prevResult"] = result.clone();
        if version != "0.3.1" {
            assert_eq!(
                node.call("CHECK", &namespace.name, Some(&path), again.clone()).await,
                Ok(Value::Null)
            );
            namespace.ip(&["address", "flush", "dev", "eth0"]);
            let error = node.call("CHECK", &namespace.name, Some(&path), again.clone()).await.unwrap_err();
            assert_eq!(error["code"], 102, "{error}");
        }
        // DEL is idempotent, with and without the namespace.
        assert_eq!(node.call("DEL", &namespace.name, Some(&path), again).await, Ok(Value::Null));
        assert_eq!(node.call("DEL", &namespace.name, None, configuration).await, Ok(Value::Null));
        assert!(!namespace.ip(&["link"]).contains("eth0"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_add_fails_and_spoils_nothing() {
    let lab = lab!();
    let node = &lab.nodes[0];
    let pod = lab.pod(0, "a").await;
    let name = &pod.namespace.name;
    let again = node.call("ADD", name, Some(&pod.namespace.path()), node.configuration("1.0.0")).await;
    assert_eq!(again.unwrap_err()["code"], 100);
    assert_eq!(node.namespace.ask((pod.address, 8080)).unwrap().0, "a");

    let missing =
        node.call("ADD", "other", Some("/run/netns/nonexistent".as_ref()), node.configuration("1.0.0"));
    assert_eq!(missing.await.unwrap_err()["code"], 100);
    let another = lab.pod(0, "b").await;
    assert_ne!(another.address, pod.address);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_gc_and_bad_requests() {
    let lab = lab!();
    let node = &lab.nodes[0];
    let latest = || node.configuration("1.1.0");
    let (kept, lost) = (lab.pod(0, "kept").await, lab.pod(0, "lost").await);
    assert_eq!(node.call("STATUS", "", None, latest()).await, Ok(Value::Null));
    node.network.set_blocks(&[]);
    assert_eq!(node.call("STATUS", "", None, latest()).await.unwrap_err()["code"], 50);
    node.network.set_blocks(&[node.block]);

    let mut configuration = latest();
    configuration["cni.dev/valid-attachments"] =
        json!([{"containerID": kept.namespace.name, "ifname": "eth0"}]);
    assert_eq!(node.call("GC", "", None, configuration).await, Ok(Value::Null));
    assert!(kept.namespace.ip(&["link"]).contains("eth0"));
    assert!(!lost.namespace.ip(&["link"]).contains("eth0"));

    assert_eq!(node.call("GC", "", None, latest()).await.unwrap_err()["code"], 7);
    assert_eq!(node.call("ADD", "../x", Some("/x".as_ref()), latest()).await.unwrap_err()["code"], 4);
    assert_eq!(node.call("ADD", "x", None, latest()).await.unwrap_err()["code"], 4);
    assert_eq!(node.call("VERSION", "", None, json!({})).await.unwrap()["cniVersion"], "1.1.0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attachments_whose_sandbox_is_gone_are_found() {
    let lab = lab!();
    let node = &lab.nodes[0];
    let (kept, lost) = (lab.pod(0, "kept").await, lab.pod(0, "lost").await);
    let name = lost.namespace.name.clone();
    drop(lost);
    let freed = node.network.collect_leaks(&BTreeSet::from([kept.namespace.name.clone()])).await.unwrap();
    assert_eq!(freed.iter().map(|attachment| &attachment.container_id).collect::<Vec<_>>(), [&name]);
    assert!(
        node.network.collect_leaks(&BTreeSet::new()).await.unwrap().is_empty(),
        "its namespace still exists"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn loopback_is_a_plugin_too() {
    let lab = lab!();
    let node = &lab.nodes[0];
    let namespace = lab.pod_namespace();
    namespace.ip(&["link", "set", "lo", "down"]);
    let program = loopback_plugin(node.directory.path());
    let configuration = json!({"cniVersion": "0.3.1", "name": "cni-loopback", "type": "loopback"});
    let result = plugin(&program, "ADD", "c", Some(&namespace.path()), &configuration).unwrap();
    assert_eq!(result["ips"][0]["address"], "127.0.0.1/8");
    namespace.serve("here", 9000);
    assert_eq!(namespace.ask(([127, 0, 0, 1], 9000)).unwrap().0, "here");
    assert_eq!(plugin(&program, "DEL", "c", Some(&namespace.path()), &configuration), Ok(Value::Null));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_reach_each_other_their_nodes_and_the_outside() {
    let lab = lab!();
    let (one, two, far) = (lab.pod(0, "one").await, lab.pod(0, "two").await, lab.pod(1, "far").await);
    let services = [];
    for node in &lab.nodes {
        node.dataplane.apply(&services, &node.view(&[])).await.unwrap();
    }
    let own = IpAddr::from(one.address);
    // Between pods no address is translated, on one node or across.
    assert_eq!(one.namespace.ask((two.address, 8080)).unwrap(), ("two".into(), own));
    assert_eq!(one.namespace.ask((far.address, 8080)).unwrap(), ("far".into(), own));
    // Nor towards nodes, whichever.
    for node in &lab.nodes {
        node.namespace.serve("node", 9000);
        assert_eq!(one.namespace.ask((node.address, 9000)).unwrap(), ("node".into(), own));
    }
    // The node speaks to pods under its own address, which probes rely on.
    let node = &lab.nodes[0];
    assert_eq!(node.namespace.ask((one.address, 8080)).unwrap().1, IpAddr::from(node.address));
    assert_eq!(node.namespace.ask((far.address, 8080)).unwrap().1, IpAddr::from(node.address));
    // Outside the cluster, nobody knows pods: the node stands for them.
    lab.client.serve("outside", 9000);
    assert_eq!(one.namespace.ask((CLIENT, 9000)).unwrap(), ("outside".into(), IpAddr::from(node.address)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_cannot_forge_its_address() {
    let lab = lab!();
    let (one, two) = (lab.pod(0, "one").await, lab.pod(0, "two").await);
    let node = &lab.nodes[0];
    node.dataplane.apply(&[], &node.view(&[])).await.unwrap();
    two.namespace.serve_udp("two", 5000);
    let socket = one.namespace.udp();
    socket.send_to(b"x", (two.address, 5000)).unwrap();
    assert!(socket.recv(&mut [0; 16]).is_ok());
    // The same socket, but everything the pod sends claims to come from a third address.
    one.namespace.ip(&["address", "add", "10.42.1.200/32", "dev", "eth0"]);
    let forged = one.namespace.run(|| std::net::UdpSocket::bind(("10.42.1.200", 0)).unwrap()).join().unwrap();
    let before = received(&two.namespace);
    for _ in 0..5 {
        forged.send_to(b"x", (two.address, 5000)).unwrap();
    }
    socket.send_to(b"x", (two.address, 5000)).unwrap();
    assert!(socket.recv(&mut [0; 16]).is_ok());
    assert_eq!(received(&two.namespace) - before, 1);
}

/// UDP datagrams that a namespace received.
fn received(namespace: &crate::lab::Namespace) -> u64 {
    let read = || std::fs::read_to_string("/proc/thread-self/net/snmp").unwrap();
    let text = namespace.run(read).join().unwrap();
    let mut lines = text.lines().filter(|line| line.starts_with("Udp:"));
    let names: Vec<&str> = lines.next().unwrap().split_whitespace().collect();
    let values: Vec<&str> = lines.next().unwrap().split_whitespace().collect();
    let counters: BTreeMap<_, _> = names.into_iter().zip(values).collect();
    counters["InDatagrams"].parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_pods_at_once_get_an_address_each() {
    let lab = lab!();
    let begin = Instant::now();
    let namespaces: Vec<_> = (0..40).map(|_| lab.pod_namespace()).collect();
    println!("namespaces: {:?}", begin.elapsed());
    let node = &lab.nodes[0];
    let begin = Instant::now();
    let calls = namespaces.iter().map(|namespace| async move {
        node.call("ADD", &namespace.name, Some(&namespace.path()), node.configuration("1.0.0")).await.unwrap()
    });
    let results = futures::future::join_all(calls).await;
    println!("{} ADDs at once: {:?}", results.len(), begin.elapsed());
    let addresses: BTreeSet<String> =
        results.iter().map(|result| result["ips"][0]["address"].to_string()).collect();
    assert_eq!(addresses.len(), namespaces.len());
    let begin = Instant::now();
    let one = lab.pod_namespace();
    node.call("ADD", &one.name, Some(&one.path()), node.configuration("1.0.0")).await.unwrap();
    println!("one ADD: {:?}", begin.elapsed());
}
