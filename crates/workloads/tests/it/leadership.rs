//! Of two sets of controllers one works.

use std::time::Duration;

use drystone_workloads::{WorkloadsConfig, config::LeaderElectionConfig, kind::Kind};
use k8s_openapi::api::{apps::v1::Deployment, coordination::v1::Lease};
use serde_json::json;

use crate::cluster::{Cluster, deployment, eventually};

fn candidate(identity: &str) -> WorkloadsConfig {
    let election =
        LeaderElectionConfig { identity: identity.into(), retry_period_seconds: 1, ..Default::default() };
    WorkloadsConfig { leader_election: Some(election), ..Default::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_passes_on_and_work_continues() {
    let mut cluster = Cluster::without_controllers().await;
    cluster.add_node("n0", json!({})).await;
    let leases = Lease::api(cluster.client.clone(), "kube-system");
    let holder = async || {
        let lease = leases.get_opt("drystone-workloads").await.unwrap()?;
        lease.spec?.holder_identity.filter(|holder| !holder.is_empty())
    };
    let first = cluster.run_controllers(candidate("a"));
    assert_eq!(eventually("a leader", async || holder().await).await, "a");
    cluster.run_controllers(candidate("b"));
    cluster.create::<Deployment>(deployment("web", 2, "100m")).await;
    let available =
        |count| move |d: &Deployment| d.status.as_ref().and_then(|s| s.available_replicas) == Some(count);
    cluster.wait::<Deployment>("web", "2 available", available(2)).await;
    assert_eq!(holder().await.as_deref(), Some("a"));
    first.end().await;
    eventually("the other leads", async || holder().await.filter(|holder| holder == "b")).await;
    cluster.patch::<Deployment>("web", json!({"spec": {"replicas": 4}})).await;
    cluster.wait::<Deployment>("web", "4 available", available(4)).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(cluster.pods("web").await.len(), 4);
}
