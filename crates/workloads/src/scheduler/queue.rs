//! The queue of pods to be scheduled. Pure data: time is passed in.
//!
//! A pod is *active* (to be tried now, the most important and longest waiting first), *backing off* after a failed try, or
//! *parked* until something happens in the cluster that could make it fit.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use super::{filter::Rule, pod_info::PodInfo};

/// Back-off after the first failed try; doubled for each further one.
const BACKOFF_BASE: Duration = Duration::from_secs(1);
/// The longest back-off.
const BACKOFF_LIMIT: Duration = Duration::from_secs(10);
/// A parked pod is tried again after this time whatever happens, in case an event was misjudged.
const PARKED_LIMIT: Duration = Duration::from_secs(300);

/// What happened in the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happening {
    /// A node appeared, or one changed its labels, taints or size.
    NodeChanged,
    /// A pod left a node, so that room became free.
    PodLeft,
    /// A pod came to a node or changed its labels.
    PodPlaced,
    /// A claim, volume or storage class changed.
    VolumeChanged,
}

impl Happening {
    /// Whether this can make a pod fit that failed by `rule`.
    fn can_resolve(self, rule: Rule) -> bool {
        match self {
            Self::NodeChanged => true,
            Self::PodLeft => {
                matches!(rule, Rule::Resources | Rule::HostPorts | Rule::PodAffinity | Rule::Spread)
            }
            Self::PodPlaced => matches!(rule, Rule::PodAffinity | Rule::Spread),
            Self::VolumeChanged => rule == Rule::Volumes,
        }
    }
}

/// The order of active pods.
type Rank = (Reverse<i32>, Instant, u64);

#[derive(Debug, Clone, Copy)]
enum Place {
    Active(Rank),
    /// Until its time.
    BackingOff(Instant),
    /// Until something happens, at the latest until its time.
    Parked(Instant),
    /// Handed out and not yet heard of again.
    InFlight,
}

#[derive(Debug)]
struct Entry {
    pod: Arc<PodInfo>,
    place: Place,
    attempts: u32,
    /// When the last try ended.
    tried: Instant,
    /// When it was first queued; decides among equals.
    queued: Instant,
    serial: u64,
    /// What the last try failed by.
    rules: BTreeSet<Rule>,
    /// What has happened while it was in flight.
    missed: Vec<Happening>,
}

/// The queue. See the module documentation.
#[derive(Debug, Default)]
pub struct SchedulingQueue {
    entries: HashMap<String, Entry>,
    active: BTreeMap<Rank, String>,
    /// When pods that back off or are parked become active.
    timers: BTreeSet<(Instant, String)>,
    /// Pods that a happening can concern: parked ones and those in flight.
    attentive: HashSet<String>,
    serial: u64,
}

impl SchedulingQueue {
    /// Queues a new pod, or takes note of a change of one. A change makes a parked pod active again.
    pub fn add(&mut self, pod: Arc<PodInfo>, now: Instant) {
        let uid = pod.uid().to_owned();
        if let Some(entry) = self.entries.get_mut(&uid) {
            entry.pod = pod;
            if matches!(entry.place, Place::Parked(_)) {
                self.release(&uid, now);
            } else if matches!(entry.place, Place::InFlight) {
                entry.missed.push(Happening::NodeChanged);
            }
            return;
        }
        self.serial += 1;
        let entry = Entry {
            pod,
            place: Place::InFlight,
            attempts: 0,
            tried: now,
            queued: now,
            serial: self.serial,
            rules: BTreeSet::new(),
            missed: Vec::new(),
        };
        self.entries.insert(uid.clone(), entry);
        self.activate(&uid);
    }

    /// The pod needs no scheduling any more.
    pub fn remove(&mut self, uid: &str) {
        self.unplace(uid);
        self.entries.remove(uid);
    }

    /// The next pod to try, if one is due.
    pub fn pop(&mut self, now: Instant) -> Option<Arc<PodInfo>> {
        self.promote(now);
        let (_, uid) = self.active.pop_first()?;
        let entry = self.entries.get_mut(&uid)?;
        entry.place = Place::InFlight;
        entry.missed.clear();
        entry.attempts = entry.attempts.saturating_add(1);
        self.attentive.insert(uid);
        Some(entry.pod.clone())
    }

    /// The pod that was handed out fits nowhere: it waits for a happening that could change that.
    pub fn park(&mut self, uid: &str, rules: BTreeSet<Rule>, now: Instant) {
        let Some(entry) = self.entries.get_mut(uid) else { return };
        entry.tried = now;
        entry.rules = rules;
        let missed = std::mem::take(&mut entry.missed);
        if missed.iter().any(|happening| can_resolve_any(*happening, &entry.rules)) {
            return self.back_off(uid);
        }
        self.place(uid, Place::Parked(now + PARKED_LIMIT));
    }

    /// The pod that was handed out could not be bound, or something else failed that may work next time.
    pub fn retry(&mut self, uid: &str, now: Instant) {
        if let Some(entry) = self.entries.get_mut(uid) {
            entry.tried = now;
            self.back_off(uid);
        }
    }

    /// Something happened: parked pods that it could help are tried again, once their back-off is over.
    pub fn happened(&mut self, happening: Happening, now: Instant) {
        let mut helped = Vec::new();
        for uid in &self.attentive {
            let Some(entry) = self.entries.get_mut(uid) else { continue };
            match entry.place {
                Place::Parked(_) if entry.rules.is_empty() || can_resolve_any(happening, &entry.rules) => {
                    helped.push(uid.clone());
                }
                Place::InFlight if !entry.missed.contains(&happening) => entry.missed.push(happening),
                _ => {}
            }
        }
        for uid in helped {
            self.release(&uid, now);
        }
    }

    /// When the next pod becomes due without anything happening.
    pub fn next_due(&self) -> Option<Instant> {
        self.timers.first().map(|(due, _)| *due)
    }

    /// The pod as queued.
    pub fn get(&self, uid: &str) -> Option<&Arc<PodInfo>> {
        self.entries.get(uid).map(|entry| &entry.pod)
    }

    /// Pods that wait in whatever state.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no pod waits.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Moves what is due to the active pods.
    fn promote(&mut self, now: Instant) {
        while let Some((due, uid)) = self.timers.first().cloned() {
            if due > now {
                break;
            }
            self.activate(&uid);
        }
    }

    /// Ends parking: to the active pods, or to back-off if that is not over.
    fn release(&mut self, uid: &str, now: Instant) {
        let Some(entry) = self.entries.get(uid) else { return };
        if entry.tried + backoff(entry.attempts) > now { self.back_off(uid) } else { self.activate(uid) }
    }

    fn activate(&mut self, uid: &str) {
        let Some(entry) = self.entries.get(uid) else { return };
        self.place(uid, Place::Active((Reverse(entry.pod.priority()), entry.queued, entry.serial)));
    }

    fn back_off(&mut self, uid: &str) {
        let Some(entry) = self.entries.get(uid) else { return };
        self.place(uid, Place::BackingOff(entry.tried + backoff(entry.attempts)));
    }

    fn place(&mut self, uid: &str, place: Place) {
        self.unplace(uid);
        let Some(entry) = self.entries.get_mut(uid) else { return };
        entry.place = place;
        match place {
            Place::Active(rank) => {
                self.active.insert(rank, uid.to_owned());
            }
            Place::BackingOff(due) => {
                self.timers.insert((due, uid.to_owned()));
            }
            Place::Parked(due) => {
                self.timers.insert((due, uid.to_owned()));
                self.attentive.insert(uid.to_owned());
            }
            Place::InFlight => {
                self.attentive.insert(uid.to_owned());
            }
        }
    }

    fn unplace(&mut self, uid: &str) {
        self.attentive.remove(uid);
        match self.entries.get(uid).map(|entry| entry.place) {
            Some(Place::Active(rank)) => {
                self.active.remove(&rank);
            }
            Some(Place::BackingOff(due) | Place::Parked(due)) => {
                self.timers.remove(&(due, uid.to_owned()));
            }
            Some(Place::InFlight) | None => {}
        }
    }
}

fn can_resolve_any(happening: Happening, rules: &BTreeSet<Rule>) -> bool {
    rules.iter().any(|rule| happening.can_resolve(*rule))
}

fn backoff(attempts: u32) -> Duration {
    let factor = 1u32.checked_shl(attempts.saturating_sub(1).min(31)).unwrap_or(u32::MAX);
    BACKOFF_BASE.saturating_mul(factor).min(BACKOFF_LIMIT)
}
