//! Stores over other stores that do something of their own with some calls and pass all others on.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    LeaseId, LeaseTime, RangeRequest, RangeResponse, Revision, Store, StoreError, Txn, TxnResponse,
    WatchRequest, WatchStream,
};

/// What is done with calls on their way to the store below; what is not said otherwise is passed on.
#[async_trait::async_trait]
pub trait Layer: Send + Sync + 'static {
    /// A [`Store::range`].
    async fn range(&self, below: &dyn Store, request: RangeRequest) -> Result<RangeResponse, StoreError> {
        below.range(request).await
    }

    /// A [`Store::txn`].
    async fn txn(&self, below: &dyn Store, txn: Txn) -> Result<TxnResponse, StoreError> {
        below.txn(txn).await
    }

    /// A [`Store::watch`].
    async fn watch(&self, below: &dyn Store, request: WatchRequest) -> Result<WatchStream, StoreError> {
        below.watch(request).await
    }
}

/// A store behind a [`Layer`].
pub struct Layered<L> {
    below: Arc<dyn Store>,
    layer: L,
}

impl<L: Layer> Layered<L> {
    /// A layer over `below`.
    pub fn new(below: Arc<dyn Store>, layer: L) -> Self {
        Self { below, layer }
    }

    /// The layer.
    pub const fn layer(&self) -> &L {
        &self.layer
    }
}

#[async_trait::async_trait]
impl<L: Layer> Store for Layered<L> {
    async fn range(&self, request: RangeRequest) -> Result<RangeResponse, StoreError> {
        self.layer.range(self.below.as_ref(), request).await
    }

    async fn txn(&self, txn: Txn) -> Result<TxnResponse, StoreError> {
        self.layer.txn(self.below.as_ref(), txn).await
    }

    async fn watch(&self, request: WatchRequest) -> Result<WatchStream, StoreError> {
        self.layer.watch(self.below.as_ref(), request).await
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
