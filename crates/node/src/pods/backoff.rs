//! How long a container that keeps ending waits before it is started again. Pure: the time is an argument.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::jiff::Timestamp;

/// The pause after the second end; the first start after an end is immediate.
const INITIAL: Duration = Duration::from_secs(10);
/// The longest pause.
const MAX: Duration = Duration::from_secs(300);
/// A container that ran as long is forgiven.
const FORGIVEN: Duration = Duration::from_secs(600);

#[derive(Debug, Clone, Copy)]
struct Entry {
    pause: Duration,
    restarted: Timestamp,
}

/// Pauses by container name.
#[derive(Debug, Clone, Default)]
pub struct CrashBackoff {
    entries: BTreeMap<String, Entry>,
}

impl CrashBackoff {
    /// When a container that ended at `finished` may be started again, and the length of the pause; none if at once.
    pub fn not_before(&self, container: &str, finished: Timestamp) -> Option<(Timestamp, Duration)> {
        let entry = self.entries.get(container)?;
        if lasted(entry.restarted, finished) >= FORGIVEN {
            return None;
        }
        Some((after(finished, entry.pause), entry.pause))
    }

    /// A container is started again, having ended at `finished`.
    pub fn restarted(&mut self, container: &str, finished: Timestamp, now: Timestamp) {
        let pause = match self.not_before(container, finished) {
            None => INITIAL,
            Some((_, pause)) => (pause * 2).min(MAX),
        };
        self.entries.insert(container.to_owned(), Entry { pause, restarted: now });
    }
}

fn lasted(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}

/// A time later by a duration, as late as can be written.
pub(crate) fn after(time: Timestamp, duration: Duration) -> Timestamp {
    k8s_openapi::jiff::SignedDuration::try_from(duration)
        .ok()
        .and_then(|duration| time.checked_add(duration).ok())
        .unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn pauses_double_up_to_a_limit() {
        let mut backoff = CrashBackoff::default();
        let mut now = 0;
        let mut pauses = Vec::new();
        for _ in 0..8 {
            let finished = at(now);
            let pause = backoff.not_before("c", finished).map_or(0, |(_, pause)| pause.as_secs());
            pauses.push(pause);
            now += i64::try_from(pause).unwrap();
            backoff.restarted("c", finished, at(now));
            now += 1;
        }
        assert_eq!(pauses, [0, 10, 20, 40, 80, 160, 300, 300]);
        assert_eq!(backoff.not_before("other", at(now)), None);
    }

    #[test]
    fn a_long_run_is_forgiven() {
        let mut backoff = CrashBackoff::default();
        backoff.restarted("c", at(0), at(0));
        assert_eq!(backoff.not_before("c", at(599)).unwrap().0, at(609));
        assert_eq!(backoff.not_before("c", at(600)), None);
    }
}
