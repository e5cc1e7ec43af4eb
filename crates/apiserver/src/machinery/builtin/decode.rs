//! Reading an object as one of the built-in kinds: what a decoder into typed structures refuses, and what it changes.
//!
//! Types and formats are checked, nulls are dropped (to a typed structure they are the same as nothing), quantities are
//! brought into canonical form, whole numbers written with a fraction lose it.

use serde_json::Value;

use crate::machinery::field_error::{FieldError, child, index};
use crate::machinery::schema::{SchemaNode, ValueType};
use drystone_quantity::Quantity;

/// Format of the nodes that are quantities; set by us, no schema has it.
pub(super) const QUANTITY: &str = "quantity";

/// The first thing that is wrong with `value`, if anything is; otherwise brings it into shape.
pub(super) fn decode(node: SchemaNode<'_>, value: &mut Value) -> Result<(), FieldError> {
    object_or_scalar(node, value, "")
}

fn object_or_scalar(node: SchemaNode<'_>, value: &mut Value, path: &str) -> Result<(), FieldError> {
    if node.format() == Some(QUANTITY) {
        return quantity(value, path);
    }
    check_type(node, value, path)?;
    match value {
        Value::Object(fields) => {
            let keeps_null = node.node().preserve_unknown;
            fields.retain(|name, value| !value.is_null() || (keeps_null && node.field(name).is_none()));
            for (name, value) in fields.iter_mut() {
                if let Some(node) = node.field(name) {
                    if needs_no_look(node, value) {
                        continue;
                    }
                    object_or_scalar(node, value, &child(path, name))?;
                }
            }
            Ok(())
        }
        Value::Array(entries) => {
            let Some(items) = node.items() else { return Ok(()) };
            for (position, entry) in entries.iter_mut().enumerate() {
                if !needs_no_look(items, entry) {
                    object_or_scalar(items, entry, &index(path, position))?;
                }
            }
            Ok(())
        }
        Value::Number(number) => {
            if number.is_f64()
                && node.node().value_type == Some(ValueType::Integer)
                && let Some(whole) = number.as_f64().and_then(whole)
            {
                *value = whole.into();
            }
            check_range(node, value, path)
        }
        Value::String(text) => check_format(node, text, path),
        _ => Ok(()),
    }
}

/// Plain strings are most of what there is, and need no path.
fn needs_no_look(node: SchemaNode<'_>, value: &Value) -> bool {
    value.is_string() && node.node().value_type == Some(ValueType::String) && node.format().is_none()
}

/// A float without fraction as an integer; the bounds are those within which floats count exactly.
fn whole(number: f64) -> Option<i64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if number.fract() != 0.0 || number.abs() > EXACT {
        return None;
    }
    format!("{number:.0}").parse().ok()
}

fn check_type(node: SchemaNode<'_>, value: &Value, path: &str) -> Result<(), FieldError> {
    let facts = node.node();
    let fits = match facts.value_type {
        Some(ValueType::Object) => value.is_object(),
        Some(ValueType::Array) => value.is_array(),
        Some(ValueType::String) => value.is_string(),
        Some(ValueType::Integer) => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        Some(ValueType::Number) => value.is_number(),
        Some(ValueType::Boolean) => value.is_boolean(),
        None if facts.int_or_string => value.is_string() || value.as_f64().is_some_and(|n| n.fract() == 0.0),
        None => true,
    };
    if fits {
        return Ok(());
    }
    let wanted = facts.value_type.map_or("integer or string", ValueType::name);
    let found = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    Err(FieldError::wrong_type(path, found, format!("must be of type {wanted}")))
}

fn check_range(node: SchemaNode<'_>, value: &Value, path: &str) -> Result<(), FieldError> {
    let fits = match node.format() {
        Some("int32") => value.as_i64().is_some_and(|number| i32::try_from(number).is_ok()),
        Some("int64") => value.as_i64().is_some(),
        // Whether a port or a percentage: upstream holds it in 32 bits.
        _ if node.node().int_or_string => value.as_i64().is_some_and(|number| i32::try_from(number).is_ok()),
        _ => true,
    };
    let format = node.format().unwrap_or("int32");
    if fits { Ok(()) } else { Err(FieldError::invalid(path, value.clone(), format!("must fit {format}"))) }
}

fn check_format(node: SchemaNode<'_>, text: &str, path: &str) -> Result<(), FieldError> {
    match node.format() {
        Some(format @ ("date-time" | "byte")) if !node.matches_format(text) => {
            let message = match format {
                "byte" => "must be base64",
                _ => "must be a time in RFC 3339 form, e.g. 2026-01-02T03:04:05Z",
            };
            // What fails to be base64 may be a secret: it is not repeated.
            let shown = if format == "byte" { Value::String("(not shown)".into()) } else { text.into() };
            Err(FieldError::invalid(path, shown, message))
        }
        _ => Ok(()),
    }
}

fn quantity(value: &mut Value, path: &str) -> Result<(), FieldError> {
    match Quantity::from_json(value) {
        Ok(quantity) => {
            let text = quantity.to_string();
            if value.as_str() != Some(&text) {
                *value = text.into();
            }
            Ok(())
        }
        Err(error) => Err(FieldError::invalid(path, value.clone(), error.to_string())),
    }
}
