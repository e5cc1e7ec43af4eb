//! How long the writer looks out for clients that are on their way back.
//!
//! Clients that write one thing after the other come back just after they have been answered. A writer that took the
//! first of them at once would commit it alone and let all others wait for a second flush. So after a commit that
//! answered several, the next batch may take a small share of that commit's time to fill up to as many requests as
//! were under way. No timer is involved, and a lone client, or an idle store, is never made to wait.

use std::time::{Duration, Instant};

/// At most this share of the last commit's time is spent looking out.
const SHARE: u32 = 8;

/// What the last commit tells about the next batch.
#[derive(Debug, Default)]
pub(super) struct Gathering {
    expected: usize,
    patience: Duration,
}

impl Gathering {
    /// Takes note of a commit: how many requests it answered, how many had come in meanwhile, how long it took.
    pub(super) fn committed(&mut self, answered: usize, waiting: usize, took: Duration) {
        self.expected = answered + waiting;
        self.patience = took / SHARE;
    }

    /// Whether more requests are to be awaited when `waiting` are there and none has come since `since`.
    pub(super) fn goes_on(&self, waiting: usize, since: Instant) -> bool {
        waiting < self.expected && since.elapsed() < self.patience
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lone_client_never_waits() {
        let mut gathering = Gathering::default();
        assert!(!gathering.goes_on(1, Instant::now()));
        gathering.committed(1, 0, Duration::from_secs(3600));
        assert!(!gathering.goes_on(1, Instant::now()));
    }

    #[test]
    fn clients_that_were_just_answered_are_expected_back() {
        let mut gathering = Gathering::default();
        gathering.committed(1, 9, Duration::from_secs(3600));
        assert!(gathering.goes_on(9, Instant::now()));
        assert!(!gathering.goes_on(10, Instant::now()));
        gathering.committed(10, 0, Duration::ZERO);
        assert!(!gathering.goes_on(9, Instant::now()), "patience ends");
    }
}
