//! From text.

use std::str::FromStr;

use crate::{BINARY, DECIMAL, Format, LIMIT, NANO, Quantity, QuantityError};

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
