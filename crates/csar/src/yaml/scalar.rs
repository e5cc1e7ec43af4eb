//! What a plain scalar means by YAML 1.1 (<https://yaml.org/type/>), as the loader that Heat uses reads it.

/// A plain scalar.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Scalar {
    /// Nothing.
    Null,
    /// A truth value.
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// A number.
    Float(f64),
    /// Anything else, dates included: a template's version is one.
    Text,
}

/// Whether a plain scalar is nothing.
pub(super) fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

/// What a plain scalar is.
pub(super) fn resolve(text: &str) -> Scalar {
    if is_null(text) {
        return Scalar::Null;
    }
    match text {
        "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => return Scalar::Bool(true),
        "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Scalar::Bool(false);
        }
        _ => {}
    }
    if let Some(value) = integer(text) {
        return Scalar::Integer(value);
    }
    float(text).map_or(Scalar::Text, Scalar::Float)
}

/// A whole number: decimal, octal with a leading 0, `0x`, `0b`; `_` between digits. `None` if it is not one, or too large.
pub(super) fn integer(text: &str) -> Option<i64> {
    let (sign, digits) = match text.as_bytes().first()? {
        b'-' => ("-", &text[1..]),
        b'+' => ("", &text[1..]),
        _ => ("", text),
    };
    if !digits.as_bytes().first()?.is_ascii_digit() {
        return None;
    }
    let (radix, digits) = match digits.as_bytes() {
        [b'0', b'x', rest @ ..] if !rest.is_empty() => (16, &digits[2..]),
        [b'0', b'b', rest @ ..] if !rest.is_empty() => (2, &digits[2..]),
        [b'0', rest @ ..] if !rest.is_empty() => (8, &digits[1..]),
        _ => (10, digits),
    };
    let digits: String = digits.chars().filter(|digit| *digit != '_').collect();
    if digits.is_empty() || !digits.chars().all(|digit| digit.is_digit(radix)) {
        return None;
    }
    i64::from_str_radix(&format!("{sign}{digits}"), radix).ok()
}

/// A number with a point; an exponent has a sign. Infinities and what is not a number are no JSON, hence texts here.
fn float(text: &str) -> Option<f64> {
    let body = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (mantissa, exponent) = match body.find(['e', 'E']) {
        Some(at) => (&body[..at], Some(&body[at + 1..])),
        None => (body, None),
    };
    let (whole, fraction) = mantissa.split_once('.')?;
    let digits = |part: &str| part.chars().all(|digit| digit.is_ascii_digit() || digit == '_');
    let starts_well = whole.is_empty() || whole.starts_with(|digit: char| digit.is_ascii_digit());
    let exponent_good = exponent.is_none_or(|exponent| {
        let power = exponent.strip_prefix(['-', '+']);
        power.is_some_and(|power| !power.is_empty() && power.chars().all(|digit| digit.is_ascii_digit()))
    });
    let some_digit = mantissa.chars().any(|digit| digit.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || !starts_well || !exponent_good || !some_digit {
        return None;
    }
    text.replace('_', "").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_are_read_as_heat_reads_them() {
        for (text, expected) in [
            ("", Scalar::Null),
            ("~", Scalar::Null),
            ("yes", Scalar::Bool(true)),
            ("Off", Scalar::Bool(false)),
            ("12", Scalar::Integer(12)),
            ("-1", Scalar::Integer(-1)),
            ("1_000", Scalar::Integer(1000)),
            ("0644", Scalar::Integer(0o644)),
            ("0x1F", Scalar::Integer(31)),
            ("0b101", Scalar::Integer(5)),
            ("0", Scalar::Integer(0)),
            ("1.0", Scalar::Float(1.0)),
            (".5", Scalar::Float(0.5)),
            ("1.5e+3", Scalar::Float(1500.0)),
            ("1e3", Scalar::Text),
            ("1.5e3", Scalar::Text),
            (".", Scalar::Text),
            ("2013-05-23", Scalar::Text),
            ("1.2.3", Scalar::Text),
            ("089", Scalar::Text),
            ("0x", Scalar::Text),
            ("10 GB", Scalar::Text),
            ("y", Scalar::Text),
            (".inf", Scalar::Text),
            ("99999999999999999999", Scalar::Text),
        ] {
            assert_eq!(resolve(text), expected, "{text}");
        }
    }
}
