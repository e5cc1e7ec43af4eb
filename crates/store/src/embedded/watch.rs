//! Watches: the hub that hands each committed change to the watchers of its key, and the streams they read.
//!
//! A watcher has a bounded buffer of its own and is woken only for changes in its range. A watcher that starts in the
//! past first replays history and joins the live changes under the hub's lock at the very revision it has reached, so
//! it neither misses a change nor sees one twice.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use futures::Stream;

use super::engine::Engine;
use super::history;
use super::staging::Committed;
use crate::{KeyRange, Revision, StoreError, WatchBatch};

/// Hands committed changes to watchers.
#[derive(Debug)]
pub(super) struct Hub {
    watchers: Mutex<Watchers>,
    /// Everything up to this revision is in the buffers of those it concerns.
    published: AtomicU64,
    capacity: usize,
}

#[derive(Debug, Default)]
struct Watchers {
    live: Vec<Arc<Watcher>>,
    closed: bool,
}

/// The shared end of a live watch.
#[derive(Debug)]
struct Watcher {
    range: KeyRange,
    first_revision: Revision,
    buffer: Mutex<Buffer>,
}

#[derive(Debug, Default)]
struct Buffer {
    batches: VecDeque<WatchBatch>,
    /// Why nothing more will come.
    end: Option<StoreError>,
    waker: Option<Waker>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Hub {
    pub(super) fn new(revision: Revision, capacity: usize) -> Self {
        Self { watchers: Mutex::default(), published: AtomicU64::new(revision), capacity }
    }

    /// Feeds the changes of a commit, in revision order, to the watchers they concern.
    pub(super) fn publish(&self, transactions: &[Committed], revision: Revision) {
        let mut watchers = lock(&self.watchers);
        watchers.live.retain(|watcher| watcher.feed(transactions, self.capacity));
        self.published.store(revision, Ordering::Release);
    }

    /// Ends all watches.
    pub(super) fn close(&self) {
        let mut watchers = lock(&self.watchers);
        watchers.closed = true;
        for watcher in watchers.live.drain(..) {
            watcher.end(StoreError::Closed);
        }
    }

    fn published(&self) -> Revision {
        self.published.load(Ordering::Acquire)
    }

    /// Joins the live changes if everything before `next` has been published, else tells how far publishing has come.
    fn join(&self, range: &KeyRange, next: Revision) -> Result<Join, StoreError> {
        let mut watchers = lock(&self.watchers);
        if watchers.closed {
            return Err(StoreError::Closed);
        }
        let published = self.published();
        if next <= published {
            return Ok(Join::Behind { published });
        }
        let watcher =
            Arc::new(Watcher { range: range.clone(), first_revision: next, buffer: Mutex::default() });
        watchers.live.push(Arc::clone(&watcher));
        Ok(Join::Live(watcher))
    }

    fn leave(&self, watcher: &Arc<Watcher>) {
        lock(&self.watchers).live.retain(|other| !Arc::ptr_eq(other, watcher));
    }
}

enum Join {
    Live(Arc<Watcher>),
    Behind { published: Revision },
}

impl Watcher {
    /// Buffers what concerns this watcher; false if it has fallen too far behind and is given up.
    fn feed(&self, transactions: &[Committed], capacity: usize) -> bool {
        let mut buffer = None;
        for transaction in transactions {
            if transaction.revision < self.first_revision {
                continue;
            }
            let mut events = transaction.events.iter().filter(|event| self.range.contains(&event.kv.key));
            let Some(first) = events.next() else { continue };
            let buffer = buffer.get_or_insert_with(|| lock(&self.buffer));
            if buffer.batches.len() >= capacity {
                buffer.end = Some(StoreError::WatcherTooSlow { missed: transaction.revision });
                wake(buffer);
                return false;
            }
            let events = std::iter::once(first).chain(events).cloned().collect();
            buffer.batches.push_back(WatchBatch { revision: transaction.revision, events });
        }
        if let Some(mut buffer) = buffer {
            wake(&mut buffer);
        }
        true
    }

    fn end(&self, error: StoreError) {
        let mut buffer = lock(&self.buffer);
        buffer.end.get_or_insert(error);
        wake(&mut buffer);
    }
}

/// Tells that nothing of the range has changed up to a revision.
fn mark(revision: Revision) -> WatchBatch {
    WatchBatch { revision, events: Vec::new() }
}

fn wake(buffer: &mut Buffer) {
    if let Some(waker) = buffer.waker.take() {
        waker.wake();
    }
}

/// Opens a watch from `next` on.
pub(super) fn open(hub: Arc<Hub>, engine: Arc<Engine>, range: KeyRange, next: Option<Revision>) -> Watch {
    let next = next.unwrap_or_else(|| hub.published() + 1);
    Watch { hub, engine, range, reached: next - 1, phase: Phase::Joining }
}

type ReplayTask = tokio::task::JoinHandle<Result<history::Replay, StoreError>>;

/// The stream of a watch.
pub(super) struct Watch {
    hub: Arc<Hub>,
    engine: Arc<Engine>,
    range: KeyRange,
    /// Everything up to this revision has been told.
    reached: Revision,
    phase: Phase,
}

enum Phase {
    /// Look whether history has to be replayed.
    Joining,
    /// A piece of history is being read.
    Reading(ReplayTask),
    /// A piece of history is being told.
    Telling {
        batches: std::vec::IntoIter<WatchBatch>,
        reached: Revision,
    },
    Live(Arc<Watcher>),
    Ended,
}

impl Watch {
    /// Joins the hub at once if no history has to be replayed, so that no later change is missed.
    pub(super) fn join(&mut self) -> Result<(), StoreError> {
        self.phase = match self.hub.join(&self.range, self.reached + 1)? {
            Join::Live(watcher) => Phase::Live(watcher),
            Join::Behind { published } => {
                let (engine, range, from) = (Arc::clone(&self.engine), self.range.clone(), self.reached + 1);
                Phase::Reading(tokio::task::spawn_blocking(move || {
                    engine.read(|transaction| history::replay(transaction, &range, from, published))
                }))
            }
        };
        Ok(())
    }

    fn fail(&mut self, error: StoreError) -> Poll<Option<Result<WatchBatch, StoreError>>> {
        if let Phase::Live(watcher) = &self.phase {
            self.hub.leave(watcher);
        }
        self.phase = Phase::Ended;
        Poll::Ready(Some(Err(error)))
    }

    fn poll_live(
        &mut self,
        watcher: &Arc<Watcher>,
        context: &Context<'_>,
    ) -> Poll<Result<WatchBatch, StoreError>> {
        // Read before the buffer: what has been published by now is in the buffer or does not concern us.
        let published = self.hub.published();
        let mut buffer = lock(&watcher.buffer);
        if let Some(batch) = buffer.batches.pop_front() {
            self.reached = batch.revision;
            return Poll::Ready(Ok(batch));
        }
        if let Some(error) = &buffer.end {
            return Poll::Ready(Err(error.clone()));
        }
        if published > self.reached {
            self.reached = published;
            return Poll::Ready(Ok(mark(published)));
        }
        buffer.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

impl Stream for Watch {
    type Item = Result<WatchBatch, StoreError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            match &mut this.phase {
                Phase::Joining => {
                    if let Err(error) = this.join() {
                        return this.fail(error);
                    }
                }
                Phase::Reading(task) => match Pin::new(task).poll(context) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Ok(Ok(replay))) => {
                        this.phase =
                            Phase::Telling { batches: replay.batches.into_iter(), reached: replay.reached };
                    }
                    Poll::Ready(Ok(Err(error))) => return this.fail(error),
                    Poll::Ready(Err(_)) => return this.fail(StoreError::Closed),
                },
                Phase::Telling { batches, reached } => {
                    if let Some(batch) = batches.next() {
                        this.reached = batch.revision;
                        return Poll::Ready(Some(Ok(batch)));
                    }
                    let reached = *reached;
                    this.phase = Phase::Joining;
                    if reached > this.reached {
                        this.reached = reached;
                        return Poll::Ready(Some(Ok(mark(reached))));
                    }
                }
                Phase::Live(watcher) => {
                    let watcher = Arc::clone(watcher);
                    return match this.poll_live(&watcher, context) {
                        Poll::Pending => Poll::Pending,
                        Poll::Ready(Ok(batch)) => Poll::Ready(Some(Ok(batch))),
                        Poll::Ready(Err(error)) => this.fail(error),
                    };
                }
                Phase::Ended => return Poll::Ready(None),
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Phase::Live(watcher) = &self.phase {
            self.hub.leave(watcher);
        }
    }
}
