//! Writes that take long: 202 with a task, whose monitor answers in the end as the write would have.

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::body::Body;
use drystone_api::Operation;
use drystone_engine::reference::is_not_found;
use drystone_redfish::{
    error::ServiceError,
    message,
    server::Reply,
    tree::{Item, Tree},
};
use http::{Response, StatusCode};
use jiff::Timestamp;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

use super::{Inner, refused};
use crate::{
    names::{TASKS, key_of},
    render::{resource, task::task_uri},
};

/// How long a reply waits before it becomes a task.
const LIMIT: Duration = Duration::from_secs(10);
/// Seconds after which a client may ask a monitor again.
const RETRY_AFTER: u64 = 1;
/// Finished tasks that are kept.
const KEPT: usize = 128;

type Outcome = Result<Reply, ServiceError>;

#[derive(Debug, Clone)]
struct Running {
    title: String,
    started: Timestamp,
    outcome: Option<Outcome>,
}

/// Tasks of writes. They end with the process: what was to be done is in resources, which do not.
#[derive(Debug, Clone)]
pub(crate) struct Tasks {
    tree: Arc<Tree>,
    running: Arc<Mutex<BTreeMap<u64, Running>>>,
}

impl Tasks {
    pub(super) fn new(tree: Arc<Tree>) -> Self {
        Self { tree, running: Arc::default() }
    }

    /// Does something whether or not the client waits for it; if it takes long, the reply is a task.
    pub(super) async fn carry_out(
        &self,
        title: String,
        work: impl Future<Output = Outcome> + Send + 'static,
    ) -> Outcome {
        let mut work = tokio::spawn(work);
        match tokio::time::timeout(LIMIT, &mut work).await {
            Ok(Ok(outcome)) => return outcome,
            Ok(Err(error)) => return Err(ServiceError::internal(&error)),
            Err(_) => {}
        }
        let number = self.add(title);
        let tasks = self.clone();
        tokio::spawn(async move {
            let outcome = work.await.unwrap_or_else(|error| Err(ServiceError::internal(&error)));
            tasks.finish(number, outcome);
        });
        let task = self.tree.value(&task_uri(&id(number))).unwrap_or_default();
        Ok(Reply::accepted(task, &monitor_uri(number), RETRY_AFTER))
    }

    fn add(&self, title: String) -> u64 {
        let mut running = self.lock();
        let number = running.keys().next_back().map_or(1, |last| last + 1);
        running.insert(number, Running { title, started: Timestamp::now(), outcome: None });
        while running.len() > KEPT {
            let Some(oldest) =
                running.iter().find(|(_, task)| task.outcome.is_some()).map(|(number, _)| *number)
            else {
                break;
            };
            running.remove(&oldest);
            self.tree.replace(&owner(oldest), []);
        }
        if let Some(task) = running.get(&number) {
            self.tree.replace(&owner(number), [show(number, task)]);
        }
        number
    }

    fn finish(&self, number: u64, outcome: Outcome) {
        let mut running = self.lock();
        if let Some(task) = running.get_mut(&number) {
            task.outcome = Some(outcome);
            self.tree.replace(&owner(number), [show(number, task)]);
        }
    }

    /// What a monitor answers: 202 until the task is done, then what the write would have.
    pub(crate) fn monitor(&self, id: &str) -> Result<Response<Body>, ServiceError> {
        let missing = || ServiceError::not_found(&format!("{TASKS}/TaskMonitors/{id}"));
        let number = number(id).ok_or_else(missing)?;
        let task = self.lock().get(&number).cloned().ok_or_else(missing)?;
        match task.outcome {
            Some(outcome) => outcome.map(Reply::into_response),
            None => {
                let body = self.tree.value(&task_uri(id)).unwrap_or_default();
                Ok(Reply::accepted(body, &monitor_uri(number), RETRY_AFTER).into_response())
            }
        }
    }

    /// Forgets a task that is done; `None` if there is no such task.
    fn forget(&self, number: u64) -> Option<Outcome> {
        let mut running = self.lock();
        if running.get(&number)?.outcome.is_none() {
            // What is under way in switches and hosts goes on; the resource can be deleted.
            return Some(Err(ServiceError::conflict(message::resource_cannot_be_deleted())));
        }
        running.remove(&number);
        self.tree.replace(&owner(number), []);
        Some(Ok(Reply::no_content()))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ids of tasks of writes start with a capital: no operation has such a name.
fn id(number: u64) -> String {
    format!("Write-{number}")
}

fn number(id: &str) -> Option<u64> {
    id.strip_prefix("Write-")?.parse().ok()
}

fn owner(number: u64) -> String {
    format!("write/{number}")
}

fn monitor_uri(number: u64) -> String {
    format!("{TASKS}/TaskMonitors/{}", id(number))
}

fn show(number: u64, task: &Running) -> Item {
    let (state, health, messages) = match &task.outcome {
        None => ("Running", "OK", Value::Null),
        Some(Ok(_)) => ("Completed", "OK", Value::Null),
        Some(Err(error)) => ("Exception", "Critical", json!(error.messages)),
    };
    let ended = task.outcome.as_ref().map(|_| format!("{:.0}", Timestamp::now()));
    let location = match &task.outcome {
        Some(Ok(reply)) => reply.headers().get(http::header::LOCATION).and_then(|value| value.to_str().ok()),
        _ => None,
    };
    resource(
        &task_uri(&id(number)),
        "#Task.v1_7_3.Task",
        &task.title,
        json!({
            "TaskState": state, "TaskStatus": health, "Messages": messages, "TaskMonitor": monitor_uri(number),
            "StartTime": format!("{:.0}", task.started), "EndTime": ended, "HidePayload": true,
            "PercentComplete": ended.as_ref().map(|_| 100),
            "Links": {"CreatedResources": crate::render::links(location.map(str::to_owned))}}),
    )
}

/// DELETE of a task: an operation is cancelled, a finished task of a write is forgotten.
pub(super) async fn cancel(inner: &Arc<Inner>, id: &str, uri: &str) -> Outcome {
    if let Some(number) = number(id) {
        return inner.tasks.forget(number).unwrap_or_else(|| Err(ServiceError::not_found(uri)));
    }
    let key = key_of(id);
    let operation = inner.feed.sources().operations.get(&key).ok_or_else(|| ServiceError::not_found(uri))?;
    if operation.status.as_ref().is_some_and(|status| status.phase.is_final()) {
        return Err(ServiceError::conflict(message::resource_cannot_be_deleted()));
    }
    let api: Api<Operation> = Api::namespaced(inner.client.clone(), &key.namespace);
    let patch = json!({"spec": {"cancel": true}});
    match api.patch(&key.name, &PatchParams::default(), &Patch::Merge(&patch)).await {
        Ok(_) => Ok(Reply::with(StatusCode::NO_CONTENT, http::HeaderMap::new(), None)),
        Err(error) if is_not_found(&error) => Err(ServiceError::not_found(uri)),
        Err(error) => Err(refused(&error)),
    }
}
