//! The data model: keys, revisions, transactions and events, as in the etcd v3 API.

use std::pin::Pin;

use bytes::Bytes;
use futures::Stream;

use crate::StoreError;

/// A store-wide, strictly increasing change number. The first write has revision 2, as in etcd; an empty store is at 1.
pub type Revision = u64;

/// Identifies a lease; 0 means none.
pub type LeaseId = i64;

/// How long a lease lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseTime {
    /// Seconds that it was granted, and gets again each time it is kept alive.
    pub granted: u64,
    /// Seconds that are left, rounded down.
    pub remaining: u64,
}

/// A key with its value and history marks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyValue {
    /// The key.
    pub key: Bytes,
    /// The value.
    pub value: Bytes,
    /// Revision at which the key was created (last time).
    pub create_revision: Revision,
    /// Revision of the last change.
    pub mod_revision: Revision,
    /// Number of changes since creation, from 1.
    pub version: u64,
    /// The lease the key lives under, 0 for none.
    pub lease: LeaseId,
}

/// A half-open range of keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRange {
    /// First key.
    pub start: Bytes,
    /// First key after the range; `None` means the single key `start`; empty means to the end of the key space.
    pub end: Option<Bytes>,
}

impl KeyRange {
    /// Just one key.
    pub fn single(key: impl Into<Bytes>) -> Self {
        Self { start: key.into(), end: None }
    }

    /// All keys with a prefix.
    pub fn prefix(prefix: impl Into<Bytes>) -> Self {
        let start: Bytes = prefix.into();
        let mut end = start.to_vec();
        while let Some(last) = end.last_mut() {
            if *last < 0xff {
                *last += 1;
                break;
            }
            end.pop();
        }
        Self { start, end: Some(end.into()) }
    }

    /// Whether the range contains a key.
    pub fn contains(&self, key: &[u8]) -> bool {
        match &self.end {
            None => key == self.start,
            Some(end) if end.is_empty() => key >= &self.start[..],
            Some(end) => key >= &self.start[..] && key < &end[..],
        }
    }
}

/// A read of a range.
#[derive(Debug, Clone)]
pub struct RangeRequest {
    /// Which keys.
    pub range: KeyRange,
    /// At most this many; 0 for all.
    pub limit: usize,
    /// At this revision; `None` for the latest.
    pub revision: Option<Revision>,
    /// Leave the values out.
    pub keys_only: bool,
    /// Only count.
    pub count_only: bool,
}

impl RangeRequest {
    /// Everything in `range`, at the latest revision.
    pub fn new(range: KeyRange) -> Self {
        Self { range, limit: 0, revision: None, keys_only: false, count_only: false }
    }
}

/// The result of a read.
#[derive(Debug, Clone)]
pub struct RangeResponse {
    /// The store's revision that the read saw.
    pub revision: Revision,
    /// The keys found, in key order.
    pub kvs: Vec<KeyValue>,
    /// How many keys the whole range has, regardless of the limit.
    pub count: u64,
    /// Whether the limit cut the result.
    pub more: bool,
}

/// What a comparison looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CompareTarget {
    /// The key's modification revision equals this; 0 means that the key does not exist.
    ModRevision(Revision),
    /// The key's creation revision equals this; 0 means that the key does not exist.
    CreateRevision(Revision),
    /// The key's version equals this; 0 means that the key does not exist.
    Version(u64),
    /// The key's value equals this.
    Value(Bytes),
    /// No key from this one up to another has been changed after a revision. Keys that were deleted since are not seen.
    NotChangedSince {
        /// The first key after the range; empty means to the end of the key space.
        end: Bytes,
        /// The revision.
        revision: Revision,
    },
}

/// A precondition of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compare {
    /// The key looked at.
    pub key: Bytes,
    /// What must be equal.
    pub target: CompareTarget,
}

/// One operation of a transaction.
#[derive(Debug, Clone)]
pub enum Operation {
    /// Writes a key.
    Put {
        /// The key.
        key: Bytes,
        /// The value.
        value: Bytes,
        /// The lease to live under, 0 for none.
        lease: LeaseId,
    },
    /// Deletes a range.
    Delete(KeyRange),
    /// Reads a range, seeing the transaction's earlier writes.
    Range(RangeRequest),
}

/// The result of one operation.
#[derive(Debug, Clone)]
pub enum OperationResult {
    /// A key was written; the pair before, if any.
    Put(Option<KeyValue>),
    /// Keys were deleted; the pairs before.
    Delete(Vec<KeyValue>),
    /// What was read.
    Range(RangeResponse),
}

/// A transaction.
#[derive(Debug, Clone, Default)]
pub struct Txn {
    /// All must hold for `success` to be applied.
    pub compare: Vec<Compare>,
    /// Applied when all comparisons hold.
    pub success: Vec<Operation>,
    /// Applied otherwise.
    pub failure: Vec<Operation>,
}

/// The result of a transaction.
#[derive(Debug, Clone)]
pub struct TxnResponse {
    /// Whether the comparisons held.
    pub succeeded: bool,
    /// The revision after the transaction (that of its writes, if it wrote).
    pub revision: Revision,
    /// One result per applied operation.
    pub results: Vec<OperationResult>,
}

/// Kind of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// The key was written.
    Put,
    /// The key was deleted; the event's pair carries the key and the deletion's revision, its value is empty.
    Delete,
}

/// One change of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// The pair after the change.
    pub kv: KeyValue,
    /// The pair before the change, if it existed.
    pub previous: Option<KeyValue>,
}

/// A watch on a range.
#[derive(Debug, Clone)]
pub struct WatchRequest {
    /// Which keys.
    pub range: KeyRange,
    /// First revision to report; `None` means from the next change on.
    pub start_revision: Option<Revision>,
}

/// All changes of one transaction that fall into a watch's range, or a progress mark when empty: nothing of the range
/// changed up to that revision. The embedded store gives a mark when a stream that has nothing to tell is polled and
/// other keys have changed meanwhile; it does not wake a stream for that.
#[derive(Debug, Clone)]
pub struct WatchBatch {
    /// The revision that the stream has reached with this batch.
    pub revision: Revision,
    /// The changes, shared between all watchers.
    pub events: Vec<std::sync::Arc<Event>>,
}

/// The changes of a range. Ends with an error when the watcher is too slow or its revision is compacted.
pub type WatchStream = Pin<Box<dyn Stream<Item = Result<WatchBatch, StoreError>> + Send>>;
