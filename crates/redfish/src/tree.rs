//! Every resource that a service shows, as finished bodies with their entity tags, by URI.
//!
//! Reading is a look-up: nothing is parsed, serialized or hashed. Whoever knows resources, an *owner*, puts [`Item`]s; what an
//! owner no longer has goes. Collections are declared, and the tree makes their bodies out of the members that there are.
//! What changed comes out of [`Tree::changes`]. The tree is a cache: after a start it is filled anew.

mod body;
mod kind;
mod pack;
#[cfg(test)]
mod tests;
mod writer;

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::broadcast;

pub use kind::Kind;
pub(crate) use kind::described_by;
use kind::{KindIndex, Kinds};
use pack::{Packed, Samples};
use writer::{Mark, Writer};

/// Locks that readers of different resources share the tree by.
const SHARDS: usize = 32;
/// Members that one page of a collection lists.
pub const PAGE: usize = 2_500;
/// Replacements that a slow listener to changes may be behind.
const CHANGES: usize = 4_096;

/// Something that an owner knows.
#[derive(Debug, Clone)]
pub enum Item {
    /// A resource: an object with `@odata.id` and `@odata.type`. A collection's body, known by its type, declares it; the
    /// members it lists are not looked at.
    Resource(Value),
    /// A collection: `/redfish/v1/Fabrics/F/Zones` of schema `Zone`. Its members are the resources right below it.
    Collection {
        /// Its URI.
        uri: String,
        /// Schema of its members.
        schema: String,
        /// What its body says beside its members: an object of annotations, or null.
        annotations: Value,
    },
    /// One more member of a collection, that is elsewhere: a block in a pool.
    Member {
        /// URI of the collection.
        collection: String,
        /// URI of the member.
        uri: String,
    },
    /// One more link of a resource of any owner. `path` leads to a list, or, where `single`, to the link itself:
    /// `Links/Zones`, `Zones`.
    Link {
        /// URI of the resource.
        from: String,
        /// Names of the properties, divided by slashes.
        path: &'static str,
        /// Where it leads.
        to: String,
        /// Whether the property is one link, and no list.
        single: bool,
    },
}

impl Item {
    /// A collection.
    pub fn collection(uri: impl Into<String>, schema: &str) -> Self {
        Self::Collection { uri: uri.into(), schema: schema.to_owned(), annotations: Value::Null }
    }

    /// A collection that says more than what its members are.
    pub fn annotated_collection(uri: impl Into<String>, schema: &str, annotations: Value) -> Self {
        Self::Collection { uri: uri.into(), schema: schema.to_owned(), annotations }
    }

    /// A link in a list of links.
    pub fn link(from: impl Into<String>, path: &'static str, to: impl Into<String>) -> Self {
        Self::Link { from: from.into(), path, to: to.into(), single: false }
    }
}

/// What happened to a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChangeKind {
    /// It was not there before.
    Created,
    /// Its body is another one.
    Changed,
    /// It is gone.
    Removed,
}

/// Two bodies of a resource.
pub type BeforeAndAfter = (Arc<[u8]>, Arc<[u8]>);

/// A resource that changed. Collections are not told of: their members are.
#[derive(Debug, Clone)]
pub struct Change {
    /// What happened.
    pub kind: ChangeKind,
    /// The resource.
    pub uri: Arc<str>,
    /// Its type.
    pub odata_type: Arc<Kind>,
    /// Its body before and after, if it changed: some events tell what is different.
    pub bodies: Option<BeforeAndAfter>,
}

#[derive(Debug, Clone)]
enum Entry {
    Resource { body: Packed, kind: KindIndex },
    Collection(Box<CollectionEntry>),
}

#[derive(Debug, Clone)]
struct CollectionEntry {
    kind: KindIndex,
    /// The first page and the list of all members; none until somebody asks for them.
    page: Option<Bytes>,
    listed: Option<Arc<Listed>>,
    /// Properties beside the members, as JSON without braces.
    more: Option<Arc<str>>,
}

type Shard = HashMap<Arc<str>, Entry>;

/// The members of a collection as they are between two changes.
#[derive(Debug, Default)]
pub(crate) struct Listed {
    /// URIs, sorted.
    uris: Box<[Arc<str>]>,
    /// Stands for the set of them.
    mark: Mark,
}

/// Some members of a collection.
#[derive(Debug, Clone, PartialEq)]
pub struct Stretch {
    /// The collection's body with these members and the number of all.
    pub body: Value,
    /// Number of all members.
    pub total: usize,
}

/// The resources of a service.
#[derive(Debug)]
pub struct Tree {
    shards: Vec<RwLock<Shard>>,
    hasher: RandomState,
    kinds: Kinds,
    samples: Samples,
    writer: Mutex<Writer>,
    changes: broadcast::Sender<Arc<[Change]>>,
}

impl Default for Tree {
    fn default() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
            hasher: RandomState::new(),
            kinds: Kinds::default(),
            samples: Samples::default(),
            writer: Mutex::default(),
            changes: broadcast::Sender::new(CHANGES),
        }
    }
}

/// A resource, ready to be served.
#[derive(Debug, Clone)]
pub struct Ready {
    /// The body.
    pub body: Bytes,
    /// Its type.
    pub kind: Arc<Kind>,
}

impl Ready {
    /// The entity tag, quotes included.
    pub fn etag(&self) -> Option<String> {
        body::etag(&self.body)
    }

    /// The body, to be sent without being copied.
    pub fn bytes(&self) -> Bytes {
        self.body.clone()
    }

    /// The body as a value.
    pub fn value(&self) -> Option<Value> {
        serde_json::from_slice(&self.body).ok()
    }
}

impl Tree {
    /// The resource at a URI without a slash at its end; of a collection the first page.
    pub fn get(&self, uri: &str) -> Option<Ready> {
        let (body, kind) = match self.read(uri).get(uri)? {
            Entry::Resource { body, kind } => (self.samples.unpack(body), *kind),
            Entry::Collection(entry) => (entry.page.clone().unwrap_or_default(), entry.kind),
        };
        // No body is empty: a page that is has not been made yet.
        let body = if body.is_empty() { self.first_page(uri)? } else { body };
        Some(Ready { body, kind: self.kinds.get(kind)? })
    }

    /// Whether there is a resource at a URI.
    pub fn contains(&self, uri: &str) -> bool {
        self.read(uri).contains_key(uri)
    }

    /// The resource at a URI as a value; of a collection all members, whatever pages there are.
    pub fn value(&self, uri: &str) -> Option<Value> {
        let body = match self.read(uri).get(uri)? {
            Entry::Resource { body, .. } => Some(self.samples.unpack(body)),
            Entry::Collection(_) => None,
        };
        match body {
            Some(body) => serde_json::from_slice(&body).ok(),
            None => self.stretch(uri, 0, usize::MAX).map(|stretch| stretch.body),
        }
    }

    /// At most `limit` members of a collection after the first `skip`, in its body; `None` for what is no collection. Costs what
    /// these members cost, and only after a change what the collection is long.
    pub fn stretch(&self, uri: &str, skip: usize, limit: usize) -> Option<Stretch> {
        let (kind, listed, more) = match self.read(uri).get(uri)? {
            Entry::Collection(entry) => (entry.kind, entry.listed.clone(), entry.more.clone()),
            Entry::Resource { .. } => return None,
        };
        let listed = listed.or_else(|| self.list(uri))?;
        let total = listed.uris.len();
        let from = skip.min(total);
        let some = &listed.uris[from..from.saturating_add(limit).min(total)];
        let whole = body::Whole {
            uri,
            kind: &*self.kinds.get(kind)?,
            more: more.as_deref(),
            total,
            mark: listed.mark,
        };
        let body = body::collection(&whole, some, None);
        Some(Stretch { body: serde_json::from_slice(&body).ok()?, total })
    }

    /// URIs of the members of a collection, sorted; empty if it is none.
    pub fn members(&self, uri: &str) -> Vec<Arc<str>> {
        self.lock().members(uri)
    }

    /// Puts everything that an owner knows in the place of what it knew before, and returns what is different. If several
    /// owners know a resource, the body that was put last counts.
    pub fn replace(&self, owner: &str, items: impl IntoIterator<Item = Item>) -> Vec<Change> {
        self.apply(|writer| writer.replace(self, owner, items))
    }

    /// Adds or changes single items of an owner.
    pub fn put(&self, owner: &str, items: impl IntoIterator<Item = Item>) -> Vec<Change> {
        self.apply(|writer| writer.put(self, owner, items))
    }

    /// Removes resources of an owner, by URI.
    pub fn remove(&self, owner: &str, uris: &[String]) -> Vec<Change> {
        self.apply(|writer| writer.remove(self, owner, uris))
    }

    /// Owners that have something in the tree.
    pub fn owners(&self) -> Vec<String> {
        self.lock().owners()
    }

    /// What changes from now on; the changes of one replacement come together. Who is too slow is told that he missed some.
    pub fn changes(&self) -> broadcast::Receiver<Arc<[Change]>> {
        self.changes.subscribe()
    }

    /// Every type that a resource has or had.
    pub fn types(&self) -> Vec<Arc<Kind>> {
        self.kinds.all()
    }

    /// URIs of all resources and collections, in no order.
    pub fn uris(&self) -> Vec<Arc<str>> {
        let shards = self.shards.iter().map(|shard| shard.read().unwrap_or_else(PoisonError::into_inner));
        shards.flat_map(|shard| shard.keys().cloned().collect::<Vec<_>>()).collect()
    }

    fn apply(&self, change: impl FnOnce(&mut Writer) -> Vec<Change>) -> Vec<Change> {
        let mut writer = self.lock();
        let changes = change(&mut writer);
        if !changes.is_empty() {
            // Inside the lock, so that changes come out in the order in which they were made. Nobody listening is no error.
            let _ = self.changes.send(changes.clone().into());
        }
        changes
    }

    /// Makes the first page of a collection and keeps it until a member comes or goes.
    fn first_page(&self, uri: &str) -> Option<Bytes> {
        let writer = self.lock();
        let listed = writer.list(uri);
        let (total, shown) = (listed.uris.len(), &listed.uris[..PAGE.min(listed.uris.len())]);
        let next = (shown.len() < total).then_some(shown.len());
        // Still under the writer's lock: no member can come in between.
        match self.write(uri).get_mut(uri) {
            Some(Entry::Collection(entry)) => {
                let kind = self.kinds.get(entry.kind)?;
                let whole =
                    body::Whole { uri, kind: &kind, more: entry.more.as_deref(), total, mark: listed.mark };
                let made: Bytes = body::collection(&whole, shown, next).into();
                entry.page = Some(made.clone());
                Some(made)
            }
            _ => None,
        }
    }

    /// Lists the members of a collection and keeps the list until a member comes or goes.
    fn list(&self, uri: &str) -> Option<Arc<Listed>> {
        let writer = self.lock();
        let made = Arc::new(writer.list(uri));
        match self.write(uri).get_mut(uri) {
            Some(Entry::Collection(entry)) => entry.listed = Some(made.clone()),
            _ => return None,
        }
        Some(made)
    }

    fn lock(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn shard(&self, uri: &str) -> &RwLock<Shard> {
        let hash = self.hasher.hash_one(uri);
        let index = usize::try_from(hash % self.shards.len() as u64).unwrap_or(0);
        &self.shards[index]
    }

    fn read(&self, uri: &str) -> RwLockReadGuard<'_, Shard> {
        self.shard(uri).read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, uri: &str) -> RwLockWriteGuard<'_, Shard> {
        self.shard(uri).write().unwrap_or_else(PoisonError::into_inner)
    }
}
