//! The automatic compaction policy: which history is old enough to be forgotten.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::options::CompactionPolicy;
use crate::Revision;

/// History is compacted in steps of this share of what is kept, so that compaction is not part of every commit.
const STEPS: u32 = 10;

/// Decides when to compact, and up to where.
#[derive(Debug)]
pub(super) struct Compactor {
    policy: CompactionPolicy,
    /// The revision the store had at some moments, oldest first, about [`STEPS`] of them.
    samples: VecDeque<(Instant, Revision)>,
}

impl Compactor {
    pub(super) fn new(policy: CompactionPolicy) -> Self {
        Self { policy, samples: VecDeque::new() }
    }

    /// The revision to compact to now, if compaction is due.
    pub(super) fn due(&mut self, now: Instant, revision: Revision, compacted: Revision) -> Option<Revision> {
        let by_age = self.policy.keep_duration.and_then(|keep| self.older_than(keep, now, revision));
        let by_count = self.policy.keep_revisions.and_then(|keep| {
            let slack = keep / u64::from(STEPS);
            let oldest_kept = revision.saturating_sub(keep);
            (oldest_kept > compacted + slack).then_some(oldest_kept)
        });
        by_age.max(by_count).filter(|target| *target > compacted)
    }

    /// The newest sample that is older than `keep`.
    fn older_than(&mut self, keep: Duration, now: Instant, revision: Revision) -> Option<Revision> {
        let step = keep / STEPS;
        let last = self.samples.back();
        if last.is_none_or(|(at, sampled)| now.duration_since(*at) >= step && *sampled != revision) {
            self.samples.push_back((now, revision));
        }
        let mut target = None;
        while let Some((at, sampled)) = self.samples.front()
            && now.duration_since(*at) >= keep
        {
            target = Some(*sampled);
            self.samples.pop_front();
        }
        target
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_count_keeps_what_was_asked_for_and_moves_in_steps() {
        let policy = CompactionPolicy { keep_duration: None, keep_revisions: Some(100) };
        let mut compactor = Compactor::new(policy);
        let now = Instant::now();
        assert_eq!(compactor.due(now, 100, 0), None);
        assert_eq!(compactor.due(now, 110, 0), None);
        assert_eq!(compactor.due(now, 111, 0), Some(11));
        assert_eq!(compactor.due(now, 112, 11), None);
        assert_eq!(compactor.due(now, 122, 11), Some(22));
    }

    #[test]
    fn by_age_keeps_at_least_the_duration() {
        let policy = CompactionPolicy { keep_duration: Some(Duration::from_secs(100)), keep_revisions: None };
        let mut compactor = Compactor::new(policy);
        let start = Instant::now();
        for second in 0..1000 {
            let now = start + Duration::from_secs(second);
            // One revision per second, from 2 on.
            if let Some(target) = compactor.due(now, second + 2, 0) {
                let age = second + 2 - target;
                assert!((100..=111).contains(&age), "at {second}: {age} seconds are kept");
            } else {
                assert!(second < 100 || second % 10 != 0, "nothing is forgotten at {second}");
            }
        }
    }

    #[test]
    fn manual_never_compacts() {
        let mut compactor = Compactor::new(CompactionPolicy::MANUAL);
        assert_eq!(compactor.due(Instant::now() + Duration::from_secs(10_000), 1_000_000, 0), None);
    }
}
