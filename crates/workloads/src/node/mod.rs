//! The life cycle of nodes: noticing that one has gone silent, keeping pods off it, and moving its pods elsewhere in time.

pub mod eviction;
pub mod health;
pub mod pace;
pub mod taint;

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Node, Pod},
    apimachinery::pkg::apis::meta::v1::Time,
};
use serde_json::json;
use tokio::{task::JoinSet, time::Instant};

use self::{
    eviction::Stay,
    health::{Grace, Health, Liveness},
    pace::Pace,
    taint::{Eviction, Readiness},
};
use crate::{
    cache::Change,
    caches::{BY_NODE, Caches, NODE_LEASE_NAMESPACE},
    context::Context,
    error::ReconcileError,
    harness::{self, Next, Reconcile},
    kind::{self, ObjectKey},
    pod,
    queue::WorkQueue,
};

/// The controller. One worker: decisions about one node depend on all others.
pub struct NodeController {
    context: Context,
    memory: Mutex<Memory>,
}

#[derive(Default)]
struct Memory {
    health: Health,
    pace: Pace,
    registered: HashSet<String>,
}

/// Starts the controller.
pub fn start(context: &Context, tasks: &mut JoinSet<()>) {
    let queue = WorkQueue::default();
    follow_nodes(&context.caches, &queue);
    follow_pods(&context.caches, &queue);
    let controller = Arc::new(NodeController {
        context: context.named(NodeController::NAME),
        memory: Mutex::new(Memory::default()),
    });
    harness::spawn(tasks, &controller, &queue, 1, context);
}

fn follow_nodes(caches: &Caches, queue: &WorkQueue<ObjectKey>) {
    let waking = queue.clone();
    caches.nodes.subscribe(move |change| {
        let newest = change.newest().as_ref();
        if change.previous().is_none_or(|previous| matters(previous, newest)) {
            waking.add(ObjectKey::of(newest));
        }
    });
    // A lease is renewed every few seconds; only the return of a node that was given up cannot wait for the next look.
    let (nodes, waking) = (caches.nodes.clone(), queue.clone());
    caches.node_leases.subscribe(move |change| {
        let key = ObjectKey::cluster(kind::name(change.newest().as_ref()));
        if nodes.get(&key).is_some_and(|node| Readiness::of(&node) == Readiness::Unreachable) {
            waking.add(key);
        }
    });
}

/// A pod that comes to a node with `NoExecute` taints may have to leave it again.
fn follow_pods(caches: &Caches, queue: &WorkQueue<ObjectKey>) {
    let (nodes, queue) = (caches.nodes.clone(), queue.clone());
    caches.pods.subscribe(move |change| {
        if matches!(change, Change::Deleted(_)) {
            return;
        }
        let Some(name) = pod::node_name(change.newest()) else { return };
        let key = ObjectKey::cluster(name);
        if nodes.get(&key).is_some_and(|node| has_no_execute(&node)) {
            queue.add(key);
        }
    });
}

fn has_no_execute(node: &Node) -> bool {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    taints.iter().any(|taint| taint.effect == "NoExecute")
}

/// Whether a node changed in more than its heartbeat.
fn matters(old: &Node, new: &Node) -> bool {
    let conditions = |node: &Node| -> Vec<(String, String)> {
        let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
        conditions.map(|condition| (condition.type_.clone(), condition.status.clone())).collect()
    };
    old.spec != new.spec || conditions(old) != conditions(new)
}

impl Reconcile for NodeController {
    const NAME: &'static str = "node-controller";

    async fn reconcile(&self, key: &ObjectKey) -> Result<Next, ReconcileError> {
        let Some(node) = self.context.caches.nodes.get(key) else {
            let nodes = &self.context.caches.nodes;
            let exists = |name: &str| nodes.get(&ObjectKey::cluster(name)).is_some();
            let mut memory = self.memory();
            memory.health.retain(exists);
            memory.registered.retain(|name| exists(name));
            return Ok(Next::Await);
        };
        self.welcome(&node);
        let node = self.note_silence(node).await?;
        let node = self.set_taints(node).await?;
        if Readiness::of(&node) == Readiness::Unreachable {
            self.mark_pods_not_ready(&node).await?;
        }
        let next_eviction = self.evict(&node).await?;
        let period = Duration::from_secs(self.context.config.nodes.monitor_period_seconds);
        Ok(Next::After(next_eviction.map_or(period, |next| next.min(period))))
    }
}

impl NodeController {
    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn welcome(&self, node: &Node) {
        let name = kind::name(node);
        if self.memory().registered.insert(name.to_owned()) {
            let message = format!("Node {name} event: Registered Node {name} in Controller");
            self.context.recorder.normal(node, "RegisteredNode", message);
        }
    }

    /// Marks the node's conditions as unknown if it has been silent for too long.
    async fn note_silence(&self, node: Arc<Node>) -> Result<Arc<Node>, ReconcileError> {
        let config = &self.context.config.nodes;
        let grace = Grace {
            usual: Duration::from_secs(config.grace_period_seconds),
            startup: Duration::from_secs(config.startup_grace_period_seconds),
        };
        let lease_key = ObjectKey::new(NODE_LEASE_NAMESPACE, kind::name(node.as_ref()));
        let lease = self.context.caches.node_leases.get(&lease_key);
        let liveness = self.memory().health.observe(&node, lease.as_deref(), grace, Instant::now());
        if liveness != Liveness::Silent {
            return Ok(node);
        }
        let conditions = health::silent_conditions(&node, Timestamp::now());
        if conditions.is_empty() {
            return Ok(node);
        }
        let name = kind::name(node.as_ref());
        tracing::warn!(node = name, "the node has stopped reporting");
        let written =
            self.context.writer.merge_status(node.as_ref(), json!({"conditions": conditions})).await?;
        self.context.recorder.normal(
            &written,
            "NodeNotReady",
            format!("Node {name} status is now: NodeNotReady"),
        );
        Ok(Arc::new(written))
    }

    async fn set_taints(&self, node: Arc<Node>) -> Result<Arc<Node>, ReconcileError> {
        let eviction = if Readiness::of(&node) == Readiness::Ready {
            Eviction::Continue
        } else {
            let all = self.context.caches.nodes.list();
            let rate = self.context.config.nodes.eviction_rate;
            self.memory().pace.permit(&node, all.iter().map(AsRef::as_ref), rate, Instant::now())
        };
        let wanted = taint::wanted(&node, eviction, Timestamp::now());
        if node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default() == wanted {
            return Ok(node);
        }
        let mut tainted = node.as_ref().clone();
        tainted.spec.get_or_insert_default().taints = Some(wanted).filter(|taints| !taints.is_empty());
        let written = self.context.writer.update(node.as_ref(), &tainted).await?;
        Ok(written.map_or(node, Arc::new))
    }

    /// Pods of a silent node must not get traffic; their node cannot say so itself.
    async fn mark_pods_not_ready(&self, node: &Node) -> Result<(), ReconcileError> {
        let pods = self.context.caches.pods.indexed(BY_NODE, kind::name(node));
        for pod in pods.iter().filter(|pod| pod::is_ready(pod)) {
            let condition =
                json!({"type": "Ready", "status": "False", "lastTransitionTime": Time(Timestamp::now())});
            let marked =
                self.context.writer.merge_status(pod.as_ref(), json!({"conditions": [condition]})).await;
            match marked {
                Ok(_) => self.context.recorder.warning(pod.as_ref(), "NodeNotReady", "Node is not ready"),
                Err(error) if error.is_not_found() || error.is_conflict() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Deletes the pods whose time on the node is up. Returns when the next one's is.
    async fn evict(&self, node: &Node) -> Result<Option<Duration>, ReconcileError> {
        if !has_no_execute(node) {
            return Ok(None);
        }
        let now = Timestamp::now();
        let mut next: Option<Duration> = None;
        for pod in self.context.caches.pods.indexed(BY_NODE, kind::name(node)) {
            if !pod::is_active(&pod) {
                continue;
            }
            let stay = eviction::stay(&pod, node, self.context.config.nodes.default_toleration_seconds, now);
            let Stay::Until(until) = stay else { continue };
            if until > now {
                let left = until.duration_since(now).unsigned_abs();
                next = Some(next.map_or(left, |next| next.min(left)));
            } else {
                self.evict_pod(&pod).await?;
            }
        }
        Ok(next)
    }

    async fn evict_pod(&self, pod: &Pod) -> Result<(), ReconcileError> {
        let message = format!("Marking for deletion Pod {}", ObjectKey::of(pod));
        self.context.recorder.named("taint-eviction-controller").normal(pod, "TaintManagerEviction", message);
        let condition = json!({
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "DeletionByTaintManager",
            "message": "Taint manager: deleting due to NoExecute taint",
            "lastTransitionTime": Time(Timestamp::now()),
        });
        match self.context.writer.merge_status(pod, json!({"conditions": [condition]})).await {
            Ok(_) => self.context.writer.delete(pod, None).await,
            Err(error) if error.is_not_found() || error.is_conflict() => Ok(()),
            Err(error) => Err(error),
        }
    }
}
