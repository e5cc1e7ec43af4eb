//! The changes that a journal goes through: each one a small function, so that every writer of the journal (the runner, the
//! tests' model) makes the same ones.

use drystone_api::{OperationPhase, OperationSpec, OperationStatus, StepState, StepStatus};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::Value;

use super::Plan;

/// Longest message in the journal, in characters.
const MAX_MESSAGE: usize = 1_000;

/// A journal with exactly one entry per step of the plan, in its order: what `status` says about them, and `Waiting` for
/// those of which it says nothing.
pub fn aligned(plan: &Plan, status: &OperationStatus) -> OperationStatus {
    let mut status = status.clone();
    let same_order = status.steps.len() == plan.len()
        && status.steps.iter().zip(&plan.spec().steps).all(|(status, step)| status.id == step.id);
    if !same_order {
        let mut known: std::collections::HashMap<String, StepStatus> =
            status.steps.drain(..).map(|step| (step.id.clone(), step)).collect();
        status.steps = plan
            .spec()
            .steps
            .iter()
            .map(|step| {
                known
                    .remove(&step.id)
                    .unwrap_or_else(|| StepStatus { id: step.id.clone(), ..StepStatus::default() })
            })
            .collect();
    }
    status
}

/// An attempt begins. One that a crash cut short is begun again under the same number.
pub fn begin(step: &mut StepStatus, now: Timestamp) {
    if step.state != StepState::Running {
        step.attempts = step.attempts.saturating_add(1);
    }
    step.state = StepState::Running;
    step.started_at.get_or_insert(Time(now));
    step.finished_at = None;
    step.progress_percent = 0;
    // The message of a failed attempt stays until the next one has something to say.
}

/// An attempt came to its end.
pub fn succeed(step: &mut StepStatus, output: Value, now: Timestamp) {
    step.state = StepState::Succeeded;
    step.output = output;
    step.progress_percent = 100;
    step.message = String::new();
    step.finished_at = Some(Time(now));
}

/// An attempt failed; another one will be made.
pub fn retry(step: &mut StepStatus, why: &str) {
    step.state = StepState::Retrying;
    step.progress_percent = 0;
    step.message = shortened(why);
}

/// The step failed for good.
pub fn fail(step: &mut StepStatus, why: &str, now: Timestamp) {
    step.state = StepState::Failed;
    step.message = shortened(why);
    step.finished_at = Some(Time(now));
}

/// No further attempt will be made, at it or at undoing it, since the operation comes to a premature end.
pub fn abandon(step: &mut StepStatus, now: Timestamp) {
    if step.state == StepState::Undoing {
        undo_failed(step, "interrupted", now);
        return;
    }
    let why = if step.message.is_empty() {
        "interrupted".to_owned()
    } else {
        format!("interrupted; {}", step.message)
    };
    fail(step, &why, now);
}

/// The step will never run.
pub fn skip(step: &mut StepStatus, now: Timestamp) {
    step.state = StepState::Skipped;
    step.finished_at = Some(Time(now));
}

/// Undoing begins, or begins again after a crash.
pub fn begin_undo(step: &mut StepStatus) {
    step.state = StepState::Undoing;
}

/// Undoing came to its end. Why the step had failed, if it had, stays in its message.
pub fn undone(step: &mut StepStatus, now: Timestamp) {
    step.state = StepState::Undone;
    step.finished_at = Some(Time(now));
}

/// The step could not be undone.
pub fn undo_failed(step: &mut StepStatus, why: &str, now: Timestamp) {
    step.state = StepState::UndoFailed;
    step.message = shortened(&format!("could not be undone: {why}"));
    step.finished_at = Some(Time(now));
}

/// A running step tells how far it is. Whether that changed anything.
pub fn progress(step: &mut StepStatus, percent: u8, message: &str) -> bool {
    let percent = percent.min(99);
    let message = shortened(message);
    let changed = step.progress_percent != percent || step.message != message;
    step.progress_percent = percent;
    step.message = message;
    changed
}

/// What an operation that stopped has been told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// To go on.
    GoOn,
    /// To undo what was done.
    RollBack,
}

/// Follows what the specification says since the operation stopped: after this it is running again, or being undone. `None` if
/// there is nothing new, or it did not stop. Told both at once, it is undone.
pub fn take_order(spec: &OperationSpec, status: &mut OperationStatus) -> Option<Order> {
    let roll_back = spec.rollbacks > status.rollbacks;
    if !status.phase.is_resumable() || !(roll_back || spec.retries > status.retries) {
        return None;
    }
    (status.retries, status.rollbacks, status.finished_at) = (spec.retries, spec.rollbacks, None);
    for step in &mut status.steps {
        resume(step, roll_back);
    }
    if roll_back {
        status.phase = OperationPhase::Undoing;
        return Some(Order::RollBack);
    }
    status.phase = OperationPhase::Running;
    status.message = String::new();
    Some(Order::GoOn)
}

/// What did not end as it was to waits again, or is to be undone again.
fn resume(step: &mut StepStatus, roll_back: bool) {
    match (step.state, roll_back) {
        // Whatever it did may still be there: it counts as done half-way.
        (StepState::UndoFailed, true) => step.state = StepState::Failed,
        (StepState::Failed | StepState::Skipped | StepState::UndoFailed | StepState::Undone, false) => {
            step.state = StepState::Waiting;
            step.attempts_before = step.attempts;
            step.progress_percent = 0;
            step.finished_at = None;
        }
        _ => {}
    }
}

/// Attempts that count against the step's limit.
pub fn attempts_that_count(step: &StepStatus) -> u32 {
    step.attempts.saturating_sub(step.attempts_before)
}

/// Cuts a message to what a journal takes, at a character boundary.
pub fn shortened(message: &str) -> String {
    match message.char_indices().nth(MAX_MESSAGE) {
        Some((end, _)) => format!("{}…", &message[..end]),
        None => message.to_owned(),
    }
}
