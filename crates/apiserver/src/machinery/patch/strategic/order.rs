//! Order of merged lists.

use serde_json::Value;

use crate::machinery::patch::PatchError;

/// What tells an entry from others: the merge key's value, or the entry itself.
fn identity<'a>(entry: &'a Value, merge_key: Option<&str>) -> &'a Value {
    merge_key.and_then(|key| entry.get(key)).unwrap_or(entry)
}

fn position(order: &[Value], entry: &Value, merge_key: Option<&str>) -> Option<usize> {
    let wanted = identity(entry, merge_key);
    order.iter().position(|other| identity(other, merge_key) == wanted)
}

/// Brings `merged` into order: entries in `wanted` follow each other as there, the others as in `server`; where both are
/// known to the server, its order decides which comes first.
pub(super) fn arrange(
    merged: Vec<Value>,
    wanted: &[Value],
    server: &[Value],
    merge_key: Option<&str>,
) -> Vec<Value> {
    let (mut ours, mut theirs): (Vec<Value>, Vec<Value>) =
        merged.into_iter().partition(|entry| position(wanted, entry, merge_key).is_some());
    let last = usize::MAX;
    ours.sort_by_key(|entry| position(wanted, entry, merge_key).unwrap_or(last));
    theirs.sort_by_key(|entry| position(server, entry, merge_key).unwrap_or(last));
    let mut result = Vec::with_capacity(ours.len() + theirs.len());
    let (mut ours, mut theirs) = (ours.into_iter().peekable(), theirs.into_iter().peekable());
    loop {
        let theirs_first = match (ours.peek(), theirs.peek()) {
            (None, None) => return result,
            (Some(_), None) => false,
            (None, Some(_)) => true,
            (Some(our), Some(their)) => {
                let positions = (position(server, their, merge_key), position(server, our, merge_key));
                matches!(positions, (Some(their), Some(our)) if their < our)
            }
        };
        result.extend(if theirs_first { theirs.next() } else { ours.next() });
    }
}

/// The entries of a patched list must come in the order that the patch itself demands.
pub(super) fn check(
    patch: &[Value],
    wanted: &[Value],
    merge_key: Option<&str>,
    name: &str,
) -> Result<(), PatchError> {
    let mut next = 0;
    for entry in patch.iter().filter(|entry| entry.get("$patch").is_none()) {
        match position(&wanted[next..], entry, merge_key) {
            Some(offset) => next += offset + 1,
            None => {
                return Err(PatchError::Inapplicable(format!(
                    "the order in the patch list of {name} doesn't match $setElementOrder/{name}: {entry} is missing or out of order"
                )));
            }
        }
    }
    Ok(())
}
