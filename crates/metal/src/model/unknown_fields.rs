//! Fields of a JSON document that a type does not have.

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

/// Reads a document as a type that knows all of its fields. Fields that say nothing (null, empty, false, 0) are not missed.
///
/// # Errors
/// What does not fit, or the paths of the fields that the type does not have.
pub(super) fn read_strictly<T: DeserializeOwned + Serialize>(text: &str) -> Result<T, String> {
    let mut document: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    // What Go writes for a list that is not there.
    drop_nulls(&mut document);
    let read: T = serde_json::from_value(document.clone()).map_err(|error| error.to_string())?;
    let known = serde_json::to_value(&read).map_err(|error| error.to_string())?;
    let mut unknown = Vec::new();
    compare(&document, Some(&known), String::new(), &mut unknown);
    if unknown.is_empty() { Ok(read) } else { Err(format!("unknown field {}", unknown.join(", "))) }
}

fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

fn compare(document: &Value, known: Option<&Value>, path: String, unknown: &mut Vec<String>) {
    if says_nothing(document) {
        return;
    }
    match (document, known) {
        (_, None) => unknown.push(path),
        (Value::Object(fields), Some(Value::Object(known))) => {
            for (name, value) in fields {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                compare(value, known.get(name), path, unknown);
            }
        }
        (Value::Array(items), Some(Value::Array(known))) => {
            for (index, value) in items.iter().enumerate() {
                compare(value, known.get(index), format!("{path}[{index}]"), unknown);
            }
        }
        _ => {}
    }
}

fn says_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Bool(true) => false,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.values().all(says_nothing),
    }
}

#[cfg(test)]
mod tests {
    use drystone_api::HardwareDetails;

    use super::*;

    #[test]
    fn unknown_fields_are_found_where_they_are() {
        let good =
            r#"{"nics": [{"mac": "02:00:00:00:00:01", "model": "", "vlans": []}], "cpu": {"flags": null}}"#;
        read_strictly::<HardwareDetails>(good).expect("all known");
        let wrong = r#"{"nics": [{"mac": "02:00:00:00:00:01", "colour": "red"}], "ramMebibyte": 5}"#;
        let error = read_strictly::<HardwareDetails>(wrong).expect_err("two unknown fields");
        assert_eq!(error, "unknown field nics[0].colour, ramMebibyte");
        assert!(read_strictly::<HardwareDetails>("{").is_err());
    }
}
