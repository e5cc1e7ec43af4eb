//! `Watch`: many watches over one stream.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    extract::{Request, State},
    response::Response,
};
use drystone_store::{StoreError, WatchBatch, WatchRequest, WatchStream};
use futures::StreamExt as _;
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval_at},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use crate::{Caller, EtcdFront, convert, kv, messages as etcd, wire};

/// Answers that wait for a slow client before its watches do.
const WAITING: usize = 64;
/// How often a watch that wants to know tells how far it is.
const PROGRESS: Duration = Duration::from_secs(60);
/// Watches over one stream.
const WATCHES: usize = 10_000;

type Answer = Result<etcd::WatchResponse, Status>;

/// `Watch.Watch`.
pub(crate) async fn serve(State(front): State<EtcdFront>, request: Request) -> Response {
    if let Err(refusal) = front.admit(Caller::of(&request)).await {
        return wire::refuse(refusal);
    }
    wire::streaming(request, move |questions: Streaming<etcd::WatchRequest>| {
        let (answers, receiver) = mpsc::channel(WAITING);
        tokio::spawn(Session::new(front.clone(), answers).run(questions));
        ReceiverStream::new(receiver).boxed()
    })
    .await
}

/// A stream with its watches, which end with it.
struct Session {
    front: EtcdFront,
    answers: mpsc::Sender<Answer>,
    watches: HashMap<i64, Watch>,
    next: i64,
    end: CancellationToken,
}

struct Watch {
    end: CancellationToken,
    reached: Arc<AtomicU64>,
}

impl Session {
    fn new(front: EtcdFront, answers: mpsc::Sender<Answer>) -> Self {
        Self { front, answers, watches: HashMap::new(), next: 0, end: CancellationToken::new() }
    }

    async fn run(mut self, mut questions: Streaming<etcd::WatchRequest>) {
        let _end = self.end.clone().drop_guard();
        loop {
            let question = tokio::select! {
                question = questions.message() => question,
                () = self.answers.closed() => break,
                () = self.front.stop.cancelled() => break,
            };
            let Ok(Some(question)) = question else { break };
            let answered = match question.question {
                Some(etcd::WatchQuestion::Create(create)) => self.create(create).await,
                Some(etcd::WatchQuestion::Cancel(cancel)) => self.cancel(cancel.watch_id).await,
                Some(etcd::WatchQuestion::Progress(_)) => self.progress().await,
                None => Ok(()),
            };
            match answered {
                Ok(()) => {}
                Err(Broken::Told(status)) => {
                    let _ = self.answers.send(Err(status)).await;
                    break;
                }
                Err(Broken::Gone) => break,
            }
        }
    }

    async fn create(&mut self, create: etcd::WatchCreateRequest) -> Result<(), Broken> {
        let revision = self.revision().await?;
        self.watches.retain(|_, watch| !watch.end.is_cancelled());
        let id = match create.watch_id {
            0 => self.free(),
            taken if self.watches.contains_key(&taken) => {
                return self.refuse(revision, "mvcc: duplicate watch ID provided on the WatchStream").await;
            }
            wanted => wanted,
        };
        if self.watches.len() >= WATCHES {
            return self.refuse(revision, "there are too many watches over this stream").await;
        }
        let range = match convert::range(&create.key, &create.range_end) {
            Ok(Some(range)) => range,
            Ok(None) => return self.refuse(revision, "the range has no keys").await,
            Err(status) => return self.refuse(revision, status.message()).await,
        };
        let start_revision = convert::revision(create.start_revision);
        let opened = self.front.store.watch(WatchRequest { range, start_revision }).await;
        let created = etcd::WatchResponse { created: true, ..answer(revision, id) };
        self.answers.send(Ok(created)).await.map_err(|_| Broken::Gone)?;
        let stream = match opened {
            Ok(stream) => stream,
            Err(error) => {
                return self.answers.send(Ok(ended(revision, id, &error))).await.map_err(|_| Broken::Gone);
            }
        };
        let watch = Watch { end: self.end.child_token(), reached: Arc::new(AtomicU64::new(revision)) };
        let following = Following {
            id,
            with_previous: create.prev_kv,
            without: create.filters.clone(),
            tells_progress: create.progress_notify,
            answers: self.answers.clone(),
            end: watch.end.clone(),
            reached: Arc::clone(&watch.reached),
        };
        self.watches.insert(id, watch);
        tokio::spawn(following.run(stream));
        Ok(())
    }

    fn free(&mut self) -> i64 {
        loop {
            let id = self.next;
            self.next += 1;
            if !self.watches.contains_key(&id) {
                return id;
            }
        }
    }

    async fn cancel(&mut self, id: i64) -> Result<(), Broken> {
        let revision = self.revision().await?;
        let Some(watch) = self.watches.remove(&id) else { return Ok(()) };
        watch.end.cancel();
        let canceled = etcd::WatchResponse { canceled: true, ..answer(revision, id) };
        self.answers.send(Ok(canceled)).await.map_err(|_| Broken::Gone)
    }

    /// Tells a revision up to which every watch has told everything.
    async fn progress(&self) -> Result<(), Broken> {
        let current = self.revision().await?;
        let reached = self.watches.values().map(|watch| watch.reached.load(Ordering::Acquire)).min();
        let told = answer(reached.unwrap_or(current), -1);
        self.answers.send(Ok(told)).await.map_err(|_| Broken::Gone)
    }

    async fn refuse(&self, revision: u64, reason: &str) -> Result<(), Broken> {
        let refused = etcd::WatchResponse {
            created: true,
            canceled: true,
            cancel_reason: reason.to_owned(),
            ..answer(revision, -1)
        };
        self.answers.send(Ok(refused)).await.map_err(|_| Broken::Gone)
    }

    async fn revision(&self) -> Result<u64, Broken> {
        self.front.store.revision().await.map_err(|error| Broken::Told(convert::status(&error)))
    }
}

/// Why a stream ends.
enum Broken {
    /// The client is gone.
    Gone,
    /// It is told this.
    Told(Status),
}

fn answer(revision: u64, id: i64) -> etcd::WatchResponse {
    etcd::WatchResponse {
        header: Some(kv::header_at(revision)),
        watch_id: id,
        ..etcd::WatchResponse::default()
    }
}

/// The last answer of a watch that can't go on.
fn ended(revision: u64, id: i64, error: &StoreError) -> etcd::WatchResponse {
    let compact_revision = match error {
        StoreError::Compacted { compacted, .. } => convert::signed(*compacted),
        _ => 0,
    };
    etcd::WatchResponse {
        canceled: true,
        compact_revision,
        cancel_reason: convert::status(error).message().to_owned(),
        ..answer(revision, id)
    }
}

/// A watch at work.
struct Following {
    id: i64,
    with_previous: bool,
    without: Vec<i32>,
    tells_progress: bool,
    answers: mpsc::Sender<Answer>,
    end: CancellationToken,
    reached: Arc<AtomicU64>,
}

impl Following {
    async fn run(self, mut stream: WatchStream) {
        // Whatever ends this, the number is free again.
        let _end = self.end.clone().drop_guard();
        let mut progress = interval_at(Instant::now() + PROGRESS, PROGRESS);
        progress.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let told = tokio::select! {
                biased;
                () = self.end.cancelled() => return,
                batch = stream.next() => match batch {
                    Some(Ok(batch)) => self.changes(&batch),
                    Some(Err(error)) => {
                        let last = ended(self.reached.load(Ordering::Acquire), self.id, &error);
                        let _ = self.answers.send(Ok(last)).await;
                        return;
                    }
                    None => {
                        let last = ended(self.reached.load(Ordering::Acquire), self.id, &StoreError::Closed);
                        let _ = self.answers.send(Ok(last)).await;
                        return;
                    }
                },
                _ = progress.tick(), if self.tells_progress => {
                    Some(answer(self.reached.load(Ordering::Acquire), self.id))
                }
            };
            if let Some(told) = told {
                let revision = told.header.as_ref().map_or(0, |header| header.revision);
                if self.answers.send(Ok(told)).await.is_err() {
                    return;
                }
                self.reach(u64::try_from(revision).unwrap_or(0));
            }
        }
    }

    /// What is told of a batch, if anything.
    fn changes(&self, batch: &WatchBatch) -> Option<etcd::WatchResponse> {
        let changes = batch.events.iter().map(|event| convert::change(event, self.with_previous));
        // `WatchFilter` numbers what it leaves out as `Event` numbers its kinds.
        let events: Vec<etcd::Change> =
            changes.filter(|change| !self.without.contains(&change.kind)).collect();
        if events.is_empty() {
            self.reach(batch.revision);
            return None;
        }
        Some(etcd::WatchResponse { events, ..answer(batch.revision, self.id) })
    }

    fn reach(&self, revision: u64) {
        self.reached.fetch_max(revision, Ordering::AcqRel);
    }
}
