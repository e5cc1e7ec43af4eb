//! One effect that is about to be brought about or taken back, with all it needs.

use std::sync::Arc;

use serde_json::Value;

use super::attempt::{self, Bounds};
use crate::action::{DynAction, StepContext, StepError};

/// What became of an effect.
#[derive(Debug)]
pub(super) enum Outcome {
    /// An attempt ended.
    Ran(Result<Value, StepError>),
    /// Undoing ended, after as many attempts as it took.
    Undone(Result<(), StepError>),
}

/// An effect that is about to be brought about or taken back.
pub(super) struct Effect {
    pub(super) index: usize,
    pub(super) undo: bool,
    pub(super) action: Arc<dyn DynAction>,
    pub(super) parameters: Value,
    pub(super) bounds: Bounds,
    pub(super) context: StepContext,
}

impl Effect {
    /// Does it; to be called when its beginning is durable in the journal.
    pub(super) async fn carry_out(self) -> (usize, Outcome) {
        let Self { index, undo, action, parameters, bounds, context } = self;
        let outcome = if undo {
            Outcome::Undone(attempt::undo(action, context, parameters, bounds).await)
        } else {
            Outcome::Ran(attempt::run(action, context, parameters, bounds).await)
        };
        (index, outcome)
    }
}
