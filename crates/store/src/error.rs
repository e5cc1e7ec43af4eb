//! What can go wrong in a store.

use crate::Revision;

/// Failure of a store operation.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The requested revision has been compacted; read again from the present.
    #[error("revision {requested} has been compacted, the oldest available is {compacted}")]
    Compacted {
        /// The revision that was asked for.
        requested: Revision,
        /// The oldest revision that is still available.
        compacted: Revision,
    },
    /// The requested revision does not exist yet.
    #[error("revision {requested} is in the future, the latest is {current}")]
    FutureRevision {
        /// The revision that was asked for.
        requested: Revision,
        /// The latest committed revision.
        current: Revision,
    },
    /// The watcher did not keep up and its buffer is full; watch again from the revision after the last one received.
    #[error(
        "the watcher is too slow: its buffer is full, the change of revision {missed} is the first it missed"
    )]
    WatcherTooSlow {
        /// Revision of the first change that the watcher does not get.
        missed: Revision,
    },
    /// The lease does not exist or has expired.
    #[error("lease {0} does not exist or has expired")]
    LeaseNotFound(i64),
    /// A lease with that number exists.
    #[error("lease {0} exists already")]
    LeaseExists(i64),
    /// The request is not valid.
    #[error("invalid store request: {0}")]
    InvalidRequest(String),
    /// Writes are refused because the disk has no room; what is stored stays readable.
    #[error("the store's disk is full, writes are refused: {0}")]
    NoSpace(String),
    /// The storage engine failed.
    #[error("store failure: {0}")]
    Backend(String),
    /// The store is shutting down.
    #[error("the store is closed")]
    Closed,
}
