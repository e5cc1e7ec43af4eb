//! The networking of two nodes.

use std::{net::Ipv4Addr, sync::atomic::Ordering};

use drystone_cni::protocol::Command;
use k8s_openapi::api::{
    core::v1::{Node, Service},
    discovery::v1::EndpointSlice,
};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::{Value, json};

use super::{
    lab::{Lab, Pod, eventually, tell_address},
    make_lab,
};

const CLUSTER: Ipv4Addr = Ipv4Addr::new(10, 43, 0, 80);
const EXTERNAL: Ipv4Addr = Ipv4Addr::new(10, 20, 0, 200);

/// Endpoints of pods, by node.
fn endpoints(pods: &[(&str, &Pod)]) -> Value {
    let endpoint = |(node, pod): &(&str, &Pod)| json!({"addresses": [pod.address], "nodeName": node});
    pods.iter().map(endpoint).collect()
}

async fn create_service(lab: &Lab, pods: &[(&str, &Pod)]) {
    lab.create::<Service>(json!({
        "metadata": {"name": "web"},
        "spec": {"type": "LoadBalancer", "clusterIP": CLUSTER, "ports": [{"port": 80, "targetPort": "http", "nodePort": 30080}]},
    }))
    .await;
    lab.create::<EndpointSlice>(json!({
        "metadata": {"name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4", "ports": [{"name": "", "port": 8080}], "endpoints": endpoints(pods),
    }))
    .await;
}

async fn change_endpoints(lab: &Lab, pods: &[(&str, &Pod)]) {
    let slices: Api<EndpointSlice> = Api::default_namespaced(lab.api.clone());
    let patch = Patch::Merge(json!({"endpoints": endpoints(pods)}));
    slices.patch("web-1", &PatchParams::default(), &patch).await.unwrap();
}

async fn announce(lab: &Lab, node: &str) {
    let services: Api<Service> = Api::default_namespaced(lab.api.clone());
    let status =
        Patch::Merge(json!({"status": {"loadBalancer": {"ingress": [{"ip": EXTERNAL, "ipMode": "VIP"}]}}}));
    services.patch_status("web", &PatchParams::default(), &status).await.unwrap();
    let annotation = Patch::Merge(json!({"metadata": {"annotations": {"drystone.dev/announced-by": node}}}));
    services.patch("web", &PatchParams::default(), &annotation).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn routes_and_services_follow_the_api() {
    let mut lab = make_lab!();
    lab.start().await;
    let (near, far, asker) = (lab.pod(0, "near").await, lab.pod(1, "far").await, lab.pod(0, "asker").await);
    // Pods of different nodes reach each other by the routes.
    asker.namespace.meets((far.address, 8080), &["far"]).await;
    create_service(&lab, &[("n1", &near), ("n2", &far)]).await;
    for from in [&asker.namespace, &far.namespace, &lab.nodes[0].namespace, &lab.nodes[1].namespace] {
        from.meets((CLUSTER, 80), &["far", "near"]).await;
    }
    lab.outside.meets((lab.nodes[1].config.node_address, 30080), &["far", "near"]).await;
    change_endpoints(&lab, &[("n2", &far)]).await;
    asker.namespace.meets((CLUSTER, 80), &["far"]).await;
    // The external address is where the controller says.
    for announcer in ["n1", "n2"] {
        announce(&lab, announcer).await;
        lab.outside.meets((EXTERNAL, 80), &["far"]).await;
        for node in &lab.nodes {
            let is_announcer = node.config.node_name == announcer;
            eventually("the address is on one node only", async || {
                (node.namespace.ip(&["address"]).contains("10.20.0.200") == is_announcer).then_some(())
            })
            .await;
        }
    }
    let services: Api<Service> = Api::default_namespaced(lab.api.clone());
    services.delete("web", &DeleteParams::default()).await.unwrap();
    eventually("the Service is gone", async || {
        asker.namespace.ask((CLUSTER, 80)).await.is_err().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_get_addresses_while_the_api_is_away() {
    let mut lab = make_lab!();
    lab.api_is_there.store(false, Ordering::SeqCst);
    let client = lab.agents_client();
    lab.nodes[0].start(&client);
    let node = &lab.nodes[0];
    assert_eq!(node.networking().blocks().borrow()[0].to_string(), "10.42.1.0/24");
    let (one, two) = (lab.pod(0, "one").await, lab.pod(0, "two").await);
    one.namespace.meets((two.address, 8080), &["two"]).await;
    let problem = node.networking().health().unwrap_err();
    assert!(problem.contains("API server"), "{problem}");
    lab.api_is_there.store(true, Ordering::SeqCst);
    node.ready().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_node_keeps_nobody_from_the_others() {
    let mut lab = make_lab!();
    // Its address is not on the nodes' network, and its block comes before all others.
    lab.create_for_all::<Node>(json!({"metadata": {"name": "bad"}, "spec": {"podCIDR": "10.42.0.0/24"}}))
        .await;
    tell_address(&lab.api, "bad", "192.0.2.1").await;
    lab.start().await;
    let (near, far) = (lab.pod(0, "near").await, lab.pod(1, "far").await);
    near.namespace.meets((far.address, 8080), &["far"]).await;
    let routes = || lab.nodes[0].namespace.ip(&["route", "show", "proto", "93"]);
    assert!(routes().contains("10.42.2.0/24 via 10.20.0.6"), "{}", routes());
    // It moves to where it can be reached, and goes.
    tell_address(&lab.api, "bad", "10.20.0.99").await;
    eventually("its route", async || routes().contains("10.42.0.0/24 via 10.20.0.99").then_some(())).await;
    let nodes: Api<Node> = Api::all(lab.api.clone());
    nodes.delete("bad", &DeleteParams::default()).await.unwrap();
    eventually("no route", async || (!routes().contains("10.42.0.0/24")).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_is_not_noticed_and_a_full_block_is_said() {
    let mut lab = make_lab!();
    lab.nodes[0].remember("10.42.1.0/30");
    lab.start().await;
    let (near, asker) = (lab.pod(0, "near").await, lab.pod(0, "asker").await);
    create_service(&lab, &[("n1", &near)]).await;
    asker.namespace.meets((CLUSTER, 80), &["near"]).await;
    let full = lab.pod_namespace();
    let error = lab.nodes[0].call(Command::Add, &full.name, &full.path()).await.unwrap_err();
    assert_eq!(error["code"], 101, "{error}");
    assert!(error["msg"].as_str().unwrap().contains("no address is free"), "{error}");

    let client = lab.agents_client();
    lab.nodes[0].stop();
    assert_eq!(asker.namespace.ask((CLUSTER, 80)).await.unwrap().0, "near");
    lab.nodes[0].start(&client);
    // Still taken.
    let error = lab.nodes[0].call(Command::Add, &full.name, &full.path()).await.unwrap_err();
    assert_eq!(error["code"], 101, "{error}");
    lab.nodes[0].ready().await;
    assert_eq!(asker.namespace.ask((CLUSTER, 80)).await.unwrap().0, "near");
    // The pod is gone without a DEL.
    let gone = near.namespace.name.clone();
    drop(near);
    let sandboxes = [asker.namespace.name.clone()].into();
    let freed = lab.nodes[0].networking().collect_leaks(&sandboxes).await.unwrap();
    assert_eq!(freed.iter().map(|freed| freed.container_id.as_str()).collect::<Vec<_>>(), [gone]);
    lab.nodes[0].call(Command::Add, &full.name, &full.path()).await.unwrap();
}
