//! One attempt at a step, bounded in time, that can be interrupted and whose panics stay inside.

use std::{future::Future, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::FutureExt;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::steps::LONGEST_PAUSE;
use crate::{
    action::{DynAction, StepContext, StepError},
    backoff::Backoff,
};

/// Bounds of an attempt.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// How long it may take.
    pub(super) timeout: Duration,
    /// How long it may take to end after it was asked to.
    pub(super) grace: Duration,
    /// How often to undo before giving up.
    pub(super) max_attempts: u32,
    /// Delays between attempts at undoing.
    pub(super) retry: Backoff,
}

/// Runs an action once.
pub(super) async fn run(
    action: Arc<dyn DynAction>,
    context: StepContext,
    parameters: Value,
    bounds: Bounds,
) -> Result<Value, StepError> {
    bounded(action.run(&context, &parameters), &context.cancellation, bounds).await
}

/// Undoes a step, trying again while that may help.
pub(super) async fn undo(
    action: Arc<dyn DynAction>,
    mut context: StepContext,
    parameters: Value,
    bounds: Bounds,
) -> Result<(), StepError> {
    let mut failures = 0;
    let interrupt = context.cancellation.clone();
    loop {
        // Each attempt has a token of its own: a timeout ends the attempt, not the undoing.
        context.cancellation = interrupt.child_token();
        context.attempt = failures + 1;
        let outcome = bounded(action.undo(&context, &parameters), &context.cancellation, bounds).await;
        let delay = match outcome {
            Ok(()) => return Ok(()),
            Err(StepError::Permanent(why)) => return Err(StepError::Permanent(why)),
            Err(StepError::Cancelled) if interrupt.is_cancelled() => return Err(StepError::Cancelled),
            Err(StepError::RetryAfter { after, .. }) => after.min(LONGEST_PAUSE),
            Err(StepError::Transient(_) | StepError::Cancelled) => bounds.retry.random_delay(failures + 1),
        };
        failures += 1;
        if failures >= bounds.max_attempts {
            return outcome;
        }
        if let Err(error) = &outcome {
            context.log(format!("undoing failed, trying again in {} s: {error}", delay.as_secs()));
        }
        context.place.release();
        tokio::select! {
            () = interrupt.cancelled() => return Err(StepError::Cancelled),
            () = tokio::time::sleep(delay) => {}
        }
        context.place.acquire().await;
    }
}

async fn bounded<T>(
    work: impl Future<Output = Result<T, StepError>> + Send,
    cancellation: &CancellationToken,
    bounds: Bounds,
) -> Result<T, StepError> {
    let work = AssertUnwindSafe(work)
        .catch_unwind()
        .map(|result| result.unwrap_or_else(|panic| Err(panicked(&*panic))));
    tokio::pin!(work);
    let timed_out = tokio::select! {
        biased;
        result = &mut work => return result,
        () = cancellation.cancelled() => false,
        () = tokio::time::sleep(bounds.timeout) => true,
    };
    cancellation.cancel();
    let last_word = tokio::time::timeout(bounds.grace, &mut work).await;
    match last_word {
        // It came to its end after all: what it did is known, and that is worth more than being in time.
        Ok(Ok(output)) => Ok(output),
        Ok(Err(StepError::Permanent(why))) => Err(StepError::Permanent(why)),
        _ if !timed_out => Err(StepError::Cancelled),
        Ok(Err(StepError::Transient(why))) => {
            Err(StepError::Transient(format!("{}: {why}", late(bounds.timeout))))
        }
        _ => Err(StepError::Transient(late(bounds.timeout))),
    }
}

fn late(timeout: Duration) -> String {
    format!("not done within {} s", timeout.as_secs())
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> StepError {
    let message = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    StepError::Transient(format!("defect in the action: it panicked: {message}"))
}
