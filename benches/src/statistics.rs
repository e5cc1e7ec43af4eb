//! Medians and percentiles.

use std::time::Duration;

/// Durations in order.
#[derive(Debug, Clone)]
pub(crate) struct Sorted(Vec<Duration>);

impl Sorted {
    /// Sorts.
    pub(crate) fn new(mut durations: Vec<Duration>) -> Self {
        durations.sort_unstable();
        Self(durations)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The smallest that at least `percent` of 100 are not above; zero of nothing.
    pub(crate) fn percentile(&self, percent: usize) -> Duration {
        let rank = (self.0.len() * percent).div_ceil(100).max(1);
        self.0.get(rank - 1).copied().unwrap_or_default()
    }

    /// The middle one.
    pub(crate) fn median(&self) -> Duration {
        self.percentile(50)
    }
}

/// `1.23 s, median of 5`.
pub(crate) fn summary(durations: &Sorted) -> String {
    let median = seconds(durations.median());
    if durations.len() == 1 { median } else { format!("{median}, median of {}", durations.len()) }
}

/// `12.34 ms`.
pub(crate) fn milliseconds(duration: Duration) -> String {
    format!("{:.2} ms", duration.as_secs_f64() * 1000.0)
}

/// `1.23 s`.
fn seconds(duration: Duration) -> String {
    format!("{:.2} s", duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_those_measured() {
        let sorted = Sorted::new((1..=10).rev().map(Duration::from_millis).collect());
        let of = |percent| sorted.percentile(percent).as_millis();
        assert_eq!((of(50), of(90), of(99), of(100)), (5, 9, 10, 10));
        assert_eq!(Sorted::new(vec![Duration::from_secs(3)]).median(), Duration::from_secs(3));
        assert_eq!(Sorted::new(Vec::new()).median(), Duration::ZERO);
    }
}
