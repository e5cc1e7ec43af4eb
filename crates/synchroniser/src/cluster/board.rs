//! What is at a cluster, as its watches tell it: of the objects that carry our label, what they have come to.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde_json::Value;
use tokio::sync::{Notify, watch};

use super::kinds::Kind;
use crate::readiness::{Readiness, bundle::Told};

/// An object as it was seen last.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    /// Its identifier.
    pub(crate) uid: String,
    /// The value of our label.
    pub(crate) label: Arc<str>,
    /// Its generation; 0 if it has none.
    pub(crate) generation: i64,
    /// What it has come to.
    pub(crate) readiness: Readiness,
    /// What it has come to as a hook.
    pub(crate) run: Readiness,
    /// The object, trimmed; of kinds that say no more than that they are there, nothing.
    pub(crate) told: Option<Arc<Told>>,
}

/// What a look at an object shows.
#[derive(Debug, Clone)]
pub(crate) enum Look {
    /// Nobody has seen this kind here yet.
    Unknown,
    /// There is none of that name with our label.
    Absent,
    /// It is there.
    There(Seen),
}

#[derive(Debug, Default)]
struct Shelf {
    listed: bool,
    objects: HashMap<(String, String), Seen>,
    /// Names that a list under way has told already.
    listing: HashSet<(String, String)>,
    /// Why nobody can see this kind.
    blind: Option<String>,
}

/// What is at a cluster.
#[derive(Debug, Default)]
pub(crate) struct Board {
    shelves: Mutex<HashMap<Kind, Shelf>>,
    /// Counts changes.
    version: watch::Sender<u64>,
    /// Labels of which something has changed.
    dirty: Mutex<HashSet<Arc<str>>>,
    disturbed: Notify,
}

impl Board {
    fn shelves(&self) -> MutexGuard<'_, HashMap<Kind, Shelf>> {
        self.shelves.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells that something of a label has changed.
    pub(crate) fn touch(&self, label: &Arc<str>) {
        self.dirty.lock().unwrap_or_else(PoisonError::into_inner).insert(Arc::clone(label));
        self.disturbed.notify_one();
    }

    fn changed(&self, labels: impl IntoIterator<Item = Arc<str>>) {
        self.version.send_modify(|version| *version = version.wrapping_add(1));
        let mut dirty = self.dirty.lock().unwrap_or_else(PoisonError::into_inner);
        dirty.extend(labels);
        drop(dirty);
        self.disturbed.notify_one();
    }

    /// Waits until something has changed, and takes the labels of which it has.
    pub(crate) async fn disturbed(&self) -> HashSet<Arc<str>> {
        loop {
            let taken = std::mem::take(&mut *self.dirty.lock().unwrap_or_else(PoisonError::into_inner));
            if !taken.is_empty() {
                return taken;
            }
            self.disturbed.notified().await;
        }
    }

    /// Counts changes.
    pub(crate) fn version(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// What is known of an object.
    pub(crate) fn look(&self, kind: &Kind, namespace: &str, name: &str) -> Look {
        let shelves = self.shelves();
        let Some(shelf) = shelves.get(kind) else { return Look::Unknown };
        // Small keys, seldom: no need to look up by borrowed parts.
        match shelf.objects.get(&(namespace.to_owned(), name.to_owned())) {
            Some(seen) => Look::There(seen.clone()),
            None if shelf.listed => Look::Absent,
            None => Look::Unknown,
        }
    }

    /// Why a kind cannot be seen, if it cannot.
    pub(crate) fn blind(&self, kind: &Kind) -> Option<String> {
        self.shelves().get(kind)?.blind.clone()
    }

    /// Everything with a label that is told in full.
    pub(crate) fn told(&self, label: &str) -> Vec<Arc<Told>> {
        let shelves = self.shelves();
        let all = shelves.values().flat_map(|shelf| shelf.objects.values());
        let mut told: Vec<Arc<Told>> =
            all.filter(|seen| &*seen.label == label).filter_map(|seen| seen.told.clone()).collect();
        told.sort_by(|a, b| (&a.kind, &a.namespace, &a.name).cmp(&(&b.kind, &b.namespace, &b.name)));
        told
    }

    /// A list begins.
    pub(crate) fn list_begins(&self, kind: &Kind) {
        self.shelves().entry(kind.clone()).or_default().listing.clear();
    }

    /// An object is there, or has changed.
    pub(crate) fn put(&self, kind: &Kind, (namespace, name): (String, String), seen: Seen, listing: bool) {
        let mut labels = vec![Arc::clone(&seen.label)];
        {
            let mut shelves = self.shelves();
            let shelf = shelves.entry(kind.clone()).or_default();
            let key = (namespace, name);
            shelf.blind = None;
            if listing {
                shelf.listing.insert(key.clone());
            }
            labels.extend(shelf.objects.insert(key, seen).map(|before| before.label));
        }
        self.changed(labels);
    }

    /// An object is gone.
    pub(crate) fn remove(&self, kind: &Kind, namespace: &str, name: &str) {
        let mut shelves = self.shelves();
        let shelf = shelves.entry(kind.clone()).or_default();
        shelf.blind = None;
        let before = shelf.objects.remove(&(namespace.to_owned(), name.to_owned()));
        drop(shelves);
        self.changed(before.map(|before| before.label));
    }

    /// A list has ended: what it did not tell is gone.
    pub(crate) fn list_ends(&self, kind: &Kind) {
        let mut labels = Vec::new();
        {
            let mut shelves = self.shelves();
            let shelf = shelves.entry(kind.clone()).or_default();
            let listing = std::mem::take(&mut shelf.listing);
            shelf.objects.retain(|key, seen| {
                let stays = listing.contains(key);
                if !stays {
                    labels.push(Arc::clone(&seen.label));
                }
                stays
            });
            shelf.listed = true;
            shelf.blind = None;
        }
        self.changed(labels);
    }

    /// A kind cannot be seen.
    pub(crate) fn set_blind(&self, kind: &Kind, why: String) {
        self.shelves().entry(kind.clone()).or_default().blind = Some(why);
        self.changed([]);
    }

    /// There are no objects of a kind, because the cluster does not know it.
    pub(crate) fn none_of(&self, kind: &Kind) {
        self.list_begins(kind);
        self.list_ends(kind);
    }

    /// A kind is not watched any more.
    pub(crate) fn clear(&self, kind: &Kind) {
        self.shelves().remove(kind);
    }
}

/// An object as text of a bounded length: whole, or only what identifies it with its status, or only that.
pub(crate) fn tell(object: &Value, (kind, namespace, name): (&Kind, &str, &str), most: usize) -> Told {
    let of = |value: &Value| value.to_string();
    let slim = || {
        serde_json::json!({"apiVersion": kind.api_version, "kind": kind.kind,
            "metadata": {"name": name, "namespace": namespace, "labels": object["metadata"]["labels"]}})
    };
    let mut json = of(object);
    if json.len() > most {
        let mut smaller = slim();
        smaller["status"] = object["status"].clone();
        json = of(&smaller);
    }
    if json.len() > most {
        json = of(&slim());
    }
    Told::new((&kind.api_version, &kind.kind), (namespace, name), &json)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(label: &str) -> Seen {
        Seen {
            uid: "u".into(),
            label: label.into(),
            generation: 1,
            readiness: Readiness::Ready,
            run: Readiness::Ready,
            told: None,
        }
    }

    #[tokio::test]
    async fn a_new_list_takes_away_what_it_does_not_tell() {
        let (board, kind) = (Board::default(), Kind::new("v1", "Pod"));
        assert!(matches!(board.look(&kind, "n", "a"), Look::Unknown));
        board.list_begins(&kind);
        board.put(&kind, ("n".into(), "a".into()), seen("1-web"), true);
        assert!(matches!(board.look(&kind, "n", "b"), Look::Unknown), "the list has not ended");
        board.list_ends(&kind);
        assert!(matches!(board.look(&kind, "n", "b"), Look::Absent));
        assert!(matches!(board.look(&kind, "n", "a"), Look::There(_)));
        assert_eq!(board.disturbed().await, [Arc::from("1-web")].into());
        board.list_begins(&kind);
        assert!(matches!(board.look(&kind, "n", "a"), Look::There(_)), "it is not forgotten meanwhile");
        board.list_ends(&kind);
        assert!(matches!(board.look(&kind, "n", "a"), Look::Absent));
        assert_eq!(board.disturbed().await, [Arc::from("1-web")].into());
    }

    #[test]
    fn who_sees_something_is_not_blind() {
        let (board, kind) = (Board::default(), Kind::new("v1", "Pod"));
        board.set_blind(&kind, "no".into());
        assert_eq!(board.blind(&kind).as_deref(), Some("no"));
        board.put(&kind, ("n".into(), "a".into()), seen("1-web"), false);
        assert_eq!(board.blind(&kind), None);
        board.set_blind(&kind, "no".into());
        board.remove(&kind, "n", "a");
        assert_eq!(board.blind(&kind), None);
    }

    #[test]
    fn what_is_too_long_is_told_in_short() {
        let kind = Kind::new("v1", "Pod");
        let object = serde_json::json!({"spec": "x".repeat(500), "status": {"phase": "Running"}});
        let whole = tell(&object, (&kind, "n", "a"), 1000);
        assert!(whole.json().contains("xxx"));
        let short = tell(&object, (&kind, "n", "a"), 300);
        assert!(!short.json().contains("xxx") && short.json().contains("Running"));
        assert!(!tell(&object, (&kind, "n", "a"), 10).json().contains("Running"));
    }
}
