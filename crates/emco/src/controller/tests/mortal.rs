//! A store and an API whose user can be killed at a write: the write happens, or not, and nothing after it does.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use async_trait::async_trait;
use bytes::Bytes;
use drystone_store::{
    LeaseId, LeaseTime, RangeRequest, RangeResponse, Revision, Store, StoreError, Txn, TxnResponse,
    WatchRequest, WatchStream,
};
use tokio::sync::Notify;

/// When a process is killed.
#[derive(Debug)]
pub(super) struct Fate {
    left: AtomicU32,
    /// Whether the last write happens.
    pub(super) written: bool,
    pub(super) dying: Notify,
}

impl Fate {
    /// Killed at the write after so many.
    pub(super) fn after(writes: u32, written: bool) -> Arc<Self> {
        Arc::new(Self { left: AtomicU32::new(writes), written, dying: Notify::new() })
    }

    /// Whether this write is the last one, or comes after it.
    pub(super) fn strikes(&self) -> bool {
        let before = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if before.is_err() {
            self.dying.notify_one();
        }
        before.is_err()
    }
}

/// A store whose user may be killed.
pub(super) struct Mortal {
    pub(super) below: Arc<dyn Store>,
    pub(super) fate: Arc<Fate>,
}

#[async_trait]
impl Store for Mortal {
    async fn range(&self, request: RangeRequest) -> Result<RangeResponse, StoreError> {
        self.below.range(request).await
    }

    async fn txn(&self, txn: Txn) -> Result<TxnResponse, StoreError> {
        if self.fate.strikes() {
            if self.fate.written {
                self.below.txn(txn).await?;
            }
            std::future::pending::<()>().await;
            return Err(StoreError::Closed);
        }
        self.below.txn(txn).await
    }

    async fn watch(&self, request: WatchRequest) -> Result<WatchStream, StoreError> {
        self.below.watch(request).await
    }

    async fn lease_grant(&self, ttl_seconds: u64) -> Result<LeaseId, StoreError> {
        self.below.lease_grant(ttl_seconds).await
    }

    async fn lease_grant_as(&self, lease: LeaseId, ttl_seconds: u64) -> Result<(), StoreError> {
        self.below.lease_grant_as(lease, ttl_seconds).await
    }

    async fn lease_keep_alive(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.below.lease_keep_alive(lease).await
    }

    async fn lease_time_to_live(&self, lease: LeaseId) -> Result<LeaseTime, StoreError> {
        self.below.lease_time_to_live(lease).await
    }

    async fn lease_keys(&self, lease: LeaseId) -> Result<Vec<Bytes>, StoreError> {
        self.below.lease_keys(lease).await
    }

    async fn lease_revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.below.lease_revoke(lease).await
    }

    async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        self.below.compact(revision).await
    }

    async fn revision(&self) -> Result<Revision, StoreError> {
        self.below.revision().await
    }
}
