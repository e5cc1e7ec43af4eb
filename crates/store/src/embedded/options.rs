//! How an embedded store is set up.

use std::time::Duration;

/// Limits and policies of an [`EmbeddedStore`](super::EmbeddedStore). The defaults suit a control plane.
#[derive(Debug, Clone)]
pub struct Options {
    /// Memory that the storage engine may use to cache pages of history, in bytes. The latest state is always in
    /// memory besides.
    pub cache_bytes: usize,
    /// Requests that may wait for the writer; more of them wait in their callers.
    pub queue_length: usize,
    /// At most this many requests share one commit.
    pub batch_requests: usize,
    /// A batch takes no further request once it holds this many bytes.
    pub batch_bytes: usize,
    /// The largest transaction accepted: keys and values together, in bytes.
    pub max_request_bytes: usize,
    /// The most operations and comparisons in one transaction.
    pub max_request_operations: usize,
    /// Changes that may wait for a watcher before its stream ends with an error.
    pub watch_buffer: usize,
    /// When history is forgotten by itself.
    pub compaction: CompactionPolicy,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            cache_bytes: 8 * 1024 * 1024,
            queue_length: 1024,
            batch_requests: 256,
            batch_bytes: 8 * 1024 * 1024,
            max_request_bytes: 16 * 1024 * 1024,
            max_request_operations: 4096,
            watch_buffer: 8192,
            compaction: CompactionPolicy::default(),
        }
    }
}

/// How much history is kept without anybody asking for compaction; whichever limit is reached first counts.
/// A store to which nothing is written keeps what it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompactionPolicy {
    /// Forget what is older than this.
    pub keep_duration: Option<Duration>,
    /// Forget what is further back than this many revisions.
    pub keep_revisions: Option<u64>,
}

impl CompactionPolicy {
    /// Keep everything until [`compact`](crate::Store::compact) is called.
    pub const MANUAL: Self = Self { keep_duration: None, keep_revisions: None };
}

impl Default for CompactionPolicy {
    /// Five minutes, as a Kubernetes API server asks of etcd, and not more than 200,000 revisions.
    fn default() -> Self {
        Self { keep_duration: Some(Duration::from_secs(300)), keep_revisions: Some(200_000) }
    }
}
