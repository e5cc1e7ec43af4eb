//! Hosts that are left alone for a while after a failure.
//!
//! Writing a failure down changes the host's own object, and the watch brings that back at once: without this memory every failure would be
//! followed by the next attempt, and a management controller that refuses a password would be asked again until it locks the account.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Pauses by unique id of the host. In memory: after a restart each host is tried at once.
#[derive(Debug, Default)]
pub(in crate::controller) struct Pauses(Mutex<HashMap<String, Pause>>);

#[derive(Debug)]
struct Pause {
    until: Instant,
    /// What the attempt that failed was made with.
    tried: u64,
}

impl Pauses {
    fn with<T>(&self, work: impl FnOnce(&mut HashMap<String, Pause>) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Leaves a host alone for a while, unless something else is wanted of it than what was `tried`.
    pub(super) fn begin(&self, uid: &str, tried: u64, pause: Duration) {
        let pause = Pause { until: Instant::now() + pause, tried };
        self.with(|all| all.insert(uid.to_owned(), pause));
    }

    /// What is left of a host's pause, if it has one and nothing else is `wanted` than what was tried. Otherwise the pause is over.
    pub(super) fn left(&self, uid: &str, wanted: u64) -> Option<Duration> {
        self.with(|all| {
            let pause = all.get(uid)?;
            let left = pause.until.saturating_duration_since(Instant::now());
            if pause.tried == wanted && !left.is_zero() {
                return Some(left);
            }
            all.remove(uid);
            None
        })
    }

    /// Forgets a host.
    pub(super) fn forget(&self, uid: &str) {
        self.with(|all| all.remove(uid));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    #[test]
    fn a_pause_lasts_until_its_end_or_until_something_else_is_wanted() {
        let pauses = Pauses::default();
        assert_eq!(pauses.left("a", 1), None);
        pauses.begin("a", 1, LONG);
        assert!(pauses.left("a", 1).is_some_and(|left| left <= LONG));
        assert_eq!(pauses.left("b", 1), None, "others are not concerned");
        assert_eq!(pauses.left("a", 2), None, "something else is wanted");
        assert_eq!(pauses.left("a", 1), None, "which ends the pause");
        pauses.begin("a", 1, Duration::ZERO);
        assert_eq!(pauses.left("a", 1), None, "it is over");
        pauses.begin("a", 1, LONG);
        pauses.forget("a");
        assert_eq!(pauses.left("a", 1), None);
    }
}
