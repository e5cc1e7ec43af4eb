//! Events: what people read to learn what happened to their pods.
//!
//! Written by one task, in order, from a bounded queue; when the API is slow the newest are dropped and counted, for no pod
//! waits for its story to be told. The same event again counts up the one that is there.

use std::{collections::HashMap, time::Duration};

use k8s_openapi::{
    api::core::v1::{Event, EventSource, Node, ObjectReference, Pod},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
    jiff::{SignedDuration, Timestamp},
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;
use tokio::{sync::mpsc, time::timeout};

/// Events that wait to be written.
const QUEUE: usize = 1000;
/// How long an event counts as the same as an earlier one.
const SAME: SignedDuration = SignedDuration::from_mins(10);
/// Events that are remembered for counting.
const REMEMBERED: usize = 4096;
/// How long writing one may take.
const DEADLINE: Duration = Duration::from_secs(10);
/// The longest message that the API takes, in bytes.
const MAX_MESSAGE: usize = 1024;

/// Whether something is amiss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Severity {
    /// All is well.
    Normal,
    /// Somebody should look.
    Warning,
}

impl Severity {
    fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

#[derive(Debug)]
struct Entry {
    object: ObjectReference,
    severity: Severity,
    reason: &'static str,
    message: String,
    time: Timestamp,
}

/// Where events are told.
#[derive(Debug, Clone)]
pub struct Events {
    queue: mpsc::Sender<Entry>,
}

impl Events {
    /// Starts the task that writes them; it ends when nobody can tell events any more.
    pub fn start(client: Client, node: String) -> Self {
        let (queue, entries) = mpsc::channel(QUEUE);
        tokio::spawn(Writer { client, node, known: HashMap::new() }.run(entries));
        Self { queue }
    }

    /// Tells an event of a pod.
    pub fn pod(&self, pod: &Pod, severity: Severity, reason: &'static str, message: impl Into<String>) {
        self.tell(pod_reference(pod, None), severity, reason, message.into());
    }

    /// Tells an event of one container of a pod.
    pub fn container(
        &self,
        pod: &Pod,
        container: &str,
        severity: Severity,
        reason: &'static str,
        message: impl Into<String>,
    ) {
        self.tell(pod_reference(pod, Some(container)), severity, reason, message.into());
    }

    /// Tells an event of the node.
    pub fn node(&self, node: &Node, severity: Severity, reason: &'static str, message: impl Into<String>) {
        let object = ObjectReference {
            kind: Some("Node".to_owned()),
            api_version: Some("v1".to_owned()),
            name: node.metadata.name.clone(),
            uid: node.metadata.uid.clone(),
            ..ObjectReference::default()
        };
        self.tell(object, severity, reason, message.into());
    }

    fn tell(&self, object: ObjectReference, severity: Severity, reason: &'static str, mut message: String) {
        let end = (0..=MAX_MESSAGE.min(message.len())).rev().find(|end| message.is_char_boundary(*end));
        message.truncate(end.unwrap_or(0));
        tracing::debug!(object = object.name.as_deref(), reason, message, "event");
        let entry = Entry { object, severity, reason, message, time: Timestamp::now() };
        if self.queue.try_send(entry).is_err() {
            tracing::debug!(reason, "an event was dropped: too many wait");
        }
    }
}

fn pod_reference(pod: &Pod, container: Option<&str>) -> ObjectReference {
    let inits = pod.spec.as_ref().and_then(|spec| spec.init_containers.as_ref());
    let list = |name: &str| {
        let is_init = inits.is_some_and(|inits| inits.iter().any(|init| init.name == name));
        if is_init { "initContainers" } else { "containers" }
    };
    ObjectReference {
        kind: Some("Pod".to_owned()),
        api_version: Some("v1".to_owned()),
        name: pod.metadata.name.clone(),
        namespace: pod.metadata.namespace.clone(),
        uid: pod.metadata.uid.clone(),
        resource_version: None,
        field_path: container.map(|name| format!("spec.{}{{{name}}}", list(name))),
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    uid: Option<String>,
    name: Option<String>,
    field_path: Option<String>,
    severity: Severity,
    reason: &'static str,
    message: String,
}

struct Known {
    event: String,
    count: i32,
    last: Timestamp,
}

struct Writer {
    client: Client,
    node: String,
    known: HashMap<Key, Known>,
}

impl Writer {
    async fn run(mut self, mut entries: mpsc::Receiver<Entry>) {
        while let Some(entry) = entries.recv().await {
            let reason = entry.reason;
            match timeout(DEADLINE, self.write(entry)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(reason, %error, "an event was not written"),
                Err(_) => tracing::debug!(reason, "an event was not written in time"),
            }
        }
    }

    async fn write(&mut self, entry: Entry) -> Result<(), kube::Error> {
        let namespace = entry.object.namespace.clone().unwrap_or_else(|| "default".to_owned());
        let api: Api<Event> = Api::namespaced(self.client.clone(), &namespace);
        let key = Key {
            uid: entry.object.uid.clone(),
            name: entry.object.name.clone(),
            field_path: entry.object.field_path.clone(),
            severity: entry.severity,
            reason: entry.reason,
            message: entry.message.clone(),
        };
        if let Some(known) = self.known.get_mut(&key)
            && entry.time.duration_since(known.last) < SAME
        {
            known.count += 1;
            known.last = entry.time;
            let again = json!({"count": known.count, "lastTimestamp": Time(entry.time)});
            match api.patch(&known.event, &PatchParams::default(), &Patch::Merge(&again)).await {
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                other => return other.map(drop),
            }
        }
        let event = self.event(&namespace, &entry);
        let name = event.metadata.name.clone().unwrap_or_default();
        api.create(&PostParams::default(), &event).await?;
        if self.known.len() >= REMEMBERED {
            self.known.retain(|_, known| entry.time.duration_since(known.last) < SAME);
        }
        if self.known.len() < REMEMBERED {
            self.known.insert(key, Known { event: name, count: 1, last: entry.time });
        }
        Ok(())
    }

    fn event(&self, namespace: &str, entry: &Entry) -> Event {
        let object = entry.object.name.as_deref().unwrap_or_default();
        // As client-go names them: the object, and the time in nanoseconds.
        let name = format!("{object}.{:x}", entry.time.as_nanosecond());
        Event {
            metadata: ObjectMeta {
                name: Some(name),
                namespace: Some(namespace.to_owned()),
                ..ObjectMeta::default()
            },
            involved_object: entry.object.clone(),
            type_: Some(entry.severity.as_str().to_owned()),
            reason: Some(entry.reason.to_owned()),
            message: Some(entry.message.clone()),
            count: Some(1),
            first_timestamp: Some(Time(entry.time)),
            last_timestamp: Some(Time(entry.time)),
            source: Some(EventSource {
                component: Some("kubelet".to_owned()),
                host: Some(self.node.clone()),
            }),
            reporting_component: Some("kubelet".to_owned()),
            reporting_instance: Some(self.node.clone()),
            ..Event::default()
        }
    }
}
