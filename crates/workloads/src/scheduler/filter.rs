//! Filtering: may this pod run on this node, and if not, why.

use std::borrow::Cow;

use super::{
    affinity::{self, AffinityState},
    cluster::{Cluster, NodeInfo},
    node_selector,
    pod_info::{NamespaceLabels, PodInfo},
    spread::{self, SpreadState},
    taints::{UNSCHEDULABLE, untolerated},
    volumes::VolumeNeeds,
};
use crate::pod;

/// The rule that rejected a node; what happens in the cluster can make some rules pass, but not others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rule {
    /// Cordoned.
    Unschedulable,
    /// Another node was asked for.
    NodeName,
    /// Taints.
    Taints,
    /// Node selector or affinity.
    NodeAffinity,
    /// Ports of the node.
    HostPorts,
    /// Room.
    Resources,
    /// Inter-pod affinity.
    PodAffinity,
    /// Topology spread.
    Spread,
    /// Volumes.
    Volumes,
}

/// Why a node was rejected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// By which rule.
    pub rule: Rule,
    /// In the words of the summary; one node can lack several resources.
    pub reasons: Vec<Cow<'static, str>>,
    /// Whether removing less important pods from the node could help.
    pub preemptible: bool,
}

impl Rejection {
    fn new(rule: Rule, reason: impl Into<Cow<'static, str>>, preemptible: bool) -> Self {
        Self { rule, reasons: vec![reason.into()], preemptible }
    }
}

/// What is computed once per scheduled pod.
#[derive(Debug)]
pub struct Prepared<'a> {
    /// The pod.
    pub pod: &'a PodInfo,
    /// What its volumes demand.
    pub volumes: &'a VolumeNeeds,
    /// Inter-pod affinity.
    pub affinity: AffinityState,
    /// Topology spread.
    pub spread: SpreadState,
}

impl<'a> Prepared<'a> {
    /// Looks at the whole cluster as far as the pod's rules need it.
    pub fn new(
        cluster: &Cluster,
        pod: &'a PodInfo,
        volumes: &'a VolumeNeeds,
        namespaces: NamespaceLabels<'_>,
    ) -> Self {
        Self {
            pod,
            volumes,
            affinity: AffinityState::new(cluster, pod, namespaces),
            spread: SpreadState::new(cluster, pod),
        }
    }

    /// Whether the pod's fit on a node depends on pods of other nodes.
    pub fn depends_on_other_nodes(&self) -> bool {
        self.pod.has_terms() || !self.pod.spread.is_empty()
    }
}

/// Whether the pod may run on the node. Room is kept for pods waiting there for their victims to go.
///
/// # Errors
/// The first rule that rejects the node.
pub fn check(cluster: &Cluster, prepared: &Prepared<'_>, node: &NodeInfo) -> Result<(), Rejection> {
    check_alone(prepared, node)?;
    let mut waiting = cluster.nominated_before(&node.name, prepared.pod).peekable();
    if waiting.peek().is_none() {
        return Ok(());
    }
    let mut crowded = node.clone();
    for pod in waiting {
        crowded.add(pod.clone());
    }
    check_alone(prepared, &crowded)
}

/// Whether the pod may run on the node as it is.
///
/// # Errors
/// The first rule that rejects the node.
pub fn check_alone(prepared: &Prepared<'_>, node: &NodeInfo) -> Result<(), Rejection> {
    check_taints(prepared.pod, node)?;
    check_name_and_affinity(prepared.pod, node)?;
    check_host_ports(prepared.pod, node)?;
    check_resources(prepared.pod, node)?;
    prepared.volumes.check(node).map_err(|reason| Rejection::new(Rule::Volumes, reason, false))?;
    check_spread(prepared, node)?;
    check_pod_affinity(prepared, node)
}

fn check_taints(pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
    let Some(taint) = untolerated(&node.taints, pod.tolerations(), &["NoSchedule", "NoExecute"]) else {
        return Ok(());
    };
    if taint.key == UNSCHEDULABLE {
        return Err(Rejection::new(Rule::Unschedulable, "node(s) were unschedulable", false));
    }
    let value = taint.value.as_deref().unwrap_or_default();
    let reason = format!("node(s) had untolerated taint {{{}: {value}}}", taint.key);
    Err(Rejection::new(Rule::Taints, reason, false))
}

fn check_name_and_affinity(pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
    if pod::node_name(&pod.pod).is_some_and(|wanted| wanted != node.name) {
        return Err(Rejection::new(Rule::NodeName, "node(s) didn't match the requested node name", false));
    }
    let spec = pod.pod.spec.as_ref();
    if spec.is_none_or(|spec| node_selector::matches_pod(spec, &node.name, node.labels())) {
        return Ok(());
    }
    Err(Rejection::new(Rule::NodeAffinity, "node(s) didn't match Pod's node affinity/selector", false))
}

fn check_host_ports(pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
    if pod.host_ports.is_empty() {
        return Ok(());
    }
    let mut taken = node.pods.iter().flat_map(|other| &other.host_ports);
    if taken.any(|taken| pod.host_ports.iter().any(|wanted| wanted.conflicts(taken))) {
        let reason = "node(s) didn't have free ports for the requested pod ports";
        return Err(Rejection::new(Rule::HostPorts, reason, true));
    }
    Ok(())
}

fn check_resources(pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
    let mut reasons: Vec<Cow<'static, str>> = Vec::new();
    if node.pods.len() >= node.allowed_pods {
        reasons.push("Too many pods".into());
    }
    let lacking = node.allocatable.insufficient(&node.requested, &pod.request);
    reasons.extend(lacking.iter().map(|name| format!("Insufficient {name}").into()));
    if reasons.is_empty() {
        return Ok(());
    }
    // A request that even the empty node cannot meet is not helped by emptying it.
    let hopeless =
        !node.allocatable.insufficient(&super::resources::Resources::default(), &pod.request).is_empty();
    Err(Rejection { rule: Rule::Resources, reasons, preemptible: !hopeless && node.allowed_pods > 0 })
}

fn check_spread(prepared: &Prepared<'_>, node: &NodeInfo) -> Result<(), Rejection> {
    prepared.spread.check(prepared.pod, node).map_err(|conflict| match conflict {
        spread::Conflict::MissingLabel => {
            let reason = "node(s) didn't match pod topology spread constraints (missing required label)";
            Rejection::new(Rule::Spread, reason, false)
        }
        spread::Conflict::Skew => {
            Rejection::new(Rule::Spread, "node(s) didn't match pod topology spread constraints", true)
        }
    })
}

fn check_pod_affinity(prepared: &Prepared<'_>, node: &NodeInfo) -> Result<(), Rejection> {
    prepared.affinity.check(prepared.pod, node).map_err(|conflict| {
        let (reason, preemptible) = match conflict {
            affinity::Conflict::Affinity => ("node(s) didn't match pod affinity rules", false),
            affinity::Conflict::AntiAffinity => ("node(s) didn't match pod anti-affinity rules", true),
            affinity::Conflict::ExistingAntiAffinity => {
                ("node(s) didn't satisfy existing pods anti-affinity rules", true)
            }
        };
        Rejection::new(Rule::PodAffinity, reason, preemptible)
    })
}
