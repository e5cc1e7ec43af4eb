//! Endpoints and external addresses.

use std::collections::BTreeSet;

use drystone_workloads::{
    WorkloadsConfig,
    config::ExternalPool,
    kind::{annotation, name},
    loadbalancer::{announce::ANNOUNCED_BY, assign::held},
};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Endpoints, Pod, Service},
    discovery::v1::EndpointSlice,
};
use kube::api::{DeleteParams, ListParams};
use serde_json::{Value, json};

use crate::cluster::{Cluster, deployment, eventually, extend};

fn config() -> WorkloadsConfig {
    let mut config = WorkloadsConfig {
        external_pools: vec![ExternalPool {
            name: "campus".into(),
            ranges: vec!["192.0.2.10-192.0.2.12".into()],
            auto_assign: true,
        }],
        ..Default::default()
    };
    config.nodes.grace_period_seconds = 8;
    config.nodes.monitor_period_seconds = 1;
    config
}

fn service(name: &str, spec: Value) -> Value {
    let mut full = json!({"selector": {"app": name}, "ports": [{"port": 80, "targetPort": 8080}]});
    extend(&mut full, spec);
    json!({"metadata": {"name": name}, "spec": full})
}

/// Ready addresses in the slices of a Service.
async fn ready_addresses(cluster: &Cluster, service: &str) -> BTreeSet<String> {
    let params = ListParams::default().labels(&format!("kubernetes.io/service-name={service}"));
    let slices = cluster.api::<EndpointSlice>().list(&params).await.unwrap().items;
    let endpoints = slices.into_iter().flat_map(|slice| slice.endpoints);
    let ready =
        endpoints.filter(|e| e.conditions.as_ref().is_some_and(|conditions| conditions.ready == Some(true)));
    ready.flat_map(|endpoint| endpoint.addresses).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_follow_the_pods() {
    let cluster = Cluster::start(config(), 2).await;
    cluster.create::<Service>(service("web", json!({}))).await;
    cluster.create::<Deployment>(deployment("web", 3, "100m")).await;
    eventually("three endpoints", async || (ready_addresses(&cluster, "web").await.len() == 3).then_some(()))
        .await;
    let pods: BTreeSet<String> =
        cluster.pods("web").await.into_iter().filter_map(|pod| pod.status?.pod_ip).collect();
    assert_eq!(ready_addresses(&cluster, "web").await, pods);
    let listed = |endpoints: &Endpoints| {
        let subsets = endpoints.subsets.iter().flatten();
        subsets.flat_map(|subset| subset.addresses.iter().flatten()).count()
    };
    let endpoints = cluster.wait::<Endpoints>("web", "three addresses", |e| listed(e) == 3).await;
    assert_eq!(endpoints.subsets.unwrap()[0].ports.as_ref().unwrap()[0].port, 8080);

    cluster.patch::<Deployment>("web", json!({"spec": {"replicas": 1}})).await;
    eventually("one endpoint", async || (ready_addresses(&cluster, "web").await.len() == 1).then_some(()))
        .await;
    cluster.api::<Service>().delete("web", &DeleteParams::default()).await.unwrap();
    eventually("no slices and no Endpoints", async || {
        let params = ListParams::default().labels("kubernetes.io/service-name=web");
        let slices = cluster.api::<EndpointSlice>().list(&params).await.unwrap().items;
        let endpoints = cluster.api::<Endpoints>().get_opt("web").await.unwrap();
        (slices.is_empty() && endpoints.is_none()).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn addresses_are_assigned_once_and_given_back() {
    let cluster = Cluster::start(config(), 3).await;
    for n in 0..4 {
        let name = format!("lb{n}");
        cluster.create::<Service>(service(&name, json!({"type": "LoadBalancer"}))).await;
    }
    let services = async || {
        let all = cluster.api::<Service>().list(&ListParams::default()).await.unwrap().items;
        all.into_iter().filter(|service| name(service).starts_with("lb")).collect::<Vec<_>>()
    };
    eventually("three addresses for four", async || {
        let given: Vec<_> = services().await.iter().flat_map(held).collect();
        let distinct: BTreeSet<_> = given.iter().collect();
        assert_eq!(given.len(), distinct.len(), "an address given twice");
        (given.len() == 3).then_some(())
    })
    .await;
    let all = services().await;
    let poor = all.iter().find(|service| held(service).is_empty()).unwrap();
    let message = cluster.event(name(poor), "SyncLoadBalancerFailed").await;
    assert_eq!(message, "Error syncing load balancer: no pool has a free IPv4 address");
    let rich = all.iter().find(|service| !held(service).is_empty()).unwrap();
    assert_eq!(cluster.event(name(rich), "EnsuredLoadBalancer").await, "Ensured load balancer");
    let rich =
        cluster.wait::<Service>(name(rich), "announced", |s| annotation(s, ANNOUNCED_BY).is_some()).await;

    // What is given back goes to who waits.
    let freed = held(&rich);
    let plain = json!({"type": "ClusterIP", "externalTrafficPolicy": null, "allocateLoadBalancerNodePorts": null,
        "ports": [{"port": 80, "targetPort": 8080, "protocol": "TCP"}]});
    cluster.patch::<Service>(name(&rich), json!({"spec": plain})).await;
    let lucky = cluster.wait::<Service>(name(poor), "an address", |s| !held(s).is_empty()).await;
    assert_eq!(held(&lucky), freed);
    let plain = cluster.wait::<Service>(name(&rich), "no address", |s| held(s).is_empty()).await;
    assert_eq!(annotation(&plain, ANNOUNCED_BY), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_requested_address_is_given_and_moves_with_the_node() {
    let cluster = Cluster::start(config(), 3).await;
    let mut wish = service("web", json!({"type": "LoadBalancer"}));
    wish["metadata"]["annotations"] = json!({"drystone.dev/external-address": "192.0.2.12"});
    cluster.create::<Service>(wish).await;
    let web = cluster.wait::<Service>("web", "announced", |s| annotation(s, ANNOUNCED_BY).is_some()).await;
    assert_eq!(held(&web), ["192.0.2.12".parse::<std::net::IpAddr>().unwrap()]);
    let before = annotation(&web, ANNOUNCED_BY).unwrap().to_owned();
    cluster.silence(&before);
    let moved = cluster
        .wait::<Service>("web", "announced by another node", |s| {
            annotation(s, ANNOUNCED_BY).is_some_and(|node| node != before)
        })
        .await;
    assert_eq!(held(&moved), held(&web), "the address stays");
    cluster.event("web", "UpdatedLoadBalancer").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_written_by_hand_are_mirrored() {
    let cluster = Cluster::start(config(), 1).await;
    cluster.create::<Service>(json!({"metadata": {"name": "db"}, "spec": {"ports": [{"port": 5432}]}})).await;
    let subsets = json!([{"addresses": [{"ip": "198.51.100.7"}], "ports": [{"port": 5432}]}]);
    cluster.create::<Endpoints>(json!({"metadata": {"name": "db"}, "subsets": subsets})).await;
    eventually("a mirror", async || {
        (ready_addresses(&cluster, "db").await == BTreeSet::from(["198.51.100.7".to_owned()])).then_some(())
    })
    .await;
    let pods = cluster.api::<Pod>().list(&ListParams::default()).await.unwrap().items;
    assert!(pods.is_empty());
}
