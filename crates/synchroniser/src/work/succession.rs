//! Contexts and those whose place they take. Of all that have replaced each other one is at the clusters: while it is carried out the others
//! stand still, and then they give way to it, whatever became of the orders by which they were to be replaced.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use drystone_appcontext::{
    AppContextError, ContextId, QueueStatus, QueuedEvent, State, SyncEvent, SyncState,
};
use tokio::sync::broadcast;

use super::{
    orders::{Outcome, of_context},
    synchronisation::Inner,
    worker::{STORE, Worker},
};
use crate::live::view::Change;

/// How often it is looked whether a context has given way, if nobody tells.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The contexts whose place a context was to take, whatever came of it.
fn replaced(sync: &SyncState) -> impl Iterator<Item = ContextId> {
    sync.queue.iter().filter(|queued| queued.event == SyncEvent::Update).filter_map(|queued| queued.other)
}

/// Whether anything of a context may be at clusters, or come there.
fn has_left(sync: &SyncState) -> bool {
    let is_gone = matches!(sync.current, None | Some(State::Created | State::Updated | State::Terminated));
    !is_gone || sync.has_orders()
}

/// Whether a context waits to be removed, or is being removed.
fn is_to_go(sync: &SyncState) -> bool {
    let waits = |queued: &QueuedEvent| queued.status == QueueStatus::Pending;
    sync.queue.iter().any(|queued| waits(queued) && queued.event == SyncEvent::Terminate)
}

impl Inner {
    /// The contexts that a context stands in for and that have not given way: those that it was to replace, those that these were to
    /// replace, and so on. Who is to be removed leaves out those that are to be removed themselves: two that were each to replace the other
    /// would wait for each other.
    pub(super) async fn predecessors(
        &self,
        id: ContextId,
        event: SyncEvent,
        sync: &SyncState,
    ) -> Result<Vec<ContextId>, AppContextError> {
        let mut seen = BTreeSet::from([id]);
        let mut next: Vec<ContextId> = replaced(sync).collect();
        let mut found = Vec::new();
        while let Some(other) = next.pop() {
            if !seen.insert(other) {
                continue;
            }
            let sync = match self.contexts.sync_state(other).await {
                Err(AppContextError::NotFound(_)) => continue,
                read => read?,
            };
            next.extend(replaced(&sync));
            let goes_itself = event == SyncEvent::Terminate && is_to_go(&sync);
            if has_left(&sync) && !goes_itself {
                found.push(other);
            }
        }
        Ok(found)
    }

    /// Whether a context was told to give way to another one, and nothing else since then.
    pub(super) async fn was_taken_over(
        &self,
        id: ContextId,
        successor: ContextId,
    ) -> Result<bool, AppContextError> {
        let sync = match self.contexts.sync_state(id).await {
            Err(AppContextError::NotFound(_)) => return Ok(false),
            read => read?,
        };
        Ok(sync.queue.last().is_some_and(|last| {
            let goes = matches!(last.status, QueueStatus::Pending | QueueStatus::Done);
            goes && last.event == SyncEvent::UpdateDelete && last.other == Some(successor)
        }))
    }

    /// Has a context stand still: what it was asked to do is not done any more, what is being done ends, and only then does this return.
    /// Its removal goes on, and so does its giving way to `successor`.
    pub(super) async fn halt(
        self: &Arc<Self>,
        id: ContextId,
        successor: Option<ContextId>,
    ) -> Result<(), AppContextError> {
        let (worker, orders) = self.held(id).await;
        let withdrawn = self.withdraw(&worker, id, successor).await;
        drop(orders);
        // It sees for itself that there is nothing to do, and ends if nobody needs it.
        worker.wake();
        match withdrawn {
            Ok(true) => {
                worker.still().await;
                Ok(())
            }
            Ok(false) | Err(AppContextError::NotFound(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Withdraws the orders of a context; says whether one that is being carried out was made to end. Its orders are held meanwhile.
    async fn withdraw(
        &self,
        worker: &Worker,
        id: ContextId,
        successor: Option<ContextId>,
    ) -> Result<bool, AppContextError> {
        let at_work = worker.at_work_on();
        let goes_on = |queued: &QueuedEvent| {
            queued.event == SyncEvent::Terminate
                || (queued.event == SyncEvent::UpdateDelete
                    && successor.is_some()
                    && queued.other == successor)
        };
        let edit = |sync: &mut SyncState| {
            for (index, queued) in sync.queue.iter_mut().enumerate() {
                // Who carries an order out says himself what became of it.
                if queued.status == QueueStatus::Pending && !goes_on(queued) && at_work != Some(index) {
                    queued.status = QueueStatus::Skip;
                }
            }
            if at_work.is_none() && !sync.has_orders() {
                // It was under way when the process ended, and nobody will go on with it.
                let failed = match sync.current {
                    Some(State::Instantiating) => Some(State::InstantiateFailed),
                    Some(State::Updating) => Some(State::UpdateFailed),
                    other => other,
                };
                if failed != sync.current {
                    (sync.current, sync.status) = (failed, failed);
                }
            }
            let order = at_work.and_then(|index| sync.queue.get(index));
            Ok::<bool, AppContextError>(order.is_some_and(|order| !goes_on(order)))
        };
        let ends = self.contexts.edit_sync(id, edit).await?;
        if ends {
            worker.end();
        }
        Ok(ends)
    }

    /// Waits until a context has given way to another one.
    pub(super) async fn gave_way(self: Arc<Self>, id: ContextId, successor: ContextId) -> Outcome {
        let mut failures = 0;
        loop {
            let mut news = self.feed.listen();
            match self.contexts.sync_state(id).await {
                Ok(sync) if is_giving_way(&sync, successor) => {}
                Ok(sync) if has_left(&sync) => return Err(self.why_not(id)),
                Ok(_) | Err(AppContextError::NotFound(_)) => return Ok(()),
                Err(error) => {
                    failures += 1;
                    tracing::warn!(context = %id, %error, "whether it has given way cannot be read; again soon");
                    tokio::time::sleep(STORE.random_delay(failures)).await;
                    continue;
                }
            }
            let _ = tokio::time::timeout(LOOK_AGAIN, news_of(&mut news, id)).await;
        }
    }

    fn why_not(&self, id: ContextId) -> Vec<super::tasks::Failure> {
        let told = self.failures(id);
        if told.is_empty() {
            return of_context(format!(
                "AppContext {id}, whose place it took, is not gone from its clusters; remove it again"
            ));
        }
        told
    }
}

fn is_giving_way(sync: &SyncState, successor: ContextId) -> bool {
    sync.queue.iter().any(|queued| {
        let waits = queued.status == QueueStatus::Pending;
        waits && queued.event == SyncEvent::UpdateDelete && queued.other == Some(successor)
    })
}

/// Waits until something is told of a context, or may have been missed.
async fn news_of(news: &mut broadcast::Receiver<Change>, id: ContextId) {
    loop {
        match news.recv().await {
            Ok(Change::State { context, .. }) if context == id => return,
            Ok(_) => {}
            Err(_) => return,
        }
    }
}
