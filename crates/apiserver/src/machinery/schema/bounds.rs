//! Conditions on a single value: numbers, lengths, formats, patterns, enumerations.

use serde_json::Value;

use super::format;
use super::node::Checks;
use crate::machinery::field_error::FieldError;

/// Checks everything but the alternatives (`allOf` and its like).
pub(super) fn check(checks: &Checks, value: &Value, path: &str, errors: &mut Vec<FieldError>) {
    match value {
        Value::Number(_) => number(checks, value, path, errors),
        Value::String(text) => string(checks, text, path, errors),
        Value::Array(entries) => array(checks, entries, path, errors),
        Value::Object(fields) => object(checks, fields.len(), path, errors),
        Value::Null | Value::Bool(_) => {}
    }
    if let Some(allowed) = &checks.enumeration
        && !allowed.contains(value)
    {
        let names = allowed.iter().map(|value| value.as_str().map_or_else(|| value.to_string(), Into::into));
        errors.push(FieldError::not_supported(path, value.clone(), names));
    }
}

fn invalid(path: &str, value: &Value, what: &str) -> FieldError {
    FieldError::invalid(path, value.clone(), format!("{path} in body {what}"))
}

fn number(checks: &Checks, value: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let Some(number) = value.as_f64() else { return };
    match checks.minimum {
        Some((limit, false)) if number < limit => {
            errors.push(invalid(path, value, &format!("should be greater than or equal to {limit}")));
        }
        Some((limit, true)) if number <= limit => {
            errors.push(invalid(path, value, &format!("should be greater than {limit}")));
        }
        _ => {}
    }
    match checks.maximum {
        Some((limit, false)) if number > limit => {
            errors.push(invalid(path, value, &format!("should be less than or equal to {limit}")));
        }
        Some((limit, true)) if number >= limit => {
            errors.push(invalid(path, value, &format!("should be less than {limit}")));
        }
        _ => {}
    }
    if let Some(factor) = checks.multiple_of
        && factor > 0.0
        && (number / factor).fract() != 0.0
    {
        errors.push(invalid(path, value, &format!("should be a multiple of {factor}")));
    }
    let fits = match checks.format.as_deref() {
        Some("int32") => value.as_i64().is_some_and(|n| i32::try_from(n).is_ok()) || !is_whole(value),
        Some("int64") => value.as_i64().is_some() || !value.is_u64(),
        _ => true,
    };
    if !fits {
        let format = checks.format.as_deref().unwrap_or_default();
        errors.push(invalid(path, value, &format!("must be of type {format}: \"{value}\"")));
    }
}

/// Whether serde holds the number as an integer; others are judged by their type, not by their size.
fn is_whole(value: &Value) -> bool {
    value.is_i64() || value.is_u64()
}

fn string(checks: &Checks, text: &str, path: &str, errors: &mut Vec<FieldError>) {
    let value = || Value::String(text.to_owned());
    if checks.min_length.is_some() || checks.max_length.is_some() {
        let length = text.chars().count();
        if let Some(limit) = checks.min_length.filter(|limit| length < *limit) {
            errors.push(invalid(path, &value(), &format!("should be at least {limit} chars long")));
        }
        if let Some(limit) = checks.max_length.filter(|limit| length > *limit) {
            errors.push(FieldError::too_long(path, limit));
        }
    }
    if let Some(pattern) = checks.pattern.as_ref().filter(|pattern| !pattern.is_match(text)) {
        errors.push(invalid(path, &value(), &format!("should match '{}'", pattern.text)));
    }
    if let Some(name) = checks.format.as_deref().filter(|name| !format::matches(name, text)) {
        errors.push(invalid(path, &value(), &format!("must be of type {name}: {text:?}")));
    }
}

fn array(checks: &Checks, entries: &[Value], path: &str, errors: &mut Vec<FieldError>) {
    let length = entries.len();
    if let Some(limit) = checks.min_items.filter(|limit| length < *limit) {
        let value = Value::Array(entries.to_vec());
        errors.push(invalid(path, &value, &format!("should have at least {limit} items")));
    }
    if let Some(limit) = checks.max_items.filter(|limit| length > *limit) {
        errors.push(FieldError::too_many(path, length, limit));
    }
    if checks.unique_items {
        let mut seen = std::collections::HashSet::with_capacity(length);
        if !entries.iter().all(|entry| seen.insert(entry.to_string())) {
            let value = Value::Array(entries.to_vec());
            errors.push(invalid(path, &value, "shouldn't contain duplicates"));
        }
    }
}

fn object(checks: &Checks, length: usize, path: &str, errors: &mut Vec<FieldError>) {
    if let Some(limit) = checks.min_properties.filter(|limit| length < *limit) {
        let what = format!("should have at least {limit} properties");
        errors.push(invalid(path, &length.into(), &what));
    }
    if let Some(limit) = checks.max_properties.filter(|limit| length > *limit) {
        errors.push(FieldError::too_many(path, length, limit));
    }
}
