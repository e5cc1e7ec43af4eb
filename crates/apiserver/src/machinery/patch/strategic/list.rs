//! Merging of lists: scalars as sets, objects by their merge key.

use serde_json::Value;

use super::directives::{PATCH, cleaned};
use super::order;
use crate::machinery::patch::PatchError;
use crate::machinery::schema::SchemaNode;

/// Merges `patch` into `original`; entries that the patch names come in its order, others stay where they were.
pub(super) fn merge(
    original: Vec<Value>,
    patch: Vec<Value>,
    items: Option<SchemaNode<'_>>,
    merge_key: Option<&str>,
) -> Result<Vec<Value>, PatchError> {
    let Some(example) = original.first().or(patch.first()) else { return Ok(original) };
    let objects = example.is_object();
    if original.iter().chain(&patch).any(|entry| entry.is_object() != objects || entry.is_array()) {
        return Err(PatchError::Inapplicable("list element types are not identical".to_owned()));
    }
    match merge_key {
        Some(key) if objects => merge_by_key(original, patch, items, key),
        None if objects => {
            Err(PatchError::Inapplicable("cannot merge lists of objects without merge key".to_owned()))
        }
        _ => Ok(merge_scalars(&original, &patch)),
    }
}

fn merge_scalars(original: &[Value], patch: &[Value]) -> Vec<Value> {
    let mut merged: Vec<Value> = Vec::with_capacity(original.len() + patch.len());
    for entry in original.iter().chain(patch) {
        if !merged.contains(entry) {
            merged.push(entry.clone());
        }
    }
    order::arrange(merged, patch, original, None)
}

fn merge_by_key(
    original: Vec<Value>,
    patch: Vec<Value>,
    items: Option<SchemaNode<'_>>,
    key: &str,
) -> Result<Vec<Value>, PatchError> {
    let (mut merged, patch) = apply_directives(original, patch, key)?;
    let server_order = merged.clone();
    let wanted = patch.clone();
    for entry in patch {
        let name = key_of(&entry, key)?.clone();
        match merged.iter_mut().find(|before| before.get(key) == Some(&name)) {
            Some(place) => {
                let before = std::mem::take(place);
                *place = merge_entry(before, entry, items)?;
            }
            None => merged.extend(cleaned(entry)),
        }
    }
    Ok(order::arrange(merged, &wanted, &server_order, Some(key)))
}

fn merge_entry(before: Value, patch: Value, items: Option<SchemaNode<'_>>) -> Result<Value, PatchError> {
    match (before, patch) {
        (Value::Object(before), Value::Object(patch)) => {
            Ok(Value::Object(super::merge_objects(before, patch, items)?))
        }
        (_, patch) => Ok(patch),
    }
}

/// Carries out `$patch: delete` and `$patch: replace` of entries; gives what is left of list and patch.
fn apply_directives(
    mut original: Vec<Value>,
    patch: Vec<Value>,
    key: &str,
) -> Result<(Vec<Value>, Vec<Value>), PatchError> {
    let mut ordinary = Vec::with_capacity(patch.len());
    let mut replace = false;
    for entry in patch {
        match entry.get(PATCH).map(|directive| directive.as_str().unwrap_or_default()) {
            None => ordinary.push(entry),
            Some("delete") => {
                let name = key_of(&entry, key)?;
                original.retain(|before| before.get(key) != Some(name));
            }
            // On an entry of its own it is about the list; beside fields, about the entry.
            Some("replace") if entry.get(key).is_none() => replace = true,
            Some("replace") => {
                let name = key_of(&entry, key)?.clone();
                let position = original.iter().position(|before| before.get(key) == Some(&name));
                match position {
                    Some(position) => original[position] = cleaned(entry).unwrap_or_default(),
                    None => original.extend(cleaned(entry)),
                }
            }
            Some("merge") => {
                return Err(PatchError::Malformed(
                    "merging lists cannot yet be specified in the patch".to_owned(),
                ));
            }
            Some(other) => {
                return Err(PatchError::Malformed(format!("unknown patch type found: {other:?} in $patch")));
            }
        }
    }
    if replace { Ok((Vec::new(), ordinary)) } else { Ok((original, ordinary)) }
}

fn key_of<'a>(entry: &'a Value, key: &str) -> Result<&'a Value, PatchError> {
    entry.get(key).ok_or_else(|| {
        PatchError::Inapplicable(format!("map: {entry} does not contain declared merge key: {key}"))
    })
}
