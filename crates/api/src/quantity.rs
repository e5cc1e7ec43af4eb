//! Amounts that users write with units: memory (`64Gi`), bandwidth (`100Gbit`) and time (`90s`, `1h30m`).

use std::{borrow::Cow, fmt, str::FromStr};

use drystone_quantity::{Format, Quantity};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// A text that is not an amount.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {what}")]
pub struct ParseQuantityError {
    text: String,
    what: &'static str,
}

/// An amount of memory in bytes, written as a whole Kubernetes quantity with a binary or decimal suffix: `512Mi`, `64Gi`, `2Ti`,
/// `100G`. Texts reach up to 8 EiB; what is more than they can say is refused, not capped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Memory(pub u64);

/// A data rate in bits per second: `25Gbit`, `100Gbit`, `800Mbit`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bandwidth(pub u64);

/// A span of time in whole seconds, written as Go and Kubernetes write durations, without fractions: `90s`, `10m`, `1h30m`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimeSpan(pub u64);

const MEMORY_SUFFIXES: [&str; 13] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei", "k", "M", "G", "T", "P", "E"];
/// The most that is written: the greatest whole number of tebibytes below 2^63.
const MOST_MEMORY: i64 = i64::MAX >> 40 << 40;

const BANDWIDTH_UNITS: [(&str, u64); 4] =
    [("Tbit", 1_000_000_000_000), ("Gbit", 1_000_000_000), ("Mbit", 1_000_000), ("kbit", 1_000)];

const TIME_UNITS: [(char, u64); 3] = [('h', 3_600), ('m', 60), ('s', 1)];

const MEMORY_PATTERN: &str = r"^[0-9]+(Ki|Mi|Gi|Ti|Pi|Ei|k|M|G|T|P|E)?$";
const BANDWIDTH_PATTERN: &str = r"^[0-9]+(k|M|G|T)bit$";
const TIME_PATTERN: &str = r"^([0-9]{1,9}h)?([0-9]{1,9}m)?([0-9]{1,9}s)?$";

impl Memory {
    /// From mebibytes, the unit of Redfish.
    pub const fn from_mebibytes(mebibytes: u64) -> Self {
        Self(mebibytes.saturating_mul(1 << 20))
    }

    /// In whole mebibytes.
    pub const fn mebibytes(self) -> u64 {
        self.0 >> 20
    }
}

impl Bandwidth {
    /// From gigabits per second, the unit of Redfish.
    pub const fn from_gigabits(gigabits: u64) -> Self {
        Self(gigabits.saturating_mul(1_000_000_000))
    }
}

impl FromStr for Memory {
    type Err = ParseQuantityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let suffix = text.trim_start_matches(|c: char| c.is_ascii_digit());
        let quantity = text.parse().ok().filter(|amount: &Quantity| !amount.is_capped());
        let bytes = quantity.filter(|_| MEMORY_SUFFIXES.contains(&suffix)).map(Quantity::value);
        bytes.and_then(|bytes| u64::try_from(bytes).ok()).map(Self).ok_or_else(|| ParseQuantityError {
            text: text.to_owned(),
            what: "an amount of memory below 8Ei (a whole number with Ki, Mi, Gi, Ti, Pi, Ei, k, M, G, T, P or E)",
        })
    }
}

impl FromStr for Bandwidth {
    type Err = ParseQuantityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
        let (_, suffix) = text.split_at(digits.len());
        let factor = BANDWIDTH_UNITS.iter().find(|(unit, _)| *unit == suffix).map(|(_, factor)| *factor);
        let number = factor.and_then(|factor| digits.parse::<u64>().ok()?.checked_mul(factor));
        number.map(Self).ok_or_else(|| ParseQuantityError {
            text: text.to_owned(),
            what: "a bandwidth (a whole number with kbit, Mbit, Gbit or Tbit)",
        })
    }
}

impl TimeSpan {
    /// For the clock of this crate.
    pub fn to_signed(self) -> k8s_openapi::jiff::SignedDuration {
        k8s_openapi::jiff::SignedDuration::from_secs(i64::try_from(self.0).unwrap_or(i64::MAX))
    }
}

impl FromStr for TimeSpan {
    type Err = ParseQuantityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse_time(text).map(Self).ok_or_else(|| ParseQuantityError {
            text: text.to_owned(),
            what: "a span of time (whole hours, minutes and seconds in this order: 1h30m, 10m, 90s)",
        })
    }
}

/// Units in their order, each at most once; at least one.
fn parse_time(text: &str) -> Option<u64> {
    let (mut rest, mut seconds) = (text, 0_u64);
    for (unit, factor) in TIME_UNITS {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        if rest[digits..].starts_with(unit) {
            let amount = rest[..digits].parse::<u64>().ok().filter(|amount| *amount < 1_000_000_000)?;
            seconds += amount * factor;
            rest = &rest[digits + 1..];
            if rest.is_empty() {
                return Some(seconds);
            }
        }
    }
    None
}

impl fmt::Display for TimeSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0s");
        }
        let mut rest = self.0;
        for (unit, factor) in TIME_UNITS {
            if rest >= factor {
                write!(f, "{}{unit}", rest / factor)?;
                rest %= factor;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = i64::try_from(self.0).unwrap_or(i64::MAX).min(MOST_MEMORY);
        let format = if bytes % 1024 == 0 { Format::BinarySi } else { Format::DecimalSi };
        Quantity::from_units(bytes, format).fmt(f)
    }
}

impl fmt::Display for Bandwidth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match BANDWIDTH_UNITS.iter().find(|(_, factor)| self.0 != 0 && self.0.is_multiple_of(*factor)) {
            Some((unit, factor)) => write!(f, "{}{unit}", self.0 / factor),
            None => write!(f, "{}kbit", self.0 / 1000),
        }
    }
}

macro_rules! as_text {
    ($name:ident, $pattern:expr, $example:literal) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = Cow::<str>::deserialize(deserializer)?;
                text.parse().map_err(D::Error::custom)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({"type": "string", "pattern": $pattern, "example": $example})
            }
        }
    };
}

as_text!(Memory, MEMORY_PATTERN, "64Gi");
as_text!(Bandwidth, BANDWIDTH_PATTERN, "100Gbit");
as_text!(TimeSpan, TIME_PATTERN, "10m");
