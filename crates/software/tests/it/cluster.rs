//! A roll-out over a host that is a node: its pods are moved away as disruption budgets allow, it is changed only then, and it counts as
//! updated only when its Node has been ready for as long as is asked for. The cluster's API server is a real one, reached by its kubeconfig.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::Router;
use drystone_api::{
    BareMetalHost, Cluster, ClusterMember, ClusterSpec, ClusterStatus, DrainPolicy, HealthGate, HostSelector,
    MemberRole, OperatingSystemImage, Operation, RolloutStrategy, SYSTEM_NAMESPACE, SoftwareSetSpec,
};
use drystone_apiserver::{ApiServer, Config, Profile};
use drystone_engine::harness::update_status;
use drystone_identity::user::UserInfo;
use drystone_store::embedded::{EmbeddedStore, Options};
use k8s_openapi::{
    api::{
        apps::v1::DaemonSet,
        core::v1::{Node, Pod, Secret},
        policy::v1::PodDisruptionBudget,
    },
    serde::de::DeserializeOwned,
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    images::{Seen, provision},
    stage::{Stage, control, eventually},
};

const NEW: &str = "http://images.example.org/os-2.iso";
const NODE: &str = "h1";

/// The cluster that the host is a node of.
struct Inside {
    client: Client,
    address: SocketAddr,
    _serving: AbortOnDropHandle<()>,
}

impl Inside {
    async fn start() -> Self {
        let store = EmbeddedStore::in_memory(Options::default()).expect("a store");
        let server = ApiServer::new(Config::new(Profile::Cluster, Arc::new(store))).await.expect("a server");
        let service = server.service_as(UserInfo::new("system:admin", ["system:masters"]));
        let client = Client::new(service.clone(), "default");
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let router = Router::new().fallback_service(service);
        let serving = tokio::spawn(async move {
            // The server lives as long as it is served.
            let _server = server;
            axum::serve(listener, router).await.expect("served");
        });
        Self { client, address, _serving: AbortOnDropHandle::new(serving) }
    }

    fn kubeconfig(&self) -> String {
        let cluster = json!({"server": format!("http://{}", self.address)});
        json!({"apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": cluster}], "users": [{"name": "u", "user": {}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}]})
        .to_string()
    }

    /// Creates an object and gives it its status.
    async fn add<K>(&self, api: Api<K>, object: Value)
    where
        K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned + serde::Serialize,
    {
        let name = object["metadata"]["name"].as_str().expect("named").to_owned();
        let status = json!({"status": object["status"]});
        let typed: K = serde_json::from_value(object).expect("typed");
        api.create(&PostParams::default(), &typed).await.expect("accepted");
        api.patch_status(&name, &PatchParams::default(), &Patch::Merge(status)).await.expect("accepted");
    }

    async fn set_ready(&self, ready: bool) {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let status = json!({"status": {"conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]}});
        nodes.patch_status(NODE, &PatchParams::default(), &Patch::Merge(status)).await.expect("accepted");
    }

    async fn node(&self) -> Node {
        let nodes: Api<Node> = Api::all(self.client.clone());
        nodes.get(NODE).await.expect("there")
    }

    async fn is_cordoned(&self) -> bool {
        self.node().await.spec.and_then(|spec| spec.unschedulable).unwrap_or(false)
    }

    /// A node with a pod that a budget protects, and one of a DaemonSet.
    async fn furnish(&self) {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let ready = json!({"conditions": [{"type": "Ready", "status": "True"}]});
        self.add(nodes, json!({"metadata": {"name": NODE}, "status": ready})).await;
        let container = json!([{"name": "c", "image": "registry.example.org/app:1"}]);
        let running = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]});
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), "default");
        let spec = json!({"nodeName": NODE, "containers": container, "terminationGracePeriodSeconds": 0});
        let web =
            json!({"metadata": {"name": "web", "labels": {"app": "web"}}, "spec": spec, "status": running});
        self.add(pods.clone(), web).await;
        let labels = json!({"app": "agent"});
        let template = json!({"metadata": {"labels": labels}, "spec": {"containers": container}});
        let set: DaemonSet = serde_json::from_value(json!({"metadata": {"name": "agent"},
            "spec": {"selector": {"matchLabels": labels}, "template": template}}))
        .expect("typed");
        let sets: Api<DaemonSet> = Api::namespaced(self.client.clone(), "default");
        let set = sets.create(&PostParams::default(), &set).await.expect("accepted");
        let owner = json!([{"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "agent", "uid": set.uid(), "controller": true}]);
        let agent =
            json!({"metadata": {"name": "agent", "ownerReferences": owner}, "spec": spec, "status": running});
        self.add(pods, agent).await;
        let budgets: Api<PodDisruptionBudget> = Api::namespaced(self.client.clone(), "default");
        let spec = json!({"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}});
        let spent = json!({"observedGeneration": 1, "disruptionsAllowed": 0, "currentHealthy": 1, "desiredHealthy": 1, "expectedPods": 1});
        self.add(budgets, json!({"metadata": {"name": "web"}, "spec": spec, "status": spent})).await;
    }

    async fn pods(&self) -> Vec<String> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), "default");
        pods.list(&ListParams::default()).await.expect("listed").iter().map(ResourceExt::name_any).collect()
    }

    /// What a node does with pods that are to go: here there is none.
    async fn end_pods(client: Client) {
        let pods: Api<Pod> = Api::namespaced(client, "default");
        loop {
            for pod in pods.list(&ListParams::default()).await.map(|list| list.items).unwrap_or_default() {
                if pod.metadata.deletion_timestamp.is_some() {
                    let at_once = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
                    let _ = pods.delete(&pod.name_any(), &at_once).await;
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Declares the cluster, which is there already, with its kubeconfig.
async fn join(stage: &Stage, inside: &Inside) {
    let secret: Secret = serde_json::from_value(
        json!({"metadata": {"name": "edge-kubeconfig"}, "stringData": {"value": inside.kubeconfig()}}),
    )
    .expect("typed");
    let secrets: Api<Secret> = Api::namespaced(stage.client.clone(), SYSTEM_NAMESPACE);
    secrets.create(&PostParams::default(), &secret).await.expect("accepted");
    let clusters: Api<Cluster> = Api::namespaced(stage.client.clone(), SYSTEM_NAMESPACE);
    let cluster = Cluster::new("edge", ClusterSpec::default());
    let cluster = clusters.create(&PostParams::default(), &cluster).await.expect("accepted");
    let member = ClusterMember {
        host: NODE.to_owned(),
        role: MemberRole::Worker,
        pool: "workers".to_owned(),
        address: "10.0.0.7".to_owned(),
        ready: true,
    };
    update_status(&clusters, &cluster, |status: &mut ClusterStatus| {
        status.members = vec![member.clone()];
        "edge-kubeconfig".clone_into(&mut status.kubeconfig_secret);
    })
    .await
    .expect("written");
}

/// What the steps of the only operation say.
async fn said(stage: &Stage) -> String {
    let operations: Api<Operation> = Api::namespaced(stage.client.clone(), SYSTEM_NAMESPACE);
    let all = operations.list(&ListParams::default()).await.expect("listed");
    let steps = all.into_iter().filter_map(|operation| operation.status).flat_map(|status| status.steps);
    steps.map(|step| format!("{}: {:?} {}", step.id, step.state, step.message)).collect::<Vec<_>>().join("; ")
}

async fn image(stage: &Stage) -> String {
    let hosts: Api<BareMetalHost> = Api::namespaced(stage.client.clone(), SYSTEM_NAMESPACE);
    let status = hosts.get(NODE).await.expect("there").status.unwrap_or_default();
    status.provisioning.image.map(|image| image.url).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_emptied_changed_watched_and_let_go_again() {
    let (stage, inside) = (Stage::start().await, Inside::start().await);
    inside.furnish().await;
    stage.host(NODE, "site").await;
    join(&stage, &inside).await;
    let folder = tempfile::tempdir().expect("a folder");
    let seen = Arc::<Mutex<Seen>>::default();
    let _control = AbortOnDropHandle::new(tokio::spawn({
        let (client, folder) = (stage.client.clone(), folder.path().to_owned());
        async move { control(client, &folder).await }
    }));
    let _provisioner = AbortOnDropHandle::new(tokio::spawn(provision(stage.client.clone(), seen)));
    let _kubelet = AbortOnDropHandle::new(tokio::spawn(Inside::end_pods(inside.client.clone())));
    let strategy = RolloutStrategy {
        drain: DrainPolicy::Always,
        health: HealthGate { node_ready_seconds: Some(3), ..HealthGate::default() },
        ..RolloutStrategy::default()
    };
    let spec = SoftwareSetSpec {
        selector: HostSelector { all: true, ..HostSelector::default() },
        os_image: Some(OperatingSystemImage { url: NEW.to_owned(), ..OperatingSystemImage::default() }),
        strategy,
        ..SoftwareSetSpec::default()
    };
    stage.set("base", spec).await;

    // The budget is spent: the node is cordoned, and nothing else is done to it.
    eventually("it waits for the budget", || async {
        let said = said(&stage).await;
        if said.contains("web may not go yet") { Ok(()) } else { Err(said) }
    })
    .await;
    assert!(inside.is_cordoned().await);
    assert_ne!(image(&stage).await, NEW, "nothing is changed while pods are there");
    assert_eq!(inside.pods().await, ["agent", "web"]);

    // One more replica runs elsewhere. From now on the node is not ready, as it would be while it is provisioned.
    inside.set_ready(false).await;
    let budgets: Api<PodDisruptionBudget> = Api::namespaced(inside.client.clone(), "default");
    let allowed = json!({"status": {"disruptionsAllowed": 1, "currentHealthy": 2}});
    budgets.patch_status("web", &PatchParams::default(), &Patch::Merge(allowed)).await.expect("accepted");
    eventually("its image is changed", || async {
        let image = image(&stage).await;
        if image == NEW { Ok(()) } else { Err(format!("{image}: {}", said(&stage).await)) }
    })
    .await;
    assert_eq!(inside.pods().await, ["agent"], "a DaemonSet's pod stays");

    // It is changed and not ready: it does not count as updated, and takes no pods.
    eventually("it waits for the node", || async {
        let said = said(&stage).await;
        if said.contains("its Node is not ready") { Ok(()) } else { Err(said) }
    })
    .await;
    assert!(inside.is_cordoned().await);
    let ready_since = Instant::now();
    inside.set_ready(true).await;
    stage.set_is("base", "Current").await;
    assert!(ready_since.elapsed() >= Duration::from_secs(3), "ready for {:?} only", ready_since.elapsed());
    eventually("it is let go", || async {
        let node = inside.node().await;
        let cordoned = node.spec.as_ref().and_then(|spec| spec.unschedulable).unwrap_or(false);
        if cordoned || node.annotations().contains_key("drystone.dev/cordoned-by-rollout") {
            Err(format!("{node:?}"))
        } else {
            Ok(())
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_set_of_a_cluster_is_looked_at_again_when_the_cluster_gets_its_members() {
    let (stage, inside) = (Stage::start().await, Inside::start().await);
    stage.host(NODE, "site").await;
    let folder = tempfile::tempdir().expect("a folder");
    let _control = AbortOnDropHandle::new(tokio::spawn({
        let (client, folder) = (stage.client.clone(), folder.path().to_owned());
        async move { control(client, &folder).await }
    }));
    let spec = SoftwareSetSpec {
        selector: HostSelector {
            cluster: format!("{SYSTEM_NAMESPACE}/edge"),
            role: Some(MemberRole::Worker),
            ..HostSelector::default()
        },
        os_image: Some(OperatingSystemImage { url: NEW.to_owned(), ..OperatingSystemImage::default() }),
        ..SoftwareSetSpec::default()
    };
    stage.set("base", spec).await;
    stage.set_is("base", "NothingSelected").await;
    // Until nothing that was written wakes anybody any more.
    tokio::time::sleep(Duration::from_secs(2)).await;
    join(&stage, &inside).await;
    stage.set_is("base", "RollingOut").await;
}
