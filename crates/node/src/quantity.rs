//! Kubernetes quantities: `500m`, `2`, `1.5Gi`, `1e3`. Exact in thousandths.

/// An amount, in thousandths of its unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Amount(i128);

impl Amount {
    /// Whether it is below zero.
    pub fn is_negative(self) -> bool {
        self.0 < 0
    }

    /// Whole units, rounded up.
    pub fn units(self) -> i64 {
        i64::try_from(self.0.div_euclid(1000) + i128::from(self.0.rem_euclid(1000) != 0)).unwrap_or(i64::MAX)
    }

    /// Thousandths.
    pub fn thousandths(self) -> i64 {
        i64::try_from(self.0).unwrap_or(i64::MAX)
    }
}

/// Reads a quantity; none if it is not one. Digits below a thousandth round up.
pub fn parse(text: &str) -> Option<Amount> {
    let (negative, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
    let (number, suffix) = unsigned.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = format!("{whole}{fraction}");
    if digits.is_empty() || digits.len() > 24 || fraction.contains('.') {
        return None;
    }
    let mantissa: i128 = digits.parse().ok()?;
    let scale = i32::try_from(fraction.len()).ok()?;
    let amount = scaled(mantissa, scale, suffix)?;
    Some(Amount(if negative { -amount } else { amount }))
}

/// `mantissa · 10^-scale · suffix`, in thousandths, rounded up.
fn scaled(mantissa: i128, scale: i32, suffix: &str) -> Option<i128> {
    let power = |exponent: i32| -> Option<i128> {
        let exponent = exponent + 3 - scale;
        if exponent >= 0 {
            return mantissa.checked_mul(10_i128.checked_pow(exponent.unsigned_abs())?);
        }
        let divisor = 10_i128.checked_pow(exponent.unsigned_abs())?;
        Some(mantissa / divisor + i128::from(mantissa % divisor != 0))
    };
    let binary = |exponent: u32| -> Option<i128> {
        let thousandths = mantissa.checked_mul(1 << exponent)?.checked_mul(1000)?;
        let divisor = 10_i128.checked_pow(scale.unsigned_abs())?;
        Some(thousandths / divisor + i128::from(thousandths % divisor != 0))
    };
    match suffix {
        "n" => power(-9),
        "u" => power(-6),
        "m" => power(-3),
        "" => power(0),
        "k" => power(3),
        "M" => power(6),
        "G" => power(9),
        "T" => power(12),
        "P" => power(15),
        "E" => power(18),
        "Ki" => binary(10),
        "Mi" => binary(20),
        "Gi" => binary(30),
        "Ti" => binary(40),
        "Pi" => binary(50),
        "Ei" => binary(60),
        other => {
            let exponent: i32 = other.strip_prefix(['e', 'E'])?.parse().ok()?;
            if (-18..=18).contains(&exponent) { power(exponent) } else { None }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_notations_are_understood() {
        for (text, thousandths) in [
            ("2", 2000),
            ("500m", 500),
            ("0.5", 500),
            (".5", 500),
            ("1.5Gi", 1_610_612_736_000),
            ("64Mi", 67_108_864_000),
            ("1e3", 1_000_000),
            ("1E-3", 1),
            ("100k", 100_000_000),
            ("1n", 1),
            ("-3", -3000),
            ("+3", 3000),
            ("0", 0),
        ] {
            assert_eq!(parse(text).map(Amount::thousandths), Some(thousandths), "{text}");
        }
        for text in ["", "m", "1.2.3", "1Gib", "e3", "1e99", "one", "1 ", "--1"] {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(parse("1500m").unwrap().units(), 2);
        assert_eq!(parse("-1500m").unwrap().units(), -1);
    }
}
