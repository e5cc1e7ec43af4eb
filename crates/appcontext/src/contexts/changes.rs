//! What is to be written, in transactions that are not too large.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use drystone_store::{KeyRange, Operation};

use super::{AppContextError, Limits, put};
use crate::codec::{Encoded, Key, PartKey, ResourceKey};

/// One change of a context; keys are what follows `/context/<id>/`.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Change {
    /// A value is written.
    Put(String, Encoded),
    /// A key is deleted.
    Remove(String),
    /// A key is deleted, and everything below it, also what others wrote there.
    RemoveTree(String),
}

impl Change {
    pub(super) fn key(&self) -> &str {
        match self {
            Self::Put(key, _) | Self::Remove(key) | Self::RemoveTree(key) => key,
        }
    }

    pub(super) fn size(&self) -> usize {
        match self {
            Self::Put(key, value) => key.len() + value.size(),
            Self::Remove(key) | Self::RemoveTree(key) => key.len(),
        }
    }

    pub(super) fn operation(&self, prefix: &str, texts: &Texts) -> Operation {
        let key = format!("{prefix}{}", self.key());
        match self {
            Self::Put(_, value) => put(key, texts.bytes(value)),
            Self::Remove(_) => Operation::Delete(KeyRange::single(key)),
            Self::RemoveTree(_) => Operation::Delete(KeyRange::prefix(key)),
        }
    }
}

/// Long texts as they are written. The same text on many clusters becomes the same bytes, once; stores may notice that.
#[derive(Debug, Default)]
pub(super) struct Texts(Mutex<HashMap<usize, (Arc<str>, Bytes)>>);

impl Texts {
    fn bytes(&self, value: &Encoded) -> Bytes {
        let Encoded::Text(text) = value else { return value.to_bytes() };
        let mut texts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if texts.len() > MOST_TEXTS {
            texts.clear();
        }
        // The text is kept with its bytes, so that no other one comes to be at its address.
        let (_, bytes) =
            texts.entry(text.as_ptr().addr()).or_insert_with(|| (Arc::clone(text), value.to_bytes()));
        bytes.clone()
    }
}

/// Texts that are remembered at a time: far more than one application has.
const MOST_TEXTS: usize = 4096;

/// What is different after an edit, in the order of the keys.
pub(super) fn difference(
    before: &BTreeMap<String, Encoded>,
    after: &BTreeMap<String, Encoded>,
) -> Vec<Change> {
    let mut changes = Vec::new();
    let mut gone: Option<&str> = None;
    for key in before.keys().filter(|key| !after.contains_key(*key)) {
        if gone.is_some_and(|tree| key.starts_with(tree)) {
            continue;
        }
        if is_tree(key) {
            gone = Some(key);
            changes.push(Change::RemoveTree(key.clone()));
        } else {
            changes.push(Change::Remove(key.clone()));
        }
    }
    for (key, value) in after {
        if before.get(key) != Some(value) {
            changes.push(Change::Put(key.clone(), value.clone()));
        }
    }
    changes.sort_by(|one, other| one.key().cmp(other.key()));
    changes
}

/// Whether something with content of its own goes when this key goes.
fn is_tree(key: &str) -> bool {
    matches!(
        Key::parse(key),
        Some(
            Key::App(_)
                | Key::Part { of: PartKey::Cluster | PartKey::Resource(_, ResourceKey::Manifest), .. }
        )
    )
}

/// Changes that go together: those of one app on one cluster are not divided if they need not be.
pub(super) fn batches(
    prefix: &str,
    changes: Vec<Change>,
    limits: Limits,
) -> Result<Vec<Vec<Change>>, AppContextError> {
    let mut batches: Vec<Vec<Change>> = Vec::new();
    let (mut batch, mut bytes) = (Vec::new(), 0);
    for unit in units(changes) {
        let size: usize = unit.iter().map(|change| prefix.len() + change.size()).sum();
        let fits = batch.len() + unit.len() <= limits.operations && bytes + size <= limits.bytes;
        if !fits && !batch.is_empty() {
            batches.push(std::mem::take(&mut batch));
            bytes = 0;
        }
        for change in unit {
            let size = prefix.len() + change.size();
            if size > limits.bytes {
                let key = format!("{prefix}{}", change.key());
                return Err(AppContextError::TooLarge { key, bytes: size, most: limits.bytes });
            }
            if batch.len() == limits.operations || bytes + size > limits.bytes {
                batches.push(std::mem::take(&mut batch));
                bytes = 0;
            }
            bytes += size;
            batch.push(change);
        }
    }
    if !batch.is_empty() {
        batches.push(batch);
    }
    Ok(batches)
}

/// Changes one after the other that belong to the same app on the same cluster.
fn units(changes: Vec<Change>) -> Vec<Vec<Change>> {
    let mut units: Vec<Vec<Change>> = Vec::new();
    for change in changes {
        match units.last_mut() {
            Some(unit) if unit.last().is_some_and(|last| part(last.key()) == part(change.key())) => {
                unit.push(change);
            }
            _ => units.push(vec![change]),
        }
    }
    units
}

fn part(key: &str) -> Option<(&str, &str)> {
    match Key::parse(key)? {
        Key::Part { app, cluster, .. } => Some((app, cluster)),
        _ => None,
    }
}

/// The keys that must be as they were read for a change to be made: the key itself, and what it is in.
pub(super) fn conditions(change: &Change) -> Vec<String> {
    let mut keys = vec![change.key().to_owned()];
    if let Some(Key::Part { app, cluster, of }) = Key::parse(change.key()) {
        if of != PartKey::Cluster {
            keys.push(Key::Part { app, cluster, of: PartKey::Cluster }.to_string());
        }
        keys.push(Key::App(app).to_string());
    }
    keys
}

/// A key of a context as the store has it.
pub(super) fn full(prefix: &str, key: &str) -> Bytes {
    format!("{prefix}{key}").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(pairs: &[(&str, &str)]) -> BTreeMap<String, Encoded> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), Encoded::Json((*value).to_owned()))).collect()
    }

    #[test]
    fn whatever_is_in_something_goes_with_it() {
        let before = entries(&[
            ("app/a/", "1"),
            ("app/a/cluster/p+c/", "1"),
            ("app/a/cluster/p+c/resource/r+K/", "1"),
            ("app/a/cluster/p+d/", "1"),
            ("app/a/cluster/p+d/readystatus/", "1"),
            ("app/b/", "1"),
        ]);
        let after = entries(&[("app/a/", "1"), ("app/a/cluster/p+d/", "2"), ("app/c/", "1")]);
        assert_eq!(
            difference(&before, &after),
            [
                Change::RemoveTree("app/a/cluster/p+c/".into()),
                Change::Put("app/a/cluster/p+d/".into(), Encoded::Json("2".into())),
                Change::Remove("app/a/cluster/p+d/readystatus/".into()),
                Change::RemoveTree("app/b/".into()),
                Change::Put("app/c/".into(), Encoded::Json("1".into())),
            ]
        );
    }

    #[test]
    fn a_part_is_not_divided_if_it_fits() {
        let put = |key: &str| Change::Put(key.to_owned(), Encoded::Json("1".into()));
        let keys = ["app/a/", "app/a/cluster/p+c/", "app/a/cluster/p+c/status/", "app/a/cluster/p+d/"];
        let limits = Limits { operations: 2, bytes: 10_000 };
        let done = batches("/", keys.map(put).into(), limits).unwrap();
        let lengths: Vec<usize> = done.iter().map(Vec::len).collect();
        assert_eq!(lengths, [1, 2, 1]);
        let few = Limits { operations: 1, bytes: 10_000 };
        assert_eq!(batches("/", keys.map(put).into(), few).unwrap().len(), 4);
        let small = Limits { operations: 9, bytes: 10 };
        assert!(matches!(batches("/", keys.map(put).into(), small), Err(AppContextError::TooLarge { .. })));
    }

    #[test]
    fn a_change_depends_on_what_it_is_in() {
        let change = Change::Remove("app/a/cluster/p+c/resource/r+K/status/".into());
        let keys = ["app/a/cluster/p+c/resource/r+K/status/", "app/a/cluster/p+c/", "app/a/"];
        assert_eq!(conditions(&change), keys);
    }
}
