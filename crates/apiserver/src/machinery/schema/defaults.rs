//! Defaults, and nulls where null is no value.

use serde_json::Value;

use super::node::SchemaNode;

/// Fills in what is missing and has a default. A null that the schema does not allow counts as missing, so it is
/// dropped first.
pub(super) fn default(node: SchemaNode<'_>, value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, value| !value.is_null() || node.field(name).is_none_or(allows_null));
            for (name, property) in node.properties() {
                if let Some(default) = &property.node().default
                    && !fields.contains_key(name)
                {
                    fields.insert(name.to_owned(), Value::clone(default));
                }
            }
            for (name, value) in fields {
                if let Some(node) = node.field(name) {
                    default(node, value);
                }
            }
        }
        Value::Array(entries) => {
            let Some(items) = node.items() else { return };
            for entry in entries {
                if let (Value::Null, Some(default)) = (&*entry, &items.node().default)
                    && !items.node().nullable
                {
                    *entry = Value::clone(default);
                }
                default(items, entry);
            }
        }
        _ => {}
    }
}

/// Null is kept where the schema says nullable, and where it says nothing about the type at all.
fn allows_null(node: SchemaNode<'_>) -> bool {
    let facts = node.node();
    facts.nullable
        || (facts.value_type.is_none()
            && !facts.int_or_string
            && facts.preserve_unknown
            && facts.default.is_none())
}
