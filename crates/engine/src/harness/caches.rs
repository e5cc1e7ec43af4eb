//! Copies of objects that several domains look at: one of each kind for the whole process, instead of one for each of them.

use std::{
    any::{Any, TypeId},
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use kube::{Api, Client, runtime::watcher};
use tokio_util::sync::CancellationToken;

use super::{Cache, WatchedObject};

/// Copies of all objects of some kinds, of each kind kept current by one watch from its first use on. Cheap to clone; clones
/// share the copies.
#[derive(Clone)]
pub struct Caches {
    client: Client,
    shutdown: CancellationToken,
    started: Arc<Mutex<HashMap<TypeId, Box<dyn Any + Send>>>>,
}

impl std::fmt::Debug for Caches {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Caches").finish_non_exhaustive()
    }
}

impl Caches {
    /// Copies of what an API has, kept current until `shutdown`.
    pub fn new(client: Client, shutdown: CancellationToken) -> Self {
        Self { client, shutdown, started: Arc::default() }
    }

    /// The copies of a kind. Must be called inside a Tokio runtime.
    pub fn of<K: WatchedObject>(&self) -> Cache<K> {
        let mut started = self.started.lock().unwrap_or_else(PoisonError::into_inner);
        let known = started.get(&TypeId::of::<K>()).and_then(|known| known.downcast_ref::<Cache<K>>());
        if let Some(known) = known {
            return known.clone();
        }
        let all = Api::all(self.client.clone());
        let cache: Cache<K> = Cache::start(all, watcher::Config::default(), self.shutdown.clone());
        started.insert(TypeId::of::<K>(), Box::new(cache.clone()));
        cache
    }
}
