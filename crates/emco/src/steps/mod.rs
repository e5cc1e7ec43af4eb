//! Effects of life-cycle operations, as steps of the engine. Each is safe to repeat: contexts are made under numbers that belong to their
//! operation, entries of histories are appended once, and controllers are told again what they were told before.

mod carry;
mod choose;
mod context;
mod controllers;
mod grow;
mod record;

pub(crate) use carry::lift_stop;
pub use carry::{HaltContext, Install, InstallParameters, OneContext, Uninstall};
pub use choose::{ChooseClusters, ChooseClustersParameters};
pub use context::{WriteContext, WriteContextParameters, phase_of};
pub use controllers::{
    ControllerParameters, EventKind, FilterClusters, PostEvent, PostEventParameters, TerminateContext,
    UpdateContext,
};
pub use grow::{MakeCluster, MakeClusterParameters};
pub use record::{Record, RecordEntry, RecordParameters};

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use drystone_appcontext::{AppContextError, AppContexts, ClusterName, contract::ControllerError};
use drystone_engine::action::{ActionRegistry, RegistryError, StepContext, StepError};
use futures::StreamExt as _;

use crate::{
    library::Library,
    model::{Deployment, Refusal},
    plan::placement::{Clusters, Unplaced},
    seams::{Charts, Controllers, Rooms},
};

/// What the engine adds to what it says when what was done has been undone.
const UNDONE: &str = "; what was done has been undone";

/// Clusters that are asked at the same time what room they have.
const ASKED_AT_ONCE: usize = 32;

/// What steps need.
#[derive(Clone)]
pub struct StepDependencies {
    /// Documents.
    pub library: Library,
    /// AppContexts.
    pub contexts: AppContexts,
    /// Controllers.
    pub controllers: Arc<dyn Controllers>,
    /// Charts.
    pub charts: Arc<dyn Charts>,
    /// Room on clusters.
    pub rooms: Arc<dyn Rooms>,
}

/// Registers the steps.
///
/// # Errors
/// When one is registered already.
pub fn register(actions: &mut ActionRegistry, dependencies: &StepDependencies) -> Result<(), RegistryError> {
    let shared = Arc::new(dependencies.clone());
    actions.register(MakeCluster(shared.clone()))?;
    actions.register(WriteContext(shared.clone()))?;
    actions.register(FilterClusters(shared.clone()))?;
    actions.register(ChooseClusters(shared.clone()))?;
    actions.register(UpdateContext(shared.clone()))?;
    actions.register(TerminateContext(shared.clone()))?;
    actions.register(PostEvent(shared.clone()))?;
    actions.register(Install(shared.clone()))?;
    actions.register(Uninstall(shared.clone()))?;
    actions.register(HaltContext(shared.clone()))?;
    actions.register(Record(shared))
}

impl StepDependencies {
    /// Waits until the copies of documents are complete and current: after a restart, steps go on before watches have told everything.
    ///
    /// # Errors
    /// Transient.
    pub(crate) async fn current(&self, step: &StepContext) -> Result<(), StepError> {
        if !self.library.ready().await {
            return Err(StepError::Cancelled);
        }
        Box::pin(self.library.caught_up(step.client())).await.map_err(StepError::transient)
    }

    /// The clusters that a deployment may name, with their room where a rule asks for it.
    pub async fn facts(&self, deployment: &Deployment) -> Clusters {
        let mut facts = self.library.facts();
        if deployment.apps.iter().any(|app| app.rules.must_have_room) {
            let names: Vec<ClusterName> = facts.keys().cloned().collect();
            let rooms = names.into_iter().map(|name| async move {
                let room = self.rooms.room(&name).await;
                (name, room)
            });
            let rooms: Vec<_> = futures::stream::iter(rooms).buffer_unordered(ASKED_AT_ONCE).collect().await;
            for (name, room) in rooms {
                if let Some(facts) = facts.get_mut(&name) {
                    facts.learn_room(room);
                }
            }
        }
        facts
    }

    /// The clusters of a deployment's logical cloud.
    pub fn allowed(&self, deployment: &Deployment) -> BTreeSet<ClusterName> {
        let references = self.library.references_of(&deployment.path.cloud(&deployment.cloud));
        references
            .iter()
            .map(|reference| ClusterName::new(&reference.spec.cluster_provider, &reference.spec.cluster))
            .collect()
    }
}

/// What was refused stays so; the code is told in front, for whoever reads the step's message.
fn refused(refusal: &Refusal) -> StepError {
    StepError::permanent(format!("[{}] {}", refusal.code, refusal.message))
}

/// The refusal that a step's message tells of; one of 500 with the whole message if it tells of none.
pub(crate) fn refusal_of(message: &str) -> Refusal {
    let message = message.split(UNDONE).next().unwrap_or_default();
    let told = message.find('[').and_then(|at| message[at + 1..].split_once("] "));
    let code = told.and_then(|(code, _)| code.parse::<u16>().ok()).filter(|code| (400..600).contains(code));
    match (code, told) {
        (Some(code), Some((_, rest))) => Refusal { code, message: rest.to_owned() },
        _ => Refusal::failed(message),
    }
}

fn unplaced(unplaced: &Unplaced) -> StepError {
    refused(&unplaced.refusal)
}

/// Another attempt may help where a controller was not reached; what it refused stays refused.
fn controller_failed(who: &str, doing: &str, error: &ControllerError) -> StepError {
    let message = format!("controller {who}, {doing}: {error}");
    match error {
        ControllerError::Refused(_) | ControllerError::Unimplemented(_) => refused(&Refusal::failed(message)),
        ControllerError::Unreachable(_) | ControllerError::TimedOut => {
            StepError::retry_after(Duration::from_secs(1), format!("[500] {message}"))
        }
    }
}

fn context_failed(error: AppContextError) -> StepError {
    match error {
        AppContextError::Name(_) | AppContextError::TooLarge { .. } => {
            refused(&Refusal::unfit(error.to_string()))
        }
        AppContextError::NotFound(_) => refused(&Refusal::failed(error.to_string())),
        _ => StepError::transient(error),
    }
}
