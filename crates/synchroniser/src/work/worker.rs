//! One context's orders, one after another.

mod carrying;

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError, Weak,
    atomic::{AtomicBool, Ordering},
};

use drystone_appcontext::{AppContextError, ContextId, State, SyncEvent};
use drystone_engine::backoff::Backoff;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{events, synchronisation::Inner, tasks::Failure};
use crate::live::{context::LiveContext, part::LivePart};

/// Delays after the store did not answer.
pub(super) const STORE: Backoff =
    Backoff { initial: std::time::Duration::from_millis(200), maximum: std::time::Duration::from_secs(15) };

/// Works on a context.
pub(super) struct Worker {
    id: ContextId,
    news: Notify,
    /// Held while an order is taken in, and while it is decided that there are none.
    pub(super) orders: Arc<tokio::sync::Mutex<()>>,
    running: Mutex<Running>,
    /// Held while an order is being carried out.
    at_work: tokio::sync::Mutex<()>,
    live: Mutex<Option<Arc<LiveContext>>>,
    failures: Mutex<Vec<Failure>>,
    retired: AtomicBool,
}

/// The order that is being carried out, or was last.
#[derive(Default)]
struct Running {
    event: Option<SyncEvent>,
    /// Its place in the queue, while it is being carried out.
    index: Option<usize>,
    /// Ends it for another order's sake.
    token: CancellationToken,
}

/// What is next.
enum Next {
    /// Another order may wait.
    More,
    /// Nothing, for now.
    Idle,
    /// Nothing, ever.
    Over,
}

impl Worker {
    pub(super) fn new(id: ContextId) -> Self {
        Self {
            id,
            news: Notify::new(),
            orders: Arc::default(),
            running: Mutex::default(),
            at_work: tokio::sync::Mutex::default(),
            live: Mutex::default(),
            failures: Mutex::default(),
            retired: AtomicBool::new(false),
        }
    }

    /// The context in memory.
    pub(super) fn live(&self) -> Option<Arc<LiveContext>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_live(&self, live: Option<Arc<LiveContext>>) {
        let before = std::mem::replace(&mut *self.live.lock().unwrap_or_else(PoisonError::into_inner), live);
        let stays = self.live();
        if let Some(before) = before
            && !stays.is_some_and(|stays| Arc::ptr_eq(&stays, &before))
        {
            before.parts.values().for_each(|part| part.unfollow());
        }
    }

    /// Follows a context that has been installed.
    pub(super) fn adopt(&self, live: Arc<LiveContext>) {
        live.parts.values().for_each(LivePart::follow);
        self.set_live(Some(live));
    }

    /// Why the last order failed.
    pub(super) fn failures(&self) -> Vec<Failure> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether it is over with it, so that another one must be made.
    pub(super) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }

    /// An order may wait.
    pub(super) fn wake(&self) {
        self.news.notify_one();
    }

    fn running(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends what is being done if an order that was taken in leaves no sense in it: a removal ends everything but a removal, and who is to
    /// take its place back does not give way any more. To be called while [`Self::orders`] is held: otherwise it might end what was begun
    /// for the very order that it is called for.
    pub(super) fn overtake(&self, event: SyncEvent) {
        let running = self.running();
        let ends = match event {
            SyncEvent::Terminate => running.event != Some(SyncEvent::Terminate),
            SyncEvent::Update => running.event == Some(SyncEvent::UpdateDelete),
            _ => false,
        };
        if ends {
            running.token.cancel();
        }
    }

    /// The place in the queue of the order that is being carried out. It stays so while [`Self::orders`] is held, or until that has ended.
    pub(super) fn at_work_on(&self) -> Option<usize> {
        self.running().index
    }

    /// Ends what is being done.
    pub(super) fn end(&self) {
        self.running().token.cancel();
    }

    /// Waits until nothing is being done.
    pub(super) async fn still(&self) {
        drop(self.at_work.lock().await);
    }

    /// Carries orders out until the context is gone from its clusters.
    pub(super) async fn run(self: Arc<Self>, inner: Weak<Inner>) {
        let mut failures = 0;
        loop {
            self.news.notified().await;
            loop {
                let Some(inner) = inner.upgrade() else { return };
                match Box::pin(self.step(&inner)).await {
                    Ok(Next::More) => failures = 0,
                    Ok(Next::Idle) => {
                        failures = 0;
                        break;
                    }
                    Ok(Next::Over) => return,
                    Err(error) => {
                        failures += 1;
                        tracing::warn!(context = %self.id, %error, "the context cannot be worked on; again soon");
                        drop(inner);
                        tokio::time::sleep(STORE.random_delay(failures)).await;
                    }
                }
            }
        }
    }

    /// Carries out one order, if there is one.
    async fn step(&self, inner: &Arc<Inner>) -> Result<Next, AppContextError> {
        let orders = self.orders.lock().await;
        let sync = match inner.contexts.sync_state(self.id).await {
            Err(AppContextError::NotFound(_)) => {
                inner.contexts.deactivate(self.id).await?;
                return Ok(self.retire(inner));
            }
            other => other?,
        };
        let Some((index, event)) = events::next(&sync) else {
            inner.contexts.deactivate(self.id).await?;
            let over =
                matches!(sync.current, Some(State::Terminated | State::Updated | State::Created) | None);
            if over {
                return Ok(self.retire(inner));
            }
            // After a restart that came between the end of an order and the note of it.
            if self.live().is_none() {
                self.adopt(inner.enliven(&inner.contexts.load(self.id).await?));
            }
            return Ok(Next::Idle);
        };
        let token = CancellationToken::new();
        *self.running() = Running { event: Some(event), index: Some(index), token: token.clone() };
        let at_work = self.at_work.lock().await;
        drop(orders);
        let outcome = self.decide(inner, (index, event, &sync), &token).await;
        self.running().index = None;
        drop(at_work);
        outcome.map(|()| Next::More)
    }

    fn retire(&self, inner: &Inner) -> Next {
        self.set_live(None);
        self.retired.store(true, Ordering::Release);
        inner.retire(self.id);
        Next::Over
    }
}
