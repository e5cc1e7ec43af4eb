//! Operations as tasks.

use drystone_api::{Operation, OperationPhase, StepState};
use drystone_engine::reference::ObjectKey;
use drystone_redfish::tree::Item;
use kube::ResourceExt as _;
use serde_json::{Value, json};

use super::resource;
use crate::names::{TASKS, id_of};

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
    let time = |time: Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>| {
        time.map_or(Value::Null, |time| format!("{:.0}", time.0).into())
    };
    let failed =
        found.steps.iter().filter(|step| matches!(step.state, StepState::Failed | StepState::UndoFailed));
    let mut messages: Vec<Value> =
        failed.map(|step| failure(&format!("{}: {}", step.id, step.message))).collect();
    if !found.message.is_empty() && health == "Critical" && messages.is_empty() {
        messages.push(failure(&found.message));
    }
    let estimate =
        found.remaining_seconds.filter(|_| !found.phase.is_final()).map(|left| format!("PT{left}S"));
    vec![resource(
        &task_uri(&id),
        "#Task.v1_7_3.Task",
        &operation.spec.title,
        json!({
            "TaskState": state, "TaskStatus": health, "PercentComplete": found.progress_percent.min(100),
            "StartTime": time(found.started_at.or_else(|| operation.creation_timestamp())),
            "EndTime": time(found.finished_at), "EstimatedDuration": estimate, "Messages": messages,
            "HidePayload": true}),
    )]
}

/// A message that says why something failed.
pub fn failure(reason: &str) -> Value {
    json!({
        "@odata.type": "#Message.v1_3_0.Message", "MessageId": "Base.1.22.OperationFailed", "Message": reason,
        "MessageArgs": [reason], "MessageSeverity": "Warning",
        "Resolution": "Correct what the reason names, then repeat the request."})
}
