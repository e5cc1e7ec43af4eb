//! From values to sets of fields: what a value consists of, and what differs between two values.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{field_set::FieldSet, path::PathElement};
use crate::machinery::schema::{ListType, SchemaNode};

/// How a value is taken apart.
#[derive(Clone, Copy)]
pub(super) enum Shape<'a> {
    /// One value, whatever it contains.
    Atomic,
    /// An object, field by field.
    Object(Option<SchemaNode<'a>>),
    /// A set.
    Set,
    /// A list of objects, by keys.
    Keyed(SchemaNode<'a>),
}

/// How a value is taken apart under a schema. Without one, objects are taken apart and lists are not.
pub(super) fn shape<'a>(schema: Option<SchemaNode<'a>>, value: &Value) -> Shape<'a> {
    match value {
        Value::Object(_) => match schema {
            Some(node) if node.node().atomic => Shape::Atomic,
            schema => Shape::Object(schema),
        },
        Value::Array(_) => match schema.map(|node| (node, node.node().list_type)) {
            Some((_, ListType::Set)) => Shape::Set,
            Some((node, ListType::Map)) if !node.node().list_map_keys.is_empty() => Shape::Keyed(node),
            _ => Shape::Atomic,
        },
        _ => Shape::Atomic,
    }
}

/// Path element of an entry of a list of objects.
pub(super) fn key_of(list: SchemaNode<'_>, item: &Value) -> PathElement {
    let keys = list.node().list_map_keys.iter().map(|key| &**key);
    // A key that is absent has its default, where there is one.
    let items = list.items();
    let mut complete = serde_json::Map::new();
    for key in keys {
        let default = || {
            items.and_then(|node| node.property(key)).and_then(|node| node.node().default.as_deref().cloned())
        };
        if let Some(value) = item.get(key).cloned().or_else(default) {
            complete.insert(key.to_owned(), value);
        }
    }
    let names: Vec<String> = complete.keys().cloned().collect();
    PathElement::of_keys(&Value::Object(complete), names.iter().map(String::as_str))
}

/// The entries of a list by path element; of entries with the same key the last one counts.
pub(super) fn entries<'v>(shape: Shape<'_>, items: &'v [Value]) -> BTreeMap<PathElement, &'v Value> {
    items.iter().map(|item| (element_of(shape, item), item)).collect()
}

/// The first list in a value of which two entries cannot be told apart: its path, and what they share.
pub(super) fn repeated(
    schema: Option<SchemaNode<'_>>,
    value: &Value,
) -> Option<(Vec<PathElement>, PathElement)> {
    let mut path = Vec::new();
    let element = find_repeated(schema, value, &mut path)?;
    Some((path, element))
}

fn find_repeated(
    schema: Option<SchemaNode<'_>>,
    value: &Value,
    path: &mut Vec<PathElement>,
) -> Option<PathElement> {
    match (shape(schema, value), value) {
        (Shape::Object(schema), Value::Object(fields)) => {
            for (name, inner) in fields {
                path.push(PathElement::Field(name.clone()));
                if let Some(found) = find_repeated(schema.and_then(|node| node.field(name)), inner, path) {
                    return Some(found);
                }
                path.pop();
            }
            None
        }
        (shape @ (Shape::Set | Shape::Keyed(_)), Value::Array(items)) => {
            let mut seen = BTreeSet::new();
            for item in items {
                let element = element_of(shape, item);
                if !seen.insert(element.clone()) {
                    return Some(element);
                }
                if let Shape::Keyed(list) = shape {
                    path.push(element);
                    if let Some(found) = find_repeated(list.items(), item, path) {
                        return Some(found);
                    }
                    path.pop();
                }
            }
            None
        }
        _ => None,
    }
}

fn element_of(shape: Shape<'_>, item: &Value) -> PathElement {
    match shape {
        Shape::Keyed(list) => key_of(list, item),
        _ => PathElement::of_value(item),
    }
}

/// The fields that a value consists of.
pub(super) fn fields_of(schema: Option<SchemaNode<'_>>, value: &Value) -> FieldSet {
    let mut set = FieldSet::default();
    collect(schema, value, &mut Vec::new(), &mut set);
    set
}

fn collect(schema: Option<SchemaNode<'_>>, value: &Value, path: &mut Vec<PathElement>, set: &mut FieldSet) {
    match (shape(schema, value), value) {
        (Shape::Object(schema), Value::Object(fields)) if !fields.is_empty() => {
            for (name, inner) in fields {
                path.push(PathElement::Field(name.clone()));
                collect(schema.and_then(|node| node.field(name)), inner, path, set);
                path.pop();
            }
        }
        (shape @ (Shape::Set | Shape::Keyed(_)), Value::Array(items)) if !items.is_empty() => {
            for (element, item) in entries(shape, items) {
                path.push(element);
                set.insert(path);
                if let Shape::Keyed(list) = shape {
                    collect(list.items(), item, path, set);
                }
                path.pop();
            }
        }
        _ => set.insert(path),
    }
}

/// What differs between two values.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Difference {
    /// Fields of the second that the first has not.
    pub(super) added: FieldSet,
    /// Fields of both with different values.
    pub(super) modified: FieldSet,
    /// Fields of the first that the second has not.
    pub(super) removed: FieldSet,
}

/// Compares two values, leaf by leaf.
pub(super) fn compare(schema: Option<SchemaNode<'_>>, old: &Value, new: &Value) -> Difference {
    let mut difference = Difference::default();
    compare_at(schema, old, new, &mut Vec::new(), &mut difference);
    difference
}

fn compare_at(
    schema: Option<SchemaNode<'_>>,
    old: &Value,
    new: &Value,
    path: &mut Vec<PathElement>,
    difference: &mut Difference,
) {
    if old == new {
        return;
    }
    match (shape(schema, old), old, new) {
        (Shape::Object(schema), Value::Object(before), Value::Object(after)) => {
            for (name, inner) in before {
                path.push(PathElement::Field(name.clone()));
                let schema = schema.and_then(|node| node.field(name));
                match after.get(name) {
                    Some(other) => compare_at(schema, inner, other, path, difference),
                    // The field itself and all that was in it: somebody may hold it as an empty container.
                    None => {
                        difference.removed.insert(path);
                        collect(schema, inner, path, &mut difference.removed);
                    }
                }
                path.pop();
            }
            for (name, inner) in after.iter().filter(|(name, _)| !before.contains_key(*name)) {
                path.push(PathElement::Field(name.clone()));
                collect(schema.and_then(|node| node.field(name)), inner, path, &mut difference.added);
                path.pop();
            }
        }
        (shape @ (Shape::Set | Shape::Keyed(_)), Value::Array(before), Value::Array(after)) => {
            let (before, after) = (entries(shape, before), entries(shape, after));
            let items = if let Shape::Keyed(list) = shape { list.items() } else { None };
            for (element, item) in &before {
                path.push(element.clone());
                match after.get(element) {
                    Some(other) => compare_at(items, item, other, path, difference),
                    None => collect_entry(shape, items, item, path, &mut difference.removed),
                }
                path.pop();
            }
            for (element, item) in after.iter().filter(|(element, _)| !before.contains_key(*element)) {
                path.push(element.clone());
                collect_entry(shape, items, item, path, &mut difference.added);
                path.pop();
            }
        }
        _ => difference.modified.insert(path),
    }
}

fn collect_entry(
    shape: Shape<'_>,
    items: Option<SchemaNode<'_>>,
    item: &Value,
    path: &mut Vec<PathElement>,
    set: &mut FieldSet,
) {
    set.insert(path);
    if matches!(shape, Shape::Keyed(_)) {
        collect(items, item, path, set);
    }
}
