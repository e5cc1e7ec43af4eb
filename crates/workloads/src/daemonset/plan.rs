//! Which nodes need a pod of a DaemonSet, and which pods are outdated. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::{DaemonSet, DaemonSetStatus},
    core::v1::{
        Affinity, Node, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodSpec,
        Toleration,
    },
};

use crate::{
    deployment::strategy::{Rounding, resolve},
    kind::{self, label},
    pod,
    replicaset::plan::saturated,
    revisions::HASH_LABEL,
    scheduler::{
        node_selector,
        taints::{NOT_READY, UNREACHABLE, UNSCHEDULABLE, untolerated},
    },
};

/// Taints that every daemon pod tolerates, with their effects: daemons run on nodes in trouble too.
const TOLERATED: [(&str, &str); 6] = [
    (NOT_READY, "NoExecute"),
    (UNREACHABLE, "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    (UNSCHEDULABLE, "NoSchedule"),
];

/// Whether a node should have a daemon pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// Yes.
    Run,
    /// None is started there, but one that runs stays.
    Tolerate,
    /// No.
    Forbid,
}

/// The tolerations of the set's pods: the template's and those every daemon has.
pub fn tolerations(spec: &PodSpec) -> Vec<Toleration> {
    let mut tolerations = spec.tolerations.clone().unwrap_or_default();
    let mut add = |key: &str, effect: &str| {
        let toleration = Toleration {
            key: Some(key.into()),
            operator: Some("Exists".into()),
            effect: Some(effect.into()),
            ..Default::default()
        };
        if !tolerations.contains(&toleration) {
            tolerations.push(toleration);
        }
    };
    for (key, effect) in TOLERATED {
        add(key, effect);
    }
    if spec.host_network.unwrap_or(false) {
        add("node.kubernetes.io/network-unavailable", "NoSchedule");
    }
    tolerations
}

/// Judges a node by name, affinity and taints; whether there is room is the scheduler's business.
pub fn fit(spec: &PodSpec, node: &Node) -> Fit {
    static NO_LABELS: node_selector::Labels = node_selector::Labels::new();
    let name = kind::name(node);
    let labels = node.metadata.labels.as_ref().unwrap_or(&NO_LABELS);
    let named = spec.node_name.as_deref().is_none_or(|wanted| wanted.is_empty() || wanted == name);
    if !named || !node_selector::matches_pod(spec, name, labels) {
        return Fit::Forbid;
    }
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    let tolerations = tolerations(spec);
    if untolerated(taints, &tolerations, &["NoExecute"]).is_some() {
        Fit::Forbid
    } else if untolerated(taints, &tolerations, &["NoSchedule"]).is_some() {
        Fit::Tolerate
    } else {
        Fit::Run
    }
}

/// Pins a pod to a node. The scheduler then binds it there, respecting room and ports.
pub fn pin(spec: &mut PodSpec, node: &str) {
    let by_name = NodeSelectorRequirement {
        key: "metadata.name".into(),
        operator: "In".into(),
        values: Some(vec![node.to_owned()]),
    };
    let affinity: &mut Affinity = spec.affinity.get_or_insert_default();
    let affinity: &mut NodeAffinity = affinity.node_affinity.get_or_insert_default();
    let required = affinity
        .required_during_scheduling_ignored_during_execution
        .get_or_insert_with(|| NodeSelector { node_selector_terms: vec![NodeSelectorTerm::default()] });
    if required.node_selector_terms.is_empty() {
        required.node_selector_terms.push(NodeSelectorTerm::default());
    }
    for term in &mut required.node_selector_terms {
        term.match_fields = Some(vec![by_name.clone()]);
    }
}

/// The node a daemon pod runs on or is pinned to.
pub fn target_node(pod: &Pod) -> Option<&str> {
    if let Some(node) = pod::node_name(pod) {
        return Some(node);
    }
    let affinity = pod.spec.as_ref()?.affinity.as_ref()?.node_affinity.as_ref()?;
    let terms = &affinity.required_during_scheduling_ignored_during_execution.as_ref()?.node_selector_terms;
    let mut fields = terms.iter().flat_map(|term| term.match_fields.iter().flatten());
    let field = fields.find(|field| field.key == "metadata.name" && field.operator == "In")?;
    match field.values.as_deref() {
        Some([node]) => Some(node),
        _ => None,
    }
}

/// What the planner looks at.
pub struct Observed<'a> {
    /// The set.
    pub set: &'a DaemonSet,
    /// All nodes.
    pub nodes: &'a [Arc<Node>],
    /// The pods the set controls.
    pub pods: &'a [Arc<Pod>],
    /// Hash of the present template.
    pub hash: &'a str,
    /// The time.
    pub now: Timestamp,
}

/// What to do.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// Nodes that get a pod.
    pub create: BTreeSet<String>,
    /// Pods to delete because of outdated templates, superfluous copies or nodes that should have none.
    pub delete: Vec<Arc<Pod>>,
    /// Pods that ended, to be deleted and then made anew.
    pub ended: Vec<Arc<Pod>>,
}

/// The pods of the set by node.
fn by_node(pods: &[Arc<Pod>]) -> BTreeMap<&str, Vec<&Arc<Pod>>> {
    let mut by_node: BTreeMap<&str, Vec<&Arc<Pod>>> = BTreeMap::new();
    for pod in pods {
        if let Some(node) = target_node(pod) {
            by_node.entry(node).or_default().push(pod);
        }
    }
    by_node
}

fn is_updated(pod: &Pod, hash: &str) -> bool {
    label(pod, HASH_LABEL) == Some(hash)
}

fn template_spec(set: &DaemonSet) -> PodSpec {
    set.spec.as_ref().and_then(|spec| spec.template.spec.clone()).unwrap_or_default()
}

/// Limits of a rolling update, in nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Limits {
    max_unavailable: i32,
    max_surge: i32,
}

/// `None`: pods are replaced only when somebody deletes them.
fn limits(set: &DaemonSet, wanted: i32) -> Option<Limits> {
    let strategy = set.spec.as_ref().and_then(|spec| spec.update_strategy.clone()).unwrap_or_default();
    if strategy.type_.as_deref() == Some("OnDelete") {
        return None;
    }
    let rolling = strategy.rolling_update.unwrap_or_default();
    let max_surge = rolling.max_surge.as_ref().map_or(0, |value| resolve(value, wanted, Rounding::Up));
    let max_unavailable =
        rolling.max_unavailable.as_ref().map_or(1, |value| resolve(value, wanted, Rounding::Up));
    Some(Limits {
        max_unavailable: if max_surge == 0 { max_unavailable.max(1) } else { max_unavailable },
        max_surge,
    })
}

/// Plans creations and deletions; when there are none of these, the next step of a rolling update.
pub fn plan(observed: &Observed<'_>) -> Plan {
    let spec = template_spec(observed.set);
    let by_node = by_node(observed.pods);
    let fits: BTreeMap<&str, Fit> =
        observed.nodes.iter().map(|node| (kind::name(node.as_ref()), fit(&spec, node))).collect();
    let wanted = saturated(fits.values().filter(|fit| **fit == Fit::Run).count());
    let limits = limits(observed.set, wanted);
    let surging = limits.is_some_and(|limits| limits.max_surge > 0);
    let mut plan = Plan::default();
    for (node, fit) in &fits {
        let pods = by_node.get(node).map(Vec::as_slice).unwrap_or_default();
        place(observed, &mut plan, node, *fit, pods, surging);
    }
    for (_, pods) in by_node.iter().filter(|(node, _)| !fits.contains_key(*node)) {
        // The node is gone.
        plan.delete
            .extend(pods.iter().filter(|pod| !kind::is_deleting(pod.as_ref())).map(|pod| (*pod).clone()));
    }
    if let Some(limits) = limits.filter(|_| plan == Plan::default()) {
        let wanted: Vec<&str> =
            fits.iter().filter(|(_, fit)| **fit == Fit::Run).map(|(node, _)| *node).collect();
        if surging {
            roll_with_surge(observed, &mut plan, &wanted, &by_node, limits);
        } else {
            roll(observed, &mut plan, &wanted, &by_node, limits);
        }
    }
    plan
}

/// Makes a node have exactly the pod it should have.
fn place(observed: &Observed<'_>, plan: &mut Plan, node: &str, fit: Fit, pods: &[&Arc<Pod>], surging: bool) {
    let present: Vec<&Arc<Pod>> =
        pods.iter().filter(|pod| !kind::is_deleting(pod.as_ref())).copied().collect();
    if fit == Fit::Forbid {
        plan.delete.extend(present.into_iter().cloned());
        return;
    }
    let (ended, mut running): (Vec<_>, Vec<_>) = present.into_iter().partition(|pod| pod::is_finished(pod));
    plan.ended.extend(ended.iter().map(|pod| (*pod).clone()));
    if running.is_empty() {
        // A pod being deleted must be gone first: it may hold ports and volumes of the node.
        if fit == Fit::Run && pods.is_empty() {
            plan.create.insert(node.to_owned());
        }
        return;
    }
    running.sort_by_key(|pod| pod.metadata.creation_timestamp.as_ref().map(|time| time.0));
    let mut kept = BTreeSet::new();
    for pod in running {
        // While surging, an old and a new pod may share the node.
        let place = if surging { is_updated(pod, observed.hash) } else { true };
        if !kept.insert(place) {
            plan.delete.push(pod.clone());
        }
    }
}

fn is_available(observed: &Observed<'_>, pod: &Pod) -> bool {
    let min_ready = observed.set.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0);
    !kind::is_deleting(pod) && pod::is_available(pod, min_ready, observed.now)
}

/// Deletes outdated pods: the unavailable ones at once, the others as far as the limit allows.
fn roll(
    observed: &Observed<'_>,
    plan: &mut Plan,
    wanted: &[&str],
    by_node: &BTreeMap<&str, Vec<&Arc<Pod>>>,
    limits: Limits,
) {
    let mut unavailable = 0;
    let mut candidates = Vec::new();
    for node in wanted {
        let pods = by_node.get(node).map(Vec::as_slice).unwrap_or_default();
        let Some(pod) = pods.iter().find(|pod| !kind::is_deleting(pod.as_ref())) else {
            unavailable += 1;
            continue;
        };
        let available = is_available(observed, pod);
        unavailable += i32::from(!available);
        if !is_updated(pod, observed.hash) {
            if available {
                candidates.push((*pod).clone());
            } else {
                plan.delete.push((*pod).clone());
            }
        }
    }
    let room = usize::try_from(limits.max_unavailable - unavailable).unwrap_or(0);
    plan.delete.extend(candidates.into_iter().take(room));
}

/// Creates the new pod beside the old one, and deletes the old one when the new is available.
fn roll_with_surge(
    observed: &Observed<'_>,
    plan: &mut Plan,
    wanted: &[&str],
    by_node: &BTreeMap<&str, Vec<&Arc<Pod>>>,
    limits: Limits,
) {
    let mut surging = 0;
    let mut candidates = Vec::new();
    for node in wanted {
        let pods = by_node.get(node).map(Vec::as_slice).unwrap_or_default();
        let (new, old): (Vec<&Arc<Pod>>, Vec<&Arc<Pod>>) =
            pods.iter().copied().partition(|pod| is_updated(pod, observed.hash));
        let Some(old) = old.into_iter().find(|pod| !kind::is_deleting(pod.as_ref())) else { continue };
        match new.first() {
            None if is_available(observed, old) => candidates.push((*node).to_owned()),
            None => {
                plan.create.insert((*node).to_owned());
            }
            Some(new) if is_available(observed, new) => plan.delete.push(old.clone()),
            Some(_) => surging += 1,
        }
    }
    let room = usize::try_from(limits.max_surge - surging).unwrap_or(0);
    plan.create.extend(candidates.into_iter().take(room));
}

/// The status of the set.
pub fn status(observed: &Observed<'_>) -> DaemonSetStatus {
    let spec = template_spec(observed.set);
    let by_node = by_node(observed.pods);
    let previous = observed.set.status.clone().unwrap_or_default();
    let mut status = DaemonSetStatus {
        observed_generation: observed.set.metadata.generation,
        collision_count: previous.collision_count,
        conditions: previous.conditions,
        ..Default::default()
    };
    let (mut available, mut updated) = (0, 0);
    for node in observed.nodes {
        let pods = by_node.get(kind::name(node.as_ref())).map(Vec::as_slice).unwrap_or_default();
        let pods: Vec<_> = pods.iter().filter(|pod| !pod::is_finished(pod)).collect();
        if fit(&spec, node) != Fit::Run {
            status.number_misscheduled += i32::from(!pods.is_empty());
            continue;
        }
        status.desired_number_scheduled += 1;
        status.current_number_scheduled += i32::from(!pods.is_empty());
        status.number_ready += i32::from(pods.iter().any(|pod| pod::is_ready(pod)));
        available += i32::from(pods.iter().any(|pod| is_available(observed, pod)));
        updated += i32::from(pods.iter().any(|pod| is_updated(pod, observed.hash)));
    }
    let shown = |count: i32| Some(count).filter(|count| *count != 0);
    status.number_available = shown(available);
    status.number_unavailable = shown(status.desired_number_scheduled - available);
    status.updated_number_scheduled = shown(updated);
    status
}
