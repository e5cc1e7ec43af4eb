//! Revisioned key-value store with etcd's semantics: ranges, compare-and-swap transactions, watches from a revision, leases,
//! compaction. [`Store`] is the contract; [`embedded`] implements it on redb for the single-process default, [`etcd`] on etcd for
//! several servers over the same data.
//!
//! A write is acknowledged only after it is durable; watchers are fed only after the commit, in revision order.

pub mod embedded;
mod error;
pub mod etcd;
mod layer;
mod model;

use bytes::Bytes;
pub use error::StoreError;
pub use layer::{Layer, Layered};
pub use model::{
    Compare, CompareTarget, Event, EventKind, KeyRange, KeyValue, LeaseId, LeaseTime, Operation,
    OperationResult, RangeRequest, RangeResponse, Revision, Txn, TxnResponse, WatchBatch, WatchRequest,
    WatchStream,
};

/// A revisioned key-value store (etcd v3 data model).
#[async_trait::async_trait]
pub trait Store: Send + Sync + 'static {
    /// Reads a range of keys, at the latest revision or at [`RangeRequest::revision`].
    async fn range(&self, request: RangeRequest) -> Result<RangeResponse, StoreError>;

    /// Applies a transaction: if all comparisons hold, `success`, else `failure`; atomic and durable when it returns.
    async fn txn(&self, txn: Txn) -> Result<TxnResponse, StoreError>;

    /// Streams the changes of a range from a revision on, in revision order, never skipping one.
    async fn watch(&self, request: WatchRequest) -> Result<WatchStream, StoreError>;

    /// Grants a lease of `ttl_seconds`; keys written under it are deleted when it expires.
    async fn lease_grant(&self, ttl_seconds: u64) -> Result<LeaseId, StoreError>;

    /// Grants a lease under a number that the caller chooses, above 0.
    async fn lease_grant_as(&self, lease: LeaseId, ttl_seconds: u64) -> Result<(), StoreError>;

    /// Restarts a lease's time to live.
    async fn lease_keep_alive(&self, lease: LeaseId) -> Result<(), StoreError>;

    /// How long a lease still lives if nobody keeps it alive.
    async fn lease_time_to_live(&self, lease: LeaseId) -> Result<LeaseTime, StoreError>;

    /// The keys that live under a lease, in their order; none if there is no such lease.
    async fn lease_keys(&self, lease: LeaseId) -> Result<Vec<Bytes>, StoreError>;

    /// Ends a lease now and deletes its keys.
    async fn lease_revoke(&self, lease: LeaseId) -> Result<(), StoreError>;

    /// Forgets all history before `revision`; later reads and watches below it fail with [`StoreError::Compacted`].
    /// Compacting again, or less than before, changes nothing and is no error.
    async fn compact(&self, revision: Revision) -> Result<(), StoreError>;

    /// The latest committed revision.
    async fn revision(&self) -> Result<Revision, StoreError>;
}
