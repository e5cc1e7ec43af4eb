//! Writes events as `v1` Event objects.

use std::time::Duration;

use drystone_api::ObjectReference;
use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Event, EventSource, ObjectReference as CoreReference},
    apimachinery::pkg::apis::meta::v1::{MicroTime, Time},
};
use kube::{
    Api, Client,
    api::{ObjectMeta, Patch, PatchParams, PostParams},
};
use serde_json::json;
use tokio::sync::{mpsc, oneshot};

use super::{
    EventKind, EventSink,
    correlate::{Correlator, Observation, Write},
};
use crate::reference::is_not_found;

/// Events that may wait to be written; beyond, they are dropped.
const QUEUE: usize = 1_024;

/// How often one event is tried to be written.
const ATTEMPTS: u32 = 3;

/// How long one attempt may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Records events. Cheap to clone; when the last clone is dropped, what is queued is still written.
#[derive(Debug, Clone)]
pub struct EventRecorder {
    queue: mpsc::Sender<Message>,
}

#[derive(Debug)]
enum Message {
    Observed(Observation, Timestamp),
    Flush(oneshot::Sender<()>),
}

impl EventRecorder {
    /// A recorder that tells in the name of `component`, such as `drystone-composer`. Must be called inside a Tokio runtime.
    pub fn new(client: Client, component: impl Into<String>) -> Self {
        let (queue, messages) = mpsc::channel(QUEUE);
        tokio::spawn(write_all(client, component.into(), messages));
        Self { queue }
    }

    /// Completes when everything that was published before has been written or given up.
    pub async fn flush(&self) {
        let (done, flushed) = oneshot::channel();
        if self.queue.send(Message::Flush(done)).await.is_ok() {
            let _ = flushed.await;
        }
    }
}

impl EventSink for EventRecorder {
    fn publish(&self, regarding: &ObjectReference, kind: EventKind, reason: &str, note: &str) {
        let observation = Observation {
            regarding: regarding.clone(),
            kind,
            reason: reason.to_owned(),
            note: crate::plan::transition::shortened(note),
        };
        if self.queue.try_send(Message::Observed(observation, Timestamp::now())).is_err() {
            tracing::warn!(%regarding, reason, note, "event dropped: too many are waiting to be written");
        }
    }
}

async fn write_all(client: Client, component: String, mut messages: mpsc::Receiver<Message>) {
    let mut correlator = Correlator::default();
    while let Some(message) = messages.recv().await {
        match message {
            Message::Observed(observation, now) => {
                if let Some(write) = correlator.observe(observation, now) {
                    write_patiently(&client, &component, &write).await;
                }
            }
            Message::Flush(done) => {
                let _ = done.send(());
            }
        }
    }
}

async fn write_patiently(client: &Client, component: &str, write: &Write) {
    for attempt in 1..=ATTEMPTS {
        let why = match tokio::time::timeout(TIMEOUT, write_once(client, component, write)).await {
            Ok(Ok(())) => return,
            Ok(Err(kube::Error::Api(status))) if (400..500).contains(&status.code) && status.code != 429 => {
                // A namespace that is being deleted takes no events: nothing to be done about it.
                tracing::debug!(regarding = %write.observation.regarding, why = %status.message, "event refused");
                return;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer".to_owned(),
        };
        if attempt == ATTEMPTS {
            tracing::warn!(regarding = %write.observation.regarding, reason = %write.observation.reason, why, "event lost");
        } else {
            tokio::time::sleep(Duration::from_millis(200) * attempt).await;
        }
    }
}

async fn write_once(client: &Client, component: &str, write: &Write) -> Result<(), kube::Error> {
    let namespace = match write.observation.regarding.namespace.as_str() {
        "" => "default",
        namespace => namespace,
    };
    let api: Api<Event> = Api::namespaced(client.clone(), namespace);
    if write.count > 1 {
        let patch = json!({
            "count": write.count,
            "lastTimestamp": Time(write.last),
            "message": write.observation.note,
        });
        match api.patch(&write.name, &PatchParams::default(), &Patch::Merge(&patch)).await {
            // It expired meanwhile.
            Err(error) if is_not_found(&error) => {}
            result => return result.map(drop),
        }
    }
    match api.create(&PostParams::default(), &event(namespace, component, write)).await {
        // An earlier attempt came through although its answer did not.
        Err(error) if crate::reference::is_conflict(&error) => Ok(()),
        result => result.map(drop),
    }
}

fn event(namespace: &str, component: &str, write: &Write) -> Event {
    let Observation { regarding, kind, reason, note } = &write.observation;
    let given = |text: &String| (!text.is_empty()).then(|| text.clone());
    Event {
        metadata: ObjectMeta {
            name: Some(write.name.clone()),
            namespace: Some(namespace.to_owned()),
            ..ObjectMeta::default()
        },
        involved_object: CoreReference {
            api_version: given(&regarding.api_version),
            kind: given(&regarding.kind),
            namespace: given(&regarding.namespace),
            name: given(&regarding.name),
            uid: given(&regarding.uid),
            ..CoreReference::default()
        },
        type_: Some(kind.as_str().to_owned()),
        reason: Some(reason.clone()),
        message: Some(note.clone()),
        action: None,
        count: Some(i32::try_from(write.count).unwrap_or(i32::MAX)),
        first_timestamp: Some(Time(write.first)),
        last_timestamp: Some(Time(write.last)),
        event_time: None::<MicroTime>,
        source: Some(EventSource { component: Some(component.to_owned()), host: None }),
        reporting_component: Some(component.to_owned()),
        reporting_instance: Some(component.to_owned()),
        ..Event::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake_api::{FakeApi, Fault};

    fn cluster() -> ObjectReference {
        ObjectReference {
            kind: "Cluster".to_owned(),
            namespace: "research".to_owned(),
            name: "mlops".to_owned(),
            ..ObjectReference::default()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn repetition_counts_and_what_expired_is_written_again() {
        let api = FakeApi::new();
        let recorder = EventRecorder::new(api.client(), "drystone-test");
        for _ in 0..3 {
            recorder.publish(&cluster(), EventKind::Normal, "Tested", "It works");
        }
        recorder.flush().await;
        let events = api.objects("/api/v1/namespaces/research/events/");
        assert_eq!(events.len(), 1);
        assert_eq!((&events[0]["count"], &events[0]["message"]), (&json!(3), &json!("It works")));
        let name = events[0]["metadata"]["name"].as_str().expect("named");
        api.remove_unnoticed(&format!("/api/v1/namespaces/research/events/{name}"));
        recorder.publish(&cluster(), EventKind::Normal, "Tested", "It works");
        recorder.flush().await;
        assert_eq!(api.objects("/events/")[0]["count"], 4);
        let node = ObjectReference { namespace: String::new(), ..cluster() };
        recorder.publish(&node, EventKind::Warning, "Tested", "Of no namespace");
        recorder.flush().await;
        assert_eq!(api.objects("/namespaces/default/events/").len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_costs_events_but_nobody_waits() {
        let api = FakeApi::new();
        let recorder = EventRecorder::new(api.client(), "drystone-test");
        let mut faults = vec![Fault::Unavailable, Fault::AnswerLost];
        api.set_faults(move |_, _| faults.pop());
        recorder.publish(&cluster(), EventKind::Normal, "Tested", "Written in the end");
        recorder.flush().await;
        assert_eq!(api.objects("/events/").len(), 1, "tried again, and not written twice");
        api.set_faults(|_, _| Some(Fault::Hangs));
        for n in 0..2 * QUEUE {
            recorder.publish(&cluster(), EventKind::Normal, "Tested", &n.to_string());
        }
        drop(recorder);
    }

    #[test]
    fn an_event_names_its_object_and_its_source() {
        let regarding = ObjectReference {
            kind: "Cluster".to_owned(),
            namespace: "research".to_owned(),
            name: "mlops".to_owned(),
            ..ObjectReference::default()
        };
        let write = Correlator::default()
            .observe(
                Observation {
                    regarding,
                    kind: EventKind::Warning,
                    reason: "Tested".to_owned(),
                    note: "Why".to_owned(),
                },
                Timestamp::UNIX_EPOCH,
            )
            .expect("told");
        let event = event("research", "drystone-test", &write);
        assert_eq!(event.involved_object.name.as_deref(), Some("mlops"));
        assert_eq!(event.involved_object.uid, None);
        assert_eq!(event.type_.as_deref(), Some("Warning"));
        assert_eq!(event.count, Some(1));
        assert_eq!(event.source.and_then(|source| source.component).as_deref(), Some("drystone-test"));
    }
}
