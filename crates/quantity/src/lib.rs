//! Kubernetes quantities (`resource.Quantity` of API machinery): `100m`, `1.5Gi`, `12e6`. Parsed exactly, compared by value,
//! printed in canonical form.
//!
//! A quantity is kept in billionths, the finest step Kubernetes knows; more digits are rounded away from zero and what
//! is beyond 2^63-1 is capped, as upstream does.

mod parse;
mod print;
#[cfg(test)]
mod tests;

use std::cmp::Ordering;

use serde_json::Value;
use thiserror::Error;

/// Billionths in a unit.
const NANO: i128 = 1_000_000_000;
/// The greatest amount, as its opposite is the least.
const LIMIT: i128 = i64::MAX as i128 * NANO;

/// Which family of suffixes a quantity was written with, and is printed with again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `m`, none, `k`, `M`, `G` …: powers of 1000.
    DecimalSi,
    /// `Ki`, `Mi`, `Gi` …: powers of 1024.
    BinarySi,
    /// `e3`, `e6` …: powers of ten.
    DecimalExponent,
}

/// Text that is no quantity.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
pub struct QuantityError;

/// An amount of some resource.
#[derive(Clone, Copy, Debug)]
pub struct Quantity {
    /// Billionths of the unit.
    nanos: i128,
    /// How to print it.
    format: Format,
}

const DECIMAL: [(&str, i128); 10] = [
    ("E", 1_000_000_000_000_000_000 * NANO),
    ("P", 1_000_000_000_000_000 * NANO),
    ("T", 1_000_000_000_000 * NANO),
    ("G", 1_000_000_000 * NANO),
    ("M", 1_000_000 * NANO),
    ("k", 1_000 * NANO),
    ("", NANO),
    ("m", 1_000_000),
    ("u", 1_000),
    ("n", 1),
];

const BINARY: [(&str, i128); 6] = [
    ("Ei", (1 << 60) * NANO),
    ("Pi", (1 << 50) * NANO),
    ("Ti", (1 << 40) * NANO),
    ("Gi", (1 << 30) * NANO),
    ("Mi", (1 << 20) * NANO),
    ("Ki", (1 << 10) * NANO),
];

impl Quantity {
    /// Nothing, printed as `0`.
    pub const ZERO: Self = Self { nanos: 0, format: Format::DecimalSi };

    /// A whole number of units.
    pub fn from_units(units: i64, format: Format) -> Self {
        Self { nanos: i128::from(units) * NANO, format }
    }

    /// Reads a quantity from JSON: a string, or a bare number as YAML authors write `cpu: 2`.
    ///
    /// # Errors
    /// If it is neither, or a string that does not follow the grammar.
    pub fn from_json(value: &Value) -> Result<Self, QuantityError> {
        match value {
            Value::String(text) => text.parse(),
            Value::Number(number) => number.to_string().parse(),
            _ => Err(QuantityError),
        }
    }

    /// Whole units, rounded up (away from zero for negative amounts too, as upstream).
    pub fn value(self) -> i64 {
        self.scaled(NANO)
    }

    /// Thousandths of the unit, rounded up; capped at `i64::MAX`.
    pub fn milli_value(self) -> i64 {
        self.scaled(NANO / 1000)
    }

    fn scaled(self, unit: i128) -> i64 {
        capped(divide_away_from_zero(self.nanos, unit))
    }

    /// How many of `unit` this is, rounded away from zero and capped at the limits of `i64`; `None` if `unit` is nothing.
    pub fn in_units_of(self, unit: Self) -> Option<i64> {
        (unit.nanos != 0).then(|| capped(divide_away_from_zero(self.nanos, unit.nanos)))
    }

    /// The suffix family.
    pub fn format(self) -> Format {
        self.format
    }

    /// Whether the amount is at one of the limits, to which all that is beyond has been capped.
    pub fn is_capped(self) -> bool {
        self.nanos.abs() >= LIMIT
    }

    /// Whether the amount is nothing.
    pub fn is_zero(self) -> bool {
        self.nanos == 0
    }

    /// Whether the amount is below nothing.
    pub fn is_negative(self) -> bool {
        self.nanos < 0
    }

    /// Whether the amount is a whole number of units.
    pub fn is_whole(self) -> bool {
        self.nanos % NANO == 0
    }

    /// The sum, in this quantity's format (the other's, if this one is zero); capped at the limits.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        let format = if self.is_zero() { other.format } else { self.format };
        Self { nanos: (self.nanos + other.nanos).clamp(-LIMIT, LIMIT), format }
    }

    /// The difference, in this quantity's format; capped at the limits.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        self.plus(Self { nanos: -other.nanos, format: other.format })
    }
}

fn divide_away_from_zero(amount: i128, unit: i128) -> i128 {
    let (quotient, rest) = (amount / unit, amount % unit);
    quotient + rest.signum() * unit.signum()
}

fn capped(amount: i128) -> i64 {
    i64::try_from(amount).unwrap_or(if amount > 0 { i64::MAX } else { i64::MIN })
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}
