//! Limits and delays.

use std::time::Duration;

use drystone_engine::backoff::Backoff;

use crate::cluster::gate::AWAY;

/// How the synchroniser works. The defaults suit a thousand clusters.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Requests that one cluster has to answer at a time.
    pub requests_per_cluster: usize,
    /// Requests to all clusters at a time.
    pub requests: usize,
    /// Tasks of one application on one cluster that go on at a time: fewer than requests, so that others get their turn.
    pub tasks_per_part: usize,
    /// How long a cluster may take to answer.
    pub request_limit: Duration,
    /// Delays after a cluster did not answer.
    pub away: Backoff,
    /// Delays after an object was not taken for a reason that may pass.
    pub again: Backoff,
    /// For how long that is tried.
    pub patience: Duration,
    /// How long statuses are gathered before they are written.
    pub gather: Duration,
    /// How long what clusters say is gathered before it is looked at.
    pub settle: Duration,
    /// How many bytes of status are kept of each part, about.
    pub status_bytes: usize,
    /// How many bytes are kept of each object that a cluster shows.
    pub object_bytes: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            requests_per_cluster: 16,
            requests: 1024,
            tasks_per_part: 12,
            request_limit: Duration::from_secs(30),
            away: AWAY,
            again: Backoff { initial: Duration::from_millis(200), maximum: Duration::from_secs(10) },
            patience: Duration::from_secs(120),
            gather: Duration::from_millis(50),
            settle: Duration::from_millis(250),
            status_bytes: 256 * 1024,
            object_bytes: 32 * 1024,
        }
    }
}
