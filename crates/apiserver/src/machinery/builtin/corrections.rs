//! Where the generated schemas say less, or more, than is true.

use serde_json::{Map, Value, json};

/// Definitions of which any JSON value is an example.
const ANYTHING: [&str; 4] =
    ["JSON", "JSONSchemaPropsOrArray", "JSONSchemaPropsOrBool", "JSONSchemaPropsOrStringArray"];

/// Corrects the definitions.
pub(super) fn apply(definitions: &mut Map<String, Value>) {
    for (name, definition) in definitions.iter_mut() {
        let Value::Object(fields) = definition else { continue };
        let short = name.rsplit('.').next().unwrap_or(name);
        if ANYTHING.contains(&short) {
            // What follows "JSON" is any value, not an object without fields.
            fields.remove("type");
            fields.remove("oneOf");
            fields.insert("x-kubernetes-preserve-unknown-fields".into(), true.into());
        } else if short == "Quantity" {
            // Written as a string, and read from bare numbers too, with fractions.
            fields.remove("x-kubernetes-int-or-string");
            fields.insert("oneOf".into(), json!([{"type": "string"}, {"type": "number"}]));
        } else if short == "IntOrString" {
            fields.insert("format".into(), "int-or-string".into());
        } else if is_shapeless(fields) {
            fields.insert("x-kubernetes-preserve-unknown-fields".into(), true.into());
        }
    }
}

/// An object of which the schema says nothing more: its fields are for somebody else to know.
fn is_shapeless(fields: &Map<String, Value>) -> bool {
    fields.get("type").and_then(Value::as_str) == Some("object")
        && !fields.contains_key("properties")
        && !fields.contains_key("additionalProperties")
}
