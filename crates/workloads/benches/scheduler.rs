//! Throughput of the scheduler's decisions, in memory: 1,000 pods on 100 nodes, and 5,000 pods on 1,000 nodes.
//!
//! Run with `cargo bench -p drystone-workloads --bench scheduler`. Prints pods per second and the longest decision.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use drystone_workloads::{
    cache::Change,
    kind::ObjectKey,
    scheduler::{
        engine::{Engine, Environment, Verdict},
        volumes::VolumeLookup,
    },
    volumes::matching::Class,
};
use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod};
use serde_json::{Value, json};
use tokio::time::Instant;

struct NoVolumes;

impl VolumeLookup for NoVolumes {
    fn claim(&self, _: &ObjectKey) -> Option<Arc<PersistentVolumeClaim>> {
        None
    }

    fn volume(&self, _: &str) -> Option<Arc<PersistentVolume>> {
        None
    }

    fn volumes(&self) -> Vec<Arc<PersistentVolume>> {
        Vec::new()
    }

    fn class(&self, _: &str) -> Option<Class> {
        None
    }
}

fn node(n: usize) -> Option<Node> {
    let name = format!("n{n}");
    let labels =
        json!({"kubernetes.io/hostname": name, "topology.kubernetes.io/zone": format!("zone-{}", n % 3)});
    let resources = json!({"cpu": "32", "memory": "128Gi", "pods": "110"});
    let status = json!({"allocatable": resources, "conditions": [{"type": "Ready", "status": "True"}]});
    serde_json::from_value(json!({"metadata": {"name": name, "labels": labels}, "status": status})).ok()
}

fn pod(n: usize, extra: &Value) -> Option<Pod> {
    let mut spec = json!({"containers": [{"name": "c", "image": "example/app:1",
        "resources": {"requests": {"cpu": "100m", "memory": "200Mi"}}}]});
    for (key, value) in extra.as_object()? {
        spec[key] = value.clone();
    }
    let owner = json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "rs", "controller": true}]);
    let meta = json!({"name": format!("p{n}"), "namespace": "default", "uid": format!("uid-{n}"),
        "labels": {"app": "web"}, "ownerReferences": owner});
    serde_json::from_value(json!({"metadata": meta, "spec": spec})).ok()
}

fn measure(what: &str, nodes: usize, pods: usize, extra: &Value) {
    let mut engine = Engine::new("default-scheduler");
    let start = Instant::now();
    for node in (0..nodes).filter_map(node) {
        engine.node_changed(&Change::Added(Arc::new(node)), start);
    }
    for pod in (0..pods).filter_map(|n| pod(n, extra)) {
        engine.pod_changed(&Change::Added(Arc::new(pod)), start);
    }
    let environment =
        Environment { namespaces: &|_| BTreeMap::new(), volumes: &NoVolumes, budgets: &|| Vec::new() };
    let (mut bound, mut longest) = (0usize, Duration::ZERO);
    let start = Instant::now();
    loop {
        let began = Instant::now();
        let verdict = engine.next(&environment, began);
        longest = longest.max(began.elapsed());
        match verdict {
            Verdict::Bind { pod, .. } => {
                engine.bound(pod.uid());
                bound += 1;
            }
            Verdict::Idle(_) => break,
            Verdict::PlaceVolumes { .. } | Verdict::Unschedulable { .. } => {}
        }
    }
    let elapsed = start.elapsed();
    #[allow(clippy::cast_precision_loss)]
    let rate = bound as f64 / elapsed.as_secs_f64();
    println!(
        "{what}: {bound}/{pods} pods on {nodes} nodes in {elapsed:.1?}, {rate:.0} pods/s, longest decision {longest:.1?}"
    );
}

fn main() {
    measure("plain", 100, 1000, &json!({}));
    let spread = json!({"topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone",
        "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {"matchLabels": {"app": "web"}}}]});
    measure("topology spread", 100, 1000, &spread);
    let near = json!([{"topologyKey": "topology.kubernetes.io/zone", "labelSelector": {"matchLabels": {"app": "web"}}}]);
    let affinity =
        json!({"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": near}}});
    measure("pod affinity", 100, 1000, &affinity);
    measure("plain", 1000, 5000, &json!({}));
}
