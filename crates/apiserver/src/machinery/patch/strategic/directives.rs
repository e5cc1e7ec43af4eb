//! The directives of strategic merge patches, and removing them from values that are taken as they are.

use serde_json::{Map, Value};

/// What to do with the object that holds it.
pub(super) const PATCH: &str = "$patch";
/// The only fields an object keeps.
pub(super) const RETAIN_KEYS: &str = "$retainKeys";
/// Prefix: values to remove from a list of scalars.
pub(super) const DELETE_FROM_LIST: &str = "$deleteFromPrimitiveList/";
/// Prefix: order of a merged list.
pub(super) const SET_ORDER: &str = "$setElementOrder/";

fn is_directive(name: &str) -> bool {
    name == PATCH || name == RETAIN_KEYS || name.starts_with(DELETE_FROM_LIST) || name.starts_with(SET_ORDER)
}

/// A value that is new to the document: without directives and nulls. `None` if it says that it is to be deleted.
pub(super) fn cleaned(value: Value) -> Option<Value> {
    match value {
        Value::Object(fields) if fields.get(PATCH).and_then(Value::as_str) == Some("delete") => None,
        Value::Object(fields) => Some(Value::Object(without_directives(fields))),
        Value::Array(entries) => Some(Value::Array(entries.into_iter().filter_map(entry).collect())),
        scalar => Some(scalar),
    }
}

/// A list's entry; one that only carries a directive for the list is none.
fn entry(value: Value) -> Option<Value> {
    match &value {
        Value::Object(fields) if fields.len() == 1 && fields.contains_key(PATCH) => None,
        _ => cleaned(value),
    }
}

/// The fields without directives and nulls, all the way down.
pub(super) fn without_directives(fields: Map<String, Value>) -> Map<String, Value> {
    fields
        .into_iter()
        .filter(|(name, value)| !is_directive(name) && !value.is_null())
        .filter_map(|(name, value)| Some((name, cleaned(value)?)))
        .collect()
}
