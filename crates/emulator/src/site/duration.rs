//! Durations as people write them: `2s`, `150ms`, `1m 30s`.

use std::time::Duration;

use jiff::SignedDuration;
use serde::{Deserialize, Deserializer, de};

/// Longest duration that a site file may give.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// A duration of a site file, from nothing to a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span(pub(super) Duration);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bad = || {
            de::Error::custom(format!(
                "{text:?} is no duration from 0s to 24h such as \"2s\", \"150ms\" or \"1m 30s\""
            ))
        };
        let signed: SignedDuration = text.parse().map_err(|_| bad())?;
        let duration = Duration::try_from(signed).map_err(|_| bad())?;
        if duration <= LONGEST { Ok(Self(duration)) } else { Err(bad()) }
    }
}
