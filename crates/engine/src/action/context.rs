//! What an action knows about the step it carries out, and how it reports on it.

use std::{collections::BTreeMap, future::Future};

use drystone_api::ObjectReference;
use kube::Client;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::StepError;
use crate::runner::Place;

/// What a running step reports to the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepReport {
    /// How far it is, and what it is doing.
    Progress {
        /// Percent, 0 to 100.
        percent: u8,
        /// What it is doing now.
        message: String,
    },
    /// A line for the step's log.
    Log(String),
}

/// What an action knows about the step it carries out, and how it reports on it.
pub struct StepContext {
    pub(crate) client: Client,
    pub(crate) subject: ObjectReference,
    pub(crate) operation: ObjectReference,
    pub(crate) step: String,
    pub(crate) index: usize,
    pub(crate) attempt: u32,
    pub(crate) inputs: BTreeMap<String, Value>,
    pub(crate) output: Value,
    pub(crate) cancellation: CancellationToken,
    pub(crate) reports: mpsc::Sender<(usize, StepReport)>,
    pub(crate) place: Place,
}

impl StepContext {
    /// Client of the API that holds the operation.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The object that the operation is done for.
    pub fn subject(&self) -> &ObjectReference {
        &self.subject
    }

    /// The operation: namespace, name and uid.
    pub fn operation(&self) -> &ObjectReference {
        &self.operation
    }

    /// Id of the step.
    pub fn step(&self) -> &str {
        &self.step
    }

    /// Which attempt this is, from 1. An attempt that a crash cut short is made again under the same number.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// A key that is the same for every attempt at this step and different for every other step, for services that
    /// take an idempotency key.
    pub fn idempotency_key(&self) -> uuid::Uuid {
        let scope = uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, self.operation.uid.as_bytes());
        uuid::Uuid::new_v5(&scope, self.step.as_bytes())
    }

    /// Output of a step that this one depends on.
    ///
    /// # Errors
    /// Permanent, when this step does not depend on `step` or its output has another shape.
    pub fn input<T: DeserializeOwned>(&self, step: &str) -> Result<T, StepError> {
        let value = self.inputs.get(step).ok_or_else(|| {
            StepError::permanent(format!(
                "step {} does not depend on {step}, so it has no output of it",
                self.step
            ))
        })?;
        T::deserialize(value).map_err(|error| {
            StepError::permanent(format!("output of step {step} is not what is needed: {error}"))
        })
    }

    /// Outputs of all steps that this one depends on, by step id; without those that have none.
    pub fn inputs(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.inputs.iter().filter(|(_, value)| !value.is_null()).map(|(id, value)| (id.as_str(), value))
    }

    /// In `undo`: what `run` returned, if it came to an end and this can be read as `T`.
    pub fn output<T: DeserializeOwned>(&self) -> Option<T> {
        if self.output.is_null() {
            return None;
        }
        T::deserialize(&self.output).ok()
    }

    /// Whether the engine wants the attempt to end: the operation was cancelled, or time is up.
    pub fn is_cancelled(&self) -> bool {
        self.cancellation.is_cancelled()
    }

    /// Completes when the engine wants the attempt to end. What has not returned a few seconds later is dropped.
    pub async fn cancelled(&self) {
        self.cancellation.cancelled().await;
    }

    /// The token behind [`StepContext::cancelled`], to be handed to what the action calls.
    pub fn cancellation_token(&self) -> CancellationToken {
        self.cancellation.clone()
    }

    /// Waits for something that happens elsewhere (another controller, a host that boots) without occupying one of the
    /// engine's places for running steps: waiting steps must not keep from running what they wait for. Ends with
    /// [`StepError::Cancelled`] as soon as the attempt is to end.
    ///
    /// # Errors
    /// [`StepError::Cancelled`], when the attempt is to end.
    pub async fn wait_for<T>(&self, event: impl Future<Output = T> + Send) -> Result<T, StepError> {
        self.place.release();
        let result = tokio::select! {
            biased;
            () = self.cancellation.cancelled() => return Err(StepError::Cancelled),
            result = event => result,
        };
        tokio::select! {
            biased;
            () = self.cancellation.cancelled() => Err(StepError::Cancelled),
            () = self.place.acquire() => Ok(result),
        }
    }

    /// Tells how far the step is. Cheap: reports are coalesced, and journaled about once a second at most.
    pub fn progress(&self, percent: u8, message: impl Into<String>) {
        // A full channel means that newer reports than this are on their way: losing one loses nothing.
        let report = StepReport::Progress { percent: percent.min(100), message: message.into() };
        let _ = self.reports.try_send((self.index, report));
    }

    /// Adds a line to the step's log. Never a secret.
    pub fn log(&self, line: impl Into<String>) {
        let line = line.into();
        tracing::info!(operation = %self.operation.name, step = %self.step, attempt = self.attempt, "{line}");
        let _ = self.reports.try_send((self.index, StepReport::Log(line)));
    }
}

impl std::fmt::Debug for StepContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StepContext")
            .field("operation", &self.operation)
            .field("step", &self.step)
            .field("attempt", &self.attempt)
            .finish_non_exhaustive()
    }
}
