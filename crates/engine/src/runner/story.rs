//! The story of an operation, as events on its subject and as one line in its status.
//!
//! Events are told only after the journal is durable: people must not read of what a crash then makes unhappen.

use std::sync::Arc;

use drystone_api::{ObjectReference, Operation, OperationPhase, OperationStatus, StepSpec, StepState};
use kube::ResourceExt;

use crate::{
    events::{EventKind, EventSink},
    plan::Plan,
};

/// How many running steps the status names.
const NAMED_STEPS: usize = 3;

/// Between the cause of undoing and what is being undone.
const UNDOING: &str = "; undoing: ";

pub(super) struct Story {
    sink: Arc<dyn EventSink>,
    subject: ObjectReference,
    name: String,
    title: String,
    /// Why the operation does not go forward any more, once it does not.
    cause: Option<String>,
    untold: Vec<(EventKind, &'static str, String)>,
}

impl Story {
    pub(super) fn new(sink: Arc<dyn EventSink>, operation: &Operation, status: &OperationStatus) -> Self {
        let turned = status.phase == OperationPhase::Undoing
            || status.steps.iter().any(|step| step.state == StepState::Failed);
        Self {
            sink,
            subject: operation.spec.subject.clone(),
            name: operation.name_any(),
            title: operation.spec.title.clone(),
            cause: (turned && !status.message.is_empty())
                .then(|| without_activity(&status.message).to_owned()),
            untold: Vec::new(),
        }
    }

    pub(super) fn started(&mut self, plan: &Plan) {
        let steps = plan.len();
        self.add(EventKind::Normal, "OperationStarted", format!("{}: started, {steps} steps", self.title));
    }

    pub(super) fn step_retried(&mut self, step: &StepSpec, attempt: u32, of: u32, why: &str) {
        let note = format!("{}: attempt {attempt} of {of} failed, will try again: {why}", name_of(step));
        self.add(EventKind::Warning, "StepRetrying", note);
    }

    pub(super) fn step_failed(&mut self, step: &StepSpec, why: &str) {
        let note = format!("{}: {why}", name_of(step));
        self.cause.get_or_insert_with(|| note.clone());
        self.add(EventKind::Warning, "StepFailed", note);
    }

    pub(super) fn undo_failed(&mut self, step: &StepSpec, why: &str) {
        let note = format!("{}: could not be undone: {why}", name_of(step));
        self.cause = Some(match self.cause.take() {
            Some(cause) => format!("{cause}; {note}"),
            None => note.clone(),
        });
        self.add(EventKind::Warning, "UndoFailed", note);
    }

    pub(super) fn cancelled(&mut self) {
        self.cause.get_or_insert_with(|| "cancelled".to_owned());
    }

    pub(super) fn resumed(&mut self) {
        self.add(EventKind::Normal, "OperationResumed", format!("{}: told to go on", self.title));
    }

    pub(super) fn undoing(&mut self) {
        let cause = self.cause.as_deref().unwrap_or("resumed");
        let note = format!("{}: undoing what was done: {cause}", self.title);
        self.add(EventKind::Warning, "OperationUndoing", note);
    }

    pub(super) fn ended(&mut self, status: &OperationStatus) {
        let (kind, reason) = match status.phase {
            OperationPhase::Succeeded => (EventKind::Normal, "OperationSucceeded"),
            OperationPhase::Undone => (EventKind::Warning, "OperationUndone"),
            OperationPhase::Cancelled => (EventKind::Normal, "OperationCancelled"),
            _ => (EventKind::Warning, "OperationFailed"),
        };
        self.add(kind, reason, format!("{}: {}", self.title, status.message));
    }

    /// Publishes what has happened since the last time.
    pub(super) fn tell(&mut self) {
        for (kind, reason, note) in self.untold.drain(..) {
            tracing::info!(operation = %self.name, subject = %self.subject, reason, "{note}");
            self.sink.publish(&self.subject, kind, reason, &note);
        }
    }

    /// One line that says what is going on, or why it came to a premature end.
    pub(super) fn summary(&self, plan: &Plan, status: &OperationStatus) -> String {
        let cause = self.cause.as_deref().unwrap_or("interrupted");
        match status.phase {
            OperationPhase::Succeeded => format!("all {} steps done", status.steps.len()),
            OperationPhase::Undone => format!("{cause}; what was done has been undone"),
            OperationPhase::Undoing => {
                format!("{cause}{UNDOING}{}", named(plan, status, &[StepState::Undoing]))
            }
            phase if phase.is_final() || self.cause.is_some() => cause.to_owned(),
            _ => going_on(plan, status),
        }
    }

    fn add(&mut self, kind: EventKind, reason: &'static str, note: String) {
        self.untold.push((kind, reason, note));
    }
}

fn going_on(plan: &Plan, status: &OperationStatus) -> String {
    let done = status.steps.iter().filter(|step| step.state == StepState::Succeeded).count();
    let now = named(plan, status, &[StepState::Running, StepState::Retrying]);
    let separator = if now.is_empty() { "" } else { "; now: " };
    format!("{done} of {} steps done{separator}{now}", plan.len())
}

/// The steps in one of these states, by what people call them; not all, if they are many.
fn named(plan: &Plan, status: &OperationStatus, states: &[StepState]) -> String {
    let all: Vec<&str> = plan
        .spec()
        .steps
        .iter()
        .zip(&status.steps)
        .filter(|(_, step)| states.contains(&step.state))
        .map(|(spec, _)| name_of(spec))
        .collect();
    let first = all.iter().take(NAMED_STEPS).copied().collect::<Vec<_>>().join(", ");
    match all.len().saturating_sub(NAMED_STEPS) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

/// The cause, from a message that an engine wrote before it was killed.
fn without_activity(message: &str) -> &str {
    message.rsplit_once(UNDOING).map_or(message, |(cause, _)| cause)
}

/// What people call the step.
fn name_of(step: &StepSpec) -> &str {
    if step.title.is_empty() { &step.id } else { &step.title }
}
