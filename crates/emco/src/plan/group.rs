//! The state machine of deployment intent groups.
//!
//! EMCO's, with four differences: what does not fit the state is refused with 409; a group is instantiated again only when what was
//! there before has been removed; a revision names one context, that of the present life; and what is deployed is replaced only when
//! nothing is being done to it: of two changes at a time the older one could be the last to write.

use drystone_appcontext::{ContextId, State as ContextPhase};
use jiff::Timestamp;

use crate::model::{Entry, History, Refusal, State, is_removed};

/// What is asked of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// May be instantiated from now on.
    Approve,
    /// Deploy it.
    Instantiate,
    /// Deploy what is declared now in place of what is deployed.
    Update,
    /// Deploy what another version of the application declares in place of what is deployed (the source's part).
    MigrateFrom,
    /// Take over what another group has deployed (the target's part).
    MigrateTo,
    /// Deploy what that revision deployed in place of what is deployed.
    Rollback(u64),
    /// Remove it.
    Terminate,
    /// Stop what is going on.
    Stop,
}

/// What an allowed request is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// Nothing: it is so already.
    Nothing,
    /// Only the entry is written.
    Note(State),
    /// A new context is made and installed.
    Install,
    /// A new context is made and replaces `from`; the status stays with `status`.
    Replace {
        /// The context that is deployed.
        from: ContextId,
        /// The context that carries the status.
        status: ContextId,
        /// The revision that is deployed.
        revision: u64,
    },
    /// The context `to`, which is there already, replaces `from`.
    Restore {
        /// The context that is deployed.
        from: ContextId,
        /// The context that is deployed again.
        to: ContextId,
        /// The revision that is deployed.
        revision: u64,
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

/// Whether that may be done now, and what it is to do. `phase`: how far the synchroniser is with the present context, orders that wait
/// counted as begun.
///
/// # Errors
/// Why not.
pub fn decide(name: &str, history: &History, phase: Option<ContextPhase>, ask: Ask) -> Result<Task, Refusal> {
    let state = history.state();
    let context = || {
        let lost = || Refusal::failed(format!("{name} is {state}, but its history names no context"));
        history.context().ok_or_else(lost)
    };
    let refuse = |doing: &str, needed: &str| {
        Refusal::state(format!("{name} is {state}; it can be {doing} when it is {needed}"))
    };
    match (ask, state) {
        (Ask::Approve, State::Approved) => Ok(Task::Nothing),
        (Ask::Approve, State::Created | State::Terminated | State::Updated) => {
            Ok(Task::Note(State::Approved))
        }
        (Ask::Approve, _) => Err(refuse("approved", "Created, Updated or Terminated")),
        (Ask::Instantiate, State::Approved | State::Terminated | State::TerminateStopped)
        | (Ask::MigrateTo, State::Approved) => {
            removed(name, history, phase)?;
            Ok(Task::Install)
        }
        (Ask::Instantiate, _) => Err(refuse("instantiated", "Approved or Terminated")),
        (Ask::Update | Ask::MigrateFrom, State::Instantiated | State::InstantiateStopped) => {
            idle(name, phase)?;
            let from = context()?;
            let status = history.status_context().unwrap_or(from);
            Ok(Task::Replace { from, status, revision: history.revision() })
        }
        (Ask::Update, _) => Err(refuse("updated", "Instantiated")),
        (Ask::MigrateFrom, _) => Err(refuse("migrated", "Instantiated")),
        (Ask::MigrateTo, _) => Err(refuse("migrated to", "Approved")),
        (Ask::Rollback(revision), State::Instantiated | State::InstantiateStopped) => {
            idle(name, phase)?;
            roll_back(name, history, revision)
        }
        (Ask::Rollback(_), _) => Err(refuse("rolled back", "Instantiated")),
        (Ask::Terminate, State::Instantiated | State::InstantiateStopped) => {
            Ok(Task::Remove { context: context()? })
        }
        // EMCO leaves a group whose termination was stopped to be instantiated only; what is left at the clusters must be removable.
        (Ask::Terminate, State::TerminateStopped) => Ok(Task::Remove { context: context()? }),
        (Ask::Terminate, _) => Err(refuse("terminated", "Instantiated")),
        (Ask::Stop, State::Instantiated) => match phase {
            Some(ContextPhase::Instantiating | ContextPhase::Created | ContextPhase::Updating) => {
                Ok(Task::Halt { context: context()?, state: State::InstantiateStopped })
            }
            _ => Err(Refusal::state(format!("{name} is instantiated already; there is nothing to stop"))),
        },
        (Ask::Stop, State::Terminated) => match phase {
            Some(ContextPhase::Terminating) => {
                Ok(Task::Halt { context: context()?, state: State::TerminateStopped })
            }
            _ => Err(Refusal::state(format!("{name} is terminated already; there is nothing to stop"))),
        },
        (Ask::Stop, _) => Err(refuse("stopped", "being instantiated or terminated")),
    }
}

/// Nothing may be going on with what is deployed.
fn idle(name: &str, phase: Option<ContextPhase>) -> Result<(), Refusal> {
    let doing = match phase {
        Some(ContextPhase::Instantiating) => "being instantiated or updated",
        Some(ContextPhase::Updating) => "giving way to another deployment",
        Some(ContextPhase::Terminating) => "being terminated",
        _ => return Ok(()),
    };
    Err(Refusal::state(format!("{name} is still {doing}; wait until that has come to its end, or stop it")))
}

/// Nothing of an earlier deployment may still be on its way out.
fn removed(name: &str, history: &History, phase: Option<ContextPhase>) -> Result<(), Refusal> {
    match phase {
        None => Ok(()),
        Some(_) if history.context().is_none() => Ok(()),
        // Contexts of a group that was migrated away live on as another group's.
        Some(_)
            if history.0.iter().rev().find(|entry| entry.context.is_some()).map(|entry| entry.state)
                == Some(State::Updated) =>
        {
            Ok(())
        }
        Some(phase) if is_removed(phase) => Ok(()),
        Some(phase) => Err(Refusal::state(format!(
            "{name} is still being terminated ({phase:?}); instantiate it when that has come to its end"
        ))),
    }
}

fn roll_back(name: &str, history: &History, revision: u64) -> Result<Task, Refusal> {
    let Some(from) = history.context() else {
        return Err(Refusal::failed(format!("{name} has no context")));
    };
    let Some(to) = history.context_of_revision(revision) else {
        let known: Vec<String> = history.revisions().iter().map(ToString::to_string).collect();
        let known = known.join(", ");
        return Err(Refusal::missing(format!("{name} has no revision {revision}; it has {known}")));
    };
    if to == from {
        return Err(Refusal::state(format!("{name} has what revision {revision} deployed already")));
    }
    Ok(Task::Restore { from, to, revision: history.revision() })
}

/// The entries that a completed task appends. `context`: the new one of `Install` and `Replace`.
pub fn entries(task: Task, context: Option<ContextId>, time: Timestamp) -> Vec<Entry> {
    let entry = |state, context, revision| Entry { state, context, revision, time };
    match task {
        Task::Nothing => Vec::new(),
        Task::Note(state) => vec![entry(state, None, 0)],
        Task::Install => vec![entry(State::Instantiated, context, 1)],
        Task::Replace { from, revision, .. } => vec![
            entry(State::Updated, Some(from), revision),
            entry(State::Instantiated, context, revision + 1),
        ],
        Task::Restore { from, to, revision } => vec![
            entry(State::Updated, Some(from), revision),
            entry(State::Instantiated, Some(to), revision + 1),
        ],
        Task::Remove { context } => vec![entry(State::Terminated, Some(context), 0)],
        Task::Halt { context, state } => vec![entry(state, Some(context), 0)],
    }
}

/// Whether a group may be deleted. `phase`: how far the synchroniser is with the present context.
///
/// # Errors
/// Why not.
pub fn may_be_deleted(name: &str, history: &History, phase: Option<ContextPhase>) -> Result<(), Refusal> {
    let state = history.state();
    if matches!(state, State::Instantiated | State::InstantiateStopped | State::TerminateStopped) {
        return Err(Refusal::state(format!("{name} is {state}; terminate it first")));
    }
    match phase {
        Some(phase) if state == State::Terminated && !is_removed(phase) => {
            Err(Refusal::state(format!("{name} is still being terminated ({phase:?})")))
        }
        _ => Ok(()),
    }
}
