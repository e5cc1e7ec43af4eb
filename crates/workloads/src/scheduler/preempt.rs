//! Preemption: making room for a pod by removing less important ones. Pure.
//!
//! On each node that could be made to fit, all less important pods are removed in thought, then as many as possible are
//! put back, the most important and the budget-protected first. The node with the mildest set of victims is chosen.

use std::{cmp::Reverse, collections::HashSet, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::api::{core::v1::Pod, policy::v1::PodDisruptionBudget};

use super::{
    cluster::Cluster,
    decide::Misfit,
    filter::{self, Prepared},
    pod_info::{NamespaceLabels, PodInfo},
    volumes::VolumeNeeds,
};
use crate::{kind, owner, pod};

/// Nodes examined at most.
const EXAMINED: usize = 100;

/// A node that can be made to fit.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// Its name.
    pub node: String,
    /// The pods that must go.
    pub victims: Vec<Arc<PodInfo>>,
    /// How many of them a disruption budget protects.
    pub budget_violations: usize,
}

/// The outcome: a candidate, or the second half of the summary why not.
pub type Outcome = Result<Candidate, String>;

/// Looks for victims for a pod that fits nowhere.
///
/// # Errors
/// The text to append to the summary; empty if preemption does not apply to the pod at all.
pub fn preempt(
    cluster: &Cluster,
    pod: &PodInfo,
    misfit: &Misfit,
    volumes: &VolumeNeeds,
    namespaces: NamespaceLabels<'_>,
    budgets: &[Arc<PodDisruptionBudget>],
) -> Outcome {
    let spec = pod.pod.spec.as_ref();
    if misfit.general.is_some() || misfit.nodes == 0 {
        return Err(String::new());
    }
    if spec.and_then(|spec| spec.preemption_policy.as_deref()) == Some("Never") {
        return Err("preemption: not eligible due to preemptionPolicy=Never.".into());
    }
    if waits_for_victims(cluster, pod) {
        return Err("preemption: not eligible due to a terminating pod on the nominated node.".into());
    }
    let helpful = misfit.rejections.iter().filter(|(_, rejection)| rejection.preemptible);
    let mut trial = cluster.clone();
    let mut candidates = Vec::new();
    for (node, _) in helpful.clone().take(EXAMINED) {
        candidates.extend(victims_on(&mut trial, node, pod, volumes, namespaces, budgets));
    }
    let best = candidates.into_iter().min_by_key(severity);
    best.ok_or_else(|| no_victims_text(misfit, helpful.count()))
}

/// Whether victims of an earlier preemption by this pod are still going.
fn waits_for_victims(cluster: &Cluster, pod: &PodInfo) -> bool {
    let nominated = pod.pod.status.as_ref().and_then(|status| status.nominated_node_name.as_deref());
    let Some(node) = nominated.and_then(|name| cluster.node(name)) else { return false };
    node.pods.iter().any(|other| kind::is_deleting(other.pod.as_ref()) && other.priority() < pod.priority())
}

fn no_victims_text(misfit: &Misfit, helpful: usize) -> String {
    let mut parts = Vec::new();
    let unhelpful = misfit.nodes - helpful;
    if helpful > 0 {
        parts.push(format!("{helpful} No preemption victims found for incoming pod"));
    }
    if unhelpful > 0 {
        parts.push(format!("{unhelpful} Preemption is not helpful for scheduling"));
    }
    format!("preemption: 0/{} nodes are available: {}.", misfit.nodes, parts.join(", "))
}

fn victims_on(
    trial: &mut Cluster,
    node: &str,
    pod: &PodInfo,
    volumes: &VolumeNeeds,
    namespaces: NamespaceLabels<'_>,
    budgets: &[Arc<PodDisruptionBudget>],
) -> Option<Candidate> {
    let original = trial.node(node)?.clone();
    let candidate = {
        let mut removed: Vec<Arc<PodInfo>> =
            original.pods.iter().filter(|other| other.priority() < pod.priority()).cloned().collect();
        let node_info = trial.node_mut(node)?;
        for victim in &removed {
            node_info.remove(victim.uid());
        }
        if removed.is_empty() || !fits(trial, node, pod, volumes, namespaces) {
            None
        } else {
            let protected = protected(&removed, budgets);
            removed.sort_by_key(|p| {
                (Reverse(protected.contains(p.uid())), Reverse(p.priority()), started(&p.pod))
            });
            Some(spare_as_many_as_possible(trial, node, pod, volumes, namespaces, removed, &protected))
        }
    };
    *trial.node_mut(node)? = original;
    candidate.filter(|candidate| !candidate.victims.is_empty())
}

fn spare_as_many_as_possible(
    trial: &mut Cluster,
    node: &str,
    pod: &PodInfo,
    volumes: &VolumeNeeds,
    namespaces: NamespaceLabels<'_>,
    removed: Vec<Arc<PodInfo>>,
    protected: &HashSet<String>,
) -> Candidate {
    let mut victims = Vec::new();
    for other in removed {
        if let Some(info) = trial.node_mut(node) {
            info.add(other.clone());
        }
        if !fits(trial, node, pod, volumes, namespaces) {
            if let Some(info) = trial.node_mut(node) {
                info.remove(other.uid());
            }
            victims.push(other);
        }
    }
    let budget_violations = victims.iter().filter(|victim| protected.contains(victim.uid())).count();
    Candidate { node: node.to_owned(), victims, budget_violations }
}

fn fits(
    trial: &Cluster,
    node: &str,
    pod: &PodInfo,
    volumes: &VolumeNeeds,
    namespaces: NamespaceLabels<'_>,
) -> bool {
    let prepared = Prepared::new(trial, pod, volumes, namespaces);
    trial.node(node).is_some_and(|info| filter::check(trial, &prepared, info).is_ok())
}

/// UIDs of the pods that a disruption budget forbids to remove, counting what each budget still allows.
fn protected(pods: &[Arc<PodInfo>], budgets: &[Arc<PodDisruptionBudget>]) -> HashSet<String> {
    let mut protected = HashSet::new();
    for budget in budgets {
        let Some(selector) = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref()) else { continue };
        let Ok(selector) = owner::selector(selector) else { continue };
        let allowed = budget.status.as_ref().map_or(0, |status| status.disruptions_allowed);
        let covered = pods.iter().filter(|info| {
            let pod = info.pod.as_ref();
            kind::namespace(pod) == kind::namespace(budget.as_ref())
                && pod::is_active(pod)
                && owner::matches(&selector, pod)
        });
        let allowed = usize::try_from(allowed).unwrap_or(0);
        protected.extend(covered.skip(allowed).map(|info| info.uid().to_owned()));
    }
    protected
}

fn started(pod: &Pod) -> Option<Timestamp> {
    pod.status.as_ref().and_then(|status| status.start_time.as_ref()).map(|time| time.0)
}

/// Fewer broken budgets, then a less important most important victim, then less importance in sum, then fewer victims, then
/// victims that started later, then the name.
fn severity(candidate: &Candidate) -> (usize, i32, i64, usize, Reverse<Option<Timestamp>>, String) {
    let highest = candidate.victims.iter().map(|victim| victim.priority()).max().unwrap_or(i32::MIN);
    let sum = candidate.victims.iter().map(|victim| i64::from(victim.priority())).sum();
    let most_important = candidate.victims.iter().filter(|victim| victim.priority() == highest);
    let earliest = most_important.filter_map(|victim| started(&victim.pod)).min();
    let size = candidate.victims.len();
    (candidate.budget_violations, highest, sum, size, Reverse(earliest), candidate.node.clone())
}
