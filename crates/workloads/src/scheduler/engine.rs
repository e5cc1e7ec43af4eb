//! The scheduler without I/O: told about changes, asked for the next thing to do.

use std::sync::Arc;

use k8s_openapi::api::{
    core::v1::{Node, PersistentVolumeClaim, Pod},
    policy::v1::PodDisruptionBudget,
};
use tokio::time::Instant;

use super::{
    cluster::{Cluster, NodeInfo},
    decide::{Misfit, Turn, decide},
    pod_info::{NamespaceLabels, PodInfo},
    preempt::{Candidate, preempt},
    queue::{Happening, SchedulingQueue},
    volumes::{VolumeLookup, VolumeNeeds},
};
use crate::{cache::Change, kind, pod};

/// What the engine may look at besides pods and nodes.
pub struct Environment<'a> {
    /// Labels of a namespace.
    pub namespaces: NamespaceLabels<'a>,
    /// Claims, volumes and classes.
    pub volumes: &'a dyn VolumeLookup,
    /// Disruption budgets.
    pub budgets: &'a dyn Fn() -> Vec<Arc<PodDisruptionBudget>>,
}

/// The next thing to do.
#[derive(Debug)]
pub enum Verdict {
    /// Nothing until something changes, or until this time.
    Idle(Option<Instant>),
    /// Bind the pod to the node; it counts there already. Report failure with [`Engine::bind_failed`].
    Bind {
        /// The pod.
        pod: Arc<PodInfo>,
        /// The node's name.
        node: String,
    },
    /// Tell these claims that the pod goes to this node; the pod is tried again when they are bound.
    PlaceVolumes {
        /// The pod.
        pod: Arc<PodInfo>,
        /// The node's name.
        node: String,
        /// The claims.
        claims: Vec<Arc<PersistentVolumeClaim>>,
    },
    /// The pod fits nowhere.
    Unschedulable {
        /// The pod.
        pod: Arc<PodInfo>,
        /// Why, for users.
        message: String,
        /// Pods to remove so that it fits later.
        preemption: Option<Candidate>,
    },
}

/// See the module documentation.
#[derive(Debug)]
pub struct Engine {
    scheduler_name: String,
    cluster: Cluster,
    queue: SchedulingQueue,
    turn: Turn,
}

impl Engine {
    /// An engine that knows nothing yet and cares for pods of that scheduler name.
    pub fn new(scheduler_name: &str) -> Self {
        Self {
            scheduler_name: scheduler_name.to_owned(),
            cluster: Cluster::default(),
            queue: SchedulingQueue::default(),
            turn: Turn::default(),
        }
    }

    /// The picture of the cluster.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Pods waiting in whatever state.
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// A node changed.
    pub fn node_changed(&mut self, change: &Change<Node>, now: Instant) {
        let name = kind::name(change.newest().as_ref()).to_owned();
        match change {
            Change::Deleted(_) => self.cluster.remove_node(&name),
            Change::Added(node) | Change::Updated { new: node, .. } => {
                let before = self.cluster.node(&name).cloned();
                self.cluster.set_node(node.clone());
                let after = self.cluster.node(&name);
                if before.as_ref().zip(after).is_none_or(|(before, after)| matters(before, after)) {
                    self.queue.happened(Happening::NodeChanged, now);
                }
            }
        }
    }

    /// A pod changed.
    pub fn pod_changed(&mut self, change: &Change<Pod>, now: Instant) {
        let pod = change.newest();
        let uid = kind::uid(pod.as_ref());
        if matches!(change, Change::Deleted(_)) || pod::is_finished(pod) {
            self.pod_left(uid, now);
        } else if let Some(node) = pod::node_name(pod) {
            self.pod_placed(pod, node, change.previous().map(AsRef::as_ref), now);
        } else if !self.is_ours(pod) {
            self.queue.remove(uid);
            self.cluster.denominate(uid);
        } else if !self.cluster.is_placed(uid) && change.previous().is_none_or(|old| differs(old, pod)) {
            let info = Arc::new(PodInfo::new(pod.clone()));
            if let Some(node) = pod.status.as_ref().and_then(|status| status.nominated_node_name.as_deref()) {
                self.cluster.nominate(info.clone(), node);
            }
            self.queue.add(info, now);
        }
    }

    /// A claim, volume or storage class changed.
    pub fn volumes_changed(&mut self, now: Instant) {
        self.queue.happened(Happening::VolumeChanged, now);
    }

    /// Decides about the next pod that is due.
    pub fn next(&mut self, environment: &Environment<'_>, now: Instant) -> Verdict {
        let Some(pod) = self.queue.pop(now) else { return Verdict::Idle(self.queue.next_due()) };
        self.turn.0 = self.turn.0.wrapping_add(1);
        let nodes = self.cluster.node_count();
        let needs = match VolumeNeeds::collect(&pod.pod, environment.volumes) {
            Ok(mut needs) => {
                needs.reselect_unless(|node| self.cluster.node(node).is_some_and(|info| info.node.is_some()));
                needs
            }
            Err(reason) => return self.unschedulable(pod, &Misfit::general(nodes, reason), None, now),
        };
        match decide(&self.cluster, &pod, &needs, environment.namespaces, self.turn) {
            Ok(node) => self.fits(pod, node, &needs, now),
            Err(misfit) => {
                let budgets = (environment.budgets)();
                let preempted =
                    preempt(&self.cluster, &pod, &misfit, &needs, environment.namespaces, &budgets);
                self.unschedulable(pod, &misfit, Some(preempted), now)
            }
        }
    }

    /// The pod could not be bound: it no longer counts on its node and is tried again.
    pub fn bind_failed(&mut self, uid: &str, now: Instant) {
        self.cluster.forget(uid);
        self.queue.happened(Happening::PodLeft, now);
        self.queue.retry(uid, now);
    }

    /// The pod was bound.
    pub fn bound(&mut self, uid: &str) {
        self.queue.remove(uid);
    }

    /// Something about the pod failed that may work next time.
    pub fn retry(&mut self, uid: &str, now: Instant) {
        self.queue.retry(uid, now);
    }

    fn is_ours(&self, pod: &Pod) -> bool {
        let Some(spec) = &pod.spec else { return false };
        let name = spec.scheduler_name.as_deref().unwrap_or("default-scheduler");
        name == self.scheduler_name
            && !kind::is_deleting(pod)
            && spec.scheduling_gates.as_ref().is_none_or(Vec::is_empty)
    }

    fn pod_left(&mut self, uid: &str, now: Instant) {
        let was_placed = self.cluster.is_placed(uid);
        self.cluster.remove_pod(uid);
        self.queue.remove(uid);
        if was_placed {
            self.queue.happened(Happening::PodLeft, now);
        }
    }

    fn pod_placed(&mut self, pod: &Arc<Pod>, node: &str, previous: Option<&Pod>, now: Instant) {
        let uid = kind::uid(pod.as_ref());
        let known = self.cluster.is_placed(uid);
        self.queue.remove(uid);
        self.cluster.confirm(Arc::new(PodInfo::new(pod.clone())), node);
        let relabelled = previous.is_some_and(|old| old.metadata.labels != pod.metadata.labels);
        if !known || relabelled {
            self.queue.happened(Happening::PodPlaced, now);
        }
    }

    fn fits(&mut self, pod: Arc<PodInfo>, node: String, needs: &VolumeNeeds, now: Instant) -> Verdict {
        let claims: Vec<_> = needs.delayed_claims().cloned().collect();
        if !claims.is_empty() {
            self.queue.park(pod.uid(), [super::filter::Rule::Volumes].into(), now);
            return Verdict::PlaceVolumes { pod, node, claims };
        }
        self.cluster.assume(pod.clone(), &node);
        self.queue.happened(Happening::PodPlaced, now);
        Verdict::Bind { pod, node }
    }

    fn unschedulable(
        &mut self,
        pod: Arc<PodInfo>,
        misfit: &Misfit,
        preempted: Option<Result<Candidate, String>>,
        now: Instant,
    ) -> Verdict {
        let mut message = misfit.summary();
        let mut preemption = None;
        match preempted {
            Some(Ok(candidate)) => {
                self.cluster.nominate(pod.clone(), &candidate.node);
                preemption = Some(candidate);
            }
            Some(Err(text)) if !text.is_empty() => {
                message.push(' ');
                message.push_str(&text);
            }
            _ => {}
        }
        self.queue.park(pod.uid(), misfit.rules(), now);
        Verdict::Unschedulable { pod, message, preemption }
    }
}

/// Whether the change of a node can matter to pods that wait. Heartbeats do not.
fn matters(before: &NodeInfo, after: &NodeInfo) -> bool {
    let taints = |info: &NodeInfo| -> Vec<(String, Option<String>, String)> {
        info.taints
            .iter()
            .map(|taint| (taint.key.clone(), taint.value.clone(), taint.effect.clone()))
            .collect()
    };
    before.node.is_none()
        || before.labels() != after.labels()
        || taints(before) != taints(after)
        || before.allocatable != after.allocatable
        || before.allowed_pods != after.allowed_pods
}

/// Whether an unscheduled pod changed in what matters to scheduling; its status does not.
fn differs(old: &Pod, new: &Pod) -> bool {
    old.spec != new.spec
        || old.metadata.labels != new.metadata.labels
        || old.metadata.annotations != new.metadata.annotations
}
