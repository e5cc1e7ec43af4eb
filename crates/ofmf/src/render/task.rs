//! Operations as tasks.

use drystone_api::{Operation, OperationPhase, StepState, StepStatus};
use drystone_engine::reference::ObjectKey;
use drystone_redfish::tree::Item;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt as _;
use serde_json::{Value, json};

use super::{link, resource, text};
use crate::names::{TASKS, id_of, segment};

/// URI of a task.
pub fn task_uri(id: &str) -> String {
    format!("{TASKS}/Tasks/{id}")
}

/// State and status of a task.
pub fn state_of(phase: OperationPhase) -> (&'static str, &'static str) {
    match phase {
        OperationPhase::Pending => ("Pending", "OK"),
        OperationPhase::Running => ("Running", "OK"),
        OperationPhase::Undoing => ("Stopping", "Warning"),
        OperationPhase::Succeeded => ("Completed", "OK"),
        OperationPhase::Failed | OperationPhase::Undone => ("Exception", "Critical"),
        OperationPhase::Cancelled => ("Cancelled", "Warning"),
    }
}

/// An operation.
pub fn task(operation: &Operation) -> Vec<Item> {
    let id = id_of(&ObjectKey::of(operation));
    let found = operation.status.clone().unwrap_or_default();
    let (state, health) = state_of(found.phase);
    let time = |time: Option<Time>| time.map_or(Value::Null, |time| format!("{:.0}", time.0).into());
    let failed =
        found.steps.iter().filter(|step| matches!(step.state, StepState::Failed | StepState::UndoFailed));
    let mut messages: Vec<Value> =
        failed.map(|step| failure(&format!("{}: {}", step.id, step.message))).collect();
    if !found.message.is_empty() && health == "Critical" && messages.is_empty() {
        messages.push(failure(&found.message));
    }
    let mut items = steps(operation, &found.steps, &id);
    let estimate =
        found.remaining_seconds.filter(|_| !found.phase.is_final()).map(|left| format!("PT{left}S"));
    let below = (!items.is_empty()).then(|| link(format!("{}/SubTasks", task_uri(&id))));
    items.push(resource(
        &task_uri(&id),
        "#Task.v1_7_3.Task",
        &operation.spec.title,
        json!({
            "SubTasks": below,
            "TaskState": state, "TaskStatus": health, "PercentComplete": found.progress_percent.min(100),
            "StartTime": time(found.started_at.or_else(|| operation.creation_timestamp())),
            "EndTime": time(found.finished_at), "EstimatedDuration": estimate, "Messages": messages,
            "HidePayload": true}),
    ));
    items
}

/// State and status of a task that is a step.
fn state_of_step(state: StepState) -> (&'static str, &'static str) {
    match state {
        StepState::Waiting => ("Pending", "OK"),
        StepState::Running => ("Running", "OK"),
        StepState::Retrying => ("Running", "Warning"),
        StepState::Succeeded => ("Completed", "OK"),
        StepState::Failed | StepState::UndoFailed => ("Exception", "Critical"),
        StepState::Skipped | StepState::Undone => ("Cancelled", "Warning"),
        StepState::Undoing => ("Stopping", "Warning"),
    }
}

/// The steps of an operation, as tasks below it.
fn steps(operation: &Operation, journal: &[StepStatus], id: &str) -> Vec<Item> {
    let collection = format!("{}/SubTasks", task_uri(id));
    if operation.spec.steps.is_empty() {
        return Vec::new();
    }
    let mut items = vec![Item::collection(&collection, "Task")];
    for step in &operation.spec.steps {
        let found = journal.iter().find(|found| found.id == step.id);
        let (state, health) = state_of_step(found.map(|found| found.state).unwrap_or_default());
        let message = found.map_or("", |found| found.message.as_str());
        let messages: Vec<Value> =
            (health != "OK" && !message.is_empty()).then(|| failure(message)).into_iter().collect();
        let done = state == "Completed";
        let percent = if done { 100 } else { found.map_or(0, |found| found.progress_percent.min(100)) };
        let time = |time: Option<&Time>| time.map(|time| format!("{:.0}", time.0));
        items.push(resource(
            // A part of a URI; nothing else in a step's id needs to be written otherwise.
            &format!("{collection}/{}", segment(&step.id.replace('/', "~"))),
            "#Task.v1_7_3.Task",
            &step.id,
            json!({
                "TaskState": state, "TaskStatus": health, "PercentComplete": percent, "Messages": messages,
                "Description": text(if health == "OK" { message } else { "" }),
                "StartTime": time(found.and_then(|found| found.started_at.as_ref())),
                "EndTime": time(found.and_then(|found| found.finished_at.as_ref())), "HidePayload": true}),
        ));
    }
    items
}

/// A message that says why something failed.
pub fn failure(reason: &str) -> Value {
    json!({
        "@odata.type": "#Message.v1_3_0.Message", "MessageId": "Base.1.22.OperationFailed", "Message": reason,
        "MessageArgs": [reason], "MessageSeverity": "Warning",
        "Resolution": "Correct what the reason names, then repeat the request."})
}
