//! A list of hosts becomes a Cluster, and the Cluster follows the list.

use std::{sync::Arc, time::Duration};

use drystone_api::{BareMetalHost, Cluster, SITE_LABEL, Site};
use drystone_engine::{events::Silent, harness::Caches};
use drystone_sites::local::{self, LocalConfig};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::world::{Server, eventually, host};

fn listed(name: &str, role: &str) -> Value {
    let mut host = host(name);
    host["role"] = role.into();
    host
}

/// A host as the metal domain would have made and inspected it.
async fn inspected(server: &Server, name: &str) {
    let hosts = server.all::<BareMetalHost>();
    let object = json!({"apiVersion": "metal3.io/v1alpha1", "kind": "BareMetalHost", "spec": {"online": false},
        "metadata": {"name": name, "labels": {SITE_LABEL: "east"}}});
    hosts.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap();
    let hardware = json!({"hostname": name, "ramMebibytes": 1, "cpu": {"arch": "x86_64", "count": 1, "model": "", "clockMegahertz": 1.0, "flags": []},
        "systemVendor": {"manufacturer": "", "productName": "", "serialNumber": ""}, "firmware": {"bios": {"date": "", "vendor": "", "version": ""}}, "nics": [], "storage": []});
    let status = json!({"status": {"operationalStatus": "OK", "errorMessage": "", "errorCount": 0, "poweredOn": false,
        "provisioning": {"state": "available", "ID": ""}, "hardware": hardware}});
    hosts.patch_status(name, &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
}

fn workers(cluster: &Cluster) -> (u32, Vec<String>) {
    let pool = &cluster.spec.workers[0];
    (pool.replicas, pool.only_hosts.clone())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_follows_the_list_and_goes_with_it() {
    let server = Server::start().await;
    let stop = CancellationToken::new();
    let caches = Caches::new(server.client.clone(), stop.clone());
    let config =
        LocalConfig { patience: Duration::from_secs(3600), ..LocalConfig::new(caches, Arc::new(Silent)) };
    let running = tokio::spawn(local::run(server.client.clone(), config, stop.clone()));
    let list = [listed("c1", "ControlPlane"), listed("w1", "Worker"), listed("w2", "Worker")];
    let site = json!({"apiVersion": "drystone.dev/v1alpha1", "kind": "Site", "metadata": {"name": "east"},
        "spec": {"bmcs": list, "cluster": {"namespace": "edge"}}});
    let site: Site = serde_json::from_value(site).unwrap();
    server.all::<Site>().create(&PostParams::default(), &site).await.unwrap();
    inspected(&server, "c1").await;
    inspected(&server, "w1").await;
    let clusters: Api<Cluster> = Api::namespaced(server.client.clone(), "edge");
    eventually("a reason to wait", || async {
        let status = server.site("east").await?.status?;
        status.conditions.iter().find(|condition| condition.message == "w2 are being inspected").map(drop)
    })
    .await;
    assert!(clusters.get_opt("east").await.unwrap().is_none());

    inspected(&server, "w2").await;
    let cluster = eventually("a cluster", || async { clusters.get_opt("east").await.unwrap() }).await;
    assert_eq!(cluster.spec.site.as_deref(), Some("east"));
    assert_eq!(cluster.spec.control_plane.only_hosts, ["c1"]);
    assert_eq!(workers(&cluster), (2, vec!["w1".to_owned(), "w2".to_owned()]));

    // One comes, one goes.
    inspected(&server, "w3").await;
    let list = [listed("c1", "ControlPlane"), listed("w2", "Worker"), listed("w3", "Worker")];
    server.patch_site("east", "user", json!({"spec": {"bmcs": list}})).await;
    eventually("the new list", || async {
        let cluster = clusters.get_opt("east").await.unwrap()?;
        (workers(&cluster) == (2, vec!["w2".to_owned(), "w3".to_owned()])).then_some(())
    })
    .await;
    // Counters are written now and then, not with every change.
    eventually("four hosts in the counters", || async {
        let status = server.site("east").await?.status?;
        (status.hosts_by_state.get("available") == Some(&4)).then_some(())
    })
    .await;

    // The site is not gone before its cluster is.
    let held = json!({"metadata": {"finalizers": ["test/held"]}});
    clusters.patch("east", &PatchParams::default(), &Patch::Merge(&held)).await.unwrap();
    server.all::<Site>().delete("east", &DeleteParams::default()).await.unwrap();
    eventually("the cluster's deletion", || async {
        clusters.get_opt("east").await.unwrap()?.metadata.deletion_timestamp
    })
    .await;
    assert!(server.site("east").await.is_some());
    let free = json!({"metadata": {"finalizers": null}});
    clusters.patch("east", &PatchParams::default(), &Patch::Merge(&free)).await.unwrap();
    eventually("no site", || async { server.site("east").await.is_none().then_some(()) }).await;
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_of_somebody_else_is_left_alone() {
    let server = Server::start().await;
    let other = json!({"apiVersion": "drystone.dev/v1alpha1", "kind": "Cluster", "metadata": {"name": "east"}, "spec": {"workers": []}});
    let clusters = server.all::<Cluster>();
    clusters.create(&PostParams::default(), &serde_json::from_value(other).unwrap()).await.unwrap();
    let stop = CancellationToken::new();
    let caches = Caches::new(server.client.clone(), stop.clone());
    let config = LocalConfig::new(caches, Arc::new(Silent));
    let running = tokio::spawn(local::run(server.client.clone(), config, stop.clone()));
    inspected(&server, "c1").await;
    let site = json!({"apiVersion": "drystone.dev/v1alpha1", "kind": "Site", "metadata": {"name": "east"},
        "spec": {"bmcs": [listed("c1", "ControlPlane")], "cluster": {"namespace": drystone_api::SYSTEM_NAMESPACE}}});
    let site: Site = serde_json::from_value(site).unwrap();
    server.all::<Site>().create(&PostParams::default(), &site).await.unwrap();
    eventually("a complaint", || async {
        let status = server.site("east").await?.status?;
        status
            .conditions
            .iter()
            .find(|condition| condition.message.contains("was not made for this site"))
            .map(drop)
    })
    .await;
    assert!(clusters.get("east").await.unwrap().spec.workers.is_empty());
    stop.cancel();
    running.await.unwrap();
}
