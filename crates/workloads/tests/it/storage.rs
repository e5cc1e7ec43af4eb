//! Claims find volumes, also those that wait for their first consumer.

use drystone_workloads::{WorkloadsConfig, pod};
use k8s_openapi::api::{
    core::v1::{PersistentVolume, PersistentVolumeClaim, Pod},
    storage::v1::StorageClass,
};
use kube::api::DeleteParams;
use serde_json::{Value, json};

use crate::cluster::{Cluster, extend, pod_spec};

fn volume(name: &str, size: &str, extra: Value) -> Value {
    let mut spec = json!({"capacity": {"storage": size}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/x"},
        "persistentVolumeReclaimPolicy": "Retain"});
    extend(&mut spec, extra);
    json!({"metadata": {"name": name}, "spec": spec})
}

fn claim(name: &str, class: &str) -> Value {
    let spec = json!({"accessModes": ["ReadWriteOnce"], "storageClassName": class, "resources": {"requests": {"storage": "1Gi"}}});
    json!({"metadata": {"name": name}, "spec": spec})
}

fn phase(claim: &PersistentVolumeClaim) -> Option<&str> {
    claim.status.as_ref()?.phase.as_deref()
}

fn volume_phase(volume: &PersistentVolume) -> Option<&str> {
    volume.status.as_ref()?.phase.as_deref()
}

fn consumer(name: &str, claim: &str) -> Value {
    let mut spec = pod_spec("100m");
    spec["volumes"] = json!([{"name": "data", "persistentVolumeClaim": {"claimName": claim}}]);
    json!({"metadata": {"name": name}, "spec": spec})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_is_bound_protected_and_released() {
    let cluster = Cluster::start(WorkloadsConfig::default(), 1).await;
    cluster.create::<PersistentVolume>(volume("large", "10Gi", json!({}))).await;
    cluster.create::<PersistentVolume>(volume("right", "1Gi", json!({}))).await;
    cluster.create::<Pod>(consumer("app", "data")).await;
    cluster.create::<PersistentVolumeClaim>(claim("data", "")).await;
    let bound = cluster.wait::<PersistentVolumeClaim>("data", "bound", |c| phase(c) == Some("Bound")).await;
    assert_eq!(bound.spec.unwrap().volume_name.as_deref(), Some("right"));
    cluster.wait::<PersistentVolume>("right", "bound", |v| volume_phase(v) == Some("Bound")).await;
    cluster.wait::<Pod>("app", "running", pod::is_ready).await;

    cluster.api::<PersistentVolumeClaim>().delete("data", &DeleteParams::default()).await.unwrap();
    cluster
        .wait::<PersistentVolumeClaim>("data", "kept while in use", |c| {
            c.metadata.deletion_timestamp.is_some()
        })
        .await;
    cluster.api::<Pod>().delete("app", &DeleteParams::default()).await.unwrap();
    cluster.wait::<PersistentVolume>("right", "released", |v| volume_phase(v) == Some("Released")).await;
    assert!(cluster.api::<PersistentVolumeClaim>().get_opt("data").await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_local_volume_decides_the_node() {
    let cluster = Cluster::start(WorkloadsConfig::default(), 3).await;
    cluster
        .create::<StorageClass>(
            json!({"metadata": {"name": "local"}, "provisioner": "kubernetes.io/no-provisioner",
            "volumeBindingMode": "WaitForFirstConsumer"}),
        )
        .await;
    let affinity = json!({"required": {"nodeSelectorTerms": [{"matchExpressions": [
        {"key": "kubernetes.io/hostname", "operator": "In", "values": ["n2"]}]}]}});
    let extra = json!({"storageClassName": "local", "nodeAffinity": affinity});
    cluster.create::<PersistentVolume>(volume("disk", "1Gi", extra)).await;
    cluster.create::<PersistentVolumeClaim>(claim("data", "local")).await;
    cluster.event("data", "WaitForFirstConsumer").await;
    cluster.create::<Pod>(consumer("app", "data")).await;
    let app = cluster.wait::<Pod>("app", "running", pod::is_ready).await;
    assert_eq!(pod::node_name(&app), Some("n2"));
    cluster.wait::<PersistentVolumeClaim>("data", "bound", |c| phase(c) == Some("Bound")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provisioner_is_asked() {
    let cluster = Cluster::start(WorkloadsConfig::default(), 1).await;
    let class = json!({"metadata": {"name": "csi"}, "provisioner": "csi.example.com"});
    cluster.create::<StorageClass>(class).await;
    cluster.create::<PersistentVolumeClaim>(claim("data", "csi")).await;
    cluster
        .wait::<PersistentVolumeClaim>("data", "asked", |claim| {
            claim.metadata.annotations.iter().flatten().any(|(key, value)| {
                key == "volume.kubernetes.io/storage-provisioner" && value == "csi.example.com"
            })
        })
        .await;
    assert!(cluster.event("data", "ExternalProvisioning").await.contains("csi.example.com"));
}
