//! Deployments from the first rollout to the last pod.

use std::collections::BTreeMap;

use drystone_workloads::{WorkloadsConfig, kind::name, pod};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use kube::api::{DeleteParams, ListParams};
use serde_json::json;

use crate::cluster::{Cluster, deployment, eventually};

fn rolled_out(deployment: &Deployment, replicas: i32) -> bool {
    let status = deployment.status.clone().unwrap_or_default();
    status.observed_generation == deployment.metadata.generation
        && [status.replicas, status.updated_replicas, status.available_replicas] == [Some(replicas); 3]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rollout_scale_undo_and_deletion() {
    let cluster = Cluster::start(WorkloadsConfig::default(), 3).await;
    cluster.create::<Deployment>(deployment("web", 6, "100m")).await;
    let web = cluster.wait::<Deployment>("web", "6 available", |d| rolled_out(d, 6)).await;
    let conditions = web.status.unwrap().conditions.unwrap();
    let reason = |type_: &str| conditions.iter().find(|c| c.type_ == type_).and_then(|c| c.reason.clone());
    assert_eq!(reason("Available").as_deref(), Some("MinimumReplicasAvailable"));

    let mut per_node: BTreeMap<String, usize> = BTreeMap::new();
    for pod in cluster.pods("web").await {
        *per_node.entry(pod::node_name(&pod).unwrap().to_owned()).or_default() += 1;
    }
    assert_eq!(per_node.values().copied().collect::<Vec<_>>(), [2, 2, 2], "replicas spread over the nodes");

    let set = cluster.api::<ReplicaSet>().list(&ListParams::default()).await.unwrap().items.remove(0);
    let message = cluster.event("web", "ScalingReplicaSet").await;
    assert_eq!(message, format!("Scaled up replica set {} from 0 to 6", name(&set)));
    assert!(cluster.event(name(&set), "SuccessfulCreate").await.starts_with("Created pod: web-"));
    assert!(cluster.event("web-", "Scheduled").await.starts_with("Successfully assigned default/web-"));

    cluster.patch::<Deployment>("web", json!({"spec": {"replicas": 2}})).await;
    cluster.wait::<Deployment>("web", "2 available", |d| rolled_out(d, 2)).await;

    let image = |image: &str| json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}});
    cluster.patch::<Deployment>("web", image("example/app:2")).await;
    cluster
        .wait::<Deployment>("web", "second revision", |d| {
            rolled_out(d, 2)
                && d.metadata.annotations.as_ref().unwrap()["deployment.kubernetes.io/revision"] == "2"
        })
        .await;
    eventually("only new pods", async || {
        let pods = cluster.pods("web").await;
        let new = |pod: &k8s_openapi::api::core::v1::Pod| {
            pod.spec.as_ref().unwrap().containers[0].image.as_deref() == Some("example/app:2")
        };
        (pods.len() == 2 && pods.iter().all(new)).then_some(())
    })
    .await;
    // kubectl's undo writes the old template back. The merge patch above replaced the container, so its requests too.
    let before = set.spec.unwrap().template.unwrap().spec.unwrap().containers;
    cluster.patch::<Deployment>("web", json!({"spec": {"template": {"spec": {"containers": before}}}})).await;
    cluster
        .wait::<Deployment>("web", "third revision", |d| {
            rolled_out(d, 2)
                && d.metadata.annotations.as_ref().unwrap()["deployment.kubernetes.io/revision"] == "3"
        })
        .await;
    let sets = cluster.api::<ReplicaSet>().list(&ListParams::default()).await.unwrap().items;
    assert_eq!(sets.len(), 2, "the old ReplicaSet became current again");

    cluster.api::<Deployment>().delete("web", &DeleteParams::background()).await.unwrap();
    eventually("everything is gone", async || {
        let sets = cluster.api::<ReplicaSet>().list(&ListParams::default()).await.unwrap().items;
        (sets.is_empty() && cluster.pods("web").await.is_empty()).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_of_the_controllers_continues_where_they_were() {
    let mut cluster = Cluster::without_controllers().await;
    for n in 0..3 {
        cluster.add_node(&format!("n{n}"), json!({})).await;
    }
    cluster.create::<Deployment>(deployment("web", 10, "100m")).await;
    // Stopped and started again in the middle of whatever it does.
    for _ in 0..5 {
        let run = cluster.run_controllers(WorkloadsConfig::default());
        tokio::time::sleep(std::time::Duration::from_millis(120)).await;
        run.end().await;
    }
    cluster.run_controllers(WorkloadsConfig::default());
    cluster.wait::<Deployment>("web", "10 available", |d| rolled_out(d, 10)).await;
    assert_eq!(cluster.pods("web").await.len(), 10, "no pod too many was created");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orphans_are_adopted_and_strays_released() {
    let cluster = Cluster::start(WorkloadsConfig::default(), 1).await;
    let labels = json!({"app": "web"});
    let pod =
        json!({"metadata": {"name": "orphan", "labels": labels}, "spec": crate::cluster::pod_spec("100m")});
    cluster.create::<k8s_openapi::api::core::v1::Pod>(pod).await;
    // It has been seen by those who are to find it.
    eventually("the orphan runs", async || {
        cluster.pods("web").await.iter().any(drystone_workloads::pod::is_ready).then_some(())
    })
    .await;
    let set = json!({"metadata": {"name": "web"}, "spec": {"replicas": 2, "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": crate::cluster::pod_spec("100m")}}});
    cluster.create::<ReplicaSet>(set).await;
    let ready = |set: &ReplicaSet| set.status.as_ref().is_some_and(|status| status.ready_replicas == Some(2));
    cluster.wait::<ReplicaSet>("web", "2 ready", ready).await;
    let pods = cluster.pods("web").await;
    assert!(pods.len() == 2 && pods.iter().any(|pod| name(pod) == "orphan"), "the orphan counts");
    cluster
        .patch::<k8s_openapi::api::core::v1::Pod>("orphan", json!({"metadata": {"labels": {"app": "other"}}}))
        .await;
    cluster
        .wait::<k8s_openapi::api::core::v1::Pod>("orphan", "released", |pod| {
            pod.metadata.owner_references.is_none()
        })
        .await;
    eventually("replaced", async || (cluster.pods("web").await.len() == 2).then_some(())).await;
}
