//! Strategic merge patch: a merge patch that knows, from the schema, which lists are merged and by which key.
//!
//! Directives in the patch say more:
//!
//! | directive | meaning |
//! |---|---|
//! | `$patch: replace` | the patch takes the object's place; as an entry of a list, the list's |
//! | `$patch: delete` | the object becomes empty; with a merge key, the entry leaves its list |
//! | `$retainKeys: [a, b]` | all other fields go |
//! | `$deleteFromPrimitiveList/x: [v]` | these values leave the list `x` |
//! | `$setElementOrder/x: […]` | the order of the list `x` |
//!
//! Source: Kubernetes design document "Strategic Merge Patch", and what kube-apiserver does.

mod directives;
mod list;
mod order;

use serde_json::{Map, Value};

use self::directives::{DELETE_FROM_LIST, PATCH, RETAIN_KEYS, SET_ORDER, without_directives};
use super::{PatchError, within_limits};
use crate::machinery::schema::{PatchStrategy, Schema, SchemaNode};

/// Applies a strategic merge patch.
///
/// # Errors
/// [`PatchError::Malformed`] if patch or document is no object or a directive is wrong, [`PatchError::Inapplicable`] if an
/// entry of a merged list lacks its merge key or directives contradict each other.
pub fn strategic_merge(document: &Value, patch: &Value, schema: &Schema) -> Result<Value, PatchError> {
    let (Value::Object(document), Value::Object(patch)) = (document, patch) else {
        return Err(PatchError::Malformed(
            "a strategic merge patch and its document must be objects".to_owned(),
        ));
    };
    let merged = merge_objects(document.clone(), patch.clone(), Some(schema.root()))?;
    within_limits(Value::Object(merged))
}

/// Merges `patch` into `original`; `node` is their schema, where there is one.
fn merge_objects(
    mut original: Map<String, Value>,
    mut patch: Map<String, Value>,
    node: Option<SchemaNode<'_>>,
) -> Result<Map<String, Value>, PatchError> {
    if let Some(directive) = patch.remove(PATCH) {
        return match directive.as_str() {
            Some("replace") => Ok(without_directives(patch)),
            Some("delete") => Ok(Map::new()),
            Some("merge") => merge_objects(original, patch, node),
            _ => Err(PatchError::Malformed(format!("unknown patch type found: {directive} in $patch"))),
        };
    }
    if let Some(keys) = patch.remove(RETAIN_KEYS) {
        retain_keys(&mut original, &patch, &keys)?;
    }
    set_orders(&mut original, &mut patch, node)?;
    for (name, value) in patch {
        if let Some(field) = name.strip_prefix(DELETE_FROM_LIST) {
            delete_from_list(&mut original, field, &value)?;
            continue;
        }
        match original.remove(&name) {
            _ if value.is_null() => {}
            Some(before) => {
                let merged = merge_field(before, value, node, &name)?;
                original.insert(name, merged);
            }
            None => {
                if let Some(value) = directives::cleaned(value) {
                    original.insert(name, value);
                }
            }
        }
    }
    Ok(original)
}

fn merge_field(
    before: Value,
    patch: Value,
    node: Option<SchemaNode<'_>>,
    name: &str,
) -> Result<Value, PatchError> {
    let field = node.and_then(|node| node.field(name));
    let replaces = strategy(node, name).is_some_and(|strategy| strategy.replace);
    match (before, patch) {
        (Value::Object(before), Value::Object(patch)) if !replaces => {
            Ok(Value::Object(merge_objects(before, patch, field)?))
        }
        (Value::Array(before), Value::Array(patch)) => match strategy(node, name) {
            Some(strategy) if strategy.merge => {
                let items = field.and_then(SchemaNode::items);
                Ok(Value::Array(list::merge(before, patch, items, strategy.merge_key.as_deref())?))
            }
            _ => Ok(directives::cleaned(Value::Array(patch)).unwrap_or(Value::Null)),
        },
        (_, patch) => Ok(directives::cleaned(patch).unwrap_or(Value::Null)),
    }
}

fn strategy<'a>(node: Option<SchemaNode<'a>>, name: &str) -> Option<&'a PatchStrategy> {
    node.and_then(|node| node.patch_strategy(name))
}

/// `$retainKeys`: every field that the patch sets must be listed; what is not listed goes.
fn retain_keys(
    original: &mut Map<String, Value>,
    patch: &Map<String, Value>,
    keys: &Value,
) -> Result<(), PatchError> {
    let Some(keys) = keys.as_array() else {
        return Err(PatchError::Malformed(format!("{RETAIN_KEYS} must be a list")));
    };
    let listed = |name: &str| keys.iter().any(|key| key.as_str() == Some(name));
    let stray =
        patch.iter().find(|(name, value)| !value.is_null() && !name.starts_with('$') && !listed(name));
    if let Some((name, _)) = stray {
        return Err(PatchError::Malformed(format!(
            "{RETAIN_KEYS} must list all fields of the patch; {name:?} is missing"
        )));
    }
    original.retain(|name, _| listed(name));
    Ok(())
}

fn delete_from_list(
    original: &mut Map<String, Value>,
    field: &str,
    values: &Value,
) -> Result<(), PatchError> {
    let Some(values) = values.as_array() else {
        return Err(PatchError::Malformed(format!("{DELETE_FROM_LIST}{field} must be a list")));
    };
    if let Some(Value::Array(entries)) = original.get_mut(field) {
        entries.retain(|entry| !values.contains(entry));
    }
    Ok(())
}

/// `$setElementOrder/x`: merges the list `x` and brings it into the order given. Takes list and directive out of the
/// patch.
fn set_orders(
    original: &mut Map<String, Value>,
    patch: &mut Map<String, Value>,
    node: Option<SchemaNode<'_>>,
) -> Result<(), PatchError> {
    let directives: Vec<String> = patch.keys().filter(|name| name.starts_with(SET_ORDER)).cloned().collect();
    for directive in directives {
        let name = &directive[SET_ORDER.len()..];
        let Some(Value::Array(wanted)) = patch.remove(&directive) else {
            return Err(PatchError::Malformed(format!("{directive} must be a list")));
        };
        let merge_key = strategy(node, name).and_then(|strategy| strategy.merge_key.as_deref());
        let (before, change) = (original.get(name).cloned(), patch.get(name).cloned());
        if matches!(change, Some(Value::Null)) {
            continue;
        }
        let (before, change) = (list_or_none(before, name)?, list_or_none(change, name)?);
        if let Some(change) = &change {
            order::check(change, &wanted, merge_key, name)?;
        }
        // Values that are deleted from a list of scalars must not come back by being listed.
        let deleted = patch.remove(&format!("{DELETE_FROM_LIST}{name}"));
        let server_order = before.clone().unwrap_or_default();
        let mut merged = match (before, change) {
            (None, None) => continue,
            (Some(before), None) => before,
            (None, Some(change)) => list::merge(Vec::new(), change, None, merge_key)?,
            (Some(before), Some(change)) => {
                let items = node.and_then(|node| node.field(name)).and_then(SchemaNode::items);
                list::merge(before, change, items, merge_key)?
            }
        };
        if let Some(values) = deleted.as_ref().and_then(Value::as_array) {
            merged.retain(|entry| !values.contains(entry));
        }
        patch.remove(name);
        original
            .insert(name.to_owned(), Value::Array(order::arrange(merged, &wanted, &server_order, merge_key)));
    }
    Ok(())
}

fn list_or_none(value: Option<Value>, name: &str) -> Result<Option<Vec<Value>>, PatchError> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Array(entries)) => Ok(Some(entries)),
        Some(_) => Err(PatchError::Inapplicable(format!("{name} has an element order and is no list"))),
    }
}
