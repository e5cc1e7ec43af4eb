//! What a stack's parameters are, from what was given and what the template presets.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{HotError, Parameter, kind_of, text_of};

/// Values of all parameters of a template.
///
/// # Errors
/// One is missing, unknown, of another type or outside of its constraints.
pub(in crate::cloud) fn resolve(
    declared: &BTreeMap<String, Parameter>,
    given: &Map<String, Value>,
) -> Result<BTreeMap<String, Value>, HotError> {
    if let Some(unknown) = given.keys().find(|name| !declared.contains_key(*name)) {
        return Err(HotError::new(
            format!("parameters.{unknown}"),
            format!("The Parameter ({unknown}) was not defined in template."),
        ));
    }
    let resolved = declared.iter().map(|(name, parameter)| {
        let path = format!("parameters.{name}");
        let value = given.get(name).filter(|value| !value.is_null()).or(parameter.default.as_ref());
        let value =
            value.ok_or_else(|| HotError::new(&path, format!("The Parameter ({name}) was not provided.")))?;
        let value = convert(&parameter.kind, value).map_err(|reason| HotError::new(&path, reason))?;
        for constraint in &parameter.constraints {
            check(constraint, &value).map_err(|reason| HotError::new(&path, reason))?;
        }
        Ok((name.clone(), value))
    });
    resolved.collect()
}

fn convert(kind: &str, value: &Value) -> Result<Value, String> {
    let wrong = || {
        format!(
            "{} does not validate {kind}",
            if value.is_string() { value.to_string() } else { kind_of(value).to_owned() }
        )
    };
    match (kind, value) {
        ("string", Value::Array(_) | Value::Object(_)) => Err(wrong()),
        ("string", Value::Bool(truth)) => Ok(json!(if *truth { "True" } else { "False" })),
        ("string", other) => Ok(Value::String(text_of(other))),
        ("number", Value::Number(_))
        | ("boolean", Value::Bool(_))
        | ("json", Value::Object(_) | Value::Array(_)) => Ok(value.clone()),
        ("number", Value::String(text)) => {
            let number = serde_json::from_str::<Value>(text.trim()).ok().filter(Value::is_number);
            number.ok_or_else(wrong)
        }
        ("boolean", other) => match text_of(other).to_ascii_lowercase().as_str() {
            "true" | "t" | "yes" | "y" | "on" | "1" => Ok(json!(true)),
            "false" | "f" | "no" | "n" | "off" | "0" => Ok(json!(false)),
            _ => Err(wrong()),
        },
        ("json", Value::String(text)) if text.trim().is_empty() => Ok(json!({})),
        ("json", Value::String(text)) => {
            let parsed = serde_json::from_str::<Value>(text).ok();
            parsed.filter(|parsed| parsed.is_object() || parsed.is_array()).ok_or_else(wrong)
        }
        ("comma_delimited_list", Value::Array(list)) => {
            Ok(list.iter().map(|item| Value::String(text_of(item))).collect())
        }
        ("comma_delimited_list", Value::String(text)) => {
            let items = text.split(',').map(str::trim).filter(|_| !text.trim().is_empty());
            Ok(items.map(|item| json!(item)).collect())
        }
        _ => Err(wrong()),
    }
}

fn check(constraint: &Map<String, Value>, value: &Value) -> Result<(), String> {
    for (kind, rule) in constraint {
        match kind.as_str() {
            "allowed_values" => {
                let allowed = rule.as_array().map(Vec::as_slice).unwrap_or_default();
                if !allowed.iter().any(|one| text_of(one) == text_of(value)) {
                    let listed: Vec<String> = allowed.iter().map(text_of).collect();
                    return Err(format!(
                        "{} is not an allowed value [{}]",
                        text_of(value),
                        listed.join(", ")
                    ));
                }
            }
            "length" | "range" => {
                let size = match (kind.as_str(), value) {
                    ("range", number) => number.as_f64(),
                    (_, Value::Array(list)) => u32::try_from(list.len()).ok().map(f64::from),
                    (_, Value::Object(map)) => u32::try_from(map.len()).ok().map(f64::from),
                    (_, other) => u32::try_from(text_of(other).chars().count()).ok().map(f64::from),
                };
                let size = size.ok_or_else(|| format!("{} has no {kind}", text_of(value)))?;
                let bound = |key: &str| rule.get(key).and_then(Value::as_f64);
                if bound("min").is_some_and(|min| size < min) || bound("max").is_some_and(|max| size > max) {
                    return Err(format!("{size} is out of range: {rule}"));
                }
            }
            // Said by people for people, and of things that are looked up when they are used.
            "description" | "custom_constraint" => {}
            other => return Err(format!("the constraint {other} is not understood")),
        }
    }
    Ok(())
}

/// A parameter's value as Heat shows it: text.
pub(in crate::cloud) fn shown(parameter: &Parameter, value: &Value) -> Value {
    if parameter.hidden {
        return json!("******");
    }
    match value {
        Value::Bool(truth) => json!(if *truth { "True" } else { "False" }),
        Value::Array(list) if parameter.kind == "comma_delimited_list" => {
            json!(list.iter().map(text_of).collect::<Vec<_>>().join(","))
        }
        other => json!(text_of(other)),
    }
}
