//! Unknown fields: dropping them, and naming them.

use serde_json::Value;

use super::node::{Additional, SchemaNode};
use crate::machinery::field_error::{child, index};

/// Most unknown fields that are named.
const LIMIT: usize = 100;

/// Drops every field that `node` does not know.
pub(super) fn prune(node: SchemaNode<'_>, value: &mut Value) {
    match value {
        Value::Object(fields) => {
            if !keeps_unknown(node) {
                fields.retain(|name, _| node.field(name).is_some());
            }
            for (name, value) in fields.iter_mut().filter(|(_, value)| is_container(value)) {
                if let Some(node) = node.field(name) {
                    prune(node, value);
                }
            }
        }
        Value::Array(entries) => {
            let Some(items) = node.items() else { return };
            entries.iter_mut().for_each(|entry| prune(items, entry));
        }
        _ => {}
    }
}

/// The paths of every field that [`prune`] would drop.
pub(super) fn unknown_fields(node: SchemaNode<'_>, value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    collect(node, value, "", &mut found);
    found
}

fn collect(node: SchemaNode<'_>, value: &Value, path: &str, found: &mut Vec<String>) {
    if found.len() >= LIMIT {
        return;
    }
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match node.field(name) {
                    Some(node) if is_container(value) => collect(node, value, &child(path, name), found),
                    None if !keeps_unknown(node) => found.push(child(path, name)),
                    _ => {}
                }
            }
        }
        Value::Array(entries) => {
            let Some(items) = node.items() else { return };
            for (position, entry) in entries.iter().enumerate().filter(|(_, entry)| is_container(entry)) {
                collect(items, entry, &index(path, position), found);
            }
        }
        _ => {}
    }
}

fn keeps_unknown(node: SchemaNode<'_>) -> bool {
    node.node().preserve_unknown || node.node().additional == Additional::Any
}

fn is_container(value: &Value) -> bool {
    matches!(value, Value::Object(_) | Value::Array(_))
}
