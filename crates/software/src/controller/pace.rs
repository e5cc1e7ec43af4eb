//! Passes that look at everything are made the more seldom the longer they take: a thousand hosts change thousands of times, and each pass sees
//! all changes that there were until then.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How long the last pass took.
#[derive(Debug, Default)]
pub(super) struct Pace(Mutex<Duration>);

/// Longest pause, whatever a pass takes.
const LONGEST: Duration = Duration::from_secs(2);

/// A pass that has begun.
pub(super) struct Begun<'a> {
    pace: &'a Pace,
    at: Instant,
}

impl Pace {
    /// Pauses for twice what the last pass took, `least` at least, so that changes gather; then the pass begins, which ends when what is
    /// returned is dropped.
    pub(super) async fn begin(&self, least: Duration) -> Begun<'_> {
        let last = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tokio::time::sleep(pause(last, least)).await;
        Begun { pace: self, at: Instant::now() }
    }
}

fn pause(last: Duration, least: Duration) -> Duration {
    (last * 2).min(LONGEST).max(least)
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        *self.pace.0.lock().unwrap_or_else(PoisonError::into_inner) = self.at.elapsed();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_passes_are_made_seldom() {
        let pause = |last, least| super::pause(Duration::from_millis(last), Duration::from_millis(least));
        assert_eq!(pause(0, 100), Duration::from_millis(100));
        assert_eq!(pause(3, 0), Duration::from_millis(6));
        assert_eq!(pause(300, 100), Duration::from_millis(600));
        assert_eq!(pause(60_000, 100), LONGEST);
    }
}
