//! One context's orders, one after another.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError, Weak,
    atomic::{AtomicBool, Ordering},
};

use drystone_appcontext::{AppContextError, ContextId, QueueStatus, State, SyncEvent, SyncState, codec::Key};
use drystone_engine::backoff::Backoff;
use drystone_store::StoreError;
use futures::StreamExt as _;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{
    events::{self, Course, Verdict},
    orders,
    synchronisation::Inner,
    tasks::Failure,
};
use crate::live::{context::LiveContext, part::LivePart, view::Change};

/// Delays after the store did not answer.
const STORE: Backoff =
    Backoff { initial: std::time::Duration::from_millis(200), maximum: std::time::Duration::from_secs(15) };

/// Failures that are remembered, and told.
const TOLD: usize = 50;

/// Works on a context.
pub(super) struct Worker {
    id: ContextId,
    news: Notify,
    /// Held while an order is taken in, and while it is decided that there are none.
    pub(super) orders: tokio::sync::Mutex<()>,
    running: Mutex<Running>,
    live: Mutex<Option<Arc<LiveContext>>>,
    problems: Mutex<Vec<String>>,
    retired: AtomicBool,
}

/// The order that is being carried out, or was last.
#[derive(Default)]
struct Running {
    event: Option<SyncEvent>,
    /// Ends it for another order's sake.
    token: CancellationToken,
}

/// How an order ended.
enum End {
    Done,
    Failed(Vec<Failure>),
    /// Somebody wants it to end.
    Interrupted,
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
            orders: tokio::sync::Mutex::default(),
            running: Mutex::default(),
            live: Mutex::default(),
            problems: Mutex::default(),
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
    pub(super) fn problems(&self) -> Vec<String> {
        self.problems.lock().unwrap_or_else(PoisonError::into_inner).clone()
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

    /// Ends what is being done, so that the context can be removed; a removal goes on. To be called while [`Self::orders`] is held:
    /// otherwise it might end what was begun for the very order that it is called for.
    pub(super) fn interrupt(&self) {
        let running = self.running();
        if running.event != Some(SyncEvent::Terminate) {
            running.token.cancel();
        }
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
        *self.running() = Running { event: Some(event), token: token.clone() };
        drop(orders);
        match events::judge(&sync, index) {
            Verdict::Skip(why) => {
                tracing::info!(context = %self.id, %event, why, "an order is passed over");
                self.close(inner, index, QueueStatus::Skip, None).await?;
            }
            Verdict::Nothing(state) => self.close(inner, index, QueueStatus::Done, Some(state)).await?,
            Verdict::Begin(course) => {
                self.carry_out(inner, (index, event, &sync), course, false, &token).await?;
            }
            Verdict::Resume(course) => {
                self.carry_out(inner, (index, event, &sync), course, true, &token).await?;
            }
        }
        Ok(Next::More)
    }

    fn retire(&self, inner: &Inner) -> Next {
        self.set_live(None);
        self.retired.store(true, Ordering::Release);
        inner.retire(self.id);
        Next::Over
    }

    async fn carry_out(
        &self,
        inner: &Arc<Inner>,
        (index, event, sync): (usize, SyncEvent, &SyncState),
        course: Course,
        resumed: bool,
        token: &CancellationToken,
    ) -> Result<(), AppContextError> {
        let other = sync.queue.get(index).and_then(|queued| queued.other);
        let other = match other {
            Some(other) => match self.insist(|| inner.live(other)).await {
                Err(AppContextError::NotFound(_)) => None,
                found => Some(found?),
            },
            None => None,
        };
        if let Some(before) = self.live() {
            before.shared.writer.flush().await;
        }
        let live = inner.enliven(&self.insist(|| inner.contexts.load(self.id)).await?);
        if !resumed {
            prepare(event, &live, other.as_deref());
            live.shared.writer.flush().await;
            self.begin(inner, course).await?;
        }
        inner.feed.tell(Change::State { context: self.id, state: course.running });
        live.parts.values().for_each(LivePart::follow);
        self.set_live(Some(live.clone()));
        if let Some(other) = &other {
            other.parts.values().for_each(LivePart::follow);
        }
        let work = async {
            match (event, &other) {
                (SyncEvent::Instantiate, _) | (SyncEvent::Update, None) => {
                    orders::install(&live, &inner.settings).await
                }
                (SyncEvent::Update, Some(old)) => orders::update(old, &live, &inner.settings).await,
                (SyncEvent::UpdateDelete, Some(new)) => orders::give_way(&live, new, &inner.settings).await,
                (SyncEvent::Terminate, _) => orders::remove(&live, &inner.settings).await,
                (SyncEvent::Read, _) => orders::read_all(&live, &inner.settings).await,
                (SyncEvent::UpdateDelete, None) | (SyncEvent::AddChildContext, _) => Ok(()),
            }
        };
        let end = tokio::select! {
            outcome = work => outcome.map_or_else(End::Failed, |()| End::Done),
            () = token.cancelled() => End::Interrupted,
            () = stopped(inner, self.id) => End::Interrupted,
        };
        live.parts.values().for_each(|part| {
            part.refresh();
            part.bundle();
        });
        live.shared.writer.flush().await;
        if let Some(other) = &other {
            other.shared.writer.flush().await;
        }
        if let (SyncEvent::Update, Some(old)) = (event, &other)
            && !matches!(end, End::Interrupted)
        {
            let replaced = old.shared.id;
            self.insist(|| Box::pin(inner.order(replaced, SyncEvent::UpdateDelete, Some(self.id)))).await?;
        }
        self.end(inner, (index, event), course, end).await
    }

    /// Calls the store until it answers: what is done once it does is not to be done again because it did not at once. A store that is
    /// closed never will.
    async fn insist<T, F>(&self, call: impl Fn() -> F) -> Result<T, AppContextError>
    where
        F: Future<Output = Result<T, AppContextError>>,
    {
        let mut failures = 0;
        loop {
            match call().await {
                Err(AppContextError::Store(StoreError::Closed)) => return Err(StoreError::Closed.into()),
                Err(error @ (AppContextError::Store(_) | AppContextError::Contention(_))) => {
                    failures += 1;
                    tracing::warn!(context = %self.id, %error, "the store did not do what was asked; again soon");
                    tokio::time::sleep(STORE.random_delay(failures)).await;
                }
                answered => return answered,
            }
        }
    }

    async fn begin(&self, inner: &Inner, course: Course) -> Result<(), AppContextError> {
        let edit = |sync: &mut SyncState| {
            (sync.current, sync.status, sync.desired) =
                (Some(course.running), Some(course.running), Some(course.done));
            sync.stop.get_or_insert(false);
            sync.pending_terminate.get_or_insert(false);
            Ok::<(), AppContextError>(())
        };
        self.insist(|| inner.contexts.edit_sync(self.id, edit)).await
    }

    async fn end(
        &self,
        inner: &Inner,
        (index, event): (usize, SyncEvent),
        course: Course,
        end: End,
    ) -> Result<(), AppContextError> {
        let (status, state, problems) = match end {
            End::Done => (QueueStatus::Done, course.done, Vec::new()),
            End::Failed(failures) => (QueueStatus::Error, course.failed, failures),
            End::Interrupted => (QueueStatus::Error, course.failed, Vec::new()),
        };
        let told: Vec<String> = problems.iter().take(TOLD).map(ToString::to_string).collect();
        for problem in &told {
            tracing::warn!(context = %self.id, %event, problem, "an object of the context failed");
        }
        *self.problems.lock().unwrap_or_else(PoisonError::into_inner) = told;
        self.close(inner, index, status, Some(state)).await?;
        if matches!(state, State::Terminated | State::Updated) {
            self.set_live(None);
        }
        Ok(())
    }

    /// Notes that an order has ended.
    async fn close(
        &self,
        inner: &Inner,
        index: usize,
        status: QueueStatus,
        state: Option<State>,
    ) -> Result<(), AppContextError> {
        let edit = |sync: &mut SyncState| {
            if let Some(queued) = sync.queue.get_mut(index) {
                queued.status = status;
            }
            if let Some(state) = state {
                (sync.current, sync.status) = (Some(state), Some(state));
            }
            let waits = |event: &drystone_appcontext::QueuedEvent| {
                event.status == QueueStatus::Pending && event.event == SyncEvent::Terminate
            };
            sync.pending_terminate = Some(sync.queue.iter().any(waits));
            Ok::<(), AppContextError>(())
        };
        self.insist(|| inner.contexts.edit_sync(self.id, edit)).await?;
        if let Some(state) = state {
            inner.feed.tell(Change::State { context: self.id, state });
        }
        Ok(())
    }
}

/// What counts as done when an order begins: of a context that takes another one's place, what is as it was. Of others, what has been
/// applied already: whoever gives an order again, not knowing what became of the first, has nothing done twice.
fn prepare(event: SyncEvent, live: &LiveContext, other: Option<&LiveContext>) {
    let (SyncEvent::Update, Some(old)) = (event, other) else { return };
    for (place, part) in &live.parts {
        let kept = old.parts.get(place).map(|old| orders::kept(old, part)).unwrap_or_default();
        part.reset(|index| kept.contains(&index));
    }
}

/// Waits until somebody has set the flag by which a context is stopped.
async fn stopped(inner: &Inner, id: ContextId) {
    let mut failures = 0;
    loop {
        let watched = inner.contexts.watch(id, None).await;
        let is_stopped = inner.contexts.sync_state(id).await.is_ok_and(|sync| sync.stop == Some(true));
        if is_stopped {
            return;
        }
        if let Ok(mut changes) = watched {
            failures = 0;
            while let Some(Ok(changes)) = changes.next().await {
                let stops = |change: &drystone_appcontext::contexts::ContextChange| {
                    change.key() == Some(Key::Stop) && change.value.as_deref() == Some(b"true")
                };
                if changes.iter().any(stops) {
                    return;
                }
            }
        }
        failures += 1;
        tokio::time::sleep(STORE.random_delay(failures)).await;
    }
}
