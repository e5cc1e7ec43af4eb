//! The latest state: an ordered map from key to record whose snapshots cost one reference count.
//!
//! The map is a sorted row of sorted leaves. Leaves, and the row itself, are shared between snapshots and copied only
//! when they are written while a snapshot still holds them, so a list of ten thousand objects never makes a writer
//! wait, and a writer that nobody watches writes in place.

use std::sync::Arc;

use super::record::Record;
use crate::KeyRange;

const LEAF_CAPACITY: usize = 128;

type Leaf = Arc<Vec<Arc<Record>>>;

/// An ordered map of records by key; cloning takes a snapshot.
#[derive(Debug, Clone, Default)]
pub(super) struct KeyMap {
    /// Never contains an empty leaf.
    leaves: Arc<Vec<Leaf>>,
    len: usize,
}

/// A place in the row: leaf number and index within the leaf. The end of the map is `(leaves.len(), 0)`.
type Place = (usize, usize);

impl KeyMap {
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<&Arc<Record>> {
        let (leaf, index) = self.find(key).ok()?;
        self.leaves.get(leaf)?.get(index)
    }

    /// Inserts or replaces the record of its key.
    pub(super) fn insert(&mut self, record: Arc<Record>) {
        match self.find(&record.kv.key) {
            Ok((leaf, index)) => {
                let leaves = Arc::make_mut(&mut self.leaves);
                Arc::make_mut(&mut leaves[leaf])[index] = record;
            }
            Err(place) => {
                self.insert_new(place, record);
                self.len += 1;
            }
        }
    }

    fn insert_new(&mut self, (leaf, index): Place, record: Arc<Record>) {
        let leaves = Arc::make_mut(&mut self.leaves);
        if leaves.is_empty() {
            leaves.push(Arc::new(vec![record]));
            return;
        }
        let entries = Arc::make_mut(&mut leaves[leaf]);
        if entries.len() < LEAF_CAPACITY {
            entries.insert(index, record);
            return;
        }
        // Keys often arrive in ascending order: a full leaf that is appended to stays full instead of being halved.
        let cut = if index == entries.len() { index } else { LEAF_CAPACITY / 2 };
        let mut upper = entries.split_off(cut);
        if index > cut || upper.is_empty() {
            upper.insert(index - cut, record);
        } else {
            entries.insert(index, record);
        }
        entries.shrink_to_fit();
        leaves.insert(leaf + 1, Arc::new(upper));
    }

    /// Removes a key.
    pub(super) fn remove(&mut self, key: &[u8]) {
        let Ok((leaf, index)) = self.find(key) else { return };
        let leaves = Arc::make_mut(&mut self.leaves);
        let entries = Arc::make_mut(&mut leaves[leaf]);
        entries.remove(index);
        self.len -= 1;
        if entries.is_empty() {
            leaves.remove(leaf);
        } else if entries.len() < LEAF_CAPACITY / 4 {
            Self::merge_with_next(leaves, leaf);
        }
    }

    /// Joins a sparse leaf with its successor while the result still has room to grow.
    fn merge_with_next(leaves: &mut Vec<Leaf>, leaf: usize) {
        let Some(next) = leaves.get(leaf + 1) else { return };
        if leaves[leaf].len() + next.len() > LEAF_CAPACITY / 2 {
            return;
        }
        let next = leaves.remove(leaf + 1);
        Arc::make_mut(&mut leaves[leaf]).extend(next.iter().cloned());
    }

    /// How many keys a range has; takes time in the number of leaves, not of keys.
    pub(super) fn count(&self, range: &KeyRange) -> usize {
        let (start, end) = self.bounds(range);
        if start >= end {
            return 0;
        }
        if start.0 == end.0 {
            return end.1 - start.1;
        }
        let whole: usize = self.leaves[start.0..end.0].iter().map(|leaf| leaf.len()).sum();
        whole - start.1 + end.1
    }

    /// The records of a range, in key order.
    pub(super) fn range(&self, range: &KeyRange) -> Records<'_> {
        let (next, end) = self.bounds(range);
        Records { leaves: &self.leaves, next, end }
    }

    fn bounds(&self, range: &KeyRange) -> (Place, Place) {
        let start = self.lower_bound(&range.start);
        let end = match &range.end {
            None if self.get(&range.start).is_some() => self.advance(start),
            None => start,
            Some(end) if end.is_empty() => (self.leaves.len(), 0),
            Some(end) => self.lower_bound(end),
        };
        (start, end)
    }

    fn advance(&self, (leaf, index): Place) -> Place {
        self.normalize((leaf, index + 1))
    }

    /// The place of the first key that is not less than `key`.
    fn lower_bound(&self, key: &[u8]) -> Place {
        let (Ok(place) | Err(place)) = self.find(key);
        self.normalize(place)
    }

    /// Moves a place behind the last entry of a leaf to the start of the next one, so that places compare in order.
    fn normalize(&self, (leaf, index): Place) -> Place {
        match self.leaves.get(leaf) {
            Some(entries) if index >= entries.len() => (leaf + 1, 0),
            _ => (leaf, index),
        }
    }

    /// The place of a key, or where it would be inserted (possibly just behind the last entry of a leaf).
    fn find(&self, key: &[u8]) -> Result<Place, Place> {
        let leaf =
            self.leaves.partition_point(|leaf| leaf.first().is_some_and(|first| first.kv.key[..] <= *key));
        let leaf = leaf.saturating_sub(1);
        let Some(entries) = self.leaves.get(leaf) else { return Err((0, 0)) };
        match entries.binary_search_by(|record| record.kv.key[..].cmp(key)) {
            Ok(index) => Ok((leaf, index)),
            Err(index) => Err((leaf, index)),
        }
    }
}

/// Iterates over the records of a range.
#[derive(Debug)]
pub(super) struct Records<'a> {
    leaves: &'a [Leaf],
    next: Place,
    end: Place,
}

impl<'a> Iterator for Records<'a> {
    type Item = &'a Arc<Record>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next >= self.end {
            return None;
        }
        let leaf = self.leaves.get(self.next.0)?;
        let record = leaf.get(self.next.1)?;
        self.next.1 += 1;
        if self.next.1 == leaf.len() {
            self.next = (self.next.0 + 1, 0);
        }
        Some(record)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bytes::Bytes;
    use proptest::prelude::*;

    use super::super::record::Position;
    use super::*;

    fn record(key: &[u8], revision: u64) -> Arc<Record> {
        Arc::new(Record::put(Position { revision, index: 0 }, key, b"v", 0, None))
    }

    fn key(number: u16) -> Vec<u8> {
        format!("/k/{number:05}").into_bytes()
    }

    fn contents(map: &KeyMap) -> Vec<(Bytes, u64)> {
        let everything = KeyRange { start: Bytes::new(), end: Some(Bytes::new()) };
        map.range(&everything).map(|record| (record.kv.key.clone(), record.kv.mod_revision)).collect()
    }

    proptest! {
        #[test]
        fn behaves_like_an_ordered_map(
            changes in prop::collection::vec((0u16..1500, any::<bool>(), any::<bool>()), 1..2500),
            from in 0u16..1500, width in 0u16..1500,
        ) {
            let mut map = KeyMap::default();
            let mut model: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
            let mut snapshots = Vec::new();
            for (revision, (number, insert, snapshot)) in changes.into_iter().enumerate() {
                let revision = revision as u64 + 1;
                let key = key(number);
                if insert || number % 3 == 0 {
                    map.insert(record(&key, revision));
                    model.insert(key, revision);
                } else {
                    map.remove(&key);
                    model.remove(&key);
                }
                if snapshot && revision.is_multiple_of(97) {
                    snapshots.push((map.clone(), model.clone()));
                }
            }
            snapshots.push((map, model));
            for (map, model) in snapshots {
                let expected: Vec<_> = model.iter().map(|(k, v)| (Bytes::from(k.clone()), *v)).collect();
                prop_assert_eq!(contents(&map), expected);
                prop_assert_eq!(map.len(), model.len());
                let range = KeyRange { start: key(from).into(), end: Some(key(from + width).into()) };
                let in_range = model.range(key(from)..key(from + width)).count();
                prop_assert_eq!(map.count(&range), in_range);
                prop_assert_eq!(map.range(&range).count(), in_range);
                let single = KeyRange::single(key(from));
                prop_assert_eq!(map.count(&single), usize::from(model.contains_key(&key(from))));
            }
        }
    }

    #[test]
    fn ascending_keys_fill_their_leaves() {
        let mut map = KeyMap::default();
        for number in 0..10_000 {
            map.insert(record(&key(number), 2));
        }
        assert_eq!(map.len(), 10_000);
        assert!(map.leaves.len() <= 10_000 / LEAF_CAPACITY + 1, "{} leaves", map.leaves.len());
    }
}
