//! A store that keeps large values once, however many keys have them, over any other store: the manifests of an application are the same
//! on all of its clusters. Those who use it cannot tell.
//!
//! | module | what it does |
//! |---|---|
//! | `layout` | keys and values as the store below has them; pure |
//! | `index` | which values there are, and how many keys have each |
//! | `reading` | values for what was read; a cache |
//! | `writing` | transactions |
//! | `collect` | values that no key has any more |
//!
//! A large value is kept under its digest, SHA-256 over a secret of the store and the value, so that who sees the keys cannot tell whether
//! a guess at a value is right. It is written in the transaction that writes the first key that has it: no key is ever without its value. How
//! many keys have a value is counted in memory, and anew when the store is opened; so a value goes only when no key has it, and some
//! time after that, for who still reads an old revision. A value under a lease is not kept by digest, for leases end by themselves.
//!
//! Everything that is kept lies below `u` (keys), `b` (values) and `s` (the secret), so that those who use the store can neither see nor
//! delete what is only the store's. The store below must not be written to by anybody else.

mod collect;
mod index;
mod layout;
mod reading;
#[cfg(test)]
mod tests;
mod writing;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use drystone_store::{
    LeaseId, LeaseTime, RangeRequest, RangeResponse, Revision, Store, StoreError, Txn, TxnResponse,
    WatchRequest, WatchStream, embedded,
};
use futures::StreamExt as _;
use tokio::sync::RwLock;

use self::{index::Index, layout::Digest, reading::Cache};

/// What is kept in the store below, for whoever has to say what of it is to be encrypted.
pub const KEPT: &[&str] = &["b", "s", "u"];

/// What is kept once, and for how long.
#[derive(Debug, Clone)]
pub struct DedupOptions {
    /// Values below these prefixes are kept once.
    pub prefixes: Vec<Bytes>,
    /// Values that are larger, in bytes, are kept once.
    pub larger_than: usize,
    /// How long a value stays that no key has: longer than the store below has history for.
    pub grace: Duration,
    /// Memory for values that were read, in bytes.
    pub cache_bytes: usize,
}

impl Default for DedupOptions {
    fn default() -> Self {
        Self {
            prefixes: vec![Bytes::from_static(crate::codec::CONTEXTS.as_bytes())],
            larger_than: 512,
            grace: Duration::from_secs(900),
            cache_bytes: 32 * 1024 * 1024,
        }
    }
}

impl DedupOptions {
    /// Limits of an embedded store below: what is kept once is written beside what is asked for, so that there it takes more than whoever
    /// writes into this store may ask for at once ([`Limits::EMBEDDED`](crate::Limits::EMBEDDED)).
    pub fn below() -> embedded::Options {
        embedded::Options {
            max_request_operations: 16_384,
            max_request_bytes: 64 << 20,
            ..embedded::Options::default()
        }
    }
}

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Figures {
    /// Values that are kept by digest.
    pub values: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Keys that have one of them.
    pub references: u64,
    /// Bytes that these keys would take without that.
    pub referenced_bytes: u64,
}

struct Shared {
    below: Arc<dyn Store>,
    options: DedupOptions,
    secret: [u8; 32],
    index: Mutex<Index>,
    cache: Mutex<Cache>,
    digests: Mutex<Digests>,
    /// Transactions share it; who removes values has it alone.
    gate: RwLock<()>,
}

/// The store.
pub struct Deduplicated {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Deduplicated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Deduplicated").field("options", &self.shared.options).finish_non_exhaustive()
    }
}

impl Deduplicated {
    /// Opens the store over `below`, which nobody else may write to. Reads all of its keys.
    ///
    /// # Errors
    /// [`StoreError`] if the store below fails.
    pub async fn open(below: Arc<dyn Store>, options: DedupOptions) -> Result<Arc<Self>, StoreError> {
        let secret = collect::secret(below.as_ref()).await?;
        let cache = Mutex::new(Cache::of(options.cache_bytes));
        let index = Mutex::new(Index::default());
        let digests = Mutex::default();
        let shared = Shared { below, options, secret, index, cache, digests, gate: RwLock::new(()) };
        shared.count().await?;
        Ok(Arc::new(Self { shared: Arc::new(shared) }))
    }

    /// How much is kept.
    pub fn figures(&self) -> Figures {
        self.shared.index().figures()
    }
}

impl Shared {
    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The digest under which a value is kept, if it is.
    fn digest(&self, key: &[u8], value: &Bytes) -> Option<Digest> {
        let options = &self.options;
        let is_kept = value.len() > options.larger_than
            && options.prefixes.iter().any(|prefix| key.starts_with(prefix));
        if !is_kept {
            return None;
        }
        let mut digests = self.digests.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = digests.get(value) {
            return Some(known);
        }
        drop(digests);
        let digest = layout::digest(&self.secret, value);
        digests = self.digests.lock().unwrap_or_else(PoisonError::into_inner);
        digests.put(value, digest, options.cache_bytes / 2);
        Some(digest)
    }
}

/// Digests of the very bytes that were written last: who writes a value under a thousand keys mostly hands over the same bytes each time.
#[derive(Debug, Default)]
struct Digests {
    by_address: HashMap<(usize, usize), (Bytes, Digest)>,
    bytes: usize,
}

impl Digests {
    fn get(&self, value: &Bytes) -> Option<Digest> {
        self.by_address.get(&(value.as_ptr().addr(), value.len())).map(|(_, digest)| *digest)
    }

    /// The bytes are kept with the digest, so that no others come to be at their address.
    fn put(&mut self, value: &Bytes, digest: Digest, most: usize) {
        if self.bytes + value.len() > most {
            self.by_address.clear();
            self.bytes = 0;
        }
        if value.len() <= most {
            self.bytes += value.len();
            self.by_address.insert((value.as_ptr().addr(), value.len()), (value.clone(), digest));
        }
    }
}

#[async_trait::async_trait]
impl Store for Deduplicated {
    async fn range(&self, request: RangeRequest) -> Result<RangeResponse, StoreError> {
        self.shared.range(request).await
    }

    async fn txn(&self, txn: Txn) -> Result<TxnResponse, StoreError> {
        let shared = Arc::clone(&self.shared);
        // Carried to its end even if who asked for it does not wait: what was written has to be counted.
        let carried_out = tokio::spawn(async move { shared.txn(txn).await });
        carried_out.await.map_err(|_| StoreError::Closed)?
    }

    async fn watch(&self, request: WatchRequest) -> Result<WatchStream, StoreError> {
        let request = WatchRequest { range: layout::range(&request.range), ..request };
        let stream = self.shared.below.watch(request).await?;
        let shared = Arc::clone(&self.shared);
        Ok(Box::pin(stream.then(move |batch| {
            let shared = Arc::clone(&shared);
            async move { shared.batch(batch?).await }
        })))
    }

    async fn lease_grant(&self, ttl_seconds: u64) -> Result<LeaseId, StoreError> {
        self.shared.below.lease_grant(ttl_seconds).await
    }

    async fn lease_grant_as(&self, lease: LeaseId, ttl_seconds: u64) -> Result<(), StoreError> {
        self.shared.below.lease_grant_as(lease, ttl_seconds).await
    }

    async fn lease_keep_alive(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.shared.below.lease_keep_alive(lease).await
    }

    async fn lease_time_to_live(&self, lease: LeaseId) -> Result<LeaseTime, StoreError> {
        self.shared.below.lease_time_to_live(lease).await
    }

    async fn lease_keys(&self, lease: LeaseId) -> Result<Vec<Bytes>, StoreError> {
        let keys = self.shared.below.lease_keys(lease).await?;
        Ok(keys.iter().map(layout::key_of).collect())
    }

    async fn lease_revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.shared.below.lease_revoke(lease).await
    }

    async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        self.shared.below.compact(revision).await
    }

    async fn revision(&self) -> Result<Revision, StoreError> {
        self.shared.below.revision().await
    }
}
