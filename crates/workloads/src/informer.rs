//! Feeds a [`Cache`] from the API: list, watch, and list again when the watch can no longer be resumed.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use kube::{
    Api,
    runtime::{WatchStreamExt, watcher},
};
use tokio_util::sync::CancellationToken;

use crate::{
    cache::Cache,
    kind::{Kind, ObjectKey},
};

/// A kind that the API does not serve is asked for again this often.
const NOT_SERVED_RETRY: Duration = Duration::from_secs(60);

/// Keeps `cache` up to date until `shutdown`. Errors are retried with back-off for ever.
///
/// `managedFields` are dropped: no controller reads them, and they are often larger than the rest of the object.
pub async fn feed<K: Kind>(
    cache: Arc<Cache<K>>,
    api: Api<K>,
    config: watcher::Config,
    shutdown: CancellationToken,
) {
    while !shutdown.is_cancelled() {
        let watched = watch_until_refused(&cache, api.clone(), config.clone());
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = watched => {}
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(NOT_SERVED_RETRY) => {}
        }
    }
}

/// Runs one watcher; returns only when the API says that it does not serve the kind.
async fn watch_until_refused<K: Kind>(cache: &Cache<K>, api: Api<K>, config: watcher::Config) {
    let kind = K::kind(&());
    let mut events = std::pin::pin!(watcher(api, config).default_backoff());
    let mut listed = Vec::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(watcher::Event::Init) => listed.clear(),
            Ok(watcher::Event::InitApply(object)) => listed.push(trimmed(object)),
            Ok(watcher::Event::InitDone) => {
                cache.replace(std::mem::take(&mut listed));
            }
            Ok(watcher::Event::Apply(object)) => cache.upsert(trimmed(object)),
            Ok(watcher::Event::Delete(object)) => cache.remove(&ObjectKey::of(&object)),
            Err(error) if is_not_served(&error) => {
                if !cache.is_synced() {
                    tracing::info!(%kind, "the API does not serve this kind; its controllers stay idle");
                }
                cache.mark_synced();
                return;
            }
            Err(error) => tracing::warn!(%kind, %error, "watch failed; trying again"),
        }
    }
}

fn trimmed<K: Kind>(mut object: K) -> K {
    object.meta_mut().managed_fields = None;
    object
}

fn is_not_served(error: &watcher::Error) -> bool {
    let (watcher::Error::InitialListFailed(source) | watcher::Error::WatchStartFailed(source)) = error else {
        return false;
    };
    matches!(source, kube::Error::Api(status) if status.is_not_found())
}
