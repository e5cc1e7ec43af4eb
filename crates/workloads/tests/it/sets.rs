//! StatefulSets, DaemonSets and disruption budgets.

use drystone_workloads::{
    WorkloadsConfig,
    kind::{label, name},
    pod,
};
use k8s_openapi::api::{
    apps::v1::{ControllerRevision, DaemonSet, StatefulSet},
    core::v1::{Node, PersistentVolumeClaim},
    policy::v1::PodDisruptionBudget,
};
use kube::api::{DeleteParams, ListParams};
use serde_json::{Value, json};

use crate::cluster::{Cluster, eventually, extend, pod_spec};

fn set(name: &str, extra: Value) -> Value {
    let labels = json!({"app": name});
    let mut spec = json!({
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": pod_spec("100m")},
    });
    extend(&mut spec, extra);
    json!({"metadata": {"name": name}, "spec": spec})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stateful_set_grows_in_order_updates_and_shrinks() {
    let cluster = Cluster::start(WorkloadsConfig::default(), 2).await;
    let claims = json!([{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"],
        "storageClassName": "", "resources": {"requests": {"storage": "1Gi"}}}}]);
    for n in 0..3 {
        let spec = json!({"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": format!("/v{n}")}});
        cluster
            .create::<k8s_openapi::api::core::v1::PersistentVolume>(
                json!({"metadata": {"name": format!("v{n}")}, "spec": spec}),
            )
            .await;
    }
    cluster
        .create::<StatefulSet>(set(
            "db",
            json!({"replicas": 3, "serviceName": "db", "volumeClaimTemplates": claims}),
        ))
        .await;
    let ready = |count: i32| {
        move |set: &StatefulSet| {
            let status = set.status.clone().unwrap_or_default();
            status.ready_replicas == Some(count) && status.replicas == count
        }
    };
    cluster.wait::<StatefulSet>("db", "3 ready", ready(3)).await;
    let pods = cluster.pods("db").await;
    assert_eq!(pods.iter().map(name).collect::<Vec<_>>(), ["db-0", "db-1", "db-2"]);
    let claims = cluster.api::<PersistentVolumeClaim>().list(&ListParams::default()).await.unwrap().items;
    assert_eq!(claims.iter().map(name).collect::<Vec<_>>(), ["data-db-0", "data-db-1", "data-db-2"]);

    let containers = json!([{"name": "c", "image": "example/app:2"}]);
    cluster
        .patch::<StatefulSet>("db", json!({"spec": {"template": {"spec": {"containers": containers}}}}))
        .await;
    let updated = cluster
        .wait::<StatefulSet>("db", "updated", |set| {
            let status = set.status.clone().unwrap_or_default();
            status.observed_generation == set.metadata.generation
                && status.updated_replicas == Some(3)
                && status.ready_replicas == Some(3)
                && status.current_revision == status.update_revision
        })
        .await;
    let revision = updated.status.unwrap().update_revision.unwrap();
    for pod in cluster.pods("db").await {
        assert_eq!(label(&pod, "controller-revision-hash"), Some(revision.as_str()));
    }
    assert_eq!(
        cluster.api::<ControllerRevision>().list(&ListParams::default()).await.unwrap().items.len(),
        2
    );

    cluster.patch::<StatefulSet>("db", json!({"spec": {"replicas": 1}})).await;
    cluster.wait::<StatefulSet>("db", "1 ready", ready(1)).await;
    let left = cluster.pods("db").await;
    assert_eq!(left.iter().map(name).collect::<Vec<_>>(), ["db-0"]);
    let claims = cluster.api::<PersistentVolumeClaim>().list(&ListParams::default()).await.unwrap().items;
    assert_eq!(claims.len(), 3, "claims are kept");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_set_follows_the_nodes() {
    let cluster = Cluster::start(WorkloadsConfig::default(), 2).await;
    cluster.create::<DaemonSet>(set("agent", json!({}))).await;
    let ready = |count: i32| {
        move |set: &DaemonSet| {
            let status = set.status.clone().unwrap_or_default();
            status.desired_number_scheduled == count && status.number_ready == count
        }
    };
    cluster.wait::<DaemonSet>("agent", "2 ready", ready(2)).await;
    cluster.add_node("n2", json!({})).await;
    cluster.wait::<DaemonSet>("agent", "3 ready", ready(3)).await;
    let mut nodes: Vec<_> =
        cluster.pods("agent").await.iter().filter_map(|p| pod::node_name(p).map(str::to_owned)).collect();
    nodes.sort();
    assert_eq!(nodes, ["n0", "n1", "n2"]);
    let containers = json!([{"name": "c", "image": "example/app:2"}]);
    cluster
        .patch::<DaemonSet>("agent", json!({"spec": {"template": {"spec": {"containers": containers}}}}))
        .await;
    cluster
        .wait::<DaemonSet>("agent", "updated", |set| {
            let status = set.status.clone().unwrap_or_default();
            status.observed_generation == set.metadata.generation
                && status.updated_number_scheduled == Some(3)
                && status.number_ready == 3
        })
        .await;
    cluster.silence("n2");
    cluster.api::<Node>().delete("n2", &DeleteParams::default()).await.unwrap();
    cluster.wait::<DaemonSet>("agent", "2 ready again", ready(2)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_budget_says_what_may_be_disrupted() {
    let cluster = Cluster::start(WorkloadsConfig::default(), 2).await;
    cluster
        .create::<k8s_openapi::api::apps::v1::Deployment>(crate::cluster::deployment("web", 3, "100m"))
        .await;
    let spec = json!({"maxUnavailable": 1, "selector": {"matchLabels": {"app": "web"}}});
    cluster.create::<PodDisruptionBudget>(json!({"metadata": {"name": "web"}, "spec": spec})).await;
    let budget = cluster
        .wait::<PodDisruptionBudget>("web", "one disruption allowed", |budget| {
            budget.status.as_ref().is_some_and(|status| status.disruptions_allowed == 1)
        })
        .await;
    let status = budget.status.unwrap();
    assert_eq!((status.expected_pods, status.desired_healthy, status.current_healthy), (3, 2, 3));
    eventually("condition", async || {
        let budget = cluster.api::<PodDisruptionBudget>().get("web").await.unwrap();
        let conditions = budget.status.unwrap().conditions.unwrap_or_default();
        conditions.iter().any(|c| c.type_ == "DisruptionAllowed" && c.status == "True").then_some(())
    })
    .await;
}
