//! What has to be written and deleted at a site so that it has what is declared for it, and no more. Pure.

use std::{collections::BTreeMap, sync::Arc};

use super::object::{Key, Parcel};

/// What is known of a delivered object at the site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct There {
    /// Its uid: what is deleted is this one and none that came after it.
    pub uid: String,
    /// Version that it was found to contain, if it contains what was delivered.
    pub arrived: Option<String>,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Task {
    /// Apply the object.
    Write(Key),
    /// Delete it.
    Remove {
        /// Which.
        key: Key,
        /// That with this uid.
        uid: String,
    },
}

impl Task {
    /// The object.
    pub fn key(&self) -> &Key {
        match self {
            Self::Write(key) | Self::Remove { key, .. } => key,
        }
    }
}

/// What is to be done, in rounds: everything of a round may be done at the same time, the next one when it is over. Written is first what
/// others need, deleted first what needs others.
pub fn rounds(wanted: &BTreeMap<Key, Arc<Parcel>>, there: &BTreeMap<Key, There>) -> Vec<Vec<Task>> {
    let mut writes: BTreeMap<usize, Vec<Task>> = BTreeMap::new();
    for (key, parcel) in wanted {
        let arrived = there.get(key).and_then(|there| there.arrived.as_ref());
        if arrived != Some(&parcel.version) {
            writes.entry(key.kind).or_default().push(Task::Write(key.clone()));
        }
    }
    let mut removals: BTreeMap<std::cmp::Reverse<usize>, Vec<Task>> = BTreeMap::new();
    for (key, there) in there.iter().filter(|(key, _)| !wanted.contains_key(key)) {
        let task = Task::Remove { key: key.clone(), uid: there.uid.clone() };
        removals.entry(std::cmp::Reverse(key.kind)).or_default().push(task);
    }
    writes.into_values().chain(removals.into_values()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn key(kind: usize, name: &str) -> Key {
        Key { kind, namespace: "ns".into(), name: name.into() }
    }

    fn parcel(version: &str) -> Arc<Parcel> {
        Arc::new(Parcel { body: json!({}), version: version.into() })
    }

    #[test]
    fn what_others_need_is_written_first_and_deleted_last() {
        let wanted =
            [(key(0, "secret"), parcel("1")), (key(2, "new"), parcel("1")), (key(2, "same"), parcel("5"))];
        let there = |version: &str| There { uid: "u".into(), arrived: Some(version.into()) };
        let present = [
            (key(2, "same"), there("5")),
            (key(0, "old-secret"), there("1")),
            (key(2, "old"), There { uid: "v".into(), arrived: None }),
        ];
        let rounds = rounds(&wanted.into(), &present.into());
        let expected = [
            Task::Write(key(0, "secret")),
            Task::Write(key(2, "new")),
            Task::Remove { key: key(2, "old"), uid: "v".into() },
            Task::Remove { key: key(0, "old-secret"), uid: "u".into() },
        ];
        assert_eq!(rounds, expected.map(|task| vec![task]));
    }

    #[test]
    fn an_edited_or_outdated_object_is_written_again() {
        let wanted = BTreeMap::from([(key(0, "a"), parcel("2")), (key(0, "b"), parcel("2"))]);
        let present = BTreeMap::from([
            (key(0, "a"), There { uid: "u".into(), arrived: Some("1".into()) }),
            (key(0, "b"), There { uid: "u".into(), arrived: None }),
        ]);
        assert_eq!(rounds(&wanted, &present), [vec![Task::Write(key(0, "a")), Task::Write(key(0, "b"))]]);
    }
}
