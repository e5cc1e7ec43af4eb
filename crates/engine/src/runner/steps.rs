//! The steps of a running operation: what they are given, and what their outcomes mean.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;

use super::{
    Place,
    attempt::Bounds,
    effect::Outcome,
    run::{Run, Unsaved},
};
use crate::{
    action::{StepContext, StepError},
    plan::transition,
};

/// Longest time to wait for another attempt, whatever the other side asks for.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(3_600);

impl Run<'_> {
    pub(super) fn bounds(&self, index: usize) -> Bounds {
        let config = &self.shared.config;
        let timeout = match self.plan.spec().steps[index].timeout_seconds {
            0 => config.step_timeout,
            seconds => Duration::from_secs(seconds.into()),
        };
        Bounds { timeout, grace: config.grace, max_attempts: self.max_attempts(index), retry: config.retry }
    }

    pub(super) fn context(&self, index: usize, interrupt: CancellationToken, place: Place) -> StepContext {
        let step = &self.status.steps[index];
        let inputs = self.plan.graph().dependencies(index).iter().map(|&dependency| {
            let dependency = &self.status.steps[dependency];
            (dependency.id.clone(), dependency.output.clone())
        });
        StepContext {
            client: self.shared.client.clone(),
            subject: self.plan.spec().subject.clone(),
            operation: self.operation.clone(),
            step: step.id.clone(),
            index,
            attempt: step.attempts,
            inputs: inputs.collect(),
            output: step.output.clone(),
            cancellation: interrupt,
            reports: self.reports.clone(),
            place,
        }
    }

    /// Records what became of an effect that is no longer in flight.
    pub(super) fn settle(&mut self, index: usize, outcome: Outcome, interrupted: bool) {
        let now = self.shared.clock.now();
        self.unsaved = Unsaved::Transition;
        match outcome {
            Outcome::Ran(Ok(output)) => transition::succeed(&mut self.status.steps[index], output, now),
            Outcome::Ran(Err(error)) => self.settle_failure(index, error, interrupted, now),
            Outcome::Undone(Ok(())) => transition::undone(&mut self.status.steps[index], now),
            Outcome::Undone(Err(StepError::Cancelled)) if interrupted => {
                transition::abandon(&mut self.status.steps[index], now);
            }
            Outcome::Undone(Err(error)) => {
                transition::undo_failed(&mut self.status.steps[index], &error.to_string(), now);
                self.story.undo_failed(&self.plan.spec().steps[index], &error.to_string());
            }
        }
    }

    fn settle_failure(&mut self, index: usize, error: StepError, interrupted: bool, now: Timestamp) {
        let spec = &self.plan.spec().steps[index];
        let max_attempts = self.max_attempts(index);
        let step = &mut self.status.steps[index];
        let attempts = transition::attempts_that_count(step);
        let backoff = self.shared.config.retry.random_delay(attempts);
        let (why, delay) = match error {
            StepError::Cancelled if interrupted => {
                transition::abandon(step, now);
                return;
            }
            StepError::Permanent(why) => {
                transition::fail(step, &why, now);
                self.story.step_failed(spec, &why);
                return;
            }
            StepError::Cancelled => ("stopped without having been asked to".to_owned(), backoff),
            StepError::Transient(why) => (why, backoff),
            StepError::RetryAfter { after, message } => (message, after.min(LONGEST_PAUSE)),
        };
        if attempts >= max_attempts {
            let why = if max_attempts == 1 {
                why
            } else {
                format!("{why} (attempt {max_attempts} of {max_attempts})")
            };
            transition::fail(step, &why, now);
            self.story.step_failed(spec, &why);
        } else {
            transition::retry(step, &why);
            let delay = SignedDuration::try_from(delay).unwrap_or(SignedDuration::MAX);
            self.retry_at[index] = Some(now.checked_add(delay).unwrap_or(Timestamp::MAX));
            self.story.step_retried(spec, attempts, max_attempts, &why);
        }
    }

    fn max_attempts(&self, index: usize) -> u32 {
        match self.plan.spec().steps[index].max_attempts {
            0 => self.shared.config.max_attempts.max(1),
            given => given,
        }
    }
}
