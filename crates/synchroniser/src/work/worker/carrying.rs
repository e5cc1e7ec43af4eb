//! One order, from what becomes of it to its end.

use std::sync::{Arc, PoisonError};

use drystone_appcontext::{AppContextError, ContextId, QueueStatus, State, SyncEvent, SyncState, codec::Key};
use drystone_store::StoreError;
use futures::StreamExt as _;
use tokio_util::sync::CancellationToken;

use super::{
    super::{
        events::{self, Course, Standing, Verdict},
        orders::{self, Parts},
        synchronisation::Inner,
        tasks::Failure,
    },
    STORE, Worker,
};
use crate::{
    live::{context::LiveContext, part::LivePart, view::Change},
    settings::Settings,
};

/// Failures that are remembered, and told.
const TOLD: usize = 50;

/// An order that is carried out.
struct Order {
    /// Its place in the queue.
    index: usize,
    event: SyncEvent,
    /// The other context, of updates.
    other: Option<ContextId>,
    course: Course,
    /// Whether it was under way when the process ended.
    resumed: bool,
    /// Contexts that this one stands in for and that have not given way, of updates and removals.
    stood_in_for: Vec<ContextId>,
}

/// How an order ended.
enum End {
    Done,
    Failed(Vec<Failure>),
    /// Somebody wants it to end.
    Interrupted,
}

impl Worker {
    /// Sees what becomes of an order, and has it carried out.
    pub(super) async fn decide(
        &self,
        inner: &Arc<Inner>,
        (index, event, sync): (usize, SyncEvent, &SyncState),
        token: &CancellationToken,
    ) -> Result<(), AppContextError> {
        let stood_in_for = match event {
            SyncEvent::Update | SyncEvent::Terminate => inner.predecessors(self.id, event, sync).await?,
            _ => Vec::new(),
        };
        let other = sync.queue.get(index).and_then(|queued| queued.other);
        let took_over = match other {
            Some(other) if event == SyncEvent::Update => inner.was_taken_over(other, self.id).await?,
            _ => false,
        };
        let standing = Standing { stands_in: !stood_in_for.is_empty(), took_over };
        let (course, resumed) = match events::judge(sync, index, standing) {
            Verdict::Skip(why) => {
                tracing::info!(context = %self.id, %event, why, "an order is passed over");
                return self.close(inner, index, QueueStatus::Skip, None).await;
            }
            Verdict::Nothing(state) => return self.close(inner, index, QueueStatus::Done, Some(state)).await,
            Verdict::Begin(course) => (course, false),
            Verdict::Resume(course) => (course, true),
        };
        let order = Order { index, event, other, course, resumed, stood_in_for };
        self.carry_out(inner, &order, token).await
    }

    async fn carry_out(
        &self,
        inner: &Arc<Inner>,
        order: &Order,
        token: &CancellationToken,
    ) -> Result<(), AppContextError> {
        let still = tokio::select! {
            biased;
            () = token.cancelled() => None,
            () = stopped(inner, self.id) => None,
            halted = self.halt_predecessors(inner, order) => Some(halted?),
        };
        if still.is_none() {
            return self.finish(inner, order, End::Interrupted).await;
        }
        let (live, other) = self.begun(inner, order).await?;
        if order.event == SyncEvent::Terminate {
            self.tell_predecessors(inner, order).await?;
        }
        let end = match parts(order.event, &live, other.as_ref(), &inner.settings) {
            Ok(mut parts) => {
                if order.event == SyncEvent::Terminate {
                    for before in &order.stood_in_for {
                        parts.spawn(inner.clone().gave_way(*before, self.id));
                    }
                }
                self.await_end(inner, parts, token).await
            }
            Err(failures) => End::Failed(failures),
        };
        live.parts.values().for_each(|part| {
            part.refresh();
            part.bundle();
        });
        live.shared.writer.flush().await;
        if let Some(other) = &other {
            other.shared.writer.flush().await;
        }
        match (order.event, &end) {
            (SyncEvent::Update, End::Done | End::Failed(_)) => self.tell_predecessors(inner, order).await?,
            // Who stops the one stops all of it.
            (SyncEvent::Terminate, End::Interrupted) => {
                for before in &order.stood_in_for {
                    self.insist(|| Box::pin(inner.halt(*before, None))).await?;
                }
            }
            _ => {}
        }
        self.finish(inner, order, end).await
    }

    /// The context, and the one that the order names, in memory and followed; the order is noted as begun.
    async fn begun(
        &self,
        inner: &Arc<Inner>,
        order: &Order,
    ) -> Result<(Arc<LiveContext>, Option<Arc<LiveContext>>), AppContextError> {
        let other = match order.other {
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
        if !order.resumed {
            prepare(order.event, &live, other.as_deref());
            live.shared.writer.flush().await;
            self.note_begin(inner, order.course).await?;
        }
        inner.feed.tell(Change::State { context: self.id, state: order.course.running });
        live.parts.values().for_each(LivePart::follow);
        self.set_live(Some(live.clone()));
        if let Some(other) = &other {
            other.parts.values().for_each(LivePart::follow);
        }
        Ok((live, other))
    }

    /// Waits until an order has ended, by itself or because somebody wants it to. Then nothing of it goes on, but requests that were sent:
    /// who writes the same object waits for those.
    async fn await_end(&self, inner: &Inner, mut parts: Parts, token: &CancellationToken) -> End {
        let end = tokio::select! {
            biased;
            () = token.cancelled() => End::Interrupted,
            () = stopped(inner, self.id) => End::Interrupted,
            outcome = orders::all(&mut parts) => outcome.map_or_else(End::Failed, |()| End::Done),
        };
        parts.shutdown().await;
        end
    }

    /// Has the contexts that this one stands in for stand still. Otherwise they could do again what this one undoes.
    async fn halt_predecessors(&self, inner: &Arc<Inner>, order: &Order) -> Result<(), AppContextError> {
        for before in &order.stood_in_for {
            self.insist(|| Box::pin(inner.halt(*before, Some(self.id)))).await?;
        }
        Ok(())
    }

    /// Tells the contexts that this one stands in for to give way to it.
    async fn tell_predecessors(&self, inner: &Arc<Inner>, order: &Order) -> Result<(), AppContextError> {
        for before in &order.stood_in_for {
            let told = || Box::pin(inner.order(*before, SyncEvent::UpdateDelete, Some(self.id)));
            match self.insist(told).await {
                Ok(()) | Err(AppContextError::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
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

    /// Notes that an order has begun.
    async fn note_begin(&self, inner: &Inner, course: Course) -> Result<(), AppContextError> {
        let edit = |sync: &mut SyncState| {
            (sync.current, sync.status, sync.desired) =
                (Some(course.running), Some(course.running), Some(course.done));
            sync.stop.get_or_insert(false);
            sync.pending_terminate.get_or_insert(false);
            Ok::<(), AppContextError>(())
        };
        self.insist(|| inner.contexts.edit_sync(self.id, edit)).await
    }

    async fn finish(&self, inner: &Inner, order: &Order, end: End) -> Result<(), AppContextError> {
        let course = order.course;
        let (status, state, failures) = match end {
            End::Done => (QueueStatus::Done, course.done, Vec::new()),
            End::Failed(failures) => (QueueStatus::Error, course.failed, failures),
            End::Interrupted => (QueueStatus::Error, course.failed, Vec::new()),
        };
        let told: Vec<Failure> = failures.into_iter().take(TOLD).collect();
        for problem in &told {
            tracing::warn!(context = %self.id, event = %order.event, %problem, "an object of the context failed");
        }
        *self.failures.lock().unwrap_or_else(PoisonError::into_inner) = told;
        self.close(inner, order.index, status, Some(state)).await?;
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

/// Begins what an order does to the parts of a context.
fn parts(
    event: SyncEvent,
    live: &Arc<LiveContext>,
    other: Option<&Arc<LiveContext>>,
    settings: &Settings,
) -> Result<Parts, Vec<Failure>> {
    Ok(match (event, other) {
        (SyncEvent::Instantiate, _) | (SyncEvent::Update, None) => orders::install(live, settings)?,
        (SyncEvent::Update, Some(old)) => orders::update(old, live, settings)?,
        (SyncEvent::UpdateDelete, Some(new)) => orders::give_way(live, new, settings),
        // What it was to give way to is gone, with all that it had.
        (SyncEvent::UpdateDelete, None) | (SyncEvent::Terminate, _) => orders::remove(live, settings),
        (SyncEvent::Read, _) => orders::read_all(live, settings),
        (SyncEvent::AddChildContext, _) => Parts::new(),
    })
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
