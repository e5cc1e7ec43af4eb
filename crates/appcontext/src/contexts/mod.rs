//! AppContexts in a store.
//!
//! | module | what it does |
//! |---|---|
//! | `create` | a context appears as a whole, or not at all |
//! | `read` | whole contexts, at one revision |
//! | `edit`, `changes` | changes by compare-and-swap; what is different, in transactions |
//! | `sync` | what the synchroniser keeps, and statuses |
//! | `delete` | all of a context goes; what was left half done |
//! | `watch` | changes as they happen |
//!
//! A context is there when the key `/context/<id>/` is. It is written last and deleted first, so that a half-written context is never
//! seen. What is needed beside EMCO's keys lies below [`OWN`]:
//!
//! - `unfinished/<id>`: a context is being made or deleted. Every transaction of its maker requires this key to be as the maker wrote it;
//!   so whoever begins anew stops whoever began before.
//! - `edits/<id>`: an edit that is too large for one transaction. It has a lease, so that it ends with its editor.

mod changes;
mod create;
mod delete;
mod edit;
mod read;
mod sync;
mod watch;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use drystone_store::{
    Compare, CompareTarget, KeyRange, Operation, RangeRequest, Revision, Store, StoreError, Txn, TxnResponse,
};

pub use self::{
    create::Creation,
    read::{Loaded, Summary},
    sync::{StatusUpdate, StatusValue},
    watch::{ContextChange, ContextChanges},
};
use crate::{
    codec,
    names::{ContextId, NameError},
};

/// Where everything lies that is not EMCO's.
pub const OWN: &str = "/drystone/appcontext/";

/// How long others' large edits are waited for: longer than the lease of one that was left.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(150);

/// How often a change is made anew that others were quicker with.
const TRIES: u32 = 64;

/// Something that cannot be done with an AppContext.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AppContextError {
    /// There is no such context.
    #[error("there is no AppContext {0}")]
    NotFound(ContextId),
    /// A name cannot be part of a key.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Others change the context all the time.
    #[error("AppContext {0} is being changed by others all the time; try again")]
    Contention(ContextId),
    /// Somebody else has begun to make the context, or to delete it.
    #[error("AppContext {0} is being made or deleted by another one; ask again what has become of it")]
    Overtaken(ContextId),
    /// A value is larger than the store takes.
    #[error("{key} has {bytes} bytes; this store takes at most {most}")]
    TooLarge {
        /// Whose value.
        key: String,
        /// Its size.
        bytes: usize,
        /// The most that there may be.
        most: usize,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How much fits into one transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most operations, and most comparisons.
    pub operations: usize,
    /// Most bytes of keys and values; a single value may have this many too.
    pub bytes: usize,
}

impl Limits {
    /// What every etcd takes: 128 operations and 1.5 MiB, of which something is left for what stores add.
    pub const ETCD: Self = Self { operations: 120, bytes: 1_400_000 };

    /// What the embedded store takes.
    pub const EMBEDDED: Self = Self { operations: 4000, bytes: 8 * 1024 * 1024 };
}

/// The AppContexts of a store. Clones share it.
#[derive(Clone)]
pub struct AppContexts {
    store: Arc<dyn Store>,
    limits: Limits,
    /// Since when contexts are there, as far as it is known: what statuses are written under the condition of.
    roots: Arc<Mutex<HashMap<ContextId, Revision>>>,
}

impl std::fmt::Debug for AppContexts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AppContexts").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl AppContexts {
    /// The AppContexts of a store, in transactions as every etcd takes them.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self::with_limits(store, Limits::ETCD)
    }

    /// The AppContexts of a store that takes larger, or only smaller, transactions.
    pub fn with_limits(store: Arc<dyn Store>, limits: Limits) -> Self {
        let limits = Limits { operations: limits.operations.max(8), bytes: limits.bytes.max(1024) };
        Self { store, limits, roots: Arc::default() }
    }

    /// The store.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    fn roots(&self) -> std::sync::MutexGuard<'_, HashMap<ContextId, Revision>> {
        self.roots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn txn(
        &self,
        compare: Vec<Compare>,
        success: Vec<Operation>,
    ) -> Result<TxnResponse, AppContextError> {
        Ok(self.store.txn(Txn { compare, success, failure: Vec::new() }).await?)
    }

    /// The revision at which a context was made.
    async fn created_at(&self, id: ContextId) -> Result<Revision, AppContextError> {
        if let Some(known) = self.roots().get(&id) {
            return Ok(*known);
        }
        let request =
            RangeRequest { keys_only: true, ..RangeRequest::new(KeyRange::single(codec::prefix(id))) };
        let found = self.store.range(request).await?;
        let root = found.kvs.first().ok_or(AppContextError::NotFound(id))?;
        self.roots().insert(id, root.create_revision);
        Ok(root.create_revision)
    }

    fn forget(&self, id: ContextId) {
        self.roots().remove(&id);
    }
}

fn unfinished_key(id: ContextId) -> Bytes {
    format!("{OWN}unfinished/{id}").into()
}

fn edit_key(id: ContextId) -> Bytes {
    format!("{OWN}edits/{id}").into()
}

/// Holds while a key has been changed last at this revision; 0 is for a key that is not there.
fn unchanged(key: impl Into<Bytes>, revision: Revision) -> Compare {
    Compare { key: key.into(), target: CompareTarget::ModRevision(revision) }
}

/// Holds while nothing below a prefix has been written after a revision.
fn untouched(prefix: String, revision: Revision) -> Compare {
    let KeyRange { start, end } = KeyRange::prefix(prefix);
    Compare { key: start, target: CompareTarget::NotChangedSince { end: end.unwrap_or_default(), revision } }
}

/// Holds while a key is the one that was made at this revision.
fn same(key: impl Into<Bytes>, created: Revision) -> Compare {
    Compare { key: key.into(), target: CompareTarget::CreateRevision(created) }
}

fn put(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Operation {
    Operation::Put { key: key.into(), value: value.into(), lease: 0 }
}

fn remove(key: impl Into<Bytes>) -> Operation {
    Operation::Delete(KeyRange::single(key))
}

/// Waits before a change is made anew: a little longer each time, and not as long as others do.
async fn pause(attempt: u32) {
    let most = 5_u64 << attempt.min(6);
    let milliseconds = rand::random_range(1..=most);
    tokio::time::sleep(std::time::Duration::from_millis(milliseconds)).await;
}
