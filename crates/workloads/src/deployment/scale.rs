//! Sizes of a Deployment's ReplicaSets: the steps of a rolling update, and spreading a change of size. Pure.
//!
//! Sizes are wanted ones (`spec.replicas`), availability is as reported. All functions change `size` only; the planner
//! turns the differences into writes.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::ReplicaSet;

use super::{
    history::{self, History},
    strategy::Strategy,
};

/// A ReplicaSet with the size it is to have.
#[derive(Debug, Clone)]
pub struct Sized {
    /// The ReplicaSet as it is.
    pub set: Arc<ReplicaSet>,
    /// The size it should get.
    pub size: i32,
}

impl Sized {
    /// Unchanged.
    pub fn new(set: Arc<ReplicaSet>) -> Self {
        let size = size(&set);
        Self { set, size }
    }

    /// Pods that are available and stay so. A ReplicaSet that was just shrunk still reports those it is about to delete.
    fn available(&self) -> i32 {
        available(&self.set).min(self.size)
    }
}

/// The ReplicaSets of a Deployment with the sizes they are to have.
#[derive(Debug, Clone)]
pub struct Sizes {
    /// The one with the Deployment's template, if it exists.
    pub current: Option<Sized>,
    /// The others, oldest first.
    pub old: Vec<Sized>,
}

/// The size a ReplicaSet wants.
pub fn size(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

fn available(set: &ReplicaSet) -> i32 {
    set.status.as_ref().and_then(|status| status.available_replicas).unwrap_or(0)
}

impl Sizes {
    /// The sizes as they are.
    pub fn of(history: &History) -> Self {
        Self {
            current: history.current.clone().map(Sized::new),
            old: history.old.iter().cloned().map(Sized::new).collect(),
        }
    }

    /// All, the current one first.
    pub fn iter(&self) -> impl Iterator<Item = &Sized> {
        self.current.iter().chain(&self.old)
    }

    /// Those whose size differs from what it is.
    pub fn changed(&self) -> impl Iterator<Item = &Sized> {
        self.iter().filter(|sized| sized.size != size(&sized.set))
    }

    fn total(&self) -> i32 {
        self.iter().map(|sized| sized.size).sum()
    }

    fn old_total(&self) -> i32 {
        self.old.iter().map(|sized| sized.size).sum()
    }

    /// The size of a current ReplicaSet that has `now` pods: as large as the surge allows.
    pub fn size_of_current(&self, strategy: &Strategy, now: i32) -> i32 {
        if strategy.recreate {
            return strategy.replicas;
        }
        let room = strategy.max_total() - self.total();
        if room <= 0 {
            return now;
        }
        now + room.min(strategy.replicas - now).max(0)
    }

    /// One step of a rolling update on the current ReplicaSet. Returns whether anything changed.
    pub fn grow_current(&mut self, strategy: &Strategy) -> bool {
        let Some(now) = self.current.as_ref().map(|current| current.size) else { return false };
        let wanted =
            if now > strategy.replicas { strategy.replicas } else { self.size_of_current(strategy, now) };
        if let Some(current) = &mut self.current {
            current.size = wanted;
        }
        wanted != now
    }

    /// One step of a rolling update on the old ReplicaSets: first those pods that are not available anyway, then as many
    /// as can be spared. Returns whether anything changed.
    pub fn shrink_old(&mut self, strategy: &Strategy) -> bool {
        if self.old_total() == 0 {
            return false;
        }
        let current_unavailable =
            self.current.as_ref().map_or(0, |current| current.size - current.available());
        let spare = self.total() - strategy.min_available() - current_unavailable;
        if spare <= 0 {
            return false;
        }
        let unhealthy = self.shrink_unhealthy(spare);
        let healthy = self.shrink_healthy(strategy);
        unhealthy + healthy > 0
    }

    fn shrink_unhealthy(&mut self, limit: i32) -> i32 {
        let mut removed = 0;
        for old in &mut self.old {
            let unhealthy = old.size - old.available();
            let step = unhealthy.min(limit - removed).max(0);
            old.size -= step;
            removed += step;
        }
        removed
    }

    fn shrink_healthy(&mut self, strategy: &Strategy) -> i32 {
        let all_available: i32 = self.iter().map(Sized::available).sum();
        let limit = all_available - strategy.min_available();
        let mut removed = 0;
        for old in &mut self.old {
            let step = old.size.min(limit - removed).max(0);
            old.size -= step;
            removed += step;
        }
        removed
    }

    /// Gives all old ReplicaSets the size 0. Returns whether anything changed.
    pub fn empty_old(&mut self) -> bool {
        let before = self.old_total();
        for old in &mut self.old {
            old.size = 0;
        }
        before != 0
    }

    /// The user changed the size (or the rollout is paused): only one active ReplicaSet gets the new size; of several, each
    /// grows or shrinks in proportion, so that a rollout in progress keeps its balance.
    pub fn spread(&mut self, strategy: &Strategy) {
        if let Some(only) = self.only_active() {
            only.size = strategy.replicas;
            return;
        }
        if self.current.as_ref().is_some_and(|current| is_saturated(&current.set, strategy)) {
            self.empty_old();
            return;
        }
        if !strategy.recreate {
            self.spread_proportionally(strategy);
        }
    }

    /// The ReplicaSet to scale if at most one is active.
    fn only_active(&mut self) -> Option<&mut Sized> {
        let active = self.iter().filter(|sized| sized.size > 0).count();
        match active {
            0 if self.current.is_some() => self.current.as_mut(),
            0 => self.old.last_mut(),
            1 => self.current.iter_mut().chain(&mut self.old).find(|sized| sized.size > 0),
            _ => None,
        }
    }

    fn spread_proportionally(&mut self, strategy: &Strategy) {
        let allowed = if strategy.replicas > 0 { strategy.max_total() } else { 0 };
        let to_add = allowed - self.total();
        let mut active: Vec<&mut Sized> =
            self.current.iter_mut().chain(&mut self.old).filter(|sized| sized.size > 0).collect();
        // The largest takes what rounding leaves over; among equals the newest grows and the oldest shrinks.
        active.sort_by(|a, b| {
            let age = history::by_creation(&a.set, &b.set);
            b.size.cmp(&a.size).then(if to_add > 0 { age.reverse() } else { age })
        });
        let mut added = 0;
        for sized in &mut active {
            let share = share(sized, strategy, to_add - added, to_add > 0);
            sized.size += share;
            added += share;
        }
        if let Some(largest) = active.first_mut() {
            largest.size = (largest.size + to_add - added).max(0);
        }
    }
}

/// How much a ReplicaSet grows (or shrinks, negative), within what is left to distribute.
fn share(sized: &Sized, strategy: &Strategy, left: i32, growing: bool) -> i32 {
    if left == 0 {
        return 0;
    }
    let fraction = fraction(sized, strategy);
    if growing { fraction.clamp(0, left.max(0)) } else { fraction.clamp(left.min(0), 0) }
}

/// The change that keeps a ReplicaSet's part of the whole.
fn fraction(sized: &Sized, strategy: &Strategy) -> i32 {
    if strategy.replicas == 0 {
        return -sized.size;
    }
    let before = history::recorded(&sized.set, history::MAX_REPLICAS).filter(|max| *max > 0);
    let Some(before) = before else { return 0 };
    let scaled = i64::from(sized.size) * i64::from(strategy.max_total());
    // Rounded to the nearest.
    let wanted = (2 * scaled + i64::from(before)) / (2 * i64::from(before));
    i32::try_from(wanted).unwrap_or(i32::MAX) - sized.size
}

/// The current ReplicaSet is complete for the size recorded at it.
fn is_saturated(set: &ReplicaSet, strategy: &Strategy) -> bool {
    size(set) == strategy.replicas
        && history::recorded(set, history::DESIRED_REPLICAS) == Some(strategy.replicas)
        && available(set) == strategy.replicas
}
