//! Nodes that fall silent, and what becomes of their pods.

use drystone_workloads::{
    WorkloadsConfig,
    kind::{is_deleting, name},
    pod,
};
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Node};
use kube::api::DeleteParams;

use crate::cluster::{Cluster, deployment, eventually};

fn config() -> WorkloadsConfig {
    let mut config = WorkloadsConfig::default();
    config.nodes.grace_period_seconds = 8;
    config.nodes.monitor_period_seconds = 1;
    config.nodes.default_toleration_seconds = 2;
    config.pods.orphan_quarantine_seconds = 1;
    config
}

fn has_taint(node: &Node, key: &str, effect: &str) -> bool {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default();
    taints.iter().any(|taint| taint.key == key && taint.effect == effect)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_of_a_silent_node_run_elsewhere() {
    let cluster = Cluster::start(config(), 3).await;
    cluster.create::<Deployment>(deployment("web", 3, "100m")).await;
    let all = |d: &Deployment| d.status.as_ref().and_then(|status| status.available_replicas) == Some(3);
    cluster.wait::<Deployment>("web", "3 available", all).await;
    let victim =
        cluster.pods("web").await.iter().find_map(|pod| pod::node_name(pod).map(str::to_owned)).unwrap();
    cluster.silence(&victim);
    let node = cluster
        .wait::<Node>(&victim, "unreachable", |node| {
            has_taint(node, "node.kubernetes.io/unreachable", "NoExecute")
                && has_taint(node, "node.kubernetes.io/unreachable", "NoSchedule")
        })
        .await;
    let conditions = node.status.unwrap().conditions.unwrap();
    let ready = conditions.iter().find(|condition| condition.type_ == "Ready").unwrap();
    assert_eq!((ready.status.as_str(), ready.reason.as_deref()), ("Unknown", Some("NodeStatusUnknown")));
    assert_eq!(
        cluster.event(&victim, "NodeNotReady").await,
        format!("Node {victim} status is now: NodeNotReady")
    );
    eventually("replaced on other nodes", async || {
        let pods = cluster.pods("web").await;
        let serving = pods.iter().filter(|pod| pod::is_ready(pod) && pod::node_name(pod) != Some(&victim));
        let stuck = pods.iter().any(|pod| is_deleting(pod) && pod::node_name(pod) == Some(&victim));
        (serving.count() == 3 && stuck).then_some(())
    })
    .await;
    assert!(
        cluster
            .event("web-", "TaintManagerEviction")
            .await
            .starts_with("Marking for deletion Pod default/web-")
    );

    // The node comes back: its taints go, and it ends the pods it was asked to end.
    cluster.revive(&victim);
    cluster
        .wait::<Node>(&victim, "taints gone", |node| {
            !has_taint(node, "node.kubernetes.io/unreachable", "NoExecute")
                && !has_taint(node, "node.kubernetes.io/unreachable", "NoSchedule")
        })
        .await;
    eventually("the old pod is gone", async || (cluster.pods("web").await.len() == 3).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_of_a_removed_node_are_collected() {
    let cluster = Cluster::start(config(), 2).await;
    cluster.create::<Deployment>(deployment("web", 2, "100m")).await;
    let all = |d: &Deployment| d.status.as_ref().and_then(|status| status.available_replicas) == Some(2);
    cluster.wait::<Deployment>("web", "2 available", all).await;
    cluster.silence("n1");
    cluster.api::<Node>().delete("n1", &DeleteParams::default()).await.unwrap();
    eventually("collected and replaced", async || {
        let pods = cluster.pods("web").await;
        let left = pods.iter().any(|pod| pod::node_name(pod) == Some("n1"));
        (pods.len() == 2 && !left && pods.iter().all(pod::is_ready)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_evicted_when_every_node_is_silent() {
    let cluster = Cluster::start(config(), 2).await;
    cluster.create::<Deployment>(deployment("web", 2, "100m")).await;
    let all = |d: &Deployment| d.status.as_ref().and_then(|status| status.available_replicas) == Some(2);
    cluster.wait::<Deployment>("web", "2 available", all).await;
    cluster.silence("n0");
    cluster.silence("n1");
    for node in ["n0", "n1"] {
        let tainted = |node: &Node| has_taint(node, "node.kubernetes.io/unreachable", "NoSchedule");
        cluster.wait::<Node>(node, "unreachable", tainted).await;
    }
    let not_ready = async || cluster.pods("web").await.iter().all(|pod| !pod::is_ready(pod)).then_some(());
    eventually("no pod of a silent node gets traffic", not_ready).await;
    let unhurt = |node: &Node| !has_taint(node, "node.kubernetes.io/unreachable", "NoExecute");
    for node in ["n0", "n1"] {
        cluster.wait::<Node>(node, "not evicting", unhurt).await;
    }
    let names: Vec<_> = cluster
        .pods("web")
        .await
        .iter()
        .filter(|pod| is_deleting(*pod))
        .map(|pod| name(pod).to_owned())
        .collect();
    assert!(names.len() < 2, "both nodes evicted although everything is silent: {names:?}");
}
