//! All documents by their paths, kept current by watches, with what refers to what.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::{Arc, OnceLock, PoisonError, RwLock},
    time::Duration,
};

use bytes::Bytes;
use drystone_api::SYSTEM_NAMESPACE;
use drystone_engine::{
    harness::{Cache, Change, WatchedObject},
    reference::ObjectKey,
};
use futures::StreamExt as _;
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::kinds::{Kind, Shown, parent_of};

/// How long a watch may be behind what was written.
const BEHIND: Duration = Duration::from_secs(10);

/// A document, with what was made of it so far.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Its kind.
    pub(crate) kind: &'static dyn Kind,
    /// The document.
    pub(crate) document: Arc<dyn Shown>,
    body: OnceLock<Bytes>,
}

impl Entry {
    /// The body that clients see.
    pub(crate) fn body(&self) -> &Bytes {
        self.body.get_or_init(|| Bytes::from(self.document.body().to_string()))
    }

    fn name(&self) -> &str {
        self.document.meta().name.as_deref().unwrap_or_default()
    }

    fn version(&self) -> Option<u64> {
        version_of(self.document.as_ref())
    }
}

fn version_of(document: &dyn Shown) -> Option<u64> {
    document.meta().resource_version.as_ref()?.parse().ok()
}

#[derive(Debug, Default)]
struct State {
    /// By path; several if somebody made others with the same, and then the first one counts.
    documents: HashMap<Arc<str>, Vec<Arc<Entry>>>,
    /// Paths by kind and name of the object.
    objects: HashMap<(&'static str, String), Arc<str>>,
    /// By path of the collection, then by what is behind that.
    collections: BTreeMap<String, BTreeMap<String, Arc<Entry>>>,
    /// Who refers to a path.
    references: HashMap<String, BTreeSet<Arc<str>>>,
    /// Who has something that no other may have.
    claims: HashMap<String, BTreeSet<Arc<str>>>,
}

/// All documents. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Tree {
    state: Arc<RwLock<State>>,
    changed: Arc<watch::Sender<u64>>,
}

impl Default for Tree {
    fn default() -> Self {
        Self { state: Arc::default(), changed: Arc::new(watch::Sender::new(0)) }
    }
}

/// The collection that a document is in, and its place there.
fn place(path: &str) -> (&str, &str) {
    let parent = parent_of(path);
    let start = if parent.is_empty() { 0 } else { parent.len() + 1 };
    let collection = path.get(start..).and_then(|rest| rest.find('/')).map_or(path.len(), |end| start + end);
    (path.get(..collection).unwrap_or_default(), path.get(collection + 1..).unwrap_or_default())
}

impl Tree {
    /// Follows the documents of a kind until `shutdown`; the result tells when all are there.
    pub(crate) fn follow<K: Shown + WatchedObject>(
        self,
        kind: &'static dyn Kind,
        cache: Cache<K>,
        shutdown: &CancellationToken,
    ) -> JoinHandle<bool> {
        let (is_ready, ready) = watch::channel(false);
        tokio::spawn(shutdown.clone().run_until_cancelled_owned(async move {
            let mut changes = std::pin::pin!(cache.changes());
            if !cache.ready().await {
                return;
            }
            self.take_all(kind, &cache);
            let _ = is_ready.send(true);
            while let Some(change) = changes.next().await {
                match change {
                    Change::Object(object) => {
                        let key = ObjectKey::of(object.as_ref());
                        if key.namespace == SYSTEM_NAMESPACE {
                            let now = cache.get(&key).map(|object| object as Arc<dyn Shown>);
                            self.write(|state| state.put(kind, &key.name, now));
                        }
                    }
                    Change::Missed => self.take_all(kind, &cache),
                }
            }
        }));
        tokio::spawn(async move { ready.clone().wait_for(|ready| *ready).await.is_ok() })
    }

    fn take_all<K: Shown + WatchedObject>(&self, kind: &'static dyn Kind, cache: &Cache<K>) {
        let all = cache
            .list_where(|object| kube::Resource::meta(object).namespace.as_deref() == Some(SYSTEM_NAMESPACE));
        self.write(|state| {
            let new: HashSet<String> = all.iter().map(|object| ObjectKey::of(object.as_ref()).name).collect();
            let known = state.objects.keys().filter(|(of, _)| *of == kind.name());
            let gone: Vec<String> =
                known.map(|(_, name)| name.clone()).filter(|name| !new.contains(name)).collect();
            for name in gone {
                state.put(kind, &name, None);
            }
            for object in all {
                let name = ObjectKey::of(object.as_ref()).name;
                state.put(kind, &name, Some(object));
            }
        });
    }

    fn write(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.write().unwrap_or_else(PoisonError::into_inner));
        self.changed.send_modify(|number| *number += 1);
    }

    fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The document at a path.
    pub(crate) fn get(&self, path: &str) -> Option<Arc<Entry>> {
        self.read(|state| state.documents.get(path).and_then(|all| all.first()).cloned())
    }

    /// The documents of a collection that are wanted, in the order of their names.
    pub(crate) fn list(&self, collection: &str, wanted: impl Fn(&Entry) -> bool) -> Vec<Arc<Entry>> {
        self.read(|state| {
            let all = state.collections.get(collection).into_iter().flat_map(BTreeMap::values);
            all.filter(|entry| wanted(entry)).cloned().collect()
        })
    }

    /// A collection as JSON.
    pub(crate) fn list_bytes(&self, collection: &str) -> Vec<u8> {
        self.read(|state| {
            let mut body = vec![b'['];
            let all = state.collections.get(collection).into_iter().flat_map(BTreeMap::values);
            for entry in all {
                if body.len() > 1 {
                    body.push(b',');
                }
                body.extend_from_slice(entry.body());
            }
            body.push(b']');
            body
        })
    }

    /// A document below a path, if there is any.
    pub(crate) fn child_of(&self, path: &str) -> Option<String> {
        let prefix = format!("{path}/");
        self.read(|state| {
            let (collection, names) = state.collections.range(prefix.clone()..).next()?;
            let name = names.keys().next().filter(|_| collection.starts_with(&prefix))?;
            Some(format!("{collection}/{name}"))
        })
    }

    /// A document that refers to a path, if there is any.
    pub(crate) fn referrer_of(&self, path: &str) -> Option<Arc<str>> {
        self.read(|state| state.references.get(path)?.first().cloned())
    }

    /// Whether another document than the one at a path has something that only one may have.
    pub(crate) fn rival_of(&self, path: &str, claim: &str) -> Option<Arc<str>> {
        self.read(|state| state.claims.get(claim)?.iter().find(|other| ***other != *path).cloned())
    }

    /// The digests of all files that documents have.
    pub(crate) fn files(&self) -> HashSet<String> {
        self.read(|state| {
            let all = state.documents.values().flatten();
            let with = all.filter(|entry| !entry.kind.files().members().is_empty());
            with.flat_map(|entry| entry.document.files()).map(|file| file.sha256).collect()
        })
    }

    /// Waits until a document shows as it was written, or newer: whoever reads next must see it.
    pub(crate) async fn seen(&self, written: &dyn Shown) {
        let (path, wanted, uid) = (written.path(), version_of(written), &written.meta().uid);
        let is_there = || {
            self.read(|state| {
                let all = state.documents.get(path).into_iter().flatten();
                all.into_iter().any(|entry| entry.document.meta().uid == *uid && entry.version() >= wanted)
            })
        };
        if !self.until(is_there).await {
            tracing::warn!(path, "the watch is far behind what was written");
        }
    }

    /// Waits until a document does not show any more.
    pub(crate) async fn unseen(&self, gone: &dyn Shown) {
        let (path, uid) = (gone.path(), &gone.meta().uid);
        let is_gone = || {
            self.read(|state| {
                let mut all = state.documents.get(path).into_iter().flatten();
                !all.any(|entry| entry.document.meta().uid == *uid)
            })
        };
        if !self.until(is_gone).await {
            tracing::warn!(path, "the watch is far behind what was deleted");
        }
    }

    async fn until(&self, is_so: impl Fn() -> bool) -> bool {
        let mut changes = self.changed.subscribe();
        let waiting = async {
            while !is_so() {
                if changes.changed().await.is_err() {
                    return false;
                }
            }
            true
        };
        tokio::time::timeout(BEHIND, waiting).await.unwrap_or(false)
    }
}

impl State {
    /// Takes up what an object is now.
    fn put(&mut self, kind: &'static dyn Kind, name: &str, now: Option<Arc<dyn Shown>>) {
        let key = (kind.name(), name.to_owned());
        if let Some(path) = self.objects.remove(&key) {
            self.unindex(&path);
            if let Some(all) = self.documents.get_mut(&path) {
                all.retain(|entry| entry.kind.name() != kind.name() || entry.name() != name);
                if all.is_empty() {
                    self.documents.remove(&path);
                }
            }
            self.index(&path);
        }
        // What is being deleted is gone for clients; what is done about that is not their business.
        let Some(document) = now.filter(|now| now.meta().deletion_timestamp.is_none()) else { return };
        if let Err(error) = kind.parse(document.path()) {
            tracing::warn!(kind = kind.name(), name, "{error}; it is left out");
            return;
        }
        let path: Arc<str> = Arc::from(document.path());
        self.unindex(&path);
        let entry = Arc::new(Entry { kind, document, body: OnceLock::new() });
        let all = self.documents.entry(path.clone()).or_default();
        all.push(entry);
        all.sort_by_cached_key(|entry| {
            let meta = entry.document.meta();
            (meta.creation_timestamp.as_ref().map(|time| time.0), meta.uid.clone())
        });
        if all.len() > 1 {
            tracing::warn!(path = &*path, "several objects have this path; the oldest one counts");
        }
        self.objects.insert(key, path.clone());
        self.index(&path);
    }

    /// Takes what counts at a path out of the indexes.
    fn unindex(&mut self, path: &Arc<str>) {
        let Some(entry) = self.documents.get(path).and_then(|all| all.first()).cloned() else { return };
        let (collection, name) = place(path);
        if let Some(names) = self.collections.get_mut(collection) {
            names.remove(name);
            if names.is_empty() {
                self.collections.remove(collection);
            }
        }
        for reference in entry.document.references() {
            if let Some(from) = self.references.get_mut(&reference.path) {
                from.remove(path);
                if from.is_empty() {
                    self.references.remove(&reference.path);
                }
            }
        }
        if let Some(claim) = entry.document.claims()
            && let Some(from) = self.claims.get_mut(&claim)
        {
            from.remove(path);
            if from.is_empty() {
                self.claims.remove(&claim);
            }
        }
    }

    /// Puts what counts at a path into the indexes.
    fn index(&mut self, path: &Arc<str>) {
        let Some(entry) = self.documents.get(path).and_then(|all| all.first()).cloned() else { return };
        let (collection, name) = place(path);
        for reference in entry.document.references() {
            self.references.entry(reference.path).or_default().insert(path.clone());
        }
        if let Some(claim) = entry.document.claims() {
            self.claims.entry(claim).or_default().insert(path.clone());
        }
        self.collections.entry(collection.to_owned()).or_default().insert(name.to_owned(), entry);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kinds;

    fn kind(name: &str) -> &'static dyn Kind {
        kinds::all().iter().find(|kind| kind.name() == name).unwrap().as_ref()
    }

    fn document(of: &str, name: &str, spec: &serde_json::Value) -> Arc<dyn Shown> {
        kind(of).make(name, spec.as_object().unwrap().clone()).unwrap()
    }

    #[test]
    fn places_are_found() {
        assert_eq!(place("projects/p"), ("projects", "p"));
        assert_eq!(place("projects/p/composite-apps/c/v"), ("projects/p/composite-apps", "c/v"));
        assert_eq!(
            place("projects/p/composite-apps/c/v/apps/a"),
            ("projects/p/composite-apps/c/v/apps", "a")
        );
    }

    #[test]
    fn what_is_below_and_what_refers_is_known() {
        let mut state = State::default();
        let app = "projects/p/composite-apps/c/v";
        let reference = json!({"path": "projects/p/logical-clouds/l/cluster-references/r", "clusterProvider": "cp", "cluster": "c1"});
        state.put(kind("Project"), "a", Some(document("Project", "a", &json!({"path": "projects/p"}))));
        state.put(kind("CompositeApp"), "b", Some(document("CompositeApp", "b", &json!({"path": app}))));
        state.put(kind("ClusterReference"), "r", Some(document("ClusterReference", "r", &reference)));
        let tree = Tree { state: Arc::new(RwLock::new(state)), ..Tree::default() };
        assert_eq!(tree.child_of("projects/p").as_deref(), Some(app));
        assert!(tree.child_of(app).is_none());
        let referrer = tree.referrer_of("cluster-providers/cp/clusters/c1");
        assert_eq!(referrer.as_deref(), Some("projects/p/logical-clouds/l/cluster-references/r"));
        tree.write(|state| state.put(kind("ClusterReference"), "r", None));
        assert!(tree.referrer_of("cluster-providers/cp/clusters/c1").is_none());
        tree.write(|state| state.put(kind("CompositeApp"), "b", None));
        assert!(tree.child_of("projects/p").is_none());
        assert_eq!(
            tree.list_bytes("projects"),
            br#"[{"metadata":{"description":"","name":"p","userData1":"","userData2":""}}]"#
        );
    }

    #[test]
    fn of_several_with_one_path_one_counts() {
        let mut state = State::default();
        for name in ["a", "b"] {
            state.put(kind("Project"), name, Some(document("Project", name, &json!({"path": "projects/p"}))));
        }
        assert_eq!(state.collections["projects"].len(), 1);
        state.put(kind("Project"), "a", None);
        assert_eq!(state.collections["projects"].len(), 1);
        state.put(kind("Project"), "b", None);
        assert!(state.collections.is_empty() && state.documents.is_empty() && state.objects.is_empty());
    }

    #[test]
    fn a_path_of_another_form_is_left_out() {
        let mut state = State::default();
        state.put(kind("Project"), "a", Some(document("Project", "a", &json!({"path": "projects/../p"}))));
        assert!(state.documents.is_empty());
    }
}
