//! From Drystone's resources to the bodies that Redfish clients see. Pure.

pub mod aggregation;
pub mod composition;
pub mod fabric;
pub mod service;
pub mod system;
pub mod task;
pub mod zone;

use drystone_redfish::{tree::Item, types::to_body};
use serde_json::{Map, Value, json};

/// A link.
pub(crate) fn link(uri: impl Into<String>) -> Value {
    json!({"@odata.id": uri.into()})
}

/// A list of links.
pub(crate) fn links(uris: impl IntoIterator<Item = String>) -> Value {
    Value::Array(uris.into_iter().map(link).collect())
}

/// State and health.
pub(crate) fn status(state: &str, health: &str) -> Value {
    json!({"State": state, "Health": health})
}

/// A text; absent if empty.
pub(crate) fn text(text: &str) -> Value {
    if text.is_empty() { Value::Null } else { Value::from(text) }
}

/// A number; absent if zero, which stands for unknown.
pub(crate) fn number(number: impl Into<u64>) -> Value {
    let number = number.into();
    if number == 0 { Value::Null } else { Value::from(number) }
}

/// A resource out of its URI, type, name and the rest; what is null or empty is left out.
pub(crate) fn resource(uri: &str, odata_type: &str, name: &str, rest: Value) -> Item {
    let mut map = Map::new();
    map.insert("@odata.id".to_owned(), uri.into());
    map.insert("@odata.type".to_owned(), odata_type.into());
    map.insert("Id".to_owned(), uri.rsplit('/').next().unwrap_or_default().into());
    map.insert("Name".to_owned(), name.into());
    if let Value::Object(rest) = rest {
        map.extend(rest);
    }
    // Only a map with keys that are no texts could fail; this one has none.
    Item::Resource(to_body(&map).unwrap_or_default())
}
