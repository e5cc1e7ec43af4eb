//! The state machine of logical clouds.

use drystone_appcontext::{ContextId, State as ContextPhase};

use crate::model::{History, Refusal, State, is_removed};

/// What is asked of a logical cloud.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// Make it at its clusters.
    Instantiate,
    /// Bring what is at its clusters in line with its references.
    Update,
    /// Remove it.
    Terminate,
    /// Stop what is going on.
    Stop,
}

/// What an allowed request is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// A new context is made and installed.
    Install,
    /// A new context replaces this one; the status stays with `status`.
    Replace {
        /// The context that is deployed.
        from: ContextId,
        /// The context that carries the status.
        status: ContextId,
    },
    /// The context is removed from its clusters.
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
    use ContextPhase as P;
    let state = history.state();
    let known = history.context().zip(phase);
    match ask {
        Ask::Instantiate => match known {
            None | Some((_, P::Terminated)) => Ok(Task::Install),
            Some((_, P::TerminateFailed)) if state == State::TerminateStopped => Ok(Task::Install),
            Some((_, P::Terminating)) => {
                Err(Refusal::state(format!("logical cloud {name} is being terminated; wait until it is")))
            }
            Some(_) => Err(Refusal::state(format!("logical cloud {name} is {state} already"))),
        },
        Ask::Terminate => match known {
            Some((
                context,
                P::Instantiated | P::InstantiateFailed | P::Instantiating | P::TerminateFailed,
            )) => Ok(Task::Remove { context }),
            // It was stopped a moment ago, and removal begins again.
            Some((context, P::Terminating)) if state == State::TerminateStopped => {
                Ok(Task::Remove { context })
            }
            Some((_, P::Terminated | P::Terminating)) => {
                Err(Refusal::state(format!("logical cloud {name} is terminated already")))
            }
            Some((context, _)) if state.is_deployed() => Ok(Task::Remove { context }),
            _ => Err(Refusal::state(format!("logical cloud {name} is not instantiated"))),
        },
        Ask::Update => match known {
            Some((from, P::Instantiated)) => {
                Ok(Task::Replace { from, status: history.status_context().unwrap_or(from) })
            }
            _ => Err(Refusal::state(format!("logical cloud {name} can be updated when it is Instantiated"))),
        },
        Ask::Stop => match (known, state) {
            (Some((context, P::Instantiating)), _) => {
                Ok(Task::Halt { context, state: State::InstantiateStopped })
            }
            (Some((context, P::Terminating)), _) => {
                Ok(Task::Halt { context, state: State::TerminateStopped })
            }
            _ => Err(Refusal::state(format!("nothing is going on with logical cloud {name}; it is {state}"))),
        },
    }
}

/// Whether a logical cloud may be deleted.
///
/// # Errors
/// Why not.
pub fn may_be_deleted(name: &str, history: &History, phase: Option<ContextPhase>) -> Result<(), Refusal> {
    match history.context().and(phase) {
        None => Ok(()),
        Some(phase) if is_removed(phase) => Ok(()),
        Some(_) => {
            Err(Refusal::state(format!("logical cloud {name} is {}; terminate it first", history.state())))
        }
    }
}
