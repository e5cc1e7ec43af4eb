//! What a Deployment does next: which ReplicaSets to create, resize, annotate or delete, and its status. Pure.
//!
//! One call plans one stage. Each stage is safe by itself whatever the state is, and the changes it makes lead to the next.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet};

use super::{
    history::{self, History},
    scale::{Sized, Sizes, size},
    status::{self, Milestone},
    strategy::Strategy,
};
use crate::kind;

/// What the planner looks at.
pub struct Observed<'a> {
    /// The Deployment.
    pub deployment: &'a Deployment,
    /// The ReplicaSets it controls.
    pub replica_sets: &'a [Arc<ReplicaSet>],
    /// Whether a pod of an old ReplicaSet still runs (asked only by the Recreate strategy).
    pub old_pods_running: &'a dyn Fn(&[Arc<ReplicaSet>]) -> bool,
    /// The time.
    pub now: Timestamp,
}

/// One write.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Create the ReplicaSet of the present template.
    Create(Box<ReplicaSet>),
    /// Resize or annotate.
    Update {
        /// As it is.
        old: Arc<ReplicaSet>,
        /// As it should be.
        new: Box<ReplicaSet>,
    },
    /// Delete a ReplicaSet beyond the history limit.
    Delete(Arc<ReplicaSet>),
    /// Show this revision number at the Deployment.
    SetRevision(i64),
}

/// What to do, in order.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Writes; a failing one stops the rest.
    pub actions: Vec<Action>,
    /// The status to show.
    pub status: DeploymentStatus,
    /// Look again after this time even if nothing changes.
    pub again_after: Option<Duration>,
}

/// Plans the next stage.
pub fn plan(observed: &Observed<'_>) -> Plan {
    let deployment = observed.deployment;
    let strategy = Strategy::of(deployment);
    let history = History::of(deployment, observed.replica_sets);
    let mut status = status::counts(deployment, &history);
    status::set_availability(&mut status, &strategy, &history, observed.now);
    if kind::is_deleting(deployment) {
        return Plan { actions: Vec::new(), status, again_after: None };
    }
    let pause_changed = status::note_pause(&mut status, &strategy, observed.now);
    let resized = history.all().any(|set| size(set) > 0 && was_scaled_for_another_size(set, &strategy));
    let stage = if strategy.paused || resized {
        keep_balance(deployment, &history, &strategy)
    } else {
        roll_out(observed, &history, &strategy, &status)
    };
    if !strategy.paused && !pause_changed {
        let created = stage.actions.iter().find_map(|action| match action {
            Action::Create(set) => Some(kind::name(set.as_ref())),
            _ => None,
        });
        let found = history.current.as_ref().map(|set| Milestone::Found(kind::name(set.as_ref())));
        let milestone = created.map(Milestone::Created).or(found);
        status::set_progress(deployment, &mut status, &strategy, &history, milestone, observed.now);
    }
    let again_after = status::until_deadline(&status, &strategy, observed.now);
    Plan { actions: stage.actions, status, again_after }
}

#[derive(Default)]
struct Stage {
    actions: Vec<Action>,
}

fn was_scaled_for_another_size(set: &ReplicaSet, strategy: &Strategy) -> bool {
    history::recorded(set, history::DESIRED_REPLICAS).is_some_and(|desired| desired != strategy.replicas)
}

/// The size was changed, or the rollout is paused: no change of template is followed now.
fn keep_balance(deployment: &Deployment, history: &History, strategy: &Strategy) -> Stage {
    let mut stage = Stage::default();
    let mut sizes = Sizes::of(history);
    sizes.spread(strategy);
    for sized in sizes.iter() {
        let mut new = sized.set.as_ref().clone();
        if sized.size > 0 || size(&sized.set) > 0 {
            resize(&mut new, sized.size, strategy);
        }
        push_update(&mut stage.actions, &sized.set, new);
    }
    if strategy.paused {
        expire(&mut stage.actions, history, strategy);
    }
    stage.actions.extend(revision_shown(deployment, history.current.as_deref()));
    stage
}

/// Replaces old pods by new ones.
fn roll_out(
    observed: &Observed<'_>,
    history: &History,
    strategy: &Strategy,
    status: &DeploymentStatus,
) -> Stage {
    let mut stage = Stage::default();
    let mut sizes = Sizes::of(history);
    if strategy.recreate {
        if sizes.empty_old() {
            push_sizes(&mut stage.actions, &sizes, strategy);
            return stage;
        }
        if (observed.old_pods_running)(&history.old) {
            return stage;
        }
    }
    let revision = history.next_revision();
    let Some(current) = &history.current else {
        let replicas = sizes.size_of_current(strategy, 0);
        let set = history::new_replica_set(observed.deployment, strategy, revision, replicas);
        stage.actions.push(Action::Create(Box::new(set)));
        stage.actions.push(Action::SetRevision(revision));
        return stage;
    };
    let mut annotated = current.as_ref().clone();
    history::annotate(&mut annotated, observed.deployment, revision);
    if let Some(spec) = &mut annotated.spec
        && spec.min_ready_seconds.unwrap_or(0) != strategy.min_ready_seconds
    {
        spec.min_ready_seconds = Some(strategy.min_ready_seconds);
    }
    let grown = sizes.grow_current(strategy);
    if let Some(sized) = sizes.current.as_ref().filter(|_| grown) {
        resize(&mut annotated, sized.size, strategy);
    }
    stage.actions.extend(revision_shown(observed.deployment, Some(&annotated)));
    let before = stage.actions.len();
    push_update(&mut stage.actions, current, annotated);
    if grown || stage.actions.len() > before {
        return stage;
    }
    if !strategy.recreate && sizes.shrink_old(strategy) {
        push_sizes(&mut stage.actions, &sizes, strategy);
    } else if status::is_complete(status, strategy) {
        expire(&mut stage.actions, history, strategy);
    }
    stage
}

/// The Deployment shows the revision of its current ReplicaSet.
fn revision_shown(deployment: &Deployment, current: Option<&ReplicaSet>) -> Option<Action> {
    let wanted = history::revision(current?);
    let shown = kind::annotation(deployment, history::REVISION);
    (wanted > 0 && shown != Some(wanted.to_string().as_str())).then_some(Action::SetRevision(wanted))
}

fn push_sizes(actions: &mut Vec<Action>, sizes: &Sizes, strategy: &Strategy) {
    for Sized { set, size } in sizes.changed() {
        let mut new = set.as_ref().clone();
        resize(&mut new, *size, strategy);
        push_update(actions, set, new);
    }
}

fn push_update(actions: &mut Vec<Action>, old: &Arc<ReplicaSet>, new: ReplicaSet) {
    if *old.as_ref() != new {
        actions.push(Action::Update { old: old.clone(), new: Box::new(new) });
    }
}

fn resize(set: &mut ReplicaSet, replicas: i32, strategy: &Strategy) {
    set.spec.get_or_insert_default().replicas = Some(replicas);
    history::annotate_scale(set, strategy);
}

/// Deletes the oldest empty ReplicaSets beyond the history limit.
fn expire(actions: &mut Vec<Action>, history: &History, strategy: &Strategy) {
    let Some(limit) = strategy.revision_history_limit else { return };
    let mut candidates: Vec<_> =
        history.old.iter().filter(|set| !kind::is_deleting(set.as_ref())).cloned().collect();
    let surplus = candidates.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
    candidates.sort_by_key(|set| history::revision(set));
    actions.extend(candidates.into_iter().take(surplus).filter(|set| is_empty(set)).map(Action::Delete));
}

/// Wants no pods, has none, and its controller knows.
fn is_empty(set: &ReplicaSet) -> bool {
    let status = set.status.clone().unwrap_or_default();
    size(set) == 0 && status.replicas == 0 && set.metadata.generation <= status.observed_generation
}
