//! Waiting for what the watch will bring.

use std::time::Duration;

use futures::StreamExt as _;
use kube::{Resource, ResourceExt as _};

use super::{Cache, WatchedObject};
use crate::reference::ObjectKey;

/// How long a watch may be behind what was written.
const BEHIND: Duration = Duration::from_secs(10);

/// Waits until the watch has an object as it was written, or a newer one: who checks next must see it.
pub async fn seen<K: WatchedObject>(cache: &Cache<K>, written: &K) {
    let version = |object: &K| object.resource_version().and_then(|version| version.parse::<u64>().ok());
    let wanted = version(written);
    let look = |object: Option<&K>| object.filter(|object| version(object) >= wanted).map(|_| ());
    if until(cache, &ObjectKey::of(written), BEHIND, look).await.is_none() {
        tracing::warn!(kind = %K::kind(&()), "the watch is far behind what was written");
    }
}

/// Waits until the watch knows that an object is gone.
pub async fn unseen<K: WatchedObject + Resource>(cache: &Cache<K>, key: &ObjectKey, uid: &str) {
    let gone =
        |object: Option<&K>| object.is_none_or(|object| object.uid().as_deref() != Some(uid)).then_some(());
    if until(cache, key, BEHIND, gone).await.is_none() {
        tracing::warn!(kind = %K::kind(&()), "the watch is far behind what was deleted");
    }
}

/// Waits until the watch knows that an object is to go, or is gone.
pub async fn seen_ending<K: WatchedObject + Resource>(cache: &Cache<K>, key: &ObjectKey, uid: &str) {
    let ending = |object: Option<&K>| {
        let stays = object.filter(|object| object.uid().as_deref() == Some(uid));
        stays.is_none_or(|object| object.meta().deletion_timestamp.is_some()).then_some(())
    };
    if until(cache, key, BEHIND, ending).await.is_none() {
        tracing::warn!(kind = %K::kind(&()), "the watch is far behind what was deleted");
    }
}

/// Looks at an object again and again as it changes, until `look` finds what it looks for; `None` if it does not in time.
pub async fn until<K: WatchedObject, T>(
    cache: &Cache<K>,
    key: &ObjectKey,
    limit: Duration,
    look: impl Fn(Option<&K>) -> Option<T>,
) -> Option<T> {
    let mut changes = std::pin::pin!(cache.changes());
    let deadline = tokio::time::Instant::now() + limit;
    loop {
        if let Some(found) = look(cache.get(key).as_deref()) {
            return Some(found);
        }
        match tokio::time::timeout_at(deadline, changes.next()).await {
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => return None,
        }
    }
}
