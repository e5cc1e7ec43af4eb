//! Setting fields of JSON objects that are missing.

use serde_json::{Map, Value};

/// The fields of an object.
pub(super) type Fields = Map<String, Value>;

/// Whether the field is missing, null, or an empty string.
pub(super) fn absent(fields: &Fields, name: &str) -> bool {
    match fields.get(name) {
        None | Some(Value::Null) => true,
        Some(Value::String(text)) => text.is_empty(),
        Some(_) => false,
    }
}

/// Sets the field if it is [`absent`].
pub(super) fn set(fields: &mut Fields, name: &str, value: impl Into<Value>) {
    if absent(fields, name) {
        fields.insert(name.to_owned(), value.into());
    }
}

/// Sets the field if it is [`absent`] or zero.
pub(super) fn set_nonzero(fields: &mut Fields, name: &str, value: i64) {
    if absent(fields, name) || fields.get(name).and_then(Value::as_i64) == Some(0) {
        fields.insert(name.to_owned(), value.into());
    }
}

/// The text of a field; empty if there is none.
pub(super) fn text<'a>(fields: &'a Fields, name: &str) -> &'a str {
    fields.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// The object in a field, if there is one.
pub(super) fn object<'a>(fields: &'a mut Fields, name: &str) -> Option<&'a mut Fields> {
    fields.get_mut(name).and_then(Value::as_object_mut)
}

/// The object in a field, made if it is missing; `None` only if something else is there.
pub(super) fn made<'a>(fields: &'a mut Fields, name: &str) -> Option<&'a mut Fields> {
    let value = fields.entry(name).or_insert(Value::Null);
    if value.is_null() {
        *value = Value::Object(Map::new());
    }
    value.as_object_mut()
}

/// Each object of the list in a field.
pub(super) fn each(fields: &mut Fields, name: &str, change: impl FnMut(&mut Fields)) {
    let entries = fields.get_mut(name).and_then(Value::as_array_mut);
    entries.into_iter().flatten().filter_map(Value::as_object_mut).for_each(change);
}

/// The object in a field, changed if there is one.
pub(super) fn within(fields: &mut Fields, name: &str, change: impl FnOnce(&mut Fields)) {
    if let Some(inner) = object(fields, name) {
        change(inner);
    }
}

/// The object in a field, made if it is missing, and changed.
pub(super) fn within_made(fields: &mut Fields, name: &str, change: impl FnOnce(&mut Fields)) {
    if let Some(inner) = made(fields, name) {
        change(inner);
    }
}

/// An empty object.
pub(super) fn empty() -> Value {
    Value::Object(Map::new())
}
