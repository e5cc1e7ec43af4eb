//! What a cluster's API does besides storing: addresses, binding, eviction, certificates, priorities.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use drystone_apiserver::Profile;
use drystone_identity::csr;
use drystone_identity::{PrivateKey, Subject, UserInfo};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::core::v1::{Endpoints, Event, Pod, Service, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::Api;
use kube::api::{DeleteParams, EvictParams, Patch, PatchParams, PostParams};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::cluster::{Cluster, eventually};

fn from<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

async fn cluster() -> Cluster {
    let cluster = Cluster::start(Profile::Cluster).await;
    let accounts: Api<ServiceAccount> = Api::default_namespaced(cluster.client());
    eventually("the default account", async || accounts.get_opt("default").await.unwrap()).await;
    cluster
}

fn pod(name: &str) -> Pod {
    from(
        json!({"metadata": {"name": name, "labels": {"app": "a"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}),
    )
}

#[tokio::test]
async fn services_get_addresses_and_ports_of_their_own() {
    let cluster = cluster().await;
    let services: Api<Service> = Api::default_namespaced(cluster.client());
    let create = async |name: &str, spec: Value| {
        let service = from(json!({"metadata": {"name": name}, "spec": spec}));
        services.create(&PostParams::default(), &service).await
    };
    let ports = json!([{"port": 80}]);
    let mut addresses = std::collections::HashSet::new();
    for index in 0..20 {
        let made = create(&format!("s{index}"), json!({"ports": ports})).await.unwrap();
        addresses.insert(made.spec.unwrap().cluster_ip.unwrap());
    }
    assert_eq!(addresses.len(), 20);
    let named = create("named", json!({"clusterIP": "10.43.7.7", "ports": ports})).await.unwrap();
    assert_eq!(named.spec.unwrap().cluster_ips.unwrap(), ["10.43.7.7"]);
    assert!(create("again", json!({"clusterIP": "10.43.7.7", "ports": ports})).await.is_err());
    assert!(create("outside", json!({"clusterIP": "10.99.0.1", "ports": ports})).await.is_err());
    services.delete("named", &DeleteParams::default()).await.unwrap();
    create("again", json!({"clusterIP": "10.43.7.7", "ports": ports})).await.unwrap();

    let open = create("open", json!({"type": "NodePort", "ports": ports})).await.unwrap();
    let port = open.spec.unwrap().ports.unwrap()[0].node_port.unwrap();
    assert!((30000..=32767).contains(&port));
    let taken = json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": port}]});
    assert!(create("taken", taken.clone()).await.is_err());
    let closed = Patch::Merge(json!({"spec": {"type": "ClusterIP"}}));
    let closed = services.patch("open", &PatchParams::default(), &closed).await.unwrap();
    assert_eq!(closed.spec.unwrap().ports.unwrap()[0].node_port, None);
    create("taken", taken).await.unwrap();
    let headless = create("headless", json!({"clusterIP": "None", "ports": ports})).await.unwrap();
    assert_eq!(headless.spec.unwrap().cluster_ip.unwrap(), "None");
    let moved = Patch::Merge(json!({"spec": {"clusterIP": "10.43.9.9", "clusterIPs": ["10.43.9.9"]}}));
    assert!(services.patch("again", &PatchParams::default(), &moved).await.is_err());
}

#[tokio::test]
async fn pods_reach_the_server_by_a_service() {
    let cluster = cluster().await;
    let services: Api<Service> = Api::default_namespaced(cluster.client());
    let endpoints: Api<Endpoints> = Api::default_namespaced(cluster.client());
    let service = eventually("the service", async || services.get_opt("kubernetes").await.unwrap()).await;
    assert_eq!(service.spec.unwrap().cluster_ip.unwrap(), "10.43.0.1");
    let found = eventually("its endpoint", async || endpoints.get_opt("kubernetes").await.unwrap()).await;
    let port = found.subsets.unwrap()[0].ports.as_ref().unwrap()[0].port;
    assert!(cluster.url.ends_with(&format!(":{port}")));
}

#[tokio::test]
async fn a_pod_is_completed_bound_and_ended() {
    let cluster = cluster().await;
    let pods: Api<Pod> = Api::default_namespaced(cluster.client());
    let made = pods.create(&PostParams::default(), &pod("p")).await.unwrap();
    let (spec, status) = (made.spec.unwrap(), made.status.unwrap());
    assert_eq!(spec.service_account_name.as_deref(), Some("default"));
    assert_eq!((spec.priority, spec.restart_policy.as_deref()), (Some(0), Some("Always")));
    assert_eq!((status.phase.as_deref(), status.qos_class.as_deref()), (Some("Pending"), Some("BestEffort")));
    let bind = async |node: &str| {
        let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p"}, "target": {"kind": "Node", "name": node}});
        let body = serde_json::to_vec(&binding).unwrap();
        let request = http::Request::post("/api/v1/namespaces/default/pods/p/binding").body(body).unwrap();
        cluster.client().request::<Value>(request).await
    };
    bind("n1").await.unwrap();
    assert!(matches!(bind("n2").await.unwrap_err(), kube::Error::Api(status) if status.code == 409));
    assert_eq!(pods.get("p").await.unwrap().spec.unwrap().node_name.as_deref(), Some("n1"));
    // A pod that runs somewhere ends when its node says so.
    pods.delete("p", &DeleteParams::default()).await.unwrap();
    let ending = pods.get("p").await.unwrap();
    assert_eq!(ending.metadata.deletion_grace_period_seconds, Some(30));
    pods.delete("p", &DeleteParams::default().grace_period(0)).await.unwrap();
    assert!(pods.get_opt("p").await.unwrap().is_none());
    let critical = json!({"metadata": {"name": "q"}, "spec": {"priorityClassName": "none-such", "containers": [{"name": "c", "image": "i"}]}});
    let error = pods.create(&PostParams::default(), &from(critical)).await.unwrap_err();
    assert!(matches!(error, kube::Error::Api(status) if status.message.contains("no PriorityClass")));
}

#[tokio::test]
async fn evictions_spend_a_budget() {
    let cluster = cluster().await;
    let pods: Api<Pod> = Api::default_namespaced(cluster.client());
    let budgets: Api<PodDisruptionBudget> = Api::default_namespaced(cluster.client());
    let running = Patch::Merge(
        json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}),
    );
    for name in ["p", "q"] {
        pods.create(&PostParams::default(), &pod(name)).await.unwrap();
        pods.patch_status(name, &PatchParams::default(), &running).await.unwrap();
    }
    let budget = json!({"metadata": {"name": "b"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "a"}}}});
    budgets.create(&PostParams::default(), &from(budget)).await.unwrap();
    let status = json!({"status": {"observedGeneration": 1, "disruptionsAllowed": 1, "currentHealthy": 2, "desiredHealthy": 1, "expectedPods": 2}});
    budgets.patch_status("b", &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
    pods.evict("p", &EvictParams::default()).await.unwrap();
    let refused = pods.evict("q", &EvictParams::default()).await.unwrap_err();
    assert!(matches!(refused, kube::Error::Api(status) if status.code == 429));
    assert!(pods.get_opt("p").await.unwrap().is_none() && pods.get_opt("q").await.unwrap().is_some());
}

#[tokio::test]
async fn nodes_get_certificates() {
    let cluster = cluster().await;
    let token = UserInfo::new("system:bootstrap:abcdef", ["system:bootstrappers", "system:authenticated"]);
    let requests: Api<CertificateSigningRequest> = Api::all(cluster.client_as(token));
    let all: Api<CertificateSigningRequest> = Api::all(cluster.client());
    let ask = async |name: &str, subject: Subject| {
        let key = PrivateKey::generate().unwrap();
        let pem = csr::create(&key, &subject, &[], &[]).unwrap();
        let object = json!({"metadata": {"name": name}, "spec": {
            "request": STANDARD.encode(pem), "signerName": "kubernetes.io/kube-apiserver-client-kubelet",
            "usages": ["digital signature", "client auth"]}});
        requests.create(&PostParams::default(), &from(object)).await.unwrap();
    };
    ask("good", Subject::new("system:node:n1", ["system:nodes"])).await;
    ask("greedy", Subject::new("system:node:n1", ["system:nodes", "system:masters"])).await;
    let good = eventually("the certificate", async || {
        let found = all.get("good").await.unwrap();
        found.status.as_ref()?.certificate.as_ref()?;
        Some(found)
    })
    .await;
    assert_eq!(good.spec.username.as_deref(), Some("system:bootstrap:abcdef"));
    let certificate = String::from_utf8(good.status.unwrap().certificate.unwrap().0).unwrap();
    assert!(certificate.starts_with("-----BEGIN CERTIFICATE-----"));
    let greedy = all.get("greedy").await.unwrap();
    assert!(greedy.status.and_then(|status| status.conditions).unwrap_or_default().is_empty());
}

#[tokio::test]
async fn events_have_two_forms() {
    let cluster = cluster().await;
    let core: Api<Event> = Api::default_namespaced(cluster.client());
    let new: Api<k8s_openapi::api::events::v1::Event> = Api::default_namespaced(cluster.client());
    let event = json!({
        "metadata": {"name": "e"}, "eventTime": "2026-01-01T00:00:00.000000Z", "reason": "Made", "action": "Make",
        "type": "Normal", "note": "hello", "reportingController": "example.com/c", "reportingInstance": "c-1",
        "regarding": {"kind": "Pod", "name": "p", "namespace": "default"},
    });
    new.create(&PostParams::default(), &from(event)).await.unwrap();
    let stored = core.get("e").await.unwrap();
    assert_eq!(stored.message.as_deref(), Some("hello"));
    assert_eq!(stored.involved_object.name.as_deref(), Some("p"));
    assert_eq!(new.get("e").await.unwrap().note.as_deref(), Some("hello"));
    let patch = Patch::Merge(json!({"note": "again"}));
    new.patch("e", &PatchParams::default(), &patch).await.unwrap();
    assert_eq!(core.get("e").await.unwrap().message.as_deref(), Some("again"));
}
