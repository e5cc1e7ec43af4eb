//! What a ReplicaSet needs: pods to create or delete, and the status that describes it. Pure.

use std::{collections::HashMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{
    api::{
        apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus},
        core::v1::Pod,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};

use crate::pod;

/// Pods created or deleted in one go at most.
pub const BURST: usize = 500;

/// What to do now.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// As many pods as wanted.
    Nothing,
    /// Create so many.
    Create(usize),
    /// Delete these.
    Delete(Vec<Arc<Pod>>),
}

/// Compares the active pods with the wanted number.
///
/// `relatives` are the active pods of all ReplicaSets of the same Deployment (this one's included): when shrinking, pods
/// on nodes crowded with relatives go first.
pub fn step(replica_set: &ReplicaSet, active: &[Arc<Pod>], relatives: &[Arc<Pod>], now: Timestamp) -> Step {
    let wanted = wanted(replica_set);
    if active.len() < wanted {
        return Step::Create((wanted - active.len()).min(BURST));
    }
    let surplus = (active.len() - wanted).min(BURST);
    if surplus == 0 {
        return Step::Nothing;
    }
    let mut per_node: HashMap<&str, usize> = HashMap::new();
    for node in relatives.iter().filter_map(|pod| pod::node_name(pod)) {
        *per_node.entry(node).or_default() += 1;
    }
    let crowd = |pod: &Pod| pod::node_name(pod).and_then(|node| per_node.get(node)).copied().unwrap_or(0);
    let mut ranked: Vec<_> = active.iter().map(|pod| (pod, crowd(pod))).collect();
    ranked.sort_by(|(a, crowd_a), (b, crowd_b)| pod::deletion_order((a, *crowd_a), (b, *crowd_b), now));
    Step::Delete(ranked.into_iter().take(surplus).map(|(pod, _)| pod.clone()).collect())
}

/// The wanted number of replicas.
pub fn wanted(replica_set: &ReplicaSet) -> usize {
    let replicas = replica_set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    usize::try_from(replicas).unwrap_or(0)
}

/// A failed attempt to create or delete pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// `FailedCreate` or `FailedDelete`.
    pub reason: &'static str,
    /// What the API said.
    pub message: String,
}

/// The status of a ReplicaSet with these pods (all it controls), after managing them ended in `failure` or not.
pub fn status(
    replica_set: &ReplicaSet,
    pods: &[Arc<Pod>],
    failure: Option<&Failure>,
    now: Timestamp,
) -> ReplicaSetStatus {
    let spec = replica_set.spec.clone().unwrap_or_default();
    let template_labels =
        spec.template.unwrap_or_default().metadata.and_then(|meta| meta.labels).unwrap_or_default();
    let min_ready = spec.min_ready_seconds.unwrap_or(0);
    let active: Vec<&Arc<Pod>> = pods.iter().filter(|pod| pod::is_active(pod)).collect();
    let count = |test: &dyn Fn(&Pod) -> bool| saturated(active.iter().filter(|pod| test(pod)).count());
    let fully_labeled = |pod: &Pod| {
        let labels = pod.metadata.labels.as_ref();
        template_labels.iter().all(|(key, value)| labels.is_some_and(|labels| labels.get(key) == Some(value)))
    };
    let terminating =
        pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_some() && !pod::is_finished(pod));
    let previous = replica_set.status.clone().unwrap_or_default();
    ReplicaSetStatus {
        replicas: saturated(active.len()),
        fully_labeled_replicas: Some(count(&fully_labeled)),
        ready_replicas: Some(count(&pod::is_ready)),
        available_replicas: Some(count(&|pod| pod::is_available(pod, min_ready, now))),
        terminating_replicas: Some(saturated(terminating.count())),
        observed_generation: replica_set.metadata.generation,
        conditions: conditions(previous.conditions, failure, now),
    }
}

/// The time until the next pod becomes available by having been ready long enough.
pub fn until_next_available(replica_set: &ReplicaSet, pods: &[Arc<Pod>], now: Timestamp) -> Option<Duration> {
    let min_ready = replica_set.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0);
    pods.iter().filter_map(|pod| pod::until_available(pod, min_ready, now)).min()
}

fn conditions(
    previous: Option<Vec<ReplicaSetCondition>>,
    failure: Option<&Failure>,
    now: Timestamp,
) -> Option<Vec<ReplicaSetCondition>> {
    const TYPE: &str = "ReplicaFailure";
    let mut conditions = previous.unwrap_or_default();
    match failure {
        None => conditions.retain(|condition| condition.type_ != TYPE),
        // The first failure stays until one attempt succeeds, so that its time tells since when it fails.
        Some(_) if conditions.iter().any(|condition| condition.type_ == TYPE) => {}
        Some(failure) => conditions.push(ReplicaSetCondition {
            type_: TYPE.into(),
            status: "True".into(),
            reason: Some(failure.reason.into()),
            message: Some(failure.message.clone()),
            last_transition_time: Some(Time(now)),
        }),
    }
    (!conditions.is_empty()).then_some(conditions)
}

/// A count as the API's `int32`.
pub fn saturated(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}
