//! The status of a Deployment and its conditions. Pure.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus, ReplicaSet, ReplicaSetStatus},
    apimachinery::pkg::apis::meta::v1::Time,
};

use super::{history::History, strategy::Strategy};
use crate::kind;

const AVAILABLE: &str = "Available";
const PROGRESSING: &str = "Progressing";
const REPLICA_FAILURE: &str = "ReplicaFailure";
const NEW_AVAILABLE: &str = "NewReplicaSetAvailable";
const TIMED_OUT: &str = "ProgressDeadlineExceeded";
const PAUSED: &str = "DeploymentPaused";

/// The counts, without conditions, as the ReplicaSets report them.
pub fn counts(deployment: &Deployment, history: &History) -> DeploymentStatus {
    let status = |set: &ReplicaSet| set.status.clone().unwrap_or_default();
    let sum = |count: &dyn Fn(&ReplicaSetStatus) -> i32| -> i32 {
        history.all().map(|set| count(&status(set))).sum()
    };
    let wanted: i32 = history.all().map(|set| super::scale::size(set)).sum();
    let available = sum(&|status| status.available_replicas.unwrap_or(0));
    let previous = deployment.status.clone().unwrap_or_default();
    // Zero is written as absence, as Kubernetes does.
    let shown = |count: i32| Some(count).filter(|count| *count != 0);
    DeploymentStatus {
        replicas: shown(sum(&|status| status.replicas)),
        updated_replicas: shown(history.current.as_ref().map_or(0, |set| status(set).replicas)),
        ready_replicas: shown(sum(&|status| status.ready_replicas.unwrap_or(0))),
        available_replicas: shown(available),
        unavailable_replicas: shown((wanted - available).max(0)),
        terminating_replicas: Some(sum(&|status| status.terminating_replicas.unwrap_or(0))),
        observed_generation: deployment.metadata.generation,
        collision_count: previous.collision_count,
        conditions: previous.conditions,
    }
}

/// Sets the conditions that hold in any case: availability, and failure of a ReplicaSet.
pub fn set_availability(
    status: &mut DeploymentStatus,
    strategy: &Strategy,
    history: &History,
    now: Timestamp,
) {
    if status.available_replicas.unwrap_or(0) >= strategy.min_available() {
        let message = "Deployment has minimum availability.";
        set(status, condition(AVAILABLE, "True", "MinimumReplicasAvailable", message), now);
    } else {
        let message = "Deployment does not have minimum availability.";
        set(status, condition(AVAILABLE, "False", "MinimumReplicasUnavailable", message), now);
    }
    let failure = history.all().find_map(|set| {
        let conditions = set.status.as_ref()?.conditions.as_ref()?;
        conditions.iter().find(|condition| condition.type_ == REPLICA_FAILURE)
    });
    match failure {
        Some(failure) => {
            let text = |value: &Option<String>| value.clone().unwrap_or_default();
            let (reason, message) = (text(&failure.reason), text(&failure.message));
            set(status, condition(REPLICA_FAILURE, &failure.status, &reason, &message), now);
        }
        None => remove(status, REPLICA_FAILURE),
    }
}

/// What this pass of the controller did that counts as progress in itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Milestone<'a> {
    /// A ReplicaSet of this name was created for a new template.
    Created(&'a str),
    /// A ReplicaSet of this name already had the template.
    Found(&'a str),
}

/// Sets the `Progressing` condition of a rollout.
pub fn set_progress(
    deployment: &Deployment,
    status: &mut DeploymentStatus,
    strategy: &Strategy,
    history: &History,
    milestone: Option<Milestone<'_>>,
    now: Timestamp,
) {
    let Some(deadline) = strategy.progress_deadline_seconds else {
        remove(status, PROGRESSING);
        return;
    };
    match milestone {
        Some(Milestone::Created(name)) => {
            let message = format!("Created new replica set \"{name}\"");
            return renew(status, condition(PROGRESSING, "True", "NewReplicaSetCreated", &message), now);
        }
        Some(Milestone::Found(name)) if find(status, PROGRESSING).is_none() => {
            let message = format!("Found new replica set \"{name}\"");
            return renew(status, condition(PROGRESSING, "True", "FoundNewReplicaSet", &message), now);
        }
        _ => {}
    }
    let reason = find(status, PROGRESSING).and_then(|condition| condition.reason.clone());
    let updated = status.updated_replicas == status.replicas;
    if updated && reason.as_deref() == Some(NEW_AVAILABLE) {
        return;
    }
    let subject = history.current.as_ref().map_or_else(
        || format!("Deployment \"{}\"", kind::name(deployment)),
        |current| format!("ReplicaSet \"{}\"", kind::name(current.as_ref())),
    );
    if is_complete(status, strategy) {
        let message = format!("{subject} has successfully progressed.");
        renew(status, condition(PROGRESSING, "True", NEW_AVAILABLE, &message), now);
    } else if has_progressed(deployment, status) {
        let message = format!("{subject} is progressing.");
        renew(status, condition(PROGRESSING, "True", "ReplicaSetUpdated", &message), now);
    } else if timed_out(status, deadline, now) && reason.as_deref() != Some(TIMED_OUT) {
        let message = format!("{subject} has timed out progressing.");
        renew(status, condition(PROGRESSING, "False", TIMED_OUT, &message), now);
    }
}

/// Notes in the `Progressing` condition that the rollout was paused or resumed, so that the deadline does not count then.
/// Returns whether the condition changed.
pub fn note_pause(status: &mut DeploymentStatus, strategy: &Strategy, now: Timestamp) -> bool {
    if strategy.progress_deadline_seconds.is_none() {
        return false;
    }
    let reason = find(status, PROGRESSING).and_then(|condition| condition.reason.as_deref());
    if reason == Some(TIMED_OUT) {
        return false;
    }
    let was_paused = reason == Some(PAUSED);
    if strategy.paused == was_paused {
        return false;
    }
    let (reason, message) = if strategy.paused {
        (PAUSED, "Deployment is paused")
    } else {
        ("DeploymentResumed", "Deployment is resumed")
    };
    renew(status, condition(PROGRESSING, "Unknown", reason, message), now);
    true
}

/// Whether all wanted pods are of the new template and available, and no other remains.
pub fn is_complete(status: &DeploymentStatus, strategy: &Strategy) -> bool {
    [status.updated_replicas, status.replicas, status.available_replicas]
        .iter()
        .all(|count| count.unwrap_or(0) == strategy.replicas)
}

fn has_progressed(deployment: &Deployment, status: &DeploymentStatus) -> bool {
    let before = deployment.status.clone().unwrap_or_default();
    let old = |status: &DeploymentStatus| status.replicas.unwrap_or(0) - status.updated_replicas.unwrap_or(0);
    status.updated_replicas > before.updated_replicas
        || old(status) < old(&before)
        || status.ready_replicas > before.ready_replicas
        || status.available_replicas > before.available_replicas
}

fn timed_out(status: &DeploymentStatus, deadline: i32, now: Timestamp) -> bool {
    let Some(condition) = find(status, PROGRESSING) else { return false };
    if matches!(condition.reason.as_deref(), Some(NEW_AVAILABLE | PAUSED)) {
        return false;
    }
    let Some(last) = &condition.last_update_time else { return false };
    now.duration_since(last.0) > SignedDuration::from_secs(deadline.into())
}

/// When to look again whether the deadline has passed; `None` if the rollout is complete, paused or already timed out.
pub fn until_deadline(status: &DeploymentStatus, strategy: &Strategy, now: Timestamp) -> Option<Duration> {
    let deadline = strategy.progress_deadline_seconds?;
    let condition = find(status, PROGRESSING)?;
    if is_complete(status, strategy) || matches!(condition.reason.as_deref(), Some(TIMED_OUT | PAUSED)) {
        return None;
    }
    let last = condition.last_update_time.as_ref()?.0;
    let left = SignedDuration::from_secs(deadline.into()) - now.duration_since(last);
    Some(left.max(SignedDuration::ZERO).unsigned_abs() + Duration::from_secs(1))
}

fn condition(type_: &str, status: &str, reason: &str, message: &str) -> DeploymentCondition {
    DeploymentCondition {
        type_: type_.into(),
        status: status.into(),
        reason: Some(reason.into()),
        message: Some(message.into()),
        ..Default::default()
    }
}

fn find<'a>(status: &'a DeploymentStatus, type_: &str) -> Option<&'a DeploymentCondition> {
    status.conditions.iter().flatten().find(|condition| condition.type_ == type_)
}

fn remove(status: &mut DeploymentStatus, type_: &str) {
    if let Some(conditions) = &mut status.conditions {
        conditions.retain(|condition| condition.type_ != type_);
    }
}

/// Sets a condition; one with the same status and reason stays as it is.
fn set(status: &mut DeploymentStatus, new: DeploymentCondition, now: Timestamp) {
    let same = |old: &DeploymentCondition| old.status == new.status && old.reason == new.reason;
    if find(status, &new.type_).is_some_and(same) {
        return;
    }
    renew(status, new, now);
}

/// Sets a condition and its update time; the transition time moves only with the status.
fn renew(status: &mut DeploymentStatus, mut new: DeploymentCondition, now: Timestamp) {
    let transition = find(status, &new.type_)
        .filter(|old| old.status == new.status)
        .and_then(|old| old.last_transition_time.clone());
    new.last_transition_time = transition.or(Some(Time(now)));
    new.last_update_time = Some(Time(now));
    let conditions = status.conditions.get_or_insert_default();
    match conditions.iter_mut().find(|old| old.type_ == new.type_) {
        Some(old) => *old = new,
        None => conditions.push(new),
    }
}
