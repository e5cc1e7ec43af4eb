//! A copy of all objects of one kind, fed by a watch.

use std::{fmt::Debug, sync::Arc, time::Duration};

use futures::StreamExt;
use kube::{
    Api, Resource,
    runtime::{WatchStreamExt, reflector, watcher},
};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::retry::Retry;

/// Pauses between attempts to reach the API. Nodes boot before their API server answers; once it does, pods wait for this.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// See the module documentation. Clones share the copy, and each notices every change.
pub struct Objects<K: Resource<DynamicType = ()> + Clone + 'static> {
    store: reflector::Store<K>,
    changes: watch::Receiver<()>,
}

impl<K: Resource<DynamicType = ()> + Clone + 'static> Clone for Objects<K> {
    fn clone(&self) -> Self {
        Self { store: self.store.clone(), changes: self.changes.clone() }
    }
}

impl<K> Objects<K>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    /// Begins to watch, until `shutdown`. Errors are retried for ever; meanwhile the copy stays as it was.
    pub fn watch(api: Api<K>, tasks: &TaskTracker, shutdown: CancellationToken) -> Self {
        let (store, writer) = reflector::store();
        let (changed, changes) = watch::channel(());
        let events = watcher(api, watcher::Config::default())
            .backoff(Retry::new(FIRST_PAUSE, LONGEST_PAUSE))
            // Nobody reads them, and they are often larger than the rest.
            .modify(|object: &mut K| object.meta_mut().managed_fields = None)
            .reflect(writer);
        tasks.spawn(async move {
            let follow = async {
                let mut events = std::pin::pin!(events);
                let mut failing = false;
                while let Some(event) = events.next().await {
                    let kind = K::kind(&());
                    match event {
                        Ok(watcher::Event::Init | watcher::Event::InitApply(_)) => {}
                        Ok(_) => {
                            failing = false;
                            changed.send_replace(());
                        }
                        Err(error) if failing => tracing::debug!(%kind, %error, "still cannot watch"),
                        Err(error) => {
                            failing = true;
                            tracing::warn!(%kind, %error, "the API cannot be watched; trying again");
                        }
                    }
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = follow => {}
            }
        });
        Self { store, changes }
    }

    /// All objects, in no particular order.
    pub fn all(&self) -> Vec<Arc<K>> {
        self.store.state()
    }

    /// Waits until the first list is complete.
    pub async fn listed(&self) {
        if self.store.wait_until_ready().await.is_err() {
            // The agent is shutting down.
            std::future::pending::<()>().await;
        }
    }

    /// Waits for a change since the last one noticed here.
    pub async fn changed(&mut self) {
        if self.changes.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
