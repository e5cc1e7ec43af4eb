//! Kubernetes events: what the controllers tell users about what they do.
//!
//! Reporting never blocks and never fails a reconciliation: events go through a bounded channel to one task, which folds
//! repetitions into a count ([`correlate`]) and writes with limited parallelism. If the channel is full, events are lost.

pub mod correlate;

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, ObjectReference};
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::correlate::{Correlator, Verdict};
use crate::kind::{Kind, reference};

/// Events waiting to be written; more are dropped.
const QUEUE_CAPACITY: usize = 4096;
/// Writes in flight at a time.
const PARALLEL_WRITES: usize = 16;

/// Whether an event tells of something ordinary or of a problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Severity {
    /// Information.
    Normal,
    /// Something did not work, or may not.
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

/// An event before it is correlated and written.
#[derive(Debug, Clone)]
pub struct Report {
    /// Name of the controller that reports.
    pub component: &'static str,
    /// What the event is about.
    pub regarding: ObjectReference,
    /// Its severity.
    pub severity: Severity,
    /// A short machine-readable reason, such as `FailedScheduling`.
    pub reason: &'static str,
    /// The text for people.
    pub message: String,
}

/// Where controllers report events. Cheap to clone.
#[derive(Clone)]
pub struct Recorder {
    component: &'static str,
    reports: mpsc::Sender<Report>,
}

impl Recorder {
    /// A recorder and the receiving end for [`write_events`].
    pub fn new(component: &'static str) -> (Self, mpsc::Receiver<Report>) {
        let (reports, receiver) = mpsc::channel(QUEUE_CAPACITY);
        (Self { component, reports }, receiver)
    }

    /// The same recorder under another component's name.
    pub fn named(&self, component: &'static str) -> Self {
        Self { component, reports: self.reports.clone() }
    }

    /// Reports something ordinary about an object.
    pub fn normal<K: Kind>(&self, object: &K, reason: &'static str, message: impl Into<String>) {
        self.report(reference(object), Severity::Normal, reason, message.into());
    }

    /// Reports a problem of an object.
    pub fn warning<K: Kind>(&self, object: &K, reason: &'static str, message: impl Into<String>) {
        self.report(reference(object), Severity::Warning, reason, message.into());
    }

    fn report(&self, regarding: ObjectReference, severity: Severity, reason: &'static str, message: String) {
        let report = Report { component: self.component, regarding, severity, reason, message };
        if self.reports.try_send(report).is_err() {
            tracing::debug!(reason, "event dropped: too many are waiting to be written");
        }
    }
}

/// Writes reported events until `shutdown`.
pub async fn write_events(
    client: kube::Client,
    mut reports: mpsc::Receiver<Report>,
    shutdown: CancellationToken,
) {
    let mut correlator = Correlator::default();
    let slots = Arc::new(Semaphore::new(PARALLEL_WRITES));
    let writes = TaskTracker::new();
    loop {
        let report = tokio::select! {
            () = shutdown.cancelled() => return,
            report = reports.recv() => report,
        };
        let Some(report) = report else { return };
        let verdict = correlator.observe(&report, Timestamp::now());
        if matches!(verdict, Verdict::Drop) {
            continue;
        }
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        let client = client.clone();
        writes.spawn(async move {
            write(client, verdict).await;
            drop(slot);
        });
    }
}

async fn write(client: kube::Client, verdict: Verdict) {
    let (event, repeated) = match verdict {
        Verdict::Drop => return,
        Verdict::Create(event) => (event, false),
        Verdict::Repeat(event) => (event, true),
    };
    if repeated && patch_count(client.clone(), &event).await {
        return;
    }
    let namespace = event.metadata.namespace.clone().unwrap_or_default();
    let api = Event::api(client, &namespace);
    match api.create(&PostParams::default(), &event).await {
        // The namespace is gone or going: nobody will read the event.
        Ok(_) => {}
        Err(kube::Error::Api(status))
            if status.is_forbidden() || status.is_not_found() || status.is_conflict() => {}
        Err(error) => tracing::debug!(%error, "cannot write an event"),
    }
}

/// Raises the count of an event written before; `false` if that has expired.
async fn patch_count(client: kube::Client, event: &Event) -> bool {
    let namespace = event.metadata.namespace.clone().unwrap_or_default();
    let name = event.metadata.name.clone().unwrap_or_default();
    let patch =
        json!({"count": event.count, "lastTimestamp": event.last_timestamp, "message": event.message});
    match Event::api(client, &namespace).patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await {
        Ok(_) => true,
        Err(kube::Error::Api(status)) if status.is_not_found() => false,
        Err(error) => {
            tracing::debug!(%error, "cannot update an event");
            true
        }
    }
}
