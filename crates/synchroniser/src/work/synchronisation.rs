//! The whole: takes orders, resumes after a restart, answers questions.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak, atomic::Ordering},
};

use async_trait::async_trait;
use drystone_appcontext::{
    AppContext, AppContextError, AppContexts, ClusterName, ContextId, QueueStatus, QueuedEvent, State,
    SyncEvent, SyncState,
    contract::{ControllerError, Synchroniser},
};
use futures::StreamExt as _;
use tokio::sync::{OwnedMutexGuard, Semaphore, broadcast};
use tokio_util::sync::CancellationToken;

use super::{events, tasks::Failure, worker::Worker};
use crate::{
    cluster::{Clusters, link::Link},
    live::{
        context::LiveContext,
        part::Shared,
        view::{Change, ContextView, Feed},
        writer::{Counted, Writer},
    },
    readiness::bundle::Told,
    settings::Settings,
};

/// Contexts that are read at the same time after a restart.
const READ_AT_ONCE: usize = 4;

/// Carries contexts to clusters. Clones are the same one; when the last is dropped, all work ends where it is, to be resumed.
#[derive(Clone)]
pub struct Synchronisation {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) contexts: AppContexts,
    clusters: Arc<dyn Clusters>,
    pub(super) settings: Settings,
    all: Arc<Semaphore>,
    links: Mutex<HashMap<ClusterName, Weak<Link>>>,
    workers: Mutex<HashMap<ContextId, Arc<Worker>>>,
    pub(super) feed: Feed,
    pub(super) token: CancellationToken,
    counted: Arc<Counted>,
}

impl std::fmt::Debug for Synchronisation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Synchronisation").finish_non_exhaustive()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.token.cancel();
    }
}

impl Inner {
    fn workers(&self) -> MutexGuard<'_, HashMap<ContextId, Arc<Worker>>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The cluster of a name.
    fn link(&self, name: &ClusterName) -> Arc<Link> {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(link) = links.get(name).and_then(Weak::upgrade) {
            return link;
        }
        links.retain(|_, link| link.strong_count() > 0);
        let (clusters, settings) = (self.clusters.clone(), self.settings.clone());
        let link = Link::new(name.clone(), clusters, settings, self.all.clone(), self.token.clone());
        links.insert(name.clone(), Arc::downgrade(&link));
        link
    }

    /// A context in memory.
    pub(super) fn enliven(&self, context: &AppContext) -> Arc<LiveContext> {
        let status_context = context.sync.status_context.unwrap_or(context.id);
        let writer = Writer::new(self.contexts.clone(), context.id, status_context, self.counted.clone());
        let shared = Shared {
            id: context.id,
            status_context,
            writer,
            feed: self.feed.clone(),
            changed: tokio::sync::watch::Sender::new(0),
            status_bytes: self.settings.status_bytes,
        };
        LiveContext::new(context, shared, &self.settings, |name| self.link(name))
    }

    /// The context in memory; read, if it is not there.
    pub(super) async fn live(&self, id: ContextId) -> Result<Arc<LiveContext>, AppContextError> {
        let known = self.workers().get(&id).and_then(|worker| worker.live());
        match known {
            Some(live) => Ok(live),
            None => Ok(self.enliven(&self.contexts.load(id).await?)),
        }
    }

    /// Why the last order of a context failed.
    pub(super) fn failures(&self, id: ContextId) -> Vec<Failure> {
        self.workers().get(&id).map(|worker| worker.failures()).unwrap_or_default()
    }

    /// Who works on a context; made, if nobody does.
    pub(super) fn worker(self: &Arc<Self>, id: ContextId) -> Arc<Worker> {
        let mut workers = self.workers();
        if let Some(worker) = workers.get(&id) {
            return worker.clone();
        }
        let worker = Arc::new(Worker::new(id));
        workers.insert(id, worker.clone());
        let (work, inner, token) = (worker.clone(), Arc::downgrade(self), self.token.clone());
        tokio::spawn(async move { token.run_until_cancelled(work.run(inner)).await });
        worker
    }

    /// Nobody works on a context any more.
    pub(super) fn retire(&self, id: ContextId) {
        self.workers().remove(&id);
    }

    /// Gives an order: once it returns, it is kept, and carried out whatever happens.
    pub(super) async fn order(
        self: &Arc<Self>,
        id: ContextId,
        event: SyncEvent,
        other: Option<ContextId>,
    ) -> Result<(), AppContextError> {
        let (worker, orders) = self.held(id).await;
        let outcome = self.enqueue(id, event, other).await;
        if outcome.is_ok() {
            worker.overtake(event);
        }
        drop(orders);
        // Also where it failed: the order may have arrived though the answer did not, and who works on a context that is not there is
        // to find that out, and end.
        worker.wake();
        outcome
    }

    /// Who works on a context, and its orders, held: none is taken in, and none is begun.
    pub(super) async fn held(self: &Arc<Self>, id: ContextId) -> (Arc<Worker>, OwnedMutexGuard<()>) {
        loop {
            let worker = self.worker(id);
            let orders = worker.orders.clone().lock_owned().await;
            // Who is over with it has been replaced.
            if !worker.is_retired() {
                return (worker, orders);
            }
        }
    }

    /// Puts an order into the context.
    async fn enqueue(
        &self,
        id: ContextId,
        event: SyncEvent,
        other: Option<ContextId>,
    ) -> Result<(), AppContextError> {
        self.contexts.activate(id).await?;
        let queued = QueuedEvent { event, other, status: QueueStatus::Pending };
        let edit = |sync: &mut SyncState| {
            // An order that is given again, by who does not know what became of the first, or by an update that was resumed.
            let given = sync.queue.last().is_some_and(|last| {
                let is_done = event == SyncEvent::UpdateDelete && last.status == QueueStatus::Done;
                (last.event, last.other) == (event, other) && (last.status == QueueStatus::Pending || is_done)
            });
            if !given {
                sync.queue.push(queued.clone());
            }
            // A stop is for what was ordered before it.
            if sync.stop == Some(true) {
                sync.stop = Some(false);
            }
            if event == SyncEvent::Terminate {
                sync.pending_terminate = Some(true);
            }
            Ok::<(), AppContextError>(())
        };
        self.contexts.edit_sync(id, edit).await
    }
}

impl Synchronisation {
    /// A synchroniser of the contexts of a store. Nothing is done before [`Synchronisation::resume`], or the first order.
    pub fn new(contexts: AppContexts, clusters: Arc<dyn Clusters>, settings: Settings) -> Self {
        let all = Arc::new(Semaphore::new(settings.requests.max(1)));
        let inner = Inner {
            contexts,
            clusters,
            settings,
            all,
            links: Mutex::default(),
            workers: Mutex::default(),
            feed: Feed::default(),
            token: CancellationToken::new(),
            counted: Arc::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Goes on with what was under way when the process ended, and follows what has been installed.
    ///
    /// # Errors
    /// [`AppContextError`] if the store cannot be read; then it is to be called again.
    pub async fn resume(&self) -> Result<(), AppContextError> {
        let active = self.inner.contexts.active().await?;
        for id in &active {
            self.inner.worker(*id).wake();
        }
        let others = self.inner.contexts.list().await?.into_iter().filter(|id| !active.contains(id));
        let outcomes: Vec<Result<(), AppContextError>> = futures::stream::iter(others)
            .map(|id| self.follow(id))
            .buffer_unordered(READ_AT_ONCE)
            .collect()
            .await;
        outcomes.into_iter().find(Result::is_err).unwrap_or(Ok(()))
    }

    async fn follow(&self, id: ContextId) -> Result<(), AppContextError> {
        let contexts = &self.inner.contexts;
        let is_idle = async || match contexts.sync_state(id).await {
            Err(AppContextError::NotFound(_)) => Ok(false),
            found => found.map(|sync| is_there(&sync) && events::next(&sync).is_none()),
        };
        if !is_idle().await? {
            return Ok(());
        }
        let worker = self.inner.worker(id);
        // Orders wait meanwhile; whatever has come before, its worker follows the context itself, and it must not get another one.
        let orders = worker.orders.lock().await;
        if worker.is_retired() || worker.live().is_some() {
            return Ok(());
        }
        let adopt = async {
            let idle = is_idle().await?;
            if idle {
                worker.adopt(self.inner.enliven(&contexts.load(id).await?));
            }
            Ok(idle)
        };
        let adopted = adopt.await;
        drop(orders);
        if !matches!(adopted, Ok(true)) {
            // It sees for itself, and ends if the context has vanished.
            worker.wake();
        }
        match adopted {
            Ok(_) | Err(AppContextError::NotFound(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Ends all work where it is. It is resumed from the store by another one, or in another process.
    pub fn stop(&self) {
        self.inner.token.cancel();
    }

    /// Changes of all contexts from now on. Whoever lags too far behind is told so, and looks at the [view](Self::view) again.
    pub fn changes(&self) -> broadcast::Receiver<Change> {
        self.inner.feed.listen()
    }

    /// A context as it is now; `None` if it is not followed: it was never installed, or is gone from all clusters.
    pub fn view(&self, id: ContextId) -> Option<ContextView> {
        let live = self.inner.workers().get(&id)?.live()?;
        let parts = live.parts.values().map(|part| part.view()).collect();
        Some(ContextView { context: id, status_context: live.shared.status_context, parts })
    }

    /// The contexts that are followed.
    pub fn followed(&self) -> Vec<ContextId> {
        self.inner.workers().iter().filter(|(_, worker)| worker.live().is_some()).map(|(id, _)| *id).collect()
    }

    /// The objects of an application on a cluster with all that the cluster shows of them, its pods among them.
    pub fn objects(&self, id: ContextId, app: &str, cluster: &ClusterName) -> Vec<Arc<Told>> {
        let live = self.inner.workers().get(&id).and_then(|worker| worker.live());
        let part = live.and_then(|live| live.parts.get(&(app.to_owned(), cluster.clone())).cloned());
        part.map(|part| part.link.board.told(&part.label)).unwrap_or_default()
    }

    /// Why the last order of a context failed, a line for each object; empty if it did not.
    pub fn problems(&self, id: ContextId) -> Vec<String> {
        self.inner.failures(id).iter().map(ToString::to_string).collect()
    }

    /// A cluster has changed (its address, its credentials), or is known to be back: it is asked again at once.
    pub async fn reconnect(&self, cluster: &ClusterName) {
        let link = {
            let links = self.inner.links.lock().unwrap_or_else(PoisonError::into_inner);
            links.get(cluster).and_then(Weak::upgrade)
        };
        for channel in link.iter().flat_map(|link| link.all_channels()) {
            channel.forget_any().await;
            channel.gate.retry_now();
        }
    }

    /// How often statuses were written to the store, and how many of them.
    pub fn written(&self) -> (u64, u64) {
        let counted = &self.inner.counted;
        (counted.batches.load(Ordering::Relaxed), counted.statuses.load(Ordering::Relaxed))
    }
}

/// Whether objects of a context may be at its clusters though nothing is done to them.
fn is_there(sync: &SyncState) -> bool {
    let there = [State::Instantiated, State::InstantiateFailed, State::UpdateFailed, State::TerminateFailed];
    sync.current.is_some_and(|state| there.contains(&state))
}

fn told(error: AppContextError) -> ControllerError {
    match error {
        AppContextError::Store(error) => ControllerError::Unreachable(error.to_string()),
        other => ControllerError::Refused(other.to_string()),
    }
}

#[async_trait]
impl Synchroniser for Synchronisation {
    async fn install(&self, context: ContextId) -> Result<(), ControllerError> {
        self.inner.order(context, SyncEvent::Instantiate, None).await.map_err(told)
    }

    async fn uninstall(&self, context: ContextId) -> Result<(), ControllerError> {
        self.inner.order(context, SyncEvent::Terminate, None).await.map_err(told)
    }

    async fn read(&self, context: ContextId) -> Result<(), ControllerError> {
        self.inner.order(context, SyncEvent::Read, None).await.map_err(told)
    }

    async fn update(&self, from: ContextId, to: ContextId) -> Result<(), ControllerError> {
        if from == to {
            return Err(ControllerError::Refused(format!("AppContext {to} cannot take its own place")));
        }
        if !self.inner.contexts.exists(from).await.map_err(told)? {
            return Err(told(AppContextError::NotFound(from)));
        }
        self.inner.order(to, SyncEvent::Update, Some(from)).await.map_err(told)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use drystone_appcontext::Meta;
    use drystone_store::embedded::{EmbeddedStore, Options};

    use super::*;
    use crate::cluster::{Access, AccessError, Identity};

    struct Nowhere;

    #[async_trait]
    impl Clusters for Nowhere {
        async fn connect(&self, cluster: &ClusterName, _: &Identity) -> Result<Access, AccessError> {
            Err(AccessError::None(format!("there is no cluster {cluster}")))
        }
    }

    fn synchronisation() -> Synchronisation {
        let store = Arc::new(EmbeddedStore::in_memory(Options::default()).unwrap());
        Synchronisation::new(AppContexts::new(store), Arc::new(Nowhere), Settings::default())
    }

    async fn eventually(is_so: impl Fn() -> bool) {
        let so = async {
            while !is_so() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), so).await.expect("never");
    }

    #[tokio::test]
    async fn nobody_works_for_ever_on_a_context_that_is_not_there() {
        let sync = synchronisation();
        let refused = sync.uninstall(ContextId::new(9).unwrap()).await;
        assert!(matches!(refused, Err(ControllerError::Refused(_))), "{refused:?}");
        eventually(|| sync.inner.workers().is_empty()).await;
    }

    #[tokio::test]
    async fn what_is_followed_is_not_read_again_by_resuming() {
        let sync = synchronisation();
        let id = ContextId::new(1).unwrap();
        sync.inner.contexts.create(&AppContext::new(id, Meta::default())).await.unwrap();
        sync.install(id).await.unwrap();
        eventually(|| !sync.followed().is_empty()).await;
        let done = async {
            while sync.inner.contexts.sync_state(id).await.unwrap().current != Some(State::Instantiated)
                || !sync.inner.contexts.active().await.unwrap().is_empty()
            {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), done).await.unwrap();
        let before = sync.inner.live(id).await.unwrap();
        sync.resume().await.unwrap();
        let after = sync.inner.live(id).await.unwrap();
        assert!(Arc::ptr_eq(&before, &after), "an order may be using the first");
    }
}
