//! When to probe, and when enough is enough. Pure.

use std::time::Duration;

use k8s_openapi::{api::core::v1::Probe, jiff::Timestamp};

use super::Kind;
use crate::pods::backoff::after;

/// The first pause while a container has not been found well yet.
const FIRST_EAGER: Duration = Duration::from_millis(20);

/// The schedule of one probe of one run of a container.
///
/// Until a readiness or startup probe has succeeded once, it is tried again after pauses that double from 20 ms up to its period,
/// so that a container which is up at once is ready at once. Such early failures count for nothing; those at the period's pace do.
#[derive(Debug, Clone)]
pub(super) struct Schedule {
    period: Duration,
    timeout: Duration,
    successes_needed: u32,
    failures_needed: u32,
    begin: Timestamp,
    has_begun: bool,
    /// The next eager pause; none when it is over.
    eager: Option<Duration>,
    /// Time spent in eager pauses since the last attempt that counted.
    since_counted: Duration,
    successes: u32,
    failures: u32,
}

impl Schedule {
    pub(super) fn new(kind: Kind, probe: &Probe, started: Timestamp) -> Self {
        let seconds = |value: Option<i32>, default: u64| {
            Duration::from_secs(value.and_then(|value| u64::try_from(value).ok()).unwrap_or(default))
        };
        let count = |value: Option<i32>, default: u32| {
            value.and_then(|value| u32::try_from(value).ok()).filter(|value| *value > 0).unwrap_or(default)
        };
        let at_least_one = |duration: Duration| duration.max(Duration::from_secs(1));
        Self {
            period: at_least_one(seconds(probe.period_seconds, 10)),
            timeout: at_least_one(seconds(probe.timeout_seconds, 1)),
            successes_needed: count(probe.success_threshold, 1),
            failures_needed: count(probe.failure_threshold, 3),
            begin: after(started, seconds(probe.initial_delay_seconds, 0)),
            has_begun: false,
            eager: (kind != Kind::Liveness).then_some(FIRST_EAGER),
            since_counted: Duration::ZERO,
            successes: 0,
            failures: 0,
        }
    }

    /// How long to wait before the next attempt.
    pub(super) fn pause(&mut self, now: Timestamp) -> Duration {
        if !self.has_begun {
            self.has_begun = true;
            return Duration::try_from(self.begin.duration_since(now)).unwrap_or_default();
        }
        let Some(eager) = self.eager else { return self.period };
        // Never past the moment of an attempt that counts.
        let pause = eager.min(self.period - self.since_counted);
        self.since_counted += pause;
        self.eager = Some((eager * 2).min(self.period));
        pause
    }

    /// The startup probe has not succeeded yet: look again soon.
    pub(super) fn wait_for_startup(&mut self) {
        if self.eager.is_none() {
            self.eager = Some(FIRST_EAGER);
        }
        // Nothing was attempted, so nothing counts.
        self.since_counted = Duration::ZERO;
        self.eager = self.eager.map(|pause| pause.min(Duration::from_millis(500)).min(self.period));
    }

    /// How long an attempt may take.
    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Whether a failure now would count for nothing.
    pub(super) fn is_eager(&self) -> bool {
        self.eager.is_some() && self.since_counted < self.period
    }

    /// Takes the result of an attempt; answers whether the container is well, if that is now certain.
    pub(super) fn record(&mut self, success: bool) -> Option<bool> {
        if !success && self.is_eager() {
            self.successes = 0;
            return None;
        }
        self.since_counted = Duration::ZERO;
        if success {
            self.failures = 0;
            self.successes += 1;
            if self.successes >= self.successes_needed {
                self.eager = None;
                return Some(true);
            }
        } else {
            self.successes = 0;
            self.failures += 1;
            if self.failures >= self.failures_needed {
                return Some(false);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn schedule(kind: Kind, failures: i32, successes: i32) -> Schedule {
        let probe = Probe {
            period_seconds: Some(1),
            failure_threshold: Some(failures),
            success_threshold: Some(successes),
            initial_delay_seconds: Some(5),
            ..Probe::default()
        };
        Schedule::new(kind, &probe, at(100))
    }

    #[test]
    fn the_first_attempt_waits_for_the_initial_delay() {
        let mut schedule = schedule(Kind::Liveness, 3, 1);
        assert_eq!(schedule.pause(at(101)), Duration::from_secs(4));
        assert_eq!(schedule.pause(at(105)), Duration::from_secs(1));
        let mut late = super::tests::schedule(Kind::Liveness, 3, 1);
        assert_eq!(late.pause(at(200)), Duration::ZERO);
    }

    #[test]
    fn readiness_is_looked_for_eagerly_at_first() {
        let mut schedule = schedule(Kind::Readiness, 2, 1);
        schedule.pause(at(105));
        assert_eq!(schedule.record(false), None);
        let mut elapsed = Duration::ZERO;
        let mut verdicts = Vec::new();
        for _ in 0..40 {
            elapsed += schedule.pause(at(105));
            if schedule.record(false) == Some(false) {
                verdicts.push(elapsed);
            }
        }
        // Two failures at the pace of the period, not two of the eager ones.
        assert_eq!(verdicts[0], Duration::from_secs(2));
        assert_eq!(schedule.record(true), Some(true));
        assert_eq!(schedule.pause(at(105)), Duration::from_secs(1), "once is enough");
    }

    #[test]
    fn thresholds_count_in_a_row() {
        let mut schedule = schedule(Kind::Liveness, 3, 1);
        let verdicts: Vec<_> =
            [false, false, true, false, false, false].map(|success| schedule.record(success)).into();
        assert_eq!(verdicts, [None, None, Some(true), None, None, Some(false)]);
        let mut twice = super::tests::schedule(Kind::Readiness, 1, 2);
        assert_eq!([twice.record(true), twice.record(true)], [None, Some(true)]);
        assert_eq!(twice.record(false), Some(false));
    }
}
