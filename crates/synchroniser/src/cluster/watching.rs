//! Watches: one per kind and cluster, for all contexts, of what carries our label.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use futures::{Stream, StreamExt as _, stream::BoxStream};
use kube::{
    Api, Client, ResourceExt as _,
    core::{ApiResource, DynamicObject, PartialObjectMeta},
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event},
    },
};
use serde_json::{Value, json};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    access::AccessError,
    board::{Board, Seen, tell},
    channel::{Answer, Channel, chain},
    kinds::Kind,
};
use crate::{
    manifest::LABEL,
    readiness::{self, Readiness, bundle},
};

/// How long it is waited before a cluster is asked again for a kind that it does not know.
const UNKNOWN_KIND: Duration = Duration::from_secs(2);

/// Objects told in one answer.
const PAGE: u32 = 500;

/// The watches of a cluster.
pub(crate) struct Watches {
    board: Arc<Board>,
    channel: Arc<Channel>,
    object_bytes: usize,
    running: Running,
}

type Running = Arc<Mutex<HashMap<Kind, Weak<Interest>>>>;

/// Somebody wants to see a kind; watched as long as anybody has this.
pub(crate) struct Interest {
    kind: Kind,
    board: Arc<Board>,
    running: Running,
    _ends: DropGuard,
}

impl Drop for Interest {
    fn drop(&mut self) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        // Somebody else may have begun to watch it meanwhile.
        if running.get(&self.kind).is_some_and(|known| known.strong_count() == 0) {
            running.remove(&self.kind);
            self.board.clear(&self.kind);
        }
    }
}

impl Watches {
    /// None yet.
    pub(crate) fn new(board: Arc<Board>, channel: Arc<Channel>, object_bytes: usize) -> Self {
        Self { board, channel, object_bytes, running: Running::default() }
    }

    /// Watches a kind, if that is not done already.
    pub(crate) fn follow(&self, kind: &Kind) -> Arc<Interest> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(interest) = running.get(kind).and_then(Weak::upgrade) {
            return interest;
        }
        self.board.clear(kind);
        let token = CancellationToken::new();
        let interest = Arc::new(Interest {
            kind: kind.clone(),
            board: self.board.clone(),
            running: self.running.clone(),
            _ends: token.clone().drop_guard(),
        });
        running.insert(kind.clone(), Arc::downgrade(&interest));
        let watch = Watch {
            kind: kind.clone(),
            board: self.board.clone(),
            channel: self.channel.clone(),
            object_bytes: self.object_bytes,
            token: token.clone(),
        };
        tokio::spawn(async move { token.run_until_cancelled(watch.run()).await });
        interest
    }
}

struct Watch {
    kind: Kind,
    board: Arc<Board>,
    channel: Arc<Channel>,
    object_bytes: usize,
    token: CancellationToken,
}

type Watched = BoxStream<'static, watcher::Result<Event<DynamicObject>>>;

fn boxed<S>(stream: S) -> Watched
where
    S: Stream<Item = watcher::Result<Event<DynamicObject>>> + Send + 'static,
{
    stream.boxed()
}

impl Watch {
    /// Never ends by itself.
    async fn run(self) {
        let mut refusals = 0;
        loop {
            let served = match self.channel.served(&self.kind).await {
                Ok(Ok(Some(served))) => served,
                Ok(Ok(None)) => {
                    self.board.none_of(&self.kind);
                    tokio::time::sleep(UNKNOWN_KIND).await;
                    continue;
                }
                // What was seen last counts until the cluster says something else.
                Ok(Err(answer)) => {
                    if let Answer::Refused(why) = answer {
                        self.board.set_blind(&self.kind, why);
                    }
                    tokio::time::sleep(UNKNOWN_KIND).await;
                    continue;
                }
                Err(error) => {
                    self.board.set_blind(&self.kind, error.to_string());
                    tokio::time::sleep(UNKNOWN_KIND).await;
                    continue;
                }
            };
            match self.channel.client().await {
                Ok((number, client)) => {
                    let heard = self.follow(client, &self.kind.resource(&served)).await;
                    refusals = if heard { 1 } else { refusals + 1 };
                    self.channel.forget(number).await;
                    tokio::time::sleep(self.channel.delay(refusals)).await;
                }
                Err(AccessError::None(why)) => {
                    self.board.set_blind(&self.kind, why);
                    tokio::time::sleep(UNKNOWN_KIND).await;
                }
                // It will be seen: whoever waits for it goes on waiting.
                Err(AccessError::NotNow(why)) => {
                    tracing::debug!(kind = self.kind.kind, why, "the watch waits for a way to the cluster");
                    tokio::time::sleep(UNKNOWN_KIND).await;
                }
            }
        }
    }

    /// Follows a kind until the credentials are refused; says whether anything was heard until then.
    async fn follow(&self, client: Client, resource: &ApiResource) -> bool {
        let mut heard = false;
        let config = watcher::Config::default().labels(LABEL).page_size(PAGE);
        let mut events = if readiness::tells(&self.kind.api_version, &self.kind.kind) {
            let api = Api::<DynamicObject>::all_with(client, resource);
            boxed(watcher::watcher(api, config).default_backoff())
        } else {
            let api = Api::<PartialObjectMeta<DynamicObject>>::all_with(client, resource);
            let events = watcher::watcher(api, config);
            boxed(events.map(|event| event.map(only_metadata)).default_backoff())
        };
        while let Some(event) = events.next().await {
            if self.token.is_cancelled() {
                return heard;
            }
            match event {
                Ok(event) => {
                    // That a list begins is told before anybody is asked.
                    if !matches!(event, Event::Init) {
                        self.channel.heard();
                        heard = true;
                    }
                    self.take(event);
                }
                Err(error) => {
                    tracing::debug!(kind = self.kind.kind, error = chain(&error), "watch interrupted");
                    match code(&error) {
                        Some(401) => return heard,
                        Some(404) => self.board.none_of(&self.kind),
                        Some(code) if code < 500 && code != 410 && code != 429 => {
                            self.board.set_blind(&self.kind, chain(&error));
                        }
                        _ => {}
                    }
                }
            }
        }
        heard
    }

    fn take(&self, event: Event<DynamicObject>) {
        match event {
            Event::Init => self.board.list_begins(&self.kind),
            Event::InitApply(object) => self.put(object, true),
            Event::InitDone => self.board.list_ends(&self.kind),
            Event::Apply(object) => self.put(object, false),
            Event::Delete(object) => {
                self.board.remove(&self.kind, &object.namespace().unwrap_or_default(), &object.name_any());
            }
        }
    }

    fn put(&self, object: DynamicObject, listing: bool) {
        let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
        let label = object.labels().get(LABEL).map(String::as_str).unwrap_or_default();
        let (uid, generation) = (object.uid().unwrap_or_default(), object.metadata.generation.unwrap_or(0));
        let label: Arc<str> = label.into();
        let is_going = object.metadata.deletion_timestamp.is_some();
        let seen = if readiness::tells(&self.kind.api_version, &self.kind.kind) {
            let value = whole(&self.kind, object);
            let told = tell(&value, (&self.kind, &namespace, &name), self.object_bytes);
            Seen {
                uid,
                label,
                generation,
                readiness: readiness::judge(&value),
                run: readiness::has_run(&value),
                told: Some(Arc::new(told)),
            }
        } else {
            let going = Readiness::Waiting("it is being deleted".to_owned());
            let readiness = if is_going { going } else { Readiness::Ready };
            Seen { uid, label, generation, run: readiness.clone(), readiness, told: None }
        };
        self.board.put(&self.kind, (namespace, name), seen, listing);
    }
}

fn only_metadata(event: Event<PartialObjectMeta<DynamicObject>>) -> Event<DynamicObject> {
    let whole = |partial: PartialObjectMeta<DynamicObject>| DynamicObject {
        types: None,
        metadata: partial.metadata,
        data: Value::Null,
    };
    match event {
        Event::Init => Event::Init,
        Event::InitDone => Event::InitDone,
        Event::InitApply(object) => Event::InitApply(whole(object)),
        Event::Apply(object) => Event::Apply(whole(object)),
        Event::Delete(object) => Event::Delete(whole(object)),
    }
}

/// An object as JSON; lists leave out what kind it is.
fn whole(kind: &Kind, object: DynamicObject) -> Value {
    let DynamicObject { mut metadata, data, .. } = object;
    metadata.managed_fields = None;
    let mut value = if data.is_object() { data } else { json!({}) };
    value["apiVersion"] = kind.api_version.as_str().into();
    value["kind"] = kind.kind.as_str().into();
    value["metadata"] = serde_json::to_value(metadata).unwrap_or_default();
    bundle::trim(value)
}

/// What the server said, if it said something.
fn code(error: &watcher::Error) -> Option<u16> {
    let of = |error: &kube::Error| match error {
        kube::Error::Api(status) => Some(status.code),
        _ => None,
    };
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => of(error),
        watcher::Error::WatchError(status) => Some(status.code),
        watcher::Error::NoResourceVersion => None,
    }
}
