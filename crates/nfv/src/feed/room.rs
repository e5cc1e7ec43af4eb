//! The objects of one kind by their identifiers, with an index of the attributes that are asked for most.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::Bound,
    sync::{Arc, OnceLock, PoisonError, RwLock},
    time::Duration,
};

use drystone_engine::{
    harness::{Cache, Change, WatchedObject},
    reference::ObjectKey,
};
use drystone_sol003::{filter::Filter, selector::Selector, types::ApiVersion};
use futures::StreamExt as _;
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::render::{Around, Body};

/// How long a watch may be behind what was written.
const BEHIND: Duration = Duration::from_secs(10);

/// A kind that clients see.
pub(crate) trait Shown: WatchedObject {
    /// What it is called in messages.
    const WHAT: &'static str;
    /// Attributes that lists leave out unless they are asked for.
    const DEFAULT_EXCLUDED: &'static [&'static str];

    /// Names of the attributes that are indexed.
    const INDEX: &'static [&'static str];

    /// Values of the attributes in `INDEX`: texts that are direct members of the body, in both versions.
    fn indexed(&self) -> Vec<(&'static str, String)>;

    /// The body that stands for it, without what is secret.
    fn body(&self, around: &Around, version: ApiVersion) -> Value;
}

/// An object with what was made of it so far.
#[derive(Debug)]
pub(crate) struct Entry<K> {
    /// Its identifier: the uid.
    pub(crate) id: Arc<str>,
    /// The object.
    pub(crate) object: Arc<K>,
    around: Arc<Around>,
    made: [Made; 2],
}

/// What is made of an object in one version when it is first asked for.
#[derive(Debug, Default)]
struct Made {
    value: OnceLock<Value>,
    listed: OnceLock<Body>,
}

impl<K: Shown> Entry<K> {
    fn new(id: Arc<str>, object: Arc<K>, around: Arc<Around>) -> Self {
        Self { id, object, around, made: <[Made; 2]>::default() }
    }

    fn made(&self, version: ApiVersion) -> &Made {
        let [first, second] = &self.made;
        match version {
            ApiVersion::V1 => first,
            ApiVersion::V2 => second,
        }
    }

    /// Everything that is told of it.
    pub(crate) fn value(&self, version: ApiVersion) -> &Value {
        self.made(version).value.get_or_init(|| self.object.body(&self.around, version))
    }

    /// What lists tell of it if nothing is selected.
    fn listed(&self, version: ApiVersion) -> &Body {
        self.made(version).listed.get_or_init(|| {
            // Made on the side: the whole is large, and is not needed again as long as nobody filters by it.
            let whole = self.made(version).value.get();
            let whole = whole.map_or_else(|| self.object.body(&self.around, version), Value::clone);
            Body::new(&Selector::Default.apply(&whole, K::DEFAULT_EXCLUDED))
        })
    }

    /// What is selected of it.
    fn write(&self, selector: &Selector, version: ApiVersion, base: &str, into: &mut Vec<u8>) {
        match selector {
            Selector::Default | Selector::ExcludeDefault => self.listed(version).write(base, into),
            Selector::All => Body::new(self.value(version)).write(base, into),
            other => Body::new(&other.apply(self.value(version), K::DEFAULT_EXCLUDED)).write(base, into),
        }
    }

    /// Everything, as bytes.
    pub(crate) fn bytes(&self, version: ApiVersion, base: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        Body::new(self.value(version)).write(base, &mut bytes);
        bytes
    }
}

#[derive(Debug)]
struct State<K> {
    entries: BTreeMap<Arc<str>, Arc<Entry<K>>>,
    ids: HashMap<ObjectKey, Arc<str>>,
    index: HashMap<(&'static str, String), BTreeSet<Arc<str>>>,
}

impl<K> Default for State<K> {
    fn default() -> Self {
        Self { entries: BTreeMap::new(), ids: HashMap::new(), index: HashMap::new() }
    }
}

/// A list as it is asked for.
#[derive(Debug)]
pub(crate) struct Listing<'a> {
    pub(crate) filter: &'a Filter,
    pub(crate) selector: &'a Selector,
    pub(crate) version: ApiVersion,
    /// Only what comes after this identifier.
    pub(crate) after: Option<&'a str>,
    /// Most entries.
    pub(crate) most: usize,
    /// Most bytes; one entry there is always.
    pub(crate) most_bytes: usize,
    pub(crate) base: &'a str,
}

/// The objects of a kind. Cheap to clone.
#[derive(Debug)]
pub(crate) struct Room<K> {
    state: Arc<RwLock<State<K>>>,
    cache: Cache<K>,
    around: Arc<Around>,
    ready: watch::Receiver<bool>,
    changed: Arc<watch::Sender<u64>>,
}

impl<K> Clone for Room<K> {
    fn clone(&self) -> Self {
        Self {
            state: self.state.clone(),
            cache: self.cache.clone(),
            around: self.around.clone(),
            ready: self.ready.clone(),
            changed: self.changed.clone(),
        }
    }
}

impl<K: Shown> Room<K> {
    /// Follows a watch until `shutdown`. Must be called inside a Tokio runtime.
    pub(crate) fn start(cache: Cache<K>, around: &Arc<Around>, shutdown: &CancellationToken) -> Self {
        let (is_ready, ready) = watch::channel(false);
        let changed = Arc::new(watch::Sender::new(0));
        let room = Self { state: Arc::default(), cache, around: around.clone(), ready, changed };
        let follower = room.clone();
        tokio::spawn(shutdown.clone().run_until_cancelled_owned(async move {
            let mut changes = std::pin::pin!(follower.cache.changes());
            if !follower.cache.ready().await {
                return;
            }
            follower.take_all();
            let _ = is_ready.send(true);
            while let Some(change) = changes.next().await {
                match change {
                    Change::Object(object) => follower.take(&ObjectKey::of(object.as_ref())),
                    Change::Missed => follower.take_all(),
                }
            }
        }));
        room
    }

    /// Completes when everything is there; `false` if the service stopped before.
    pub(crate) async fn ready(&self) -> bool {
        self.ready.clone().wait_for(|ready| *ready).await.is_ok()
    }

    /// A number that is another one after every change.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Takes up everything anew.
    pub(crate) fn take_all(&self) {
        self.write(|state, around| {
            *state = State::default();
            self.cache.list().into_iter().for_each(|object| state.put(object, around));
        });
    }

    /// Takes up what the watch has of an object now. That is looked up while the state is held: of two that take up the same object, the
    /// one that looked first must not have the last word.
    pub(crate) fn take(&self, key: &ObjectKey) {
        self.write(|state, around| match self.cache.get(key) {
            Some(object) => state.put(object, around),
            None => state.remove(key),
        });
    }

    fn write(&self, change: impl FnOnce(&mut State<K>, &Arc<Around>)) {
        change(&mut self.state.write().unwrap_or_else(PoisonError::into_inner), &self.around);
        self.changed.send_modify(|number| *number += 1);
    }

    fn read<T>(&self, look: impl FnOnce(&State<K>) -> T) -> T {
        look(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The object with an identifier.
    pub(crate) fn get(&self, id: &str) -> Option<Arc<Entry<K>>> {
        self.read(|state| state.entries.get(id).cloned())
    }

    /// The objects with this value of an indexed attribute, by identifier.
    pub(crate) fn with(&self, attribute: &'static str, value: &str) -> Vec<Arc<Entry<K>>> {
        self.read(|state| {
            let ids = state.index.get(&(attribute, value.to_owned())).into_iter().flatten();
            ids.filter_map(|id| state.entries.get(id).cloned()).collect()
        })
    }

    /// All objects, by identifier.
    pub(crate) fn all(&self) -> Vec<Arc<Entry<K>>> {
        self.read(|state| state.entries.values().cloned().collect())
    }

    /// A list as JSON, and where it goes on if it does not end there.
    pub(crate) fn list(&self, listing: &Listing<'_>) -> (Vec<u8>, Option<Arc<str>>) {
        self.read(|state| {
            let after = listing.after.map_or(Bound::Unbounded, Bound::Excluded);
            match state.candidates(listing.filter) {
                Some(ids) => {
                    let ids = ids.into_iter().filter(|id| listing.after.is_none_or(|after| ***id > *after));
                    // The index has answered a filter of one expression already.
                    let answered = listing.filter.expressions().len() == 1;
                    write_list(ids.filter_map(|id| state.entries.get(id)), answered, listing)
                }
                None => {
                    let range = state.entries.range::<str, _>((after, Bound::Unbounded));
                    let everything = listing.filter.expressions().is_empty();
                    write_list(range.map(|(_, entry)| entry), everything, listing)
                }
            }
        })
    }

    /// Waits until an object shows as it was written, or newer: whoever reads next must see it.
    pub(crate) async fn seen(&self, written: &K) {
        let version = |object: &K| object.meta().resource_version.as_ref()?.parse::<u64>().ok();
        let wanted = version(written);
        let id = written.meta().uid.clone().unwrap_or_default();
        let is_there = |entry: &Entry<K>| version(&entry.object) >= wanted;
        if !self.until(BEHIND, || self.get(&id).is_some_and(|entry| is_there(&entry))).await {
            tracing::warn!(kind = %K::kind(&()), "the watch is far behind what was written");
        }
    }

    /// Waits until an object does not show any more.
    pub(crate) async fn unseen(&self, id: &str) {
        if !self.until(BEHIND, || self.get(id).is_none()).await {
            tracing::warn!(kind = %K::kind(&()), "the watch is far behind what was deleted");
        }
    }

    /// Waits until something is so, and looks after every change; whether it came true in time.
    pub(crate) async fn until(&self, limit: Duration, is_so: impl Fn() -> bool) -> bool {
        let mut changes = self.changes();
        let waiting = async {
            while !is_so() {
                if changes.changed().await.is_err() {
                    return false;
                }
            }
            true
        };
        tokio::time::timeout(limit, waiting).await.unwrap_or(false)
    }
}

impl<K: Shown> State<K> {
    fn put(&mut self, object: Arc<K>, around: &Arc<Around>) {
        let key = ObjectKey::of(object.as_ref());
        self.remove(&key);
        let Some(uid) = object.meta().uid.as_deref() else { return };
        // What is being deleted is gone for clients; what is done about that is not their business.
        if object.meta().deletion_timestamp.is_some() {
            return;
        }
        let id: Arc<str> = Arc::from(uid);
        for (name, value) in object.indexed() {
            self.index.entry((name, value)).or_default().insert(id.clone());
        }
        self.ids.insert(key, id.clone());
        self.entries.insert(id.clone(), Arc::new(Entry::new(id, object, around.clone())));
    }

    fn remove(&mut self, key: &ObjectKey) {
        let Some(id) = self.ids.remove(key) else { return };
        let Some(entry) = self.entries.remove(&id) else { return };
        for indexed in entry.object.indexed() {
            if let Some(ids) = self.index.get_mut(&indexed) {
                ids.remove(&id);
                if ids.is_empty() {
                    self.index.remove(&indexed);
                }
            }
        }
    }

    /// Identifiers of the only objects that can pass a filter, if the index knows; the fewest of what it knows.
    fn candidates(&self, filter: &Filter) -> Option<BTreeSet<&Arc<str>>> {
        let known = filter.expressions().iter().filter_map(|expression| {
            let attribute = expression.attribute.as_member()?;
            let values = expression.equals()?;
            if attribute == "id" {
                let found = values.filter_map(|id| self.entries.get_key_value(id).map(|(id, _)| id));
                return Some(found.collect::<BTreeSet<_>>());
            }
            let name = K::INDEX.iter().find(|name| **name == attribute)?;
            let found = values.filter_map(|value| self.index.get(&(*name, value.to_owned())));
            Some(found.flatten().collect())
        });
        known.min_by_key(BTreeSet::len)
    }
}

fn write_list<'a, K: Shown>(
    entries: impl Iterator<Item = &'a Arc<Entry<K>>>,
    everything: bool,
    listing: &Listing<'_>,
) -> (Vec<u8>, Option<Arc<str>>) {
    let mut body = vec![b'['];
    let (mut count, mut last) = (0, None);
    for entry in entries {
        if !everything && !listing.filter.matches(entry.value(listing.version)) {
            continue;
        }
        let before = body.len();
        if count == listing.most {
            return (finish(body, before), last);
        }
        if count > 0 {
            body.push(b',');
        }
        entry.write(listing.selector, listing.version, listing.base, &mut body);
        if body.len() >= listing.most_bytes && count > 0 {
            return (finish(body, before), last);
        }
        count += 1;
        last = Some(entry.id.clone());
    }
    let length = body.len();
    (finish(body, length), None)
}

fn finish(mut body: Vec<u8>, length: usize) -> Vec<u8> {
    body.truncate(length);
    body.push(b']');
    body
}
