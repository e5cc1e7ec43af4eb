//! Pauses and limits.

use std::time::Duration;

/// The greatest power of two that a pause grows by.
const MOST_DOUBLINGS: u32 = 9;

/// Pauses and limits of the state machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pacing {
    /// After n failures in a row the next attempt is made after 2^n times this, less up to the half.
    pub retry_unit: Duration,
    /// No pause between attempts is longer.
    pub longest_retry: Duration,
    /// How often a host at rest is looked at: power may change behind our back.
    pub steady: Duration,
    /// How often a detached host is looked at.
    pub detached: Duration,
    /// How often a host without a management controller is looked at.
    pub unmanaged: Duration,
    /// How long to wait for a Secret that is missing; its arrival is noticed at once anyway.
    pub missing_secret: Duration,
    /// How long to wait for a slot, at least; at most twice as long.
    pub delayed: Duration,
    /// How many hosts may be inspected, provisioned and deprovisioned at one time, without those that boot from virtual media.
    pub slots: usize,
    /// How often an image is tried.
    pub provisioning_attempts: u32,
}

impl Pacing {
    /// As Metal3 has it.
    pub const METAL3: Self = Self {
        retry_unit: Duration::from_secs(60),
        longest_retry: Duration::from_secs(60 << MOST_DOUBLINGS),
        steady: Duration::from_secs(60),
        detached: Duration::from_secs(600),
        unmanaged: Duration::from_secs(600),
        missing_secret: Duration::from_secs(10),
        delayed: Duration::from_secs(60),
        slots: 20,
        provisioning_attempts: 5,
    };

    /// The same, but with short pauses between attempts: a management controller that answers is asked again soon.
    pub const QUICK: Self = Self {
        retry_unit: Duration::from_millis(500),
        longest_retry: Duration::from_secs(60),
        ..Self::METAL3
    };

    /// Pause before the next attempt after `errors` failures in a row; `spread` in 0..1 keeps many hosts apart.
    pub fn backoff(&self, errors: u32, spread: f64) -> Duration {
        let doubled = self.retry_unit.saturating_mul(1 << errors.min(MOST_DOUBLINGS)).min(self.longest_retry);
        doubled.mul_f64(1.0 - spread.clamp(0.0, 1.0) / 2.0)
    }
}

impl Default for Pacing {
    fn default() -> Self {
        Self::METAL3
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn pauses_are_those_of_metal3() {
        let minutes = |errors| Pacing::METAL3.backoff(errors, 0.0).as_secs() / 60;
        assert_eq!([0, 1, 2, 3, 9, 10, 1000].map(minutes), [1, 2, 4, 8, 512, 512, 512]);
        assert_eq!(Pacing::METAL3.backoff(1, 1.0), Duration::from_secs(60));
        assert_eq!(Pacing::QUICK.backoff(1, 0.0), Duration::from_secs(1));
        assert_eq!(Pacing::QUICK.backoff(9, 0.0), Duration::from_secs(60));
    }

    proptest! {
        #[test]
        fn pauses_grow_and_are_spread_by_half_at_most(errors in 0_u32..20, spread in 0.0_f64..1.0) {
            let pacing = Pacing::METAL3;
            let (least, most) = (pacing.backoff(errors, 1.0), pacing.backoff(errors, 0.0));
            let pause = pacing.backoff(errors, spread);
            prop_assert!(least <= pause && pause <= most && most <= least * 2);
            prop_assert!(pacing.backoff(errors + 1, 0.0) >= most);
        }
    }
}
