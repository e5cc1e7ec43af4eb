//! Merging a configuration into a live object, and taking out what its manager no longer wants.

use serde_json::{Map, Value};

use super::{
    field_set::FieldSet,
    path::PathElement,
    walk::{Shape, key_of, shape},
};
use crate::machinery::schema::SchemaNode;

/// The live value with everything that the configuration says. Lists that are told apart keep their live order; new
/// entries follow in the order of the configuration.
pub(super) fn merge(schema: Option<SchemaNode<'_>>, live: &Value, config: &Value) -> Value {
    match (shape(schema, config), live, config) {
        (Shape::Object(schema), Value::Object(before), Value::Object(wanted)) => {
            let mut merged = before.clone();
            for (name, value) in wanted {
                let schema = schema.and_then(|node| node.field(name));
                let value = match before.get(name) {
                    Some(present) => merge(schema, present, value),
                    None => value.clone(),
                };
                merged.insert(name.clone(), value);
            }
            Value::Object(merged)
        }
        (Shape::Keyed(list), Value::Array(before), Value::Array(wanted)) => {
            Value::Array(merge_keyed(list, before, wanted))
        }
        (Shape::Set, Value::Array(before), Value::Array(wanted)) => {
            let mut merged = before.clone();
            merged.extend(wanted.iter().filter(|item| !before.contains(item)).cloned());
            Value::Array(merged)
        }
        _ => config.clone(),
    }
}

fn merge_keyed(list: SchemaNode<'_>, before: &[Value], wanted: &[Value]) -> Vec<Value> {
    let mut merged: Vec<(PathElement, Value)> =
        before.iter().map(|item| (key_of(list, item), item.clone())).collect();
    for item in wanted {
        let key = key_of(list, item);
        match merged.iter_mut().find(|(present, _)| *present == key) {
            Some((_, present)) => *present = merge(list.items(), present, item),
            None => merged.push((key, item.clone())),
        }
    }
    merged.into_iter().map(|(_, item)| item).collect()
}

/// Takes the fields of `gone` out of a value, but for those that `kept` holds or that lie above something it holds.
pub(super) fn remove(schema: Option<SchemaNode<'_>>, value: &mut Value, gone: &FieldSet, kept: &FieldSet) {
    match (shape(schema, value), value) {
        (Shape::Object(schema), Value::Object(fields)) => remove_fields(schema, fields, gone, kept),
        (Shape::Keyed(list), Value::Array(items)) => {
            items.retain_mut(|item| {
                let element = key_of(list, item);
                if is_gone(&element, gone, kept) {
                    return false;
                }
                if let Some(gone) = gone.child(&element) {
                    remove(list.items(), item, gone, kept.child(&element).unwrap_or(&FieldSet::default()));
                }
                true
            });
        }
        (Shape::Set, Value::Array(items)) => {
            items.retain(|item| !is_gone(&PathElement::of_value(item), gone, kept));
        }
        _ => {}
    }
}

fn is_gone(element: &PathElement, gone: &FieldSet, kept: &FieldSet) -> bool {
    let path = std::slice::from_ref(element);
    gone.contains(path) && !kept.reaches(path)
}

fn remove_fields(
    schema: Option<SchemaNode<'_>>,
    fields: &mut Map<String, Value>,
    gone: &FieldSet,
    kept: &FieldSet,
) {
    let nothing = FieldSet::default();
    fields.retain(|name, value| {
        let element = PathElement::Field(name.clone());
        if is_gone(&element, gone, kept) {
            return false;
        }
        let Some(below) = gone.child(&element).filter(|below| !below.is_empty()) else { return true };
        let kept_below = kept.child(&element).unwrap_or(&nothing);
        remove(schema.and_then(|node| node.field(name)), value, below, kept_below);
        // A container that lost its last field was there for its fields only, unless somebody holds it.
        let emptied = match value {
            Value::Object(fields) => fields.is_empty(),
            Value::Array(items) => items.is_empty(),
            _ => false,
        };
        !emptied || kept.reaches(std::slice::from_ref(&element))
    });
}
