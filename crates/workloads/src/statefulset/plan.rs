//! What a StatefulSet does next. Pure.
//!
//! With ordered management one step is taken at a time: create or repair the lowest ordinal that is not running and ready,
//! then remove the highest superfluous one, then replace the highest outdated one. Parallel management creates and removes
//! without waiting, but still replaces one at a time.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::{StatefulSet, StatefulSetStatus},
    core::v1::Pod,
};

use super::identity::{self, first_ordinal};
use crate::{kind, pod, replicaset::plan::saturated};

/// Which template an ordinal gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// The one that most pods have.
    Current,
    /// The one being rolled out.
    Update,
}

/// One write.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Create the pod (and claims) of an ordinal.
    Create(i32, Version),
    /// Delete a pod that is superfluous for good.
    Condemn(Arc<Pod>),
    /// Delete a pod so that it is created anew.
    Recreate(Arc<Pod>),
}

/// What the planner looks at.
pub struct Observed<'a> {
    /// The set.
    pub set: &'a StatefulSet,
    /// The pods it controls.
    pub pods: &'a [Arc<Pod>],
    /// Name of the revision that most pods have.
    pub current: &'a str,
    /// Name of the revision of the present template.
    pub update: &'a str,
    /// The time.
    pub now: Timestamp,
}

/// The parameters of a set.
struct Parameters {
    first: i32,
    replicas: i32,
    ordered: bool,
    min_ready_seconds: i32,
    on_delete: bool,
    partition: i32,
    has_partition: bool,
}

impl Parameters {
    fn of(set: &StatefulSet) -> Self {
        let spec = set.spec.clone().unwrap_or_default();
        let strategy = spec.update_strategy.unwrap_or_default();
        let partition = strategy.rolling_update.as_ref().and_then(|rolling| rolling.partition);
        Self {
            first: first_ordinal(set),
            replicas: spec.replicas.unwrap_or(1).max(0),
            ordered: spec.pod_management_policy.as_deref() != Some("Parallel"),
            min_ready_seconds: spec.min_ready_seconds.unwrap_or(0),
            on_delete: strategy.type_.as_deref() == Some("OnDelete"),
            partition: partition.unwrap_or(0),
            has_partition: partition.is_some(),
        }
    }

    fn ordinals(&self) -> std::ops::Range<i32> {
        self.first..self.first.saturating_add(self.replicas)
    }
}

/// Plans the next steps, in order.
pub fn plan(observed: &Observed<'_>) -> Vec<Action> {
    let set = observed.set;
    if kind::is_deleting(set) {
        return Vec::new();
    }
    let parameters = Parameters::of(set);
    let by_ordinal: BTreeMap<i32, &Arc<Pod>> =
        observed.pods.iter().filter_map(|pod| Some((identity::ordinal(set, pod)?, pod))).collect();
    let mut actions = Vec::new();
    if !keep_replicas(observed, &parameters, &by_ordinal, &mut actions)
        || !remove_condemned(observed, &parameters, &by_ordinal, &mut actions)
        || parameters.on_delete
    {
        return actions;
    }
    // Replacing begins when nothing else is to be done.
    if actions.is_empty() {
        actions.extend(replace_outdated(observed, &parameters, &by_ordinal));
    }
    actions
}

fn is_healthy(pod: &Pod, parameters: &Parameters, now: Timestamp) -> bool {
    pod::phase(pod) == "Running"
        && !kind::is_deleting(pod)
        && pod::is_available(pod, parameters.min_ready_seconds, now)
}

/// Creates what is missing. Returns whether the next stage may begin.
fn keep_replicas(
    observed: &Observed<'_>,
    parameters: &Parameters,
    by_ordinal: &BTreeMap<i32, &Arc<Pod>>,
    actions: &mut Vec<Action>,
) -> bool {
    for ordinal in parameters.ordinals() {
        let step = match by_ordinal.get(&ordinal) {
            None => Some(Action::Create(ordinal, version(observed, parameters, ordinal))),
            Some(pod) if pod::is_finished(pod) && !kind::is_deleting(pod.as_ref()) => {
                Some(Action::Recreate((*pod).clone()))
            }
            Some(pod) if parameters.ordered && !is_healthy(pod, parameters, observed.now) => return false,
            Some(_) => None,
        };
        if let Some(step) = step {
            actions.push(step);
            if parameters.ordered {
                return false;
            }
        }
    }
    true
}

/// Removes what is superfluous, the highest ordinal first. Returns whether the next stage may begin.
fn remove_condemned(
    observed: &Observed<'_>,
    parameters: &Parameters,
    by_ordinal: &BTreeMap<i32, &Arc<Pod>>,
    actions: &mut Vec<Action>,
) -> bool {
    let condemned: Vec<_> =
        by_ordinal.iter().rev().filter(|(ordinal, _)| !parameters.ordinals().contains(ordinal)).collect();
    let unhealthy = condemned.iter().filter(|(_, pod)| !is_healthy(pod, parameters, observed.now)).count();
    for (_, pod) in &condemned {
        if kind::is_deleting(pod.as_ref()) {
            if parameters.ordered {
                return false;
            }
            continue;
        }
        // In order, an unhealthy pod must go or recover before a healthy one above it is removed.
        let healthy = is_healthy(pod, parameters, observed.now);
        if parameters.ordered && healthy && unhealthy > 0 {
            return false;
        }
        actions.push(Action::Condemn((**pod).clone()));
        if parameters.ordered {
            return false;
        }
    }
    true
}

/// The highest outdated pod, unless one above the partition is not healthy yet.
fn replace_outdated(
    observed: &Observed<'_>,
    parameters: &Parameters,
    by_ordinal: &BTreeMap<i32, &Arc<Pod>>,
) -> Option<Action> {
    let lowest = parameters.first.saturating_add(parameters.partition);
    for ordinal in parameters.ordinals().rev().take_while(|ordinal| *ordinal >= lowest) {
        let pod = by_ordinal.get(&ordinal)?;
        if kind::is_deleting(pod.as_ref()) {
            return None;
        }
        if identity::revision(pod) != observed.update {
            return Some(Action::Recreate((*pod).clone()));
        }
        if !is_healthy(pod, parameters, observed.now) {
            return None;
        }
    }
    None
}

/// The template a pod to be created gets: below the partition (or, without one, as long as the rollout has not come that far)
/// the current one.
fn version(observed: &Observed<'_>, parameters: &Parameters, ordinal: i32) -> Version {
    let position = ordinal - parameters.first;
    let current = if parameters.has_partition {
        position < parameters.partition
    } else {
        // Counted afresh: the status still counts a pod that was just deleted to be replaced.
        let remaining =
            observed.pods.iter().filter(|pod| identity::revision(pod) == observed.current).count();
        position < saturated(remaining)
    };
    if current && !parameters.on_delete { Version::Current } else { Version::Update }
}

/// The status of the set with these pods.
pub fn status(observed: &Observed<'_>) -> StatefulSetStatus {
    let parameters = Parameters::of(observed.set);
    let previous = observed.set.status.clone().unwrap_or_default();
    let pods: Vec<&Arc<Pod>> =
        observed.pods.iter().filter(|pod| identity::ordinal(observed.set, pod).is_some()).collect();
    let count = |test: &dyn Fn(&Pod) -> bool| saturated(pods.iter().filter(|pod| test(pod)).count());
    let ready = |pod: &Pod| pod::phase(pod) == "Running" && pod::is_ready(pod);
    let of = |revision: &str, pod: &Pod| identity::revision(pod) == revision && !kind::is_deleting(pod);
    let mut status = StatefulSetStatus {
        replicas: count(&|_| true),
        ready_replicas: Some(count(&ready)),
        available_replicas: Some(count(&|pod| {
            ready(pod) && pod::is_available(pod, parameters.min_ready_seconds, observed.now)
        })),
        current_replicas: Some(count(&|pod| of(observed.current, pod))),
        updated_replicas: Some(count(&|pod| of(observed.update, pod))),
        current_revision: Some(observed.current.to_owned()),
        update_revision: Some(observed.update.to_owned()),
        observed_generation: observed.set.metadata.generation,
        collision_count: previous.collision_count,
        conditions: previous.conditions,
    };
    let complete = status.updated_replicas == Some(parameters.replicas)
        && status.ready_replicas == Some(parameters.replicas)
        && status.replicas == parameters.replicas;
    if complete && !parameters.on_delete {
        // The rollout is over: what was being rolled out is what the pods have.
        status.current_revision = Some(observed.update.to_owned());
        status.current_replicas = status.updated_replicas;
    }
    status
}
