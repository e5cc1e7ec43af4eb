//! Pods get nodes: bursts, full clusters, preemption.

use std::collections::BTreeMap;

use drystone_workloads::{WorkloadsConfig, kind::name, pod};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Node, Pod},
};
use kube::api::ListParams;
use serde_json::json;

use crate::cluster::{Cluster, deployment, eventually, pod_spec};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_is_scheduled_without_overcommitting() {
    let cluster = Cluster::start(WorkloadsConfig::default(), 10).await;
    // 100 pods of 390m: ten fit on a node of 4 cores.
    cluster.create::<Deployment>(deployment("burst", 100, "390m")).await;
    let all = |d: &Deployment| d.status.as_ref().and_then(|status| status.available_replicas) == Some(100);
    cluster.wait::<Deployment>("burst", "100 available", all).await;
    let mut per_node: BTreeMap<String, usize> = BTreeMap::new();
    for pod in cluster.pods("burst").await {
        *per_node.entry(pod::node_name(&pod).unwrap().to_owned()).or_default() += 1;
    }
    assert!(per_node.len() == 10 && per_node.values().all(|count| *count == 10), "{per_node:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_fit_is_explained_and_scheduled_when_a_node_comes() {
    let cluster = Cluster::start(WorkloadsConfig::default(), 3).await;
    let spec = json!({"metadata": {"name": "big"}, "spec": pod_spec("5")});
    cluster.create::<Pod>(spec).await;
    let told = cluster
        .wait::<Pod>("big", "unschedulable", |pod| {
            pod::condition(pod, "PodScheduled").is_some_and(|condition| condition.status == "False")
        })
        .await;
    let condition = pod::condition(&told, "PodScheduled").unwrap();
    assert_eq!(condition.reason.as_deref(), Some("Unschedulable"));
    let message = condition.message.clone().unwrap();
    assert!(message.starts_with("0/3 nodes are available: 3 Insufficient cpu."), "{message}");
    assert_eq!(cluster.event("big", "FailedScheduling").await, message);

    cluster.add_node("large", json!({})).await;
    let resources = json!({"cpu": "16", "memory": "8Gi", "pods": "20"});
    let status = json!({"status": {"capacity": resources, "allocatable": resources}});
    let nodes = cluster.api::<Node>();
    nodes.patch_status("large", &Default::default(), &kube::api::Patch::Merge(status)).await.unwrap();
    let placed = cluster.wait::<Pod>("big", "scheduled", |pod| pod::node_name(pod).is_some()).await;
    assert_eq!(pod::node_name(&placed), Some("large"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn selectors_and_cordons_are_respected() {
    let cluster = Cluster::start(WorkloadsConfig::default(), 2).await;
    cluster.patch::<Node>("n0", json!({"metadata": {"labels": {"disk": "ssd"}}})).await;
    cluster.patch::<Node>("n1", json!({"spec": {"unschedulable": true}})).await;
    cluster.create::<Deployment>(deployment("web", 3, "100m")).await;
    let all = |d: &Deployment| d.status.as_ref().and_then(|status| status.available_replicas) == Some(3);
    cluster.wait::<Deployment>("web", "3 available", all).await;
    assert!(cluster.pods("web").await.iter().all(|pod| pod::node_name(pod) == Some("n0")));
    cluster
        .wait::<Node>("n1", "tainted", |node| {
            let taints = node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default();
            taints.iter().any(|taint| taint.key == "node.kubernetes.io/unschedulable")
        })
        .await;
    cluster.patch::<Node>("n1", json!({"spec": {"unschedulable": null}})).await;
    cluster
        .wait::<Node>("n1", "untainted", |node| node.spec.as_ref().is_none_or(|spec| spec.taints.is_none()))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_important_pod_makes_its_way() {
    let cluster = Cluster::start(WorkloadsConfig::default(), 1).await;
    cluster.create::<Deployment>(deployment("filler", 4, "1")).await;
    let all = |d: &Deployment| d.status.as_ref().and_then(|status| status.available_replicas) == Some(4);
    cluster.wait::<Deployment>("filler", "4 available", all).await;
    // A class gives pods their priority, if the API resolves classes; else it is set directly.
    let class = json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "vip"}, "value": 1000});
    let resource = kube::api::ApiResource {
        group: "scheduling.k8s.io".into(),
        version: "v1".into(),
        api_version: "scheduling.k8s.io/v1".into(),
        kind: "PriorityClass".into(),
        plural: "priorityclasses".into(),
    };
    let classes: kube::Api<kube::api::DynamicObject> = kube::Api::all_with(cluster.client.clone(), &resource);
    classes.create(&Default::default(), &serde_json::from_value(class).unwrap()).await.unwrap();
    let mut spec = pod_spec("2");
    spec["priorityClassName"] = json!("vip");
    cluster.create::<Pod>(json!({"metadata": {"name": "vip"}, "spec": spec})).await;
    cluster.wait::<Pod>("vip", "running", pod::is_ready).await;
    assert!(cluster.event("filler-", "Preempted").await.starts_with("Preempted by pod "));
    eventually("the victims' replacements wait", async || {
        let pods = cluster.pods("filler").await;
        let pending = pods.iter().filter(|pod| pod::node_name(pod).is_none()).count();
        (pods.len() == 4 && pending == 2).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_of_other_schedulers_and_gated_pods_are_left_alone() {
    let cluster = Cluster::start(WorkloadsConfig::default(), 1).await;
    let mut other = pod_spec("100m");
    other["schedulerName"] = json!("mine");
    cluster.create::<Pod>(json!({"metadata": {"name": "other"}, "spec": other})).await;
    let mut gated = pod_spec("100m");
    gated["schedulingGates"] = json!([{"name": "example.com/wait"}]);
    cluster.create::<Pod>(json!({"metadata": {"name": "gated"}, "spec": gated})).await;
    cluster.create::<Pod>(json!({"metadata": {"name": "plain"}, "spec": pod_spec("100m")})).await;
    cluster.wait::<Pod>("plain", "running", pod::is_ready).await;
    let pods = cluster.api::<Pod>().list(&ListParams::default()).await.unwrap().items;
    let placed: Vec<_> = pods.iter().filter(|pod| pod::node_name(pod).is_some()).map(name).collect();
    assert_eq!(placed, ["plain"]);
    cluster.patch::<Pod>("gated", json!({"spec": {"schedulingGates": null}})).await;
    cluster.wait::<Pod>("gated", "running", pod::is_ready).await;
}
