//! Waiting for what the watch will bring.

use std::time::Duration;

use drystone_engine::{
    harness::{Cache, WatchedObject},
    reference::ObjectKey,
};
use futures::StreamExt as _;

/// Looks at an object again and again as it changes, until `look` finds what it looks for; `None` if it does not in time.
pub(crate) async fn until<K: WatchedObject, T>(
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
