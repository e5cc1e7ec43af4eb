//! Exponential back-off with jitter, as one pure function.

use std::time::Duration;

/// How delays grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// Delay after the first failure.
    pub initial: Duration,
    /// Largest delay.
    pub maximum: Duration,
}

impl Backoff {
    /// Delay after the given number of failures (from 1): doubles each time up to the maximum, then between half and all of
    /// it is taken according to `jitter` in `0.0..=1.0`, so that many that failed together do not come back together.
    pub fn delay(&self, failures: u32, jitter: f64) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        let full = self.initial.saturating_mul(1 << doublings).min(self.maximum);
        full.div_f64(2.0) + full.div_f64(2.0).mul_f64(jitter.clamp(0.0, 1.0))
    }

    /// [`Backoff::delay`] with random jitter.
    pub fn random_delay(&self, failures: u32) -> Duration {
        self.delay(failures, rand::random::<f64>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_maximum() {
        let backoff = Backoff { initial: Duration::from_secs(1), maximum: Duration::from_secs(60) };
        let seconds: Vec<u64> =
            [0, 1, 2, 3, 4, 7, 40].iter().map(|&n| backoff.delay(n, 1.0).as_secs()).collect();
        assert_eq!(seconds, [1, 1, 2, 4, 8, 60, 60]);
    }

    #[test]
    fn jitter_takes_at_most_half() {
        let backoff = Backoff { initial: Duration::from_secs(8), maximum: Duration::from_secs(60) };
        assert_eq!(backoff.delay(1, 0.0), Duration::from_secs(4));
        assert_eq!(backoff.delay(1, 7.0), Duration::from_secs(8));
    }
}
