//! Watches on etcd. Each is a task that reads a stream of etcd's and opens another one, from the first revision that was not told yet,
//! whenever that ends.
//!
//! etcd never divides the changes of one revision between two answers, so that a batch is whole.

use std::{pin::Pin, sync::Arc, time::Duration};

use futures::Stream;
use tokio::sync::mpsc;
use tonic::{Code, Streaming};

use super::{
    client::{CallError, Client, Repeat, rpc},
    convert,
    messages::{RangeRequest, RangeResponse, WatchCreateRequest, WatchRequest, WatchResponse},
};
use crate::{Event, KeyRange, KeyValue, Revision, StoreError, WatchBatch, WatchStream};

/// How long etcd may take to say that a watch is there.
const CREATION: Duration = Duration::from_secs(5);
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// What a watch sends to its reader.
type Told = Result<WatchBatch, StoreError>;

/// A stream of etcd's that has begun.
struct Open {
    answers: Streaming<WatchResponse>,
    /// The store's revision when it began.
    revision: Revision,
}

/// Why a stream of etcd's has ended.
enum End {
    /// Connection or server; another one may go on.
    Broken(String),
    /// The past that is wanted is gone.
    Compacted(Revision),
    /// Nobody listens, or the reader was told why it ends.
    Over,
}

/// Opens a watch from `start` on, or from the next change.
pub(super) async fn watch(
    client: Arc<Client>,
    range: KeyRange,
    start: Option<Revision>,
    (buffer, patience): (usize, Duration),
) -> Result<WatchStream, StoreError> {
    let Some(create) = creation(&range) else {
        // No key can be in it: nothing will ever be told.
        return Ok(Box::pin(futures::stream::pending()));
    };
    let open = match open(&client, &create, start).await {
        Ok(open) => open,
        Err(End::Compacted(compacted)) => {
            return Err(StoreError::Compacted { requested: start.unwrap_or(0), compacted });
        }
        Err(End::Broken(why)) => return Err(StoreError::Backend(format!("watching etcd: {why}"))),
        Err(End::Over) => return Err(StoreError::Closed),
    };
    let next = start.unwrap_or(open.revision + 1);
    // One place more than batches may wait: for the error that ends it.
    let (sender, receiver) = mpsc::channel(buffer.max(1) + 1);
    tokio::spawn(Watcher { client, create, next, sender, patience }.run(open));
    Ok(Box::pin(Receiver(receiver)))
}

fn creation(range: &KeyRange) -> Option<WatchCreateRequest> {
    let (key, range_end) = convert::bounds(range)?;
    Some(WatchCreateRequest { key, range_end, start_revision: 0, progress_notify: true, prev_kv: true })
}

async fn open(client: &Client, create: &WatchCreateRequest, start: Option<Revision>) -> Result<Open, End> {
    let create = WatchCreateRequest { start_revision: start.map_or(0, convert::signed), ..create.clone() };
    let question = WatchRequest { create: Some(create) };
    let broken = |error: CallError| End::Broken(error.into_store_error().to_string());
    let mut answers: Streaming<WatchResponse> =
        client.stream(rpc!("Watch", "Watch"), question).await.map_err(broken)?;
    let first = match tokio::time::timeout(CREATION, answers.message()).await {
        Ok(Ok(Some(first))) => first,
        Ok(Ok(None)) => return Err(End::Broken("the stream ended at once".into())),
        Ok(Err(status)) => return Err(End::Broken(status.message().to_owned())),
        Err(_) => return Err(End::Broken("the watch was not created in time".into())),
    };
    if let Some(end) = ending(&first) {
        return Err(end);
    }
    Ok(Open { answers, revision: convert::revision(first.header.as_ref()) })
}

/// Whether an answer ends a watch.
fn ending(answer: &WatchResponse) -> Option<End> {
    if answer.compact_revision != 0 {
        return Some(End::Compacted(convert::unsigned(answer.compact_revision)));
    }
    answer.canceled.then(|| End::Broken(format!("etcd ended the watch: {}", answer.cancel_reason)))
}

/// The oldest revision that etcd has a whole history from: that from which a watch was refused tells it.
pub(super) async fn compacted(client: &Client) -> Option<Revision> {
    let create = creation(&KeyRange::single("\0"))?;
    let mut open = match open(client, &create, Some(1)).await {
        Ok(open) => open,
        Err(End::Compacted(revision)) => return Some(revision),
        Err(_) => return None,
    };
    let answer = tokio::time::timeout(CREATION, open.answers.message()).await.ok()?.ok()??;
    match ending(&answer) {
        Some(End::Compacted(revision)) => Some(revision),
        _ => None,
    }
}

struct Watcher {
    client: Arc<Client>,
    create: WatchCreateRequest,
    /// The first revision that has not been told.
    next: Revision,
    sender: mpsc::Sender<Told>,
    /// How long a reader may keep it waiting.
    patience: Duration,
}

impl Watcher {
    async fn run(mut self, first: Open) {
        let mut stream = Some(first);
        let mut pause = FIRST_PAUSE;
        loop {
            let end = match stream.take() {
                Some(open) => {
                    let from = self.next;
                    let end = self.follow(open).await;
                    if self.next > from {
                        pause = FIRST_PAUSE;
                    }
                    end
                }
                None => match open(&self.client, &self.create, Some(self.next)).await {
                    Ok(open) => {
                        stream = Some(open);
                        continue;
                    }
                    Err(end) => end,
                },
            };
            match end {
                End::Over => return,
                End::Compacted(compacted) => {
                    self.end_with(StoreError::Compacted { requested: self.next, compacted });
                    return;
                }
                End::Broken(why) => {
                    tracing::debug!(next = self.next, why, "a watch on etcd is opened again");
                    let jitter = 0.5 + rand::random::<f64>();
                    tokio::select! {
                        () = self.sender.closed() => return,
                        () = tokio::time::sleep(pause.mul_f64(jitter)) => {}
                    }
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    /// Tells what one stream says until it ends.
    async fn follow(&mut self, mut open: Open) -> End {
        loop {
            let answer = tokio::select! {
                () = self.sender.closed() => return End::Over,
                answer = open.answers.message() => answer,
            };
            let answer = match answer {
                Ok(Some(answer)) => answer,
                Ok(None) => return End::Broken("the stream ended".into()),
                Err(status) => return End::Broken(status.message().to_owned()),
            };
            if let Some(end) = ending(&answer) {
                return end;
            }
            let told = if answer.events.is_empty() {
                self.progress(&answer).await
            } else {
                self.changes(answer).await
            };
            if let Err(end) = told {
                return end;
            }
        }
    }

    /// Nothing of the range has changed up to here.
    async fn progress(&mut self, answer: &WatchResponse) -> Result<(), End> {
        let revision = convert::revision(answer.header.as_ref());
        if revision < self.next {
            return Ok(());
        }
        self.tell(WatchBatch { revision, events: Vec::new() }).await
    }

    async fn changes(&mut self, answer: WatchResponse) -> Result<(), End> {
        let mut batch = WatchBatch { revision: 0, events: Vec::new() };
        for change in answer.events {
            let mut event = match convert::event(change) {
                Ok(event) => event,
                Err(error) => return Err(self.end_with(error)),
            };
            let revision = event.kv.mod_revision;
            if revision < self.next {
                continue;
            }
            if convert::lacks_previous(&event) {
                event.previous = Some(self.previous(&event).await?);
            }
            if revision != batch.revision && !batch.events.is_empty() {
                let done = std::mem::replace(&mut batch, WatchBatch { revision, events: Vec::new() });
                self.tell(done).await?;
            }
            batch.revision = revision;
            batch.events.push(Arc::new(event));
        }
        if batch.events.is_empty() { Ok(()) } else { self.tell(batch).await }
    }

    /// The pair before a change.
    async fn previous(&self, event: &Event) -> Result<KeyValue, End> {
        let request = RangeRequest {
            key: event.kv.key.clone(),
            revision: convert::signed(event.kv.mod_revision.saturating_sub(1)),
            ..RangeRequest::default()
        };
        let answer: Result<RangeResponse, _> =
            self.client.unary(rpc!("KV", "Range"), request, Repeat::Allowed).await;
        match answer {
            Ok(answer) => match answer.kvs.into_iter().next() {
                Some(pair) => Ok(convert::key_value(pair)),
                None => Err(End::Broken("the pair before a change is missing".into())),
            },
            Err(error) if error.is(Code::OutOfRange, "has been compacted") => {
                Err(End::Compacted(event.kv.mod_revision + 1))
            }
            Err(error) => Err(End::Broken(error.into_store_error().to_string())),
        }
    }

    /// Tells a batch, waiting for its reader as long as it may be slow. One place is always left, for the error that ends the watch.
    async fn tell(&mut self, batch: WatchBatch) -> Result<(), End> {
        match tokio::time::timeout(self.patience, self.sender.reserve_many(2)).await {
            Ok(Ok(mut places)) => {
                self.next = batch.revision + 1;
                if let Some(place) = places.next() {
                    place.send(Ok(batch));
                }
                Ok(())
            }
            Ok(Err(_)) => Err(End::Over),
            Err(_) if batch.events.is_empty() => Ok(()),
            Err(_) => Err(self.end_with(StoreError::WatcherTooSlow { missed: batch.revision })),
        }
    }

    fn end_with(&self, error: StoreError) -> End {
        // If there is no room, the reader is gone.
        let _ = self.sender.try_send(Err(error));
        End::Over
    }
}

struct Receiver(mpsc::Receiver<Told>);

impl Stream for Receiver {
    type Item = Told;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Told>> {
        self.0.poll_recv(context)
    }
}
