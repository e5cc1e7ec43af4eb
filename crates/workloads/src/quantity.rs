//! Kubernetes quantities (`100m`, `1.5Gi`, `2e3`) as exact integers.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// A quantity that does not follow the grammar.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is not a quantity; write a number with an optional suffix such as 500m, 2, 64Mi or 1.5G")]
pub struct QuantityError(pub String);

/// The value in thousandths, rounded up and away from nothing (`0.1m` counts as `1m`), saturating at the limits of `i64`.
///
/// # Errors
/// If the text is not a quantity.
pub fn milli(quantity: &Quantity) -> Result<i64, QuantityError> {
    scaled(&quantity.0, 3).map(clamp).ok_or_else(|| QuantityError(quantity.0.clone()))
}

/// The value in whole units, rounded up, saturating at the limits of `i64`.
///
/// # Errors
/// If the text is not a quantity.
pub fn units(quantity: &Quantity) -> Result<i64, QuantityError> {
    scaled(&quantity.0, 0).map(clamp).ok_or_else(|| QuantityError(quantity.0.clone()))
}

fn clamp(value: i128) -> i64 {
    i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
}

/// What a suffix multiplies by: a power of ten and a power of two.
fn suffix(text: &str) -> Option<(i32, u32)> {
    Some(match text {
        "n" => (-9, 0),
        "u" => (-6, 0),
        "m" => (-3, 0),
        "" => (0, 0),
        "k" => (3, 0),
        "M" => (6, 0),
        "G" => (9, 0),
        "T" => (12, 0),
        "P" => (15, 0),
        "E" => (18, 0),
        "Ki" => (0, 10),
        "Mi" => (0, 20),
        "Gi" => (0, 30),
        "Ti" => (0, 40),
        "Pi" => (0, 50),
        "Ei" => (0, 60),
        exponent => (exponent.strip_prefix(['e', 'E'])?.parse().ok()?, 0),
    })
}

/// `text × 10^decimals`, rounded away from zero; `None` if it is not a quantity.
fn scaled(text: &str, decimals: i32) -> Option<i128> {
    let (negative, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
    let (number, tail) = unsigned.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if fraction.contains('.') || (whole.is_empty() && fraction.is_empty()) {
        return None;
    }
    let (power_of_ten, power_of_two) = suffix(tail)?;
    if !(-40..=40).contains(&power_of_ten) {
        return None;
    }
    let digits = format!("{whole}{fraction}");
    let significant = digits.trim_start_matches('0');
    let mantissa: i128 =
        if significant.is_empty() { 0 } else { significant.get(..30).unwrap_or(significant).parse().ok()? };
    // Digits beyond thirty cannot matter to a 64-bit result, but their places do.
    let dropped = i32::try_from(significant.len().saturating_sub(30)).ok()?;
    let exponent = power_of_ten + decimals + dropped - i32::try_from(fraction.len()).ok()?;
    let value = shifted(mantissa, exponent, power_of_two);
    Some(if negative { -value } else { value })
}

/// `mantissa × 2^two × 10^ten`, rounded up, saturating.
fn shifted(mantissa: i128, ten: i32, two: u32) -> i128 {
    if mantissa == 0 {
        return 0;
    }
    let doubled = mantissa.saturating_mul(1i128 << two);
    let power = 10i128.checked_pow(ten.unsigned_abs());
    match (ten >= 0, power) {
        (true, Some(power)) => doubled.saturating_mul(power),
        (true, None) => i128::MAX,
        (false, Some(power)) => doubled / power + i128::from(doubled % power != 0),
        (false, None) => 1,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn q(text: &str) -> Quantity {
        Quantity(text.into())
    }

    #[test]
    fn the_grammar() {
        for (text, thousandths) in [
            ("0", 0),
            ("1", 1000),
            ("100m", 100),
            ("0.1", 100),
            (".5", 500),
            ("5.", 5000),
            ("1.5Ki", 1_536_000),
            ("1Gi", 1 << 30),
            ("1e3", 1_000_000),
            ("2E2", 200_000),
            ("1E", 1_000_000_000_000_000_000),
            ("100u", 1),
            ("-2", -2000),
            ("+3", 3000),
            ("0.0001", 1),
        ] {
            let expected = if text.ends_with("Gi") { thousandths * 1000 } else { thousandths };
            let expected = if text == "1E" { i64::MAX } else { expected };
            assert_eq!(milli(&q(text)), Ok(expected), "{text}");
        }
        assert_eq!(units(&q("1500m")), Ok(2));
        assert_eq!(units(&q("128974848")), Ok(128_974_848));
        assert_eq!(units(&q("123Mi")), Ok(128_974_848));
        for wrong in ["", "Gi", "1 Gi", "1.2.3", "one", "1Kii", "--1", "1e", "1e99"] {
            assert!(milli(&q(wrong)).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC{0,40}") {
            let _ = milli(&q(&text));
        }

        #[test]
        fn whole_numbers_are_exact(n in 0i64..1 << 40) {
            prop_assert_eq!(units(&q(&n.to_string())), Ok(n));
            prop_assert_eq!(milli(&q(&format!("{n}m"))), Ok(n));
        }
    }
}
