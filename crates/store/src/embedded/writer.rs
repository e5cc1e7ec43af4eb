//! The writer: one thread that turns waiting requests into durable commits.
//!
//! It takes what waits in the queue, stages it against memory, commits it with one flush to disk, and only then
//! swaps memory, feeds the watchers and replies. An idle store commits at once; a busy one finds the next batch in the
//! queue when the last has been flushed.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::commit::{Scrub, persist};
use super::compaction::Compactor;
use super::gather::Gathering;
use super::leases::Deadlines;
use super::options::Options;
use super::recovery::Health;
use super::shared::Shared;
use super::staging::{Changes, Staging};
use crate::{LeaseId, LeaseTime, Revision, StoreError, Txn, TxnResponse};

/// Where the answer to a request goes.
pub(super) type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// A request to the writer.
#[derive(Debug)]
pub(super) enum Command {
    Txn(Txn, Reply<TxnResponse>),
    Grant { lease: LeaseId, time_to_live: Duration, reply: Reply<()> },
    KeepAlive(LeaseId, Reply<()>),
    TimeToLive(LeaseId, Reply<LeaseTime>),
    Revoke(LeaseId, Reply<()>),
    Compact(Revision, Reply<()>),
}

/// The answer to a staged request, held back until the batch is durable.
enum Outcome {
    Txn(Reply<TxnResponse>, TxnResponse),
    Done(Reply<()>),
}

impl Outcome {
    /// Sends the answer; nobody waiting for it any more is fine.
    fn send(self, result: Result<(), StoreError>) {
        match self {
            Self::Txn(reply, response) => drop(reply.send(result.map(|()| response))),
            Self::Done(reply) => drop(reply.send(result)),
        }
    }
}

/// The writer's own state.
pub(super) struct Writer {
    shared: Arc<Shared>,
    options: Options,
    /// Requests taken from the queue that did not fit into the last batch.
    backlog: VecDeque<Command>,
    scrub: Scrub,
    deadlines: Deadlines,
    health: Health,
    compactor: Compactor,
    gathering: Gathering,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, options: Options, scrub: Scrub) -> Self {
        let compactor = Compactor::new(options.compaction);
        Self {
            shared,
            options,
            backlog: VecDeque::new(),
            scrub,
            deadlines: Deadlines::default(),
            health: Health::default(),
            compactor,
            gathering: Gathering::default(),
        }
    }

    /// Serves requests until all senders are gone, then closes the database.
    pub(super) async fn run(mut self, mut queue: mpsc::Receiver<Command>) {
        let _closing = Closing(Arc::clone(&self.shared));
        let now = Instant::now();
        for (lease, time_to_live) in &self.shared.state().leases {
            self.deadlines.start(*lease, now, *time_to_live);
        }
        while self.wait(&mut queue).await {
            self.serve_batch(Instant::now(), &queue);
        }
    }

    /// Waits until there is something to do and takes what is queued; false when the store is closed.
    async fn wait(&mut self, queue: &mut mpsc::Receiver<Command>) -> bool {
        if self.backlog.is_empty() && !(self.scrub.is_pending() && self.health.is_good()) {
            let received = match self.wake_at() {
                Some(deadline) => tokio::time::timeout_at(deadline, queue.recv()).await,
                None => Ok(queue.recv().await),
            };
            match received {
                Ok(Some(command)) => self.backlog.push_back(command),
                Ok(None) => return false,
                Err(_elapsed) => {}
            }
        }
        let since = std::time::Instant::now();
        while self.backlog.len() < self.options.batch_requests {
            match queue.try_recv() {
                Ok(command) => self.backlog.push_back(command),
                Err(TryRecvError::Empty) if self.gathering.goes_on(self.backlog.len(), since) => {
                    std::thread::yield_now();
                }
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return !self.backlog.is_empty(),
            }
        }
        true
    }

    /// When to look after leases even if nobody asks for anything.
    fn wake_at(&self) -> Option<Instant> {
        self.health.earliest_write(self.deadlines.next()?)
    }

    /// Stages what waits, commits it and answers.
    fn serve_batch(&mut self, now: Instant, queue: &mpsc::Receiver<Command>) {
        let shared = Arc::clone(&self.shared);
        self.health.prepare(&shared, now);
        let state = shared.state();
        let mut staging = Staging::new(&state, &self.options);
        if self.health.check(now).is_ok() {
            for lease in self.deadlines.due(now) {
                if staging.revoke(lease).is_err() {
                    self.deadlines.stop(lease);
                }
            }
        }
        let mut outcomes = Vec::with_capacity(self.backlog.len());
        while let Some(command) = self.backlog.pop_front() {
            outcomes.extend(stage(command, &mut staging, &mut self.deadlines, now));
            if staging.bytes() >= self.options.batch_bytes {
                break;
            }
        }
        if let Some(revision) = self.compactor.due(now, staging.revision(), state.compacted) {
            // Never ahead of the revision just read.
            let _ = staging.compact(revision);
        }
        let changes = staging.finish();
        drop(state);
        let begun = std::time::Instant::now();
        let result = self.commit(&changes, now);
        self.gathering.committed(outcomes.len(), self.backlog.len() + queue.len(), begun.elapsed());
        for outcome in outcomes {
            outcome.send(result.clone());
        }
    }

    /// Makes changes durable, then visible.
    fn commit(&mut self, changes: &Changes, now: Instant) -> Result<(), StoreError> {
        if changes.is_empty() && !(self.scrub.is_pending() && self.health.is_good()) {
            return Ok(());
        }
        self.health.check(now)?;
        let mut scrub = self.scrub;
        let written = self.shared.engine.write(|transaction| {
            scrub = persist(transaction, changes, scrub)?;
            Ok(())
        });
        if let Err(error) = written {
            return Err(self.health.failed(&self.shared, error, Instant::now()));
        }
        self.health.succeeded();
        self.scrub = scrub;
        for (lease, change) in &changes.leases {
            match change {
                Some(time_to_live) => self.deadlines.start(*lease, now, *time_to_live),
                None => self.deadlines.stop(*lease),
            }
        }
        self.shared.publish(changes);
        Ok(())
    }
}

/// Closes the store when the writer ends, however it ends.
struct Closing(Arc<Shared>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Stages one request. One that fails is answered at once, and alone.
fn stage(
    command: Command,
    staging: &mut Staging<'_>,
    deadlines: &mut Deadlines,
    now: Instant,
) -> Option<Outcome> {
    match command {
        Command::Txn(txn, reply) => match staging.txn(&txn) {
            Ok(response) => Some(Outcome::Txn(reply, response)),
            Err(error) => {
                drop(reply.send(Err(error)));
                None
            }
        },
        Command::Grant { lease, time_to_live, reply } => {
            let granted = staging.grant(lease, time_to_live);
            done(reply, granted)
        }
        Command::KeepAlive(lease, reply) => done(reply, keep_alive(lease, staging, deadlines, now)),
        Command::TimeToLive(lease, reply) => {
            // Nothing changes, so that nothing has to be durable before this is told.
            drop(reply.send(time_to_live(lease, staging, deadlines, now)));
            None
        }
        Command::Revoke(lease, reply) => done(reply, staging.revoke(lease)),
        Command::Compact(revision, reply) => done(reply, staging.compact(revision)),
    }
}

/// Nothing of this is persisted: after a restart every lease has its full time to live anyway.
fn keep_alive(
    lease: LeaseId,
    staging: &Staging<'_>,
    deadlines: &mut Deadlines,
    now: Instant,
) -> Result<(), StoreError> {
    let time_to_live = staging.time_to_live(lease).ok_or(StoreError::LeaseNotFound(lease))?;
    deadlines.start(lease, now, time_to_live);
    Ok(())
}

fn time_to_live(
    lease: LeaseId,
    staging: &Staging<'_>,
    deadlines: &Deadlines,
    now: Instant,
) -> Result<LeaseTime, StoreError> {
    let granted = staging.time_to_live(lease).ok_or(StoreError::LeaseNotFound(lease))?;
    // One that is granted in this very batch has no deadline yet.
    let remaining = deadlines.of(lease).map_or(granted, |deadline| deadline.saturating_duration_since(now));
    Ok(LeaseTime { granted: granted.as_secs(), remaining: remaining.as_secs() })
}

fn done(reply: Reply<()>, result: Result<(), StoreError>) -> Option<Outcome> {
    match result {
        Ok(()) => Some(Outcome::Done(reply)),
        Err(error) => {
            drop(reply.send(Err(error)));
            None
        }
    }
}
