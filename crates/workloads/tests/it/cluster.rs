//! A cluster for one test: API server, controllers, and hollow nodes.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use drystone_apiserver::{ApiServer, Config, Profile, ServiceNetwork};
use drystone_identity::{UserInfo, user::MASTERS};
use drystone_store::embedded::{EmbeddedStore, Options};
use drystone_workloads::{
    WorkloadsConfig,
    kind::{Kind, name},
};
use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::{
    api::{
        coordination::v1::Lease,
        core::v1::{Event, Node, Pod, ServiceAccount},
    },
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
    runtime::{WatchStreamExt, watcher},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Annotation of a pod that is to end: `Succeeded` or `Failed`.
pub(crate) const OUTCOME: &str = "hollow/outcome";

/// See the module documentation. Everything ends when it is dropped.
pub(crate) struct Cluster {
    /// Kept because its own controllers end with it.
    _server: ApiServer,
    pub(crate) client: Client,
    tasks: JoinSet<()>,
    stop: CancellationToken,
    alive: Arc<Mutex<BTreeSet<String>>>,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Controllers that run.
pub(crate) struct Run {
    stop: CancellationToken,
    ended: CancellationToken,
}

impl Run {
    /// Stops them, and waits until they have ended what they were at.
    pub(crate) async fn end(self) {
        self.stop.cancel();
        self.ended.cancelled().await;
    }
}

impl Cluster {
    /// An API server with hollow kubelets, but without controllers and nodes.
    pub(crate) async fn without_controllers() -> Self {
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
        let store = Arc::new(EmbeddedStore::in_memory(Options::default()).unwrap());
        let mut config = Config::new(Profile::Cluster, store);
        config.services = Some(ServiceNetwork {
            cidrs: vec!["10.43.0.0/16".parse().unwrap()],
            node_ports: ServiceNetwork::NODE_PORTS,
            advertise: Some(SocketAddr::from(([127, 0, 0, 1], 6443))),
        });
        let server = ApiServer::new(config).await.unwrap();
        let client = Client::new(server.service_as(UserInfo::new("test-admin", [MASTERS])), "default");
        let alive: Arc<Mutex<BTreeSet<String>>> = Arc::default();
        let mut tasks = JoinSet::new();
        tasks.spawn(run_pods(client.clone(), alive.clone()));
        tasks.spawn(beat(client.clone(), alive.clone()));
        let cluster = Self { _server: server, client, tasks, stop: CancellationToken::new(), alive };
        // Pods need the account that the API server makes for every namespace.
        let accounts: Api<ServiceAccount> = Api::default_namespaced(cluster.client.clone());
        eventually("the default service account", async || accounts.get_opt("default").await.unwrap()).await;
        cluster
    }

    /// A cluster with controllers and so many ready nodes `n0`, `n1` … of 4 cores and 20 pods.
    pub(crate) async fn start(config: WorkloadsConfig, nodes: usize) -> Self {
        let mut cluster = Self::without_controllers().await;
        for n in 0..nodes {
            cluster.add_node(&format!("n{n}"), json!({})).await;
        }
        cluster.run_controllers(config);
        cluster
    }

    /// Starts the controllers.
    pub(crate) fn run_controllers(&mut self, config: WorkloadsConfig) -> Run {
        let (client, stop, ended) = (self.client.clone(), self.stop.child_token(), CancellationToken::new());
        let (token, over) = (stop.clone(), ended.clone().drop_guard());
        self.tasks.spawn(async move {
            drystone_workloads::run(client, config, token).await.expect("the controllers must not fail");
            drop(over);
        });
        Run { stop, ended }
    }

    /// Adds a ready node that runs pods and sends heartbeats.
    pub(crate) async fn add_node(&self, name: &str, spec: Value) {
        self.alive.lock().unwrap().insert(name.to_owned());
        let labels = json!({"kubernetes.io/hostname": name});
        self.create::<Node>(json!({"metadata": {"name": name, "labels": labels}, "spec": spec})).await;
        let resources = json!({"cpu": "4", "memory": "8Gi", "pods": "20"});
        let ready = json!({"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "",
            "lastHeartbeatTime": Timestamp::now().to_string(), "lastTransitionTime": Timestamp::now().to_string()});
        let status =
            json!({"status": {"capacity": resources, "allocatable": resources, "conditions": [ready]}});
        let nodes: Api<Node> = Api::all(self.client.clone());
        nodes.patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
    }

    /// The node falls silent: no heartbeats, and what happens to its pods is not noticed.
    pub(crate) fn silence(&self, name: &str) {
        self.alive.lock().unwrap().remove(name);
    }

    /// The node comes back.
    pub(crate) fn revive(&self, name: &str) {
        self.alive.lock().unwrap().insert(name.to_owned());
    }

    /// Creates an object in the namespace it names, or `default`.
    pub(crate) async fn create<K: Kind>(&self, object: Value) -> K {
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or("default").to_owned();
        let mut object = object;
        object["apiVersion"] = json!(K::api_version(&()));
        object["kind"] = json!(K::kind(&()));
        let object: K = serde_json::from_value(object).unwrap();
        K::api(self.client.clone(), &namespace).create(&PostParams::default(), &object).await.unwrap()
    }

    /// The typed client of the default namespace (or of cluster-scoped kinds).
    pub(crate) fn api<K: Kind>(&self) -> Api<K> {
        K::api(self.client.clone(), "default")
    }

    /// Applies a merge patch.
    pub(crate) async fn patch<K: Kind>(&self, name: &str, patch: Value) -> K {
        self.api::<K>().patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap()
    }

    /// Pods with `app: <app>` in the default namespace, by name.
    pub(crate) async fn pods(&self, app: &str) -> Vec<Pod> {
        let selector = ListParams::default().labels(&format!("app={app}"));
        self.api::<Pod>().list(&selector).await.unwrap().items
    }

    /// Waits until an object satisfies a test.
    pub(crate) async fn wait<K: Kind>(&self, name: &str, what: &str, test: impl Fn(&K) -> bool) -> K {
        let api = self.api::<K>();
        let what = format!("{} {name}: {what}", K::kind(&()));
        eventually(&what, async || api.get_opt(name).await.unwrap().filter(|object| test(object))).await
    }

    /// Waits for an event about the object of that name, or, if it ends in `-`, about one whose name was made from it;
    /// returns its message.
    pub(crate) async fn event(&self, object: &str, reason: &str) -> String {
        let is_meant = |name: &str| name == object || object.ends_with('-') && name.starts_with(object);
        let events: Api<Event> = Api::all(self.client.clone());
        eventually(&format!("event {reason} about {object}"), async || {
            let list = events.list(&ListParams::default()).await.unwrap();
            let mut found = list.items.into_iter();
            let found = found.find(|event| {
                event.reason.as_deref() == Some(reason)
                    && event.involved_object.name.as_deref().is_some_and(is_meant)
            });
            found.and_then(|event| event.message)
        })
        .await
    }
}

/// Adds fields to an object, or replaces them.
pub(crate) fn extend(object: &mut Value, fields: Value) {
    let Value::Object(fields) = fields else { panic!("{fields} is not an object") };
    for (name, value) in fields {
        object[name] = value;
    }
}

/// A pod specification of one container that asks for CPU.
pub(crate) fn pod_spec(cpu: &str) -> Value {
    json!({"containers": [{"name": "c", "image": "example/app:1", "resources": {"requests": {"cpu": cpu}}}]})
}

/// A Deployment labelled `app: <name>`.
pub(crate) fn deployment(name: &str, replicas: i32, cpu: &str) -> Value {
    let labels = json!({"app": name});
    json!({
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod_spec(cpu)},
        },
    })
}

/// Waits until something holds, for a slow machine's sake up to two minutes.
pub(crate) async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(120);
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(tokio::time::Instant::now() < deadline, "{what}: it did not come to pass");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Plays the kubelets: starts, ends and removes pods bound to nodes that are alive.
async fn run_pods(client: Client, alive: Arc<Mutex<BTreeSet<String>>>) {
    let addresses = Arc::new(AtomicU32::new(1));
    let pods: Api<Pod> = Api::all(client.clone());
    let mut known: BTreeMap<String, Pod> = BTreeMap::new();
    let mut changes =
        std::pin::pin!(watcher(pods, watcher::Config::default()).default_backoff().applied_objects());
    let mut again = tokio::time::interval(Duration::from_millis(200));
    loop {
        let due: Vec<Pod> = tokio::select! {
            change = changes.next() => match change {
                Some(Ok(pod)) => vec![pod],
                Some(Err(_)) => continue,
                None => return,
            },
            // Nodes that come back find what happened meanwhile.
            _ = again.tick() => known.values().cloned().collect(),
        };
        for pod in due {
            let uid = pod.metadata.uid.clone().unwrap_or_default();
            let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default();
            if !alive.lock().unwrap().contains(&node) {
                if !node.is_empty() {
                    known.insert(uid, pod);
                }
                continue;
            }
            known.remove(&uid);
            tokio::spawn(run_pod(client.clone(), pod, addresses.clone()));
        }
    }
}

async fn run_pod(client: Client, pod: Pod, addresses: Arc<AtomicU32>) {
    let api: Api<Pod> = Api::namespaced(client, pod.metadata.namespace.as_deref().unwrap_or("default"));
    let outcome = pod.metadata.annotations.as_ref().and_then(|annotations| annotations.get(OUTCOME)).cloned();
    let phase = pod.status.as_ref().and_then(|status| status.phase.clone()).unwrap_or_default();
    let ready = drystone_workloads::pod::is_ready(&pod);
    let finished = phase == "Succeeded" || phase == "Failed";
    if pod.metadata.deletion_timestamp.is_some() {
        if !finished && pod.metadata.finalizers.is_some() {
            report(&api, name(&pod), "Failed", None).await;
        }
        let params = DeleteParams { grace_period_seconds: Some(0), ..Default::default() };
        let _ = api.delete(name(&pod), &params).await;
    } else if let Some(outcome) = outcome.filter(|_| !finished) {
        report(&api, name(&pod), &outcome, None).await;
    } else if !finished && !ready {
        let n = addresses.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        let address = pod.status.and_then(|status| status.pod_ip);
        let address = address.unwrap_or_else(|| format!("10.42.{}.{}", n[2], n[3]));
        report(&api, name_of(&pod.metadata), "Running", Some(&address)).await;
    }
}

fn name_of(meta: &kube::api::ObjectMeta) -> &str {
    meta.name.as_deref().unwrap_or_default()
}

/// Reports the phase of a pod; with an address also that it is ready.
async fn report(api: &Api<Pod>, pod: &str, phase: &str, address: Option<&str>) {
    let now = Timestamp::now().to_string();
    let mut status = json!({"phase": phase, "startTime": now});
    let ready = if address.is_some() { "True" } else { "False" };
    status["conditions"] = json!([{"type": "Ready", "status": ready, "lastTransitionTime": now}]);
    if let Some(address) = address {
        status["podIP"] = json!(address);
        status["podIPs"] = json!([{"ip": address}]);
    }
    let patch = Patch::Strategic(json!({"status": status}));
    while let Err(error) = api.patch_status(pod, &PatchParams::default(), &patch).await {
        match error {
            // Others write to the pod at the same time.
            kube::Error::Api(status) if status.is_conflict() => {}
            // The pod may be gone already.
            _ => return,
        }
    }
}

/// Sends the heartbeats of all nodes that are alive, and says that they are ready.
async fn beat(client: Client, alive: Arc<Mutex<BTreeSet<String>>>) {
    let nodes: Api<Node> = Api::all(client.clone());
    let leases: Api<Lease> = Api::namespaced(client, "kube-node-lease");
    loop {
        let living: Vec<String> = alive.lock().unwrap().iter().cloned().collect();
        for node in living {
            let spec = json!({"holderIdentity": node, "leaseDurationSeconds": 40, "renewTime": MicroTime(Timestamp::now())});
            upsert(&leases, &node, json!({"metadata": {"name": node}, "spec": spec})).await;
            let unready = nodes.get_opt(&node).await.ok().flatten().is_some_and(|node| {
                drystone_workloads::node::taint::Readiness::of(&node)
                    != drystone_workloads::node::taint::Readiness::Ready
            });
            if unready {
                let now = Timestamp::now().to_string();
                let ready = json!({"type": "Ready", "status": "True", "reason": "KubeletReady",
                    "lastHeartbeatTime": now, "lastTransitionTime": now});
                let patch = Patch::Strategic(json!({"status": {"conditions": [ready]}}));
                let _ = nodes.patch_status(&node, &PatchParams::default(), &patch).await;
            }
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

async fn upsert<K>(api: &Api<K>, name: &str, object: Value)
where
    K: kube::Resource<DynamicType = ()> + Serialize + DeserializeOwned + Clone + std::fmt::Debug,
{
    let patched = api.patch(name, &PatchParams::default(), &Patch::Merge(object.clone())).await;
    if matches!(&patched, Err(kube::Error::Api(status)) if status.is_not_found()) {
        let mut object = object;
        object["apiVersion"] = json!(K::api_version(&()));
        object["kind"] = json!(K::kind(&()));
        if let Ok(object) = serde_json::from_value::<K>(object) {
            let _ = api.create(&PostParams::default(), &object).await;
        }
    }
}
