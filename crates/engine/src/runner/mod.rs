//! Carrying out one operation: journal, effect, journal.
//!
//! [`Engine::run`] is a loop around the pure [`decide`](crate::plan::decide): it writes what was decided to the [`Journal`],
//! and only when that is durable lets the effects begin; it takes in results, writes them together with the starts that they
//! make possible, and so on. All that is due at one moment is one write. Killed at any instant, the journal says what may have
//! been begun; running it again, steps being idempotent, comes to the same end.

mod attempt;
mod clock;
mod config;
mod effect;
mod journal;
mod kube_journal;
mod place;
mod run;
mod steps;
mod story;

#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use clock::{Clock, SystemClock};
pub use config::EngineConfig;
use drystone_api::{Operation, OperationPhase};
pub use journal::{Journal, JournalError};
use kube::Client;
pub use kube_journal::KubeJournal;
pub use place::Place;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::{
    action::ActionRegistry,
    events::{EventKind, EventSink},
};

/// What can be asked of an operation that is running. Cheap to clone; clones are the same signals.
#[derive(Debug, Clone, Default)]
pub struct Signals {
    /// To end before its time, as the plan's policy says: running steps are interrupted.
    pub cancel: CancellationToken,
    /// To end before its time gently: running steps come to their end.
    pub halt: CancellationToken,
}

/// Runs operations. Cheap to clone; clones share actions, limits and events.
#[derive(Clone)]
pub struct Engine {
    shared: Arc<Shared>,
}

struct Shared {
    client: Client,
    registry: ActionRegistry,
    config: EngineConfig,
    events: Arc<dyn EventSink>,
    clock: Arc<dyn Clock>,
    places: Arc<Semaphore>,
}

impl Engine {
    /// An engine that carries out the actions of `registry`, which reach the API through `client`.
    pub fn new(
        client: Client,
        registry: ActionRegistry,
        config: EngineConfig,
        events: Arc<dyn EventSink>,
    ) -> Self {
        Self::with_clock(client, registry, config, events, Arc::new(SystemClock))
    }

    /// The same with a clock of one's own, for simulated time.
    pub fn with_clock(
        client: Client,
        registry: ActionRegistry,
        config: EngineConfig,
        events: Arc<dyn EventSink>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let places = Arc::new(Semaphore::new(config.places.clamp(1, Semaphore::MAX_PERMITS)));
        Self { shared: Arc::new(Shared { client, registry, config, events, clock, places }) }
    }

    /// The actions that it can carry out.
    pub fn registry(&self) -> &ActionRegistry {
        &self.shared.registry
    }

    /// Its limits.
    pub fn config(&self) -> &EngineConfig {
        &self.shared.config
    }

    /// The current time by its clock.
    pub fn now(&self) -> jiff::Timestamp {
        self.shared.clock.now()
    }

    /// Runs `operation`, from wherever its journal says that it is, to a final phase, which is journaled when this returns.
    /// `cancel` asks for a premature end, as the plan's policy says. Dropping the future is safe at any point, and is what
    /// happens when leadership is lost: effects that are in flight are dropped too, and whoever leads next resumes.
    ///
    /// # Errors
    /// [`JournalError`], when the journal cannot be kept: somebody else writes it, it is gone, or the store does not
    /// answer. Everything that was begun has been dropped; run the operation again after reading it anew.
    pub async fn run(
        &self,
        operation: &Operation,
        journal: &mut dyn Journal,
        cancel: &CancellationToken,
    ) -> Result<OperationPhase, JournalError> {
        let signals = Signals { cancel: cancel.clone(), ..Signals::default() };
        self.run_until(operation, journal, &signals).await
    }

    /// The same with all that can be asked of it. An operation that stopped and has been told to go on since goes on.
    ///
    /// # Errors
    /// As [`Engine::run`].
    pub async fn run_until(
        &self,
        operation: &Operation,
        journal: &mut dyn Journal,
        signals: &Signals,
    ) -> Result<OperationPhase, JournalError> {
        let result = run::run(&self.shared, operation, journal, signals).await;
        if let Err(error @ JournalError::Unavailable { .. }) = &result {
            let note = format!("{error}; it is taken up again later");
            self.shared.events.publish(
                &operation.spec.subject,
                EventKind::Warning,
                "OperationInterrupted",
                &note,
            );
        }
        result
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("registry", &self.shared.registry).finish_non_exhaustive()
    }
}
