//! The state machine of the networks of a cluster.

use drystone_appcontext::{ContextId, State as ContextPhase};

use crate::model::{History, Refusal, State, is_removed};

/// What is asked of the networks of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// Carry them out.
    Apply,
    /// Remove them.
    Terminate,
    /// Stop what is going on.
    Stop,
}

/// What an allowed request is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// Nothing: it is so already.
    Nothing,
    /// A new context is made and installed.
    Install,
    /// The context is removed from its cluster.
    Remove {
        /// The context.
        context: ContextId,
    },
    /// The synchroniser stops working on the context.
    Halt {
        /// The context.
        context: ContextId,
        /// The state that is entered.
        state: State,
    },
}

/// Whether that may be done now, and what it is to do. `phase`: how far the synchroniser is with the present context.
///
/// # Errors
/// Why not.
pub fn decide(name: &str, history: &History, phase: Option<ContextPhase>, ask: Ask) -> Result<Task, Refusal> {
    let state = history.state();
    match (ask, state, history.context()) {
        (Ask::Apply, State::Applied, _) | (Ask::Terminate, State::Terminated | State::Created, _) => {
            Ok(Task::Nothing)
        }
        (Ask::Apply, State::Terminated, Some(_)) if phase.is_some_and(|phase| !is_removed(phase)) => {
            Err(Refusal::state(format!(
                "networks of {name} are still being removed; apply them when that has come to its end"
            )))
        }
        (Ask::Apply, ..) => Ok(Task::Install),
        (Ask::Terminate, _, Some(context)) => Ok(Task::Remove { context }),
        (Ask::Stop, State::Applied, Some(context)) if phase == Some(ContextPhase::Instantiating) => {
            Ok(Task::Halt { context, state: State::InstantiateStopped })
        }
        (Ask::Stop, State::Terminated, Some(context)) if phase == Some(ContextPhase::Terminating) => {
            Ok(Task::Halt { context, state: State::TerminateStopped })
        }
        (Ask::Stop | Ask::Terminate, ..) => {
            Err(Refusal::state(format!("networks of {name} are {state}; nothing is going on with them")))
        }
    }
}
