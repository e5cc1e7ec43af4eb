//! A shared, read-only copy of all objects of a kind, kept current by one watch.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use futures::{Stream, StreamExt};
use kube::{
    Api,
    runtime::{
        WatchStreamExt,
        watcher::{self, Event},
    },
};
use std::sync::{PoisonError, RwLock};
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;

use super::{Guarded, WatchedObject, waiters::Waiters};
use crate::reference::ObjectKey;

/// Changes that a slow subscriber may be behind; beyond, it is told that it missed some.
const CHANGES: usize = 4_096;

/// Something in the cache changed.
#[derive(Debug)]
pub enum Change<K> {
    /// This object was added or changed, or was deleted (then it is what it was before).
    Object(Arc<K>),
    /// More changed than could be followed: look at everything.
    Missed,
}

/// A shared, read-only copy of all objects of a kind. Cheap to clone.
#[derive(Debug)]
pub struct Cache<K> {
    objects: Arc<RwLock<HashMap<ObjectKey, Arc<K>>>>,
    changes: broadcast::Sender<Arc<K>>,
    waiters: Waiters,
    version: Arc<AtomicU64>,
    ready: watch::Receiver<bool>,
}

impl<K> Clone for Cache<K> {
    fn clone(&self) -> Self {
        Self {
            objects: self.objects.clone(),
            changes: self.changes.clone(),
            waiters: self.waiters.clone(),
            version: self.version.clone(),
            ready: self.ready.clone(),
        }
    }
}

impl<K: WatchedObject> Cache<K> {
    /// Starts to watch, until `shutdown`. Must be called inside a Tokio runtime. Malformed objects are left out.
    pub fn start(api: Api<Guarded<K>>, watched: watcher::Config, shutdown: CancellationToken) -> Self {
        let (ready_sender, ready) = watch::channel(false);
        let cache = Self {
            objects: Arc::default(),
            changes: broadcast::Sender::new(CHANGES),
            waiters: Waiters::default(),
            version: Arc::default(),
            ready,
        };
        let mut keeper = Keeper { cache: cache.clone(), ready: ready_sender, initial: HashMap::new() };
        tokio::spawn(shutdown.run_until_cancelled_owned(async move {
            let mut events = watcher::watcher(api, watched).default_backoff().boxed();
            while let Some(event) = events.next().await {
                match event {
                    Ok(event) => keeper.apply(event),
                    Err(error) => {
                        let kind = K::kind(&());
                        tracing::warn!(%kind, %error, "watch interrupted; it is taken up again");
                    }
                }
            }
        }));
        cache
    }

    /// Completes when the cache holds all objects that there were when it was started; `false` if it was shut down before.
    pub async fn ready(&self) -> bool {
        self.ready.clone().wait_for(|ready| *ready).await.is_ok()
    }

    /// A number that is another one after every change: what was computed from the objects is good while it stays. Read it
    /// before the objects.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// The object of that key.
    pub fn get(&self, key: &ObjectKey) -> Option<Arc<K>> {
        self.read(|objects| objects.get(key).cloned())
    }

    /// All objects, ordered by key so that what is computed from them is the same every time.
    pub fn list(&self) -> Vec<Arc<K>> {
        self.list_where(|_| true)
    }

    /// The objects that `wanted` accepts, ordered by key.
    pub fn list_where(&self, wanted: impl Fn(&K) -> bool) -> Vec<Arc<K>> {
        let mut found: Vec<(ObjectKey, Arc<K>)> = self.read(|objects| {
            let accepted = objects.iter().filter(|(_, object)| wanted(object));
            accepted.map(|(key, object)| (key.clone(), object.clone())).collect()
        });
        found.sort_by(|(a, _), (b, _)| a.cmp(b));
        found.into_iter().map(|(_, object)| object).collect()
    }

    /// Whether there is an object that `wanted` accepts. Looks no further than the first.
    pub fn any(&self, wanted: impl Fn(&K) -> bool) -> bool {
        self.read(|objects| objects.values().any(|object| wanted(object)))
    }

    /// Waits until `judge` comes to a verdict about the object of that key, which may appear, change and vanish meanwhile. What it is given
    /// may be older than what the caller has just written. Thousands may wait: only those are woken whose object changes. Never ends if the
    /// cache is shut down before.
    pub async fn wait_for<T>(&self, key: &ObjectKey, judge: impl Fn(Option<&K>) -> Option<T>) -> T {
        let waiter = self.waiters.enter(key);
        // What is not known yet must not be taken for what is not there.
        if !self.ready().await {
            return std::future::pending().await;
        }
        loop {
            let changed = waiter.changed();
            if let Some(verdict) = judge(self.get(key).as_deref()) {
                return verdict;
            }
            changed.await;
        }
    }

    /// What changes from now on. Each change is in the cache before it comes out here.
    pub fn changes(&self) -> impl Stream<Item = Change<K>> + Send + use<K> {
        futures::stream::unfold(self.changes.subscribe(), |mut changes| async move {
            match changes.recv().await {
                Ok(object) => Some((Change::Object(object), changes)),
                Err(broadcast::error::RecvError::Lagged(_)) => Some((Change::Missed, changes)),
                Err(broadcast::error::RecvError::Closed) => None,
            }
        })
    }

    fn read<T>(&self, look: impl FnOnce(&HashMap<ObjectKey, Arc<K>>) -> T) -> T {
        look(&self.objects.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write<T>(&self, change: impl FnOnce(&mut HashMap<ObjectKey, Arc<K>>) -> T) -> T {
        let mut objects = self.objects.write().unwrap_or_else(PoisonError::into_inner);
        let result = change(&mut objects);
        self.version.fetch_add(1, Ordering::Release);
        result
    }
}

/// Applies what the watch tells to the cache.
struct Keeper<K> {
    cache: Cache<K>,
    ready: watch::Sender<bool>,
    /// The list that is being received.
    initial: HashMap<ObjectKey, Arc<K>>,
}

impl<K: WatchedObject> Keeper<K> {
    fn apply(&mut self, event: Event<Guarded<K>>) {
        match event {
            Event::Apply(object) => self.put(&object),
            Event::Delete(object) => {
                let gone = self.cache.write(|objects| objects.remove(&ObjectKey::of(&object)));
                self.tell(gone.or_else(|| object.valid().cloned()));
            }
            Event::Init => self.initial.clear(),
            Event::InitApply(object) => {
                if let Some(valid) = object.valid() {
                    self.initial.insert(ObjectKey::of(&object), valid.clone());
                }
            }
            Event::InitDone => self.replace_all(),
        }
    }

    fn put(&self, object: &Guarded<K>) {
        let key = ObjectKey::of(object);
        let Some(valid) = object.valid() else {
            // What it was is no longer true, and what it is cannot be told.
            let gone = self.cache.write(|objects| objects.remove(&key));
            tracing::warn!(kind = %K::kind(&()), object = %key, "malformed object left out");
            return self.tell(gone);
        };
        self.cache.write(|objects| objects.insert(key, valid.clone()));
        self.tell(Some(valid.clone()));
    }

    /// A new list came in: tells what is new or different, and what went unnoticed while the watch was interrupted.
    fn replace_all(&mut self) {
        let new = std::mem::take(&mut self.initial);
        let old = self.cache.write(|objects| std::mem::replace(objects, new));
        let changed = self.cache.read(|new| {
            let version = |object: &Arc<K>| object.meta().resource_version.clone();
            let same =
                |key: &ObjectKey, object| old.get(key).is_some_and(|old| version(old) == version(object));
            let added = new.iter().filter(|(key, object)| !same(key, object)).map(|(_, object)| object);
            let gone = old.iter().filter(|(key, _)| !new.contains_key(key)).map(|(_, object)| object);
            added.chain(gone).cloned().collect::<Vec<_>>()
        });
        let _ = self.ready.send(true);
        for object in changed {
            self.tell(Some(object));
        }
    }

    fn tell(&self, changed: Option<Arc<K>>) {
        if let Some(object) = changed {
            self.cache.waiters.wake(&ObjectKey::of(object.as_ref()));
            // Nobody listening is no error.
            let _ = self.cache.changes.send(object);
        }
    }
}
