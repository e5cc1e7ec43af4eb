//! Pauses between attempts: they double up to a limit, and differ between nodes that lost the same peer.

use std::time::Duration;

use kube::runtime::utils::Backoff;
use rand::Rng;

/// An endless series of pauses, each between half of the nominal pause and all of it.
#[derive(Debug, Clone)]
pub struct Retry {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Retry {
    /// Begins with `first` and never exceeds `longest`.
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, next: first }
    }

    /// The next pause.
    pub fn pause(&mut self) -> Duration {
        let nominal = self.next;
        self.next = nominal.saturating_mul(2).min(self.longest);
        nominal.mul_f64(rand::rng().random_range(0.5..=1.0))
    }

    /// After a success: begins anew.
    pub fn succeeded(&mut self) {
        self.next = self.first;
    }
}

impl Iterator for Retry {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(self.pause())
    }
}

impl Backoff for Retry {
    fn reset(&mut self) {
        self.succeeded();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_limit_and_begin_anew() {
        let (first, longest) = (Duration::from_millis(100), Duration::from_millis(450));
        let mut retry = Retry::new(first, longest);
        for nominal in [100, 200, 400, 450, 450] {
            let pause = retry.pause();
            let nominal = Duration::from_millis(nominal);
            assert!(pause >= nominal / 2 && pause <= nominal, "{pause:?} of {nominal:?}");
        }
        retry.succeeded();
        assert!(retry.pause() <= first);
    }
}
