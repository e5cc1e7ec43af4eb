//! A store that keeps the values below some prefixes encrypted, over any other store. Those who use it cannot tell: reads, watches and the
//! pairs that transactions return are in clear; what the store below holds is not.
//!
//! | module | what it does |
//! |---|---|
//! | `values` | which values are sealed, and opening what was read |
//! | `writing` | sealing what a transaction writes |
//! | `migration` | sealing what a store holds in clear |
//! | `rotation` | another data key, and everything rewritten with it |
//! | `opening` | opening the embedded store or etcd, and removing what was in clear from their files |
//!
//! Requests that touch none of the prefixes cost a comparison of keys.

mod migration;
mod opening;
mod rotation;
#[cfg(test)]
mod tests;
mod values;
mod writing;

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use drystone_store::{
    KeyRange, LeaseId, LeaseTime, RangeRequest, RangeResponse, Revision, Store, StoreError, Txn, TxnResponse,
    WatchRequest, WatchStream,
};
use futures::StreamExt as _;
use jiff::Timestamp;
use tokio::sync::Notify;

use crate::cipher::CryptoError;
use crate::key::SealingKey;
use crate::ring::{self, KeyId, Record, Ring, RingError};

pub use self::opening::{open_embedded, open_etcd};
pub use self::rotation::{KeyStatus, Status};

/// Where Kubernetes' Secrets lie in a store.
pub const SECRETS: &str = "/registry/core/secrets/";

/// A sealed store that cannot be opened, or not be changed.
#[derive(Debug, thiserror::Error)]
pub enum SealedStoreError {
    /// The data keys.
    #[error(transparent)]
    Ring(#[from] RingError),
    /// The store below.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There are sealed values and no data keys.
    #[error(
        "{key} is sealed, and the data keys of this store ({}…) are gone: restore the store from a backup",
        ring::PREFIX
    )]
    NoKeys {
        /// One of the values.
        key: String,
    },
    /// Values that do not open.
    #[error(
        "{} of the store's secrets do not open, among them {}: they are damaged, or were put where they do not belong. Restore the store \
         from a backup, or remove them with `drystone secrets remove-damaged` (in etcd: `etcdctl del KEY`), and make them again", .0.len(), shown(.0)
    )]
    Damaged(Vec<String>),
    /// Another server changes the data keys all the time.
    #[error("the data keys are being changed by another server; try again")]
    Contention,
    /// The cryptographic library failed.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
}

fn shown(keys: &[String]) -> String {
    keys.iter().take(5).cloned().collect::<Vec<_>>().join(", ")
}

/// What the store and its watches share.
struct Shared {
    below: Arc<dyn Store>,
    sealing: SealingKey,
    prefixes: Vec<Bytes>,
    ring: RwLock<Arc<Ring>>,
}

/// The store. Its `Debug` shows no key.
pub struct SealedStore {
    shared: Arc<Shared>,
    /// Wakes [`maintain`](Self::maintain).
    rotated: Notify,
}

impl fmt::Debug for SealedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealedStore").field("prefixes", &self.shared.prefixes).finish_non_exhaustive()
    }
}

impl SealedStore {
    /// Opens the store over `below`, whose values below `prefixes` are sealed under `sealing`. At the first time its data key is made, and
    /// whatever is there in clear is sealed; see [`has_remains`](Self::has_remains).
    ///
    /// # Errors
    /// [`SealedStoreError`] if the sealing key is another one than that of this store, or if any value does not open: nothing is
    /// changed then.
    pub async fn open(
        below: Arc<dyn Store>,
        sealing: SealingKey,
        prefixes: &[&str],
    ) -> Result<Arc<Self>, SealedStoreError> {
        let prefixes: Vec<Bytes> =
            prefixes.iter().map(|prefix| Bytes::copy_from_slice(prefix.as_bytes())).collect();
        let ring = ring_of(below.as_ref(), &sealing, &prefixes).await?;
        let shared = Shared { below, sealing, prefixes, ring: RwLock::new(Arc::new(ring)) };
        let store = Arc::new(Self { shared: Arc::new(shared), rotated: Notify::new() });
        store.migrate().await?;
        Ok(store)
    }

    /// The store below, with sealed values.
    pub fn below(&self) -> &Arc<dyn Store> {
        &self.shared.below
    }
}

/// The data keys of a store; of a new one, the first is made.
async fn ring_of(
    below: &dyn Store,
    sealing: &SealingKey,
    prefixes: &[Bytes],
) -> Result<Ring, SealedStoreError> {
    for _ in 0..8 {
        if let Some(ring) = Ring::read(below, sealing).await? {
            return Ok(ring);
        }
        for prefix in prefixes {
            if let Some(key) = first_sealed(below, prefix).await? {
                return Err(SealedStoreError::NoKeys { key });
            }
        }
        let first = KeyId(1);
        let record = Record::generate(first, sealing, Timestamp::now())?;
        // If another server was quicker, its key is read.
        below.txn(writing::create(ring::place(first), record.to_bytes(first)?)).await?;
    }
    Err(SealedStoreError::Contention)
}

async fn first_sealed(below: &dyn Store, prefix: &Bytes) -> Result<Option<String>, StoreError> {
    let found = below.range(RangeRequest::new(KeyRange::prefix(prefix.clone()))).await?;
    let sealed = found.kvs.iter().find(|pair| pair.value.starts_with(ring::MAGIC));
    Ok(sealed.map(|pair| String::from_utf8_lossy(&pair.key).into_owned()))
}

impl Shared {
    fn ring(&self) -> Arc<Ring> {
        Arc::clone(&self.ring.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the data keys again: another server may have made one.
    async fn reload(&self) -> Result<Arc<Ring>, StoreError> {
        let read = Ring::read(self.below.as_ref(), &self.sealing).await;
        let ring = read.map_err(|error| StoreError::Backend(error.to_string()))?;
        let ring = ring.ok_or_else(|| {
            StoreError::Backend("the data keys of this store are gone; restore it from a backup".into())
        })?;
        let ring = Arc::new(ring);
        *self.ring.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&ring);
        Ok(ring)
    }
}

#[async_trait::async_trait]
impl Store for SealedStore {
    async fn range(&self, request: RangeRequest) -> Result<RangeResponse, StoreError> {
        let shared = &self.shared;
        if request.keys_only || request.count_only || !shared.touches(&request.range) {
            return shared.below.range(request).await;
        }
        let mut found = shared.below.range(request).await?;
        shared.open_pairs(&mut found.kvs).await?;
        Ok(found)
    }

    async fn txn(&self, txn: Txn) -> Result<TxnResponse, StoreError> {
        if !self.shared.concerns(&txn) {
            return self.shared.below.txn(txn).await;
        }
        self.shared.sealed_txn(txn).await
    }

    async fn watch(&self, request: WatchRequest) -> Result<WatchStream, StoreError> {
        let touches = self.shared.touches(&request.range);
        let stream = self.shared.below.watch(request).await?;
        if !touches {
            return Ok(stream);
        }
        let shared = Arc::clone(&self.shared);
        Ok(Box::pin(stream.then(move |batch| {
            let shared = Arc::clone(&shared);
            async move { shared.open_batch(batch?).await }
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
        self.shared.below.lease_keys(lease).await
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
