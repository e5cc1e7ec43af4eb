//! A watch-fed, indexed, in-memory copy of all objects of one kind, shared by every controller of the process.
//!
//! Compared with a plain reflector store it adds what controllers need: listing a namespace or an index without scanning
//! everything, and change notifications that carry the old object too (a pod that moves from one selector to another
//! concerns both owners). Reads never wait for the API.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::Bound,
    sync::{Arc, PoisonError, RwLock},
};

use kube::Resource;
use tokio::sync::watch;

use crate::kind::ObjectKey;

/// One change of the cache, told to subscribers after the cache shows it.
#[derive(Debug, Clone)]
pub enum Change<K> {
    /// The object was not known before.
    Added(Arc<K>),
    /// The object changed.
    Updated {
        /// What the cache held before.
        old: Arc<K>,
        /// What it holds now.
        new: Arc<K>,
    },
    /// The object is gone; this is its last known state.
    Deleted(Arc<K>),
}

impl<K> Change<K> {
    /// The newest known state.
    pub fn newest(&self) -> &Arc<K> {
        match self {
            Self::Added(object) | Self::Updated { new: object, .. } | Self::Deleted(object) => object,
        }
    }

    /// The state before, unless the object is new.
    pub fn previous(&self) -> Option<&Arc<K>> {
        match self {
            Self::Updated { old, .. } => Some(old),
            _ => None,
        }
    }
}

/// Computes the values under which an object is filed in an index.
pub type IndexFn<K> = fn(&K) -> Vec<String>;

/// A named index of a [`Cache`].
pub struct Index<K> {
    /// Name used in [`Cache::indexed`].
    pub name: &'static str,
    /// Where an object is filed.
    pub values: IndexFn<K>,
}

type Handler<K> = Box<dyn Fn(&Change<K>) + Send + Sync>;

struct State<K> {
    objects: BTreeMap<ObjectKey, Arc<K>>,
    /// Per index (in the order of `Cache::indexes`): value → keys.
    filed: Vec<HashMap<String, BTreeSet<ObjectKey>>>,
}

/// The cache of one kind. See the module documentation.
pub struct Cache<K> {
    indexes: Vec<Index<K>>,
    state: RwLock<State<K>>,
    handlers: RwLock<Vec<Handler<K>>>,
    synced: watch::Sender<bool>,
}

impl<K: Resource<DynamicType = ()> + Send + Sync + 'static> Cache<K> {
    /// An empty cache that has not seen the API yet.
    pub fn new(indexes: Vec<Index<K>>) -> Self {
        let filed = indexes.iter().map(|_| HashMap::new()).collect();
        Self {
            indexes,
            state: RwLock::new(State { objects: BTreeMap::new(), filed }),
            handlers: RwLock::new(Vec::new()),
            synced: watch::Sender::new(false),
        }
    }

    /// Calls `handler` after each change. It must not block: it runs on the task that feeds the cache.
    pub fn subscribe(&self, handler: impl Fn(&Change<K>) + Send + Sync + 'static) {
        self.handlers.write().unwrap_or_else(PoisonError::into_inner).push(Box::new(handler));
    }

    /// The object of that key.
    pub fn get(&self, key: &ObjectKey) -> Option<Arc<K>> {
        self.read().objects.get(key).cloned()
    }

    /// All objects, ordered by namespace and name.
    pub fn list(&self) -> Vec<Arc<K>> {
        self.read().objects.values().cloned().collect()
    }

    /// The objects of one namespace, ordered by name.
    pub fn in_namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        let from = Bound::Included(ObjectKey::new(namespace, ""));
        let state = self.read();
        let range = state.objects.range((from, Bound::Unbounded));
        range.take_while(|(key, _)| key.namespace == namespace).map(|(_, object)| object.clone()).collect()
    }

    /// The objects filed under `value` in the index called `index`; none if there is no such index.
    pub fn indexed(&self, index: &str, value: &str) -> Vec<Arc<K>> {
        let Some(position) = self.indexes.iter().position(|i| i.name == index) else {
            debug_assert!(false, "no index {index}");
            return Vec::new();
        };
        let state = self.read();
        let keys = state.filed[position].get(value).into_iter().flatten();
        keys.filter_map(|key| state.objects.get(key).cloned()).collect()
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.read().objects.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the first full list has arrived.
    pub fn is_synced(&self) -> bool {
        *self.synced.borrow()
    }

    /// Waits until the first full list has arrived.
    pub async fn synced(&self) {
        // The sender lives in `self`, so waiting cannot fail.
        let _ = self.synced.subscribe().wait_for(|synced| *synced).await;
    }

    /// Stores the object, new or changed, and tells the subscribers.
    pub fn upsert(&self, object: K) {
        let change = self.insert(object);
        if let Some(change) = change {
            self.notify(&change);
        }
    }

    /// Forgets an object, and tells the subscribers.
    pub fn remove(&self, key: &ObjectKey) {
        let removed = {
            let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
            state.objects.remove(key).inspect(|old| self.unfile(&mut state, key, old))
        };
        if let Some(object) = removed {
            self.notify(&Change::Deleted(object));
        }
    }

    /// Makes the cache hold exactly `objects` (a full list), telling the subscribers what changed by that.
    pub fn replace(&self, objects: Vec<K>) {
        let listed: BTreeSet<ObjectKey> = objects.iter().map(ObjectKey::of).collect();
        let gone: Vec<ObjectKey> =
            self.read().objects.keys().filter(|key| !listed.contains(*key)).cloned().collect();
        for key in gone {
            self.remove(&key);
        }
        for object in objects {
            self.upsert(object);
        }
        self.synced.send_replace(true);
    }

    /// Marks the cache as synced without a list: the API does not serve this kind.
    pub fn mark_synced(&self) {
        self.synced.send_replace(true);
    }

    fn insert(&self, object: K) -> Option<Change<K>> {
        let key = ObjectKey::of(&object);
        let new = Arc::new(object);
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let old = state.objects.insert(key.clone(), new.clone());
        let Some(old) = old else {
            self.file(&mut state, &key, &new);
            return Some(Change::Added(new));
        };
        if old.meta().resource_version.is_some() && old.meta().resource_version == new.meta().resource_version
        {
            // A repeated list shows what is known already.
            return None;
        }
        self.unfile(&mut state, &key, &old);
        self.file(&mut state, &key, &new);
        Some(Change::Updated { old, new })
    }

    fn file(&self, state: &mut State<K>, key: &ObjectKey, object: &K) {
        for (index, filed) in self.indexes.iter().zip(&mut state.filed) {
            for value in (index.values)(object) {
                filed.entry(value).or_default().insert(key.clone());
            }
        }
    }

    fn unfile(&self, state: &mut State<K>, key: &ObjectKey, object: &K) {
        for (index, filed) in self.indexes.iter().zip(&mut state.filed) {
            for value in (index.values)(object) {
                if let Some(keys) = filed.get_mut(&value) {
                    keys.remove(key);
                    if keys.is_empty() {
                        filed.remove(&value);
                    }
                }
            }
        }
    }

    fn notify(&self, change: &Change<K>) {
        for handler in self.handlers.read().unwrap_or_else(PoisonError::into_inner).iter() {
            handler(change);
        }
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, State<K>> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use k8s_openapi::api::core::v1::{Pod, PodSpec};

    use super::*;

    fn pod(namespace: &str, name: &str, node: &str, version: &str) -> Pod {
        let mut pod = Pod::default();
        pod.metadata.namespace = Some(namespace.into());
        pod.metadata.name = Some(name.into());
        pod.metadata.resource_version = Some(version.into());
        pod.spec = Some(PodSpec { node_name: Some(node.into()), ..Default::default() });
        pod
    }

    fn cache() -> Cache<Pod> {
        Cache::new(vec![Index {
            name: "node",
            values: |pod| pod.spec.iter().filter_map(|spec| spec.node_name.clone()).collect(),
        }])
    }

    fn names(pods: &[Arc<Pod>]) -> Vec<&str> {
        pods.iter().filter_map(|pod| pod.metadata.name.as_deref()).collect()
    }

    #[test]
    fn namespaces_and_indexes_list_without_neighbours() {
        let cache = cache();
        for (ns, name, node) in [("a", "p1", "n1"), ("a", "p2", "n2"), ("ab", "p3", "n1"), ("b", "p4", "n1")]
        {
            cache.upsert(pod(ns, name, node, "1"));
        }
        assert_eq!(names(&cache.in_namespace("a")), ["p1", "p2"]);
        assert_eq!(names(&cache.indexed("node", "n1")), ["p1", "p3", "p4"]);
        cache.upsert(pod("ab", "p3", "n2", "2"));
        assert_eq!(names(&cache.indexed("node", "n1")), ["p1", "p4"]);
        assert_eq!(names(&cache.indexed("node", "n2")), ["p2", "p3"]);
        cache.remove(&ObjectKey::new("a", "p1"));
        assert_eq!(names(&cache.indexed("node", "n1")), ["p4"]);
    }

    #[test]
    fn a_full_list_reports_additions_changes_and_disappearances_once() {
        let cache = cache();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sink = seen.clone();
        cache.subscribe(move |change| {
            let tag = match change {
                Change::Added(_) => "added",
                Change::Updated { .. } => "updated",
                Change::Deleted(_) => "deleted",
            };
            sink.lock().unwrap().push(format!("{tag} {}", change.newest().metadata.name.as_deref().unwrap()));
        });
        cache.replace(vec![pod("a", "p1", "n", "1"), pod("a", "p2", "n", "1")]);
        assert!(cache.is_synced());
        cache.replace(vec![pod("a", "p1", "n", "1"), pod("a", "p3", "n", "5")]);
        cache.replace(vec![pod("a", "p1", "n", "7"), pod("a", "p3", "n", "5")]);
        let seen = seen.lock().unwrap();
        assert_eq!(*seen, ["added p1", "added p2", "deleted p2", "added p3", "updated p1"]);
    }
}
