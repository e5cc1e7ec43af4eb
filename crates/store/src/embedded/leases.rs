//! When leases expire. Time to live is persisted with the store's state; deadlines live with the writer and start
//! afresh when the store is opened, so that a restart never ends a lease early.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use tokio::time::Instant;

use crate::LeaseId;

/// Deadlines of the leases.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    by_lease: HashMap<LeaseId, Instant>,
    ordered: BTreeSet<(Instant, LeaseId)>,
}

impl Deadlines {
    /// Starts a lease's time to live, or starts it again.
    pub(super) fn start(&mut self, lease: LeaseId, now: Instant, time_to_live: Duration) {
        self.stop(lease);
        let deadline = now + time_to_live;
        self.by_lease.insert(lease, deadline);
        self.ordered.insert((deadline, lease));
    }

    /// Forgets a lease.
    pub(super) fn stop(&mut self, lease: LeaseId) {
        if let Some(deadline) = self.by_lease.remove(&lease) {
            self.ordered.remove(&(deadline, lease));
        }
    }

    /// When a lease expires.
    pub(super) fn of(&self, lease: LeaseId) -> Option<Instant> {
        self.by_lease.get(&lease).copied()
    }

    /// When the next lease expires.
    pub(super) fn next(&self) -> Option<Instant> {
        self.ordered.first().map(|(deadline, _)| *deadline)
    }

    /// The leases that have expired; they stay until they are [stopped](Self::stop).
    pub(super) fn due(&self, now: Instant) -> Vec<LeaseId> {
        self.ordered.iter().take_while(|(deadline, _)| *deadline <= now).map(|(_, lease)| *lease).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeping_a_lease_alive_moves_its_deadline() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut deadlines = Deadlines::default();
        deadlines.start(1, start, Duration::from_secs(10));
        deadlines.start(2, start, Duration::from_secs(20));
        assert_eq!(deadlines.next(), Some(after(10)));
        deadlines.start(1, after(5), Duration::from_secs(30));
        assert_eq!(deadlines.next(), Some(after(20)));
        assert_eq!(deadlines.due(after(19)), Vec::<LeaseId>::new());
        assert_eq!(deadlines.due(after(40)), vec![2, 1]);
        deadlines.stop(2);
        assert_eq!(deadlines.due(after(40)), vec![1]);
    }
}
