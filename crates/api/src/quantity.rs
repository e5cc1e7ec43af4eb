//! Amounts that users write with units: memory (`64Gi`) and bandwidth (`100Gbit`).

use std::{borrow::Cow, fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// A text that is not an amount.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {what}")]
pub struct ParseQuantityError {
    text: String,
    what: &'static str,
}

/// An amount of memory in bytes, written with a binary or decimal suffix: `512Mi`, `64Gi`, `2Ti`, `100G`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Memory(pub u64);

/// A data rate in bits per second: `25Gbit`, `100Gbit`, `800Mbit`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bandwidth(pub u64);

const MEMORY_UNITS: [(&str, u64); 9] = [
    ("Ti", 1 << 40),
    ("Gi", 1 << 30),
    ("Mi", 1 << 20),
    ("Ki", 1 << 10),
    ("T", 1_000_000_000_000),
    ("G", 1_000_000_000),
    ("M", 1_000_000),
    ("k", 1_000),
    ("", 1),
];

const BANDWIDTH_UNITS: [(&str, u64); 4] =
    [("Tbit", 1_000_000_000_000), ("Gbit", 1_000_000_000), ("Mbit", 1_000_000), ("kbit", 1_000)];

const MEMORY_PATTERN: &str = r"^[0-9]+(Ki|Mi|Gi|Ti|k|M|G|T)?$";
const BANDWIDTH_PATTERN: &str = r"^[0-9]+(k|M|G|T)bit$";

fn parse(text: &str, units: &[(&str, u64)], what: &'static str) -> Result<u64, ParseQuantityError> {
    let error = || ParseQuantityError { text: text.to_owned(), what };
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let suffix = &text[digits.len()..];
    let (_, factor) = units.iter().find(|(unit, _)| *unit == suffix).ok_or_else(error)?;
    let number: u64 = digits.parse().map_err(|_| error())?;
    number.checked_mul(*factor).ok_or_else(error)
}

fn format(amount: u64, units: &[(&str, u64)], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match units.iter().find(|(_, factor)| amount != 0 && amount.is_multiple_of(*factor)) {
        Some((unit, factor)) => write!(f, "{}{unit}", amount / factor),
        None => write!(f, "{amount}{}", units.last().map_or("", |(unit, _)| unit)),
    }
}

impl Memory {
    /// From mebibytes, the unit of Redfish.
    pub const fn from_mebibytes(mebibytes: u64) -> Self {
        Self(mebibytes << 20)
    }

    /// In whole mebibytes.
    pub const fn mebibytes(self) -> u64 {
        self.0 >> 20
    }
}

impl Bandwidth {
    /// From gigabits per second, the unit of Redfish.
    pub const fn from_gigabits(gigabits: u64) -> Self {
        Self(gigabits * 1_000_000_000)
    }
}

impl FromStr for Memory {
    type Err = ParseQuantityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text, &MEMORY_UNITS, "an amount of memory (a whole number with Ki, Mi, Gi, Ti, k, M, G or T)")
            .map(Self)
    }
}

impl FromStr for Bandwidth {
    type Err = ParseQuantityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text, &BANDWIDTH_UNITS, "a bandwidth (a whole number with kbit, Mbit, Gbit or Tbit)").map(Self)
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        format(self.0, &MEMORY_UNITS, f)
    }
}

impl fmt::Display for Bandwidth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        format(self.0, &BANDWIDTH_UNITS, f)
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
