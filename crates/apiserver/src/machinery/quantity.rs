//! Kubernetes quantities: `100m`, `1.5Gi`, `12e6`. Parsed exactly, compared by value, printed in canonical form.
//!
//! A quantity is kept in billionths, the finest step Kubernetes knows; more digits are rounded away from zero and what
//! is beyond 2^63-1 is capped, as upstream does.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde_json::Value;
use thiserror::Error;

const NANO: i128 = 1_000_000_000;
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
        let rounded = divide_away_from_zero(self.nanos, unit);
        i64::try_from(rounded).unwrap_or(if rounded > 0 { i64::MAX } else { i64::MIN })
    }

    /// The suffix family.
    pub fn format(self) -> Format {
        self.format
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
    quotient + rest.signum()
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

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let (negative, unsigned) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        let number_end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
        let (number, suffix) = unsigned.split_at(number_end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return Err(QuantityError);
        }
        let (scale, format) = parse_suffix(suffix)?;
        let nanos = scale.apply(whole, fraction);
        Ok(Self { nanos: if negative { -nanos } else { nanos }, format })
    }
}

/// What a suffix multiplies by.
enum Scale {
    /// A factor in billionths.
    Factor(i128),
    /// A power of ten.
    Exponent(i32),
}

fn parse_suffix(suffix: &str) -> Result<(Scale, Format), QuantityError> {
    if let Some((_, factor)) = DECIMAL.iter().find(|(name, _)| *name == suffix) {
        return Ok((Scale::Factor(*factor), Format::DecimalSi));
    }
    if let Some((_, factor)) = BINARY.iter().find(|(name, _)| *name == suffix) {
        return Ok((Scale::Factor(*factor), Format::BinarySi));
    }
    let exponent = suffix.strip_prefix(['e', 'E']).ok_or(QuantityError)?;
    let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    if digits.is_empty() || digits.len() > 5 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(QuantityError);
    }
    let exponent = exponent.parse().map_err(|_| QuantityError)?;
    Ok((Scale::Exponent(exponent), Format::DecimalExponent))
}

impl Scale {
    /// `whole.fraction` times the scale in billionths: rounded up to a billionth, capped at the limit.
    fn apply(&self, whole: &str, fraction: &str) -> i128 {
        let (factor, exponent) = match self {
            Self::Factor(factor) => (*factor, 0),
            Self::Exponent(exponent) => (NANO, *exponent),
        };
        let digits = format!("{whole}{fraction}");
        let significant = digits.trim_start_matches('0');
        let leading_zeros = digits.len() - significant.len();
        let point = decimal_point(whole.len()) - decimal_point(leading_zeros) + i64::from(exponent);
        match (significant, point) {
            ("", _) => 0,
            // The limit has 28 digits in billionths, the largest factor 27 zeros: beyond that nothing else matters.
            (_, 31..) => LIMIT,
            (_, ..-30) => 1,
            (digits, point) => scaled_digits(digits, point, factor).min(LIMIT),
        }
    }
}

fn decimal_point(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX >> 1)
}

/// The number `0.digits` times `10^point` times `factor`, rounded up.
fn scaled_digits(digits: &str, point: i64, factor: i128) -> i128 {
    let value = |byte: u8| i128::from(byte - b'0');
    let leading_zeros = usize::try_from(-point).unwrap_or(0);
    let integer_digits = usize::try_from(point).unwrap_or(0);
    let (integer, fraction) = digits.as_bytes().split_at(integer_digits.min(digits.len()));
    let padding = std::iter::repeat_n(&b'0', integer_digits - integer.len());
    let whole = integer
        .iter()
        .chain(padding)
        .fold(0_i128, |sum, digit| sum.saturating_mul(10).saturating_add(value(*digit)));
    // Horner's rule from the last digit: whatever falls off the end only decides the rounding.
    let zeros = std::iter::repeat_n(&b'0', leading_zeros);
    let (mut part, mut inexact) = (0_i128, false);
    for digit in fraction.iter().rev().chain(zeros) {
        part += value(*digit) * factor;
        inexact |= part % 10 != 0;
        part /= 10;
    }
    whole.saturating_mul(factor).saturating_add(part + i128::from(inexact))
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos == 0 {
            return f.write_str("0");
        }
        match self.format {
            // Below 1024 a binary suffix would say nothing.
            Format::BinarySi if self.nanos.abs() >= 1024 * NANO => {
                let nanos = divide_away_from_zero(self.nanos, NANO) * NANO;
                let (suffix, unit) = largest_exact(&BINARY, nanos).unwrap_or(("", NANO));
                write!(f, "{}{suffix}", nanos / unit)
            }
            Format::DecimalExponent => {
                let (_, unit) = largest_exact(&DECIMAL, self.nanos).unwrap_or(("n", 1));
                let exponent = unit.ilog10().cast_signed() - NANO.ilog10().cast_signed();
                let mantissa = self.nanos / unit;
                if exponent == 0 { write!(f, "{mantissa}") } else { write!(f, "{mantissa}e{exponent}") }
            }
            Format::BinarySi | Format::DecimalSi => {
                let (suffix, unit) = largest_exact(&DECIMAL, self.nanos).unwrap_or(("n", 1));
                write!(f, "{}{suffix}", self.nanos / unit)
            }
        }
    }
}

fn largest_exact(units: &[(&'static str, i128)], nanos: i128) -> Option<(&'static str, i128)> {
    units.iter().find(|(_, unit)| nanos % unit == 0).copied()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn canonical(text: &str) -> String {
        text.parse::<Quantity>().expect(text).to_string()
    }

    #[test]
    fn canonical_forms() {
        let cases = [
            ("0", "0"),
            ("0Ki", "0"),
            ("1.5", "1500m"),
            ("1500m", "1500m"),
            ("2000m", "2"),
            ("1.5Gi", "1536Mi"),
            ("1024Ki", "1Mi"),
            ("512Ki", "512Ki"),
            ("0.5Ki", "512"),
            ("100", "100"),
            ("1000", "1k"),
            ("1000000", "1M"),
            ("12e6", "12e6"),
            ("1200e4", "12e6"),
            ("1e3", "1e3"),
            ("0.1m", "100u"),
            ("0.0000000001", "1n"),
            ("-1.5", "-1500m"),
            ("+3", "3"),
            (".5", "500m"),
            ("5.", "5"),
            ("1E", "1E"),
            ("9223372036854775807", "9223372036854775807"),
            ("99999999999999999999999", "9223372036854775807"),
            ("1Ei", "1Ei"),
            ("100Ei", "9223372036854775807"),
        ];
        for (text, expected) in cases {
            assert_eq!(canonical(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_quantity() {
        for wrong in
            ["", " 1", "1 ", "Gi", "1gi", "1.2.3", "1e", "1e+", "--1", "1KB", "0x10", ".", "1Mi2", "1m m"]
        {
            assert!(wrong.parse::<Quantity>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn values_round_up() {
        let quantity = |text: &str| text.parse::<Quantity>().expect(text);
        assert_eq!(quantity("1500m").value(), 2);
        assert_eq!(quantity("100m").milli_value(), 100);
        assert_eq!(quantity("2Gi").value(), 2 << 30);
        assert_eq!(quantity("1.0001Ki").to_string(), "1025");
        assert_eq!(quantity("8E").milli_value(), i64::MAX);
        assert!(quantity("1Gi") > quantity("1G"));
        assert_eq!(quantity("1000m"), quantity("1"));
    }

    proptest! {
        #[test]
        fn canonical_text_is_stable(whole in 0u64..=u64::MAX >> 1, fraction in "[0-9]{0,9}",
                                    suffix in "|m|k|M|Ki|Mi|Gi|e3|e-2") {
            let quantity: Quantity = format!("{}.{fraction}{suffix}", whole % 1_000_000).parse().expect("well formed");
            let again: Quantity = quantity.to_string().parse().expect("canonical");
            if quantity.format() == Format::BinarySi {
                // Bytes come in wholes.
                prop_assert_eq!(again.value(), quantity.value());
            } else {
                prop_assert_eq!(again.to_string(), quantity.to_string());
                prop_assert_eq!(again, quantity);
            }
        }

        #[test]
        fn whole_numbers_are_exact(units in any::<i64>()) {
            let quantity: Quantity = units.to_string().parse().expect("a number");
            prop_assert_eq!(quantity.value().max(-i64::MAX), units.max(-i64::MAX));
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,20}") {
            let _ = text.parse::<Quantity>();
        }

        #[test]
        fn addition_undoes_subtraction(a in -1_000_000_000i64..1_000_000_000, b in -1_000_000_000i64..1_000_000_000) {
            let (a, b) = (Quantity::from_units(a, Format::DecimalSi), Quantity::from_units(b, Format::DecimalSi));
            prop_assert_eq!(a.plus(b).minus(b), a);
        }
    }
}
