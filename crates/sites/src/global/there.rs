//! What is known of a site: the objects delivered to it, and what it says of itself. Stays known while the site is cut off.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
    time::Duration,
};

use drystone_api::{SiteConflict, SiteStatus};
use drystone_engine::backoff::Backoff;
use kube::{core::DynamicObject, runtime::watcher::Event};
use serde::Deserialize as _;
use serde_json::Value;
use tokio::time::Instant;

use super::{
    declared::{Wanted, complete, key_of},
    kinds::position,
};
use crate::plan::{
    delivery::{Task, There, rounds},
    object::{Key, Parcel, has_arrived},
};

/// Conflicts that are remembered.
const CONFLICTS: usize = 16;

/// Delays after an object was refused.
const REFUSED: Backoff = Backoff { initial: Duration::from_secs(1), maximum: Duration::from_secs(300) };

/// An object that the site does not take.
#[derive(Debug)]
struct Refusal {
    version: String,
    why: String,
    failures: u32,
    again_at: Instant,
}

/// A state of an object at a site: another one whenever somebody has changed what was delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mark {
    uid: String,
    state: String,
}

impl Mark {
    /// The present state. The generation does not change with the status; what has none has no status either.
    pub(super) fn of(object: &DynamicObject) -> Self {
        let metadata = &object.metadata;
        let version = || metadata.resource_version.clone().unwrap_or_default();
        Self {
            uid: metadata.uid.clone().unwrap_or_default(),
            state: metadata.generation.map_or_else(version, |generation| generation.to_string()),
        }
    }
}

/// What is known of a site.
#[derive(Default)]
pub(super) struct Known {
    pub(super) wanted: Wanted,
    objects: BTreeMap<Key, There>,
    /// What was written, and the state that it made: as long as that lasts it has arrived, even if the site says it in other words, or
    /// keeps a field of its own.
    written: BTreeMap<Key, (String, Mark)>,
    /// Keys of a list that is being received, by kind.
    listing: BTreeMap<usize, HashSet<Key>>,
    listed: BTreeSet<usize>,
    refused: BTreeMap<Key, Refusal>,
    /// What the site says of itself.
    pub(super) site: Option<SiteStatus>,
    /// Newest first.
    pub(super) conflicts: Vec<SiteConflict>,
}

impl Known {
    /// A new connection: everything is listed again. What was known stays until then.
    pub(super) fn reconnect(&mut self) {
        self.listing.clear();
        self.listed.clear();
        self.written.clear();
        self.refused.clear();
    }

    /// Whether the objects of these kinds are known as they are now.
    pub(super) fn has_listed(&self, kinds: &BTreeSet<usize>) -> bool {
        kinds.is_subset(&self.listed)
    }

    /// Kinds of which something is wanted, or there.
    pub(super) fn concerned(&self) -> BTreeSet<usize> {
        self.wanted.parcels.keys().chain(self.objects.keys()).map(|key| key.kind).collect()
    }

    /// There is nothing of this kind, as a list says.
    pub(super) fn nothing_of(&mut self, kind: usize) {
        self.objects.retain(|key, _| key.kind != kind);
    }

    /// Something of the site's objects has changed, or is listed.
    pub(super) fn take(&mut self, kind: usize, event: Event<DynamicObject>) {
        match event {
            Event::Apply(object) => self.put(kind, object),
            Event::InitApply(object) => {
                self.listing.entry(kind).or_default().insert(key_of(kind, &object));
                self.put(kind, object);
            }
            Event::Delete(object) => self.lost(&key_of(kind, &object)),
            Event::Init => {
                self.listing.insert(kind, HashSet::new());
            }
            Event::InitDone => {
                let listed = self.listing.remove(&kind).unwrap_or_default();
                let gone: Vec<Key> = self
                    .objects
                    .keys()
                    .filter(|key| key.kind == kind && !listed.contains(*key))
                    .cloned()
                    .collect();
                gone.iter().for_each(|key| self.lost(key));
                self.listed.insert(kind);
            }
        }
    }

    fn put(&mut self, kind: usize, object: DynamicObject) {
        let key = key_of(kind, &object);
        let mark = Mark::of(&object);
        let value = complete(kind, object);
        self.hear(&key, &value);
        let written = self.written.get(&key);
        let is_settled = |parcel: &Parcel| {
            written.is_some_and(|(version, state)| *version == parcel.version && *state == mark)
        };
        let arrived =
            self.wanted.parcels.get(&key).filter(|parcel| is_settled(parcel) || has_arrived(parcel, &value));
        let arrived = arrived.map(|parcel| parcel.version.clone());
        self.objects.insert(key, There { uid: mark.uid, arrived });
    }

    /// What the site says of itself.
    fn hear(&mut self, key: &Key, value: &Value) {
        let status = &value["status"];
        if position("sites") == Some(key.kind) && status.is_object() {
            match SiteStatus::deserialize(status) {
                Ok(status) => self.site = Some(status),
                Err(error) => tracing::warn!(site = key.name, %error, "status of the site is not understood"),
            }
        }
    }

    fn lost(&mut self, key: &Key) {
        self.objects.remove(key);
        self.written.remove(key);
    }

    /// The site has taken an object as it is in the parcel.
    pub(super) fn written(&mut self, key: &Key, parcel: &Parcel, mark: Mark) {
        self.refused.remove(key);
        let there = There { uid: mark.uid.clone(), arrived: Some(parcel.version.clone()) };
        self.objects.insert(key.clone(), there);
        self.written.insert(key.clone(), (parcel.version.clone(), mark));
    }

    /// An object is not there any more.
    pub(super) fn removed(&mut self, key: &Key) {
        self.refused.remove(key);
        self.lost(key);
    }

    /// The site does not take an object.
    pub(super) fn refuse(&mut self, key: &Key, why: String) {
        let version = self.version(key);
        let before = self.refused.get(key).filter(|refusal| refusal.version == version);
        let failures = before.map_or(1, |refusal| refusal.failures.saturating_add(1));
        let again_at = Instant::now() + REFUSED.random_delay(failures);
        self.refused.insert(key.clone(), Refusal { version, why, failures, again_at });
    }

    fn version(&self, key: &Key) -> String {
        self.wanted.parcels.get(key).map(|parcel| parcel.version.clone()).unwrap_or_default()
    }

    /// Remembers a conflict.
    pub(super) fn conflict(&mut self, conflict: SiteConflict) {
        let is_same = |other: &SiteConflict| {
            (&other.object, &other.fields, &other.manager)
                == (&conflict.object, &conflict.fields, &conflict.manager)
        };
        self.conflicts.retain(|other| !is_same(other));
        self.conflicts.insert(0, conflict);
        self.conflicts.truncate(CONFLICTS);
    }

    /// When a task was refused that is as it was then: the time at which it is tried again.
    fn postponed(&self, task: &Task) -> Option<Instant> {
        let refusal = self.refused.get(task.key())?;
        (refusal.version == self.version(task.key())).then_some(refusal.again_at)
    }

    /// What is to be done now.
    pub(super) fn rounds(&self) -> Vec<Vec<Task>> {
        let now = Instant::now();
        let is_due = |task: &Task| self.postponed(task).is_none_or(|again_at| again_at <= now);
        let mut rounds = rounds(&self.wanted.parcels, &self.objects);
        rounds.iter_mut().for_each(|round| round.retain(is_due));
        rounds.retain(|round| !round.is_empty());
        rounds
    }

    /// Number of objects that have yet to be written or deleted.
    pub(super) fn pending(&self) -> u32 {
        let tasks: usize = rounds(&self.wanted.parcels, &self.objects).iter().map(Vec::len).sum();
        u32::try_from(tasks).unwrap_or(u32::MAX)
    }

    /// What the site does not take, and why.
    pub(super) fn refusals(&self) -> impl Iterator<Item = (&Key, &str)> {
        self.refused.iter().map(|(key, refusal)| (key, refusal.why.as_str()))
    }

    /// When the next refused object is tried again.
    pub(super) fn next_try(&self) -> Option<Instant> {
        let all = rounds(&self.wanted.parcels, &self.objects);
        all.iter().flatten().filter_map(|task| self.postponed(task)).min()
    }

    /// The parcel of an object.
    pub(super) fn parcel(&self, key: &Key) -> Option<Arc<Parcel>> {
        self.wanted.parcels.get(key).cloned()
    }
}
