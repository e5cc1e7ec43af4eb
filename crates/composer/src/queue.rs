//! Who is served first. Requests wait in order of priority, then age. Hosts that a request ahead in this order could have now
//! are kept for it; hosts that it needs and that are free while it waits for others are kept for a bounded time, so that a
//! large request is not starved by small ones that come later, and no hosts lie idle for ever. Pure.

use std::{cmp::Reverse, collections::HashMap, sync::Arc};

use drystone_api::{Composition, CompositionMode, CompositionPhase};
use drystone_engine::reference::reference_to;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt as _;

use crate::{
    model::Snapshot,
    plan::{Freed, Request, possible},
};

/// How long a waiting request keeps hosts from those behind it.
pub const HOLD_BACK: SignedDuration = SignedDuration::from_mins(10);

/// Most requests ahead that are looked at.
const MAX_AHEAD: usize = 8;

/// A request for which hosts are held back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Which, for people: `Composition/research/mlops`.
    pub name: String,
    /// Its priority.
    pub priority: i32,
    /// How many free hosts are held back for it.
    pub hosts: usize,
    /// Until when at the latest.
    pub until: Timestamp,
}

/// What is held back for others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HeldBack {
    /// Hosts by position in the snapshot, with for whom.
    pub hosts: HashMap<usize, String>,
    /// For whom, in their order.
    pub holders: Vec<Holder>,
}

impl HeldBack {
    /// For people.
    pub fn wording(&self) -> String {
        let each = self.holders.iter().map(|holder| {
            format!(
                "{} hosts are held back for {} (priority {}), until {:.0} at the latest",
                holder.hosts, holder.name, holder.priority, holder.until
            )
        });
        each.collect::<Vec<_>>().join("; ")
    }
}

type Rank = (Reverse<i32>, Option<Timestamp>, String, String);

/// The place of a request in the queue: the least first.
pub fn rank(composition: &Composition) -> Rank {
    let created = composition.metadata.creation_timestamp.as_ref().map(|time| time.0);
    let priority = Reverse(composition.spec.effective_priority());
    (priority, created, composition.namespace().unwrap_or_default(), composition.name_any())
}

/// Whether a composition wants hosts that it does not have.
pub fn is_waiting(composition: &Composition) -> bool {
    if composition.metadata.deletion_timestamp.is_some() || composition.spec.mode == CompositionMode::Preview
    {
        return false;
    }
    let Some(status) = &composition.status else { return true };
    let current = status.observed_generation == composition.metadata.generation;
    match status.phase {
        CompositionPhase::Pending | CompositionPhase::Reserving | CompositionPhase::Infeasible => true,
        CompositionPhase::Reserved | CompositionPhase::Expired | CompositionPhase::Previewed => !current,
        CompositionPhase::Releasing => false,
    }
}

/// What is held back from `own` for requests ahead of it.
pub fn held_back(
    own: &Composition,
    all: &[Arc<Composition>],
    snapshot: &Snapshot,
    now: Timestamp,
) -> HeldBack {
    let mine = rank(own);
    let is_own =
        |other: &Composition| (other.namespace(), other.name_any()) == (own.namespace(), own.name_any());
    let ahead = all.iter().filter(|other| !is_own(other) && is_waiting(other));
    let mut ahead: Vec<(Rank, &Arc<Composition>)> = ahead.map(|other| (rank(other), other)).collect();
    ahead.retain(|(rank, _)| *rank < mine);
    ahead.sort_by(|a, b| a.0.cmp(&b.0));
    let mut held = HeldBack::default();
    for (_, other) in ahead.into_iter().take(MAX_AHEAD) {
        hold(other, snapshot, now, &mut held);
    }
    held
}

fn hold(other: &Composition, snapshot: &Snapshot, now: Timestamp, held: &mut HeldBack) {
    let status = other.status.clone().unwrap_or_default();
    let since = status.waiting_since.map_or(now, |since| since.0);
    let until = since.checked_add(HOLD_BACK).unwrap_or(Timestamp::MAX);
    if until <= now {
        return;
    }
    let owner = reference_to(other);
    let name = owner.to_string();
    let mut request = Request::new(owner, &other.spec, &status.members);
    request.held.clone_from(&held.hosts);
    let wanted = possible(&request, snapshot).or_else(|| {
        request.freed = Freed::Everybody;
        possible(&request, snapshot)
    });
    let Some(wanted) = wanted else { return };
    let free = wanted.into_iter().flatten().filter(|position| snapshot.hosts[*position].consumer.is_none());
    let free: Vec<usize> = free.collect();
    if free.is_empty() {
        return;
    }
    let (hosts, priority) = (free.len(), other.spec.effective_priority());
    held.hosts.extend(free.into_iter().map(|position| (position, name.clone())));
    held.holders.push(Holder { name, priority, hosts, until });
}
