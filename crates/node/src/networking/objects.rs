//! A copy of all objects of one kind, fed by a watch.

use std::{
    fmt::{self, Debug},
    sync::Arc,
    time::Duration,
};

use futures::StreamExt;
use kube::{
    Api, Resource,
    runtime::{WatchStreamExt, reflector, watcher},
};
use serde::de::DeserializeOwned;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::retry::Retry;

/// Pauses between attempts to reach the API. Nodes boot before their API server answers; once it does, pods wait for this.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Changes come in groups (a rollout, a node that fails): they count as one once none has come for this long.
const QUIET: Duration = Duration::from_millis(10);
/// A change waits no longer than this, however many follow.
const PATIENCE: Duration = Duration::from_millis(100);

/// Something that changes.
pub trait Changing: Send {
    /// Waits for the next change. May be dropped while it waits.
    fn changed(&mut self) -> impl Future<Output = ()> + Send;
}

/// Waits for the end of a group of changes that has begun.
pub async fn settle(what: &mut impl Changing) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let until = deadline.min(Instant::now() + QUIET);
        tokio::select! {
            () = what.changed() => {}
            () = sleep_until(until) => return,
        }
    }
}

/// See the module documentation. Clones share the copy, and each notices every change.
pub struct Objects<K: Resource<DynamicType = ()> + Clone + 'static> {
    store: reflector::Store<K>,
    /// Whether the first list is complete. Sent again with every change.
    changes: watch::Receiver<bool>,
}

impl<K: Resource<DynamicType = ()> + Clone + 'static> Clone for Objects<K> {
    fn clone(&self) -> Self {
        Self { store: self.store.clone(), changes: self.changes.clone() }
    }
}

impl<K: Resource<DynamicType = ()> + Clone + 'static> fmt::Debug for Objects<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Objects").field("kind", &K::kind(&())).finish_non_exhaustive()
    }
}

impl<K> Objects<K>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    /// Begins to watch, until `shutdown`. Errors are retried for ever; meanwhile the copy stays as it was.
    pub fn watch(api: Api<K>, tasks: &TaskTracker, shutdown: CancellationToken) -> Self {
        let (store, writer) = reflector::store();
        let (changed, changes) = watch::channel(false);
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
                            changed.send_replace(true);
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
        // The store's own `wait_until_ready` wakes only one of several that wait (kube-runtime 5.0).
        let mut changes = self.changes.clone();
        if changes.wait_for(|listed| *listed).await.is_err() {
            // The agent is shutting down.
            std::future::pending::<()>().await;
        }
    }
}

impl<K> Changing for Objects<K>
where
    K: Resource<DynamicType = ()> + Clone + Send + Sync + 'static,
{
    /// Waits for a change since the last one noticed here.
    async fn changed(&mut self) {
        if self.changes.changed().await.is_err() {
            // The agent is shutting down.
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Node;
    use kube::{Client, client::Body};
    use serde_json::json;
    use tokio::sync::Semaphore;

    use super::*;

    /// An API with one Node, which answers once it may.
    fn api(may_answer: &Arc<Semaphore>) -> Client {
        let may_answer = Arc::clone(may_answer);
        let service = tower::service_fn(move |request: http::Request<Body>| {
            let may_answer = Arc::clone(&may_answer);
            async move {
                may_answer.acquire().await.map_err(std::io::Error::other)?.forget();
                if request.uri().query().unwrap_or_default().contains("watch=") {
                    std::future::pending::<()>().await;
                }
                let list = json!({"kind": "NodeList", "apiVersion": "v1", "metadata": {"resourceVersion": "1"},
                    "items": [{"metadata": {"name": "n1"}}]});
                Ok::<_, std::io::Error>(http::Response::new(Body::from(list.to_string().into_bytes())))
            }
        });
        Client::new(service, "default")
    }

    #[tokio::test]
    async fn all_who_wait_for_the_first_list_are_woken() {
        let (tasks, shutdown, may_answer) =
            (TaskTracker::new(), CancellationToken::new(), Arc::new(Semaphore::new(0)));
        let nodes: Objects<Node> = Objects::watch(Api::all(api(&may_answer)), &tasks, shutdown.clone());
        let mut waiting = tokio::task::JoinSet::new();
        for _ in 0..3 {
            let nodes = nodes.clone();
            waiting.spawn(async move {
                nodes.listed().await;
                assert_eq!(nodes.all().len(), 1);
            });
        }
        tokio::task::yield_now().await;
        may_answer.add_permits(10);
        while let Some(done) = waiting.join_next().await {
            done.unwrap();
        }
        shutdown.cancel();
    }
}
