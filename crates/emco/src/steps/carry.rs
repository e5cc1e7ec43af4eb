//! What the synchroniser is told.

use std::{sync::Arc, time::Duration};

use drystone_appcontext::{
    AppContextError, AppContexts, ContextId, State as Phase, SyncState, model::NETWORK_APP,
};
use drystone_engine::action::{Action, StepContext, StepError};
use serde::{Deserialize, Serialize};

use super::{StepDependencies, context::give_back, context_failed, controller_failed};

/// How often it is looked whether a context that is taken back is gone.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// `emco.install`: the synchroniser takes a context to its clusters, in the place of another one where there is one. Undone, it takes it
/// back.
pub struct Install(pub(super) Arc<StepDependencies>);

/// `emco.uninstall`: the synchroniser removes a context, and those that go with it.
pub struct Uninstall(pub(super) Arc<StepDependencies>);

/// `emco.halt`: the synchroniser stops working on a context.
pub struct HaltContext(pub(super) Arc<StepDependencies>);

/// Which context.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InstallParameters {
    /// The context.
    pub context: ContextId,
    /// The context whose place it takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<ContextId>,
}

/// Which context.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OneContext {
    /// The context.
    pub context: ContextId,
}

impl Action for Install {
    const NAME: &'static str = "emco.install";
    type Parameters = InstallParameters;
    type Output = ();

    async fn run(&self, step: &StepContext, parameters: InstallParameters) -> Result<(), StepError> {
        self.0.current(step).await?;
        let synchroniser = self.0.controllers.synchroniser();
        let InstallParameters { context, from } = parameters;
        // An attempt whose answer was lost has been accepted.
        if from.is_some() && self.is_taken_up(context).await? && step.attempt() > 1 {
            return Ok(());
        }
        for stopped in [Some(context), from].into_iter().flatten() {
            lift_stop(&self.0.contexts, stopped).await.map_err(context_failed)?;
        }
        let called = match from {
            None => step.wait_for(synchroniser.install(context)).await?,
            Some(from) => step.wait_for(synchroniser.update(from, context)).await?,
        };
        called.map_err(|error| controller_failed("rsync", "installing the context", &error))
    }

    async fn undo(&self, step: &StepContext, parameters: InstallParameters) -> Result<(), StepError> {
        let InstallParameters { context, from } = parameters;
        if !self.is_taken_up(context).await? {
            return Ok(());
        }
        self.0.current(step).await?;
        let synchroniser = self.0.controllers.synchroniser();
        let called = match from {
            None => synchroniser.uninstall(context).await,
            Some(from) => synchroniser.update(context, from).await,
        };
        called.map_err(|error| controller_failed("rsync", "taking the context back", &error))?;
        // The context that is deleted next says what was done, and what is to be undone.
        while self.is_under_way(context, from).await? {
            step.wait_for(tokio::time::sleep(LOOK_AGAIN)).await?;
        }
        Ok(())
    }
}

impl Install {
    async fn phase(&self, context: ContextId) -> Result<Option<Phase>, StepError> {
        match self.0.contexts.sync_state(context).await {
            Ok(sync) => Ok(Some(sync.phase())),
            Err(AppContextError::NotFound(_)) => Ok(None),
            Err(error) => Err(context_failed(error)),
        }
    }

    /// Whether the synchroniser has not come to its end with taking a context back.
    async fn is_under_way(&self, context: ContextId, from: Option<ContextId>) -> Result<bool, StepError> {
        let Some(from) = from else {
            let phase = self.phase(context).await?;
            return Ok(!matches!(phase, None | Some(Phase::Terminated | Phase::TerminateFailed)));
        };
        let is_busy =
            |phase| matches!(phase, Some(Phase::Instantiating | Phase::Updating | Phase::Terminating));
        // In this order: that which is back tells the other one to give way before it has come to its end.
        Ok(is_busy(self.phase(from).await?) || is_busy(self.phase(context).await?))
    }

    /// Whether the synchroniser has begun with a context.
    async fn is_taken_up(&self, context: ContextId) -> Result<bool, StepError> {
        let phase = self.phase(context).await?;
        Ok(!matches!(phase, None | Some(Phase::Created | Phase::Updated | Phase::Terminated)))
    }
}

impl Action for Uninstall {
    const NAME: &'static str = "emco.uninstall";
    type Parameters = OneContext;
    type Output = ();

    async fn run(&self, step: &StepContext, parameters: OneContext) -> Result<(), StepError> {
        self.0.current(step).await?;
        let synchroniser = self.0.controllers.synchroniser();
        self.free_networks(step, parameters.context).await?;
        let meta = self.0.contexts.meta(parameters.context).await.map_err(context_failed)?;
        for context in meta.child_contexts.into_iter().chain([parameters.context]) {
            let sync = self.0.contexts.sync_state(context).await.map_err(context_failed)?;
            if matches!(sync.phase(), Phase::Terminated | Phase::Terminating) && sync.stop != Some(true) {
                continue;
            }
            lift_stop(&self.0.contexts, context).await.map_err(context_failed)?;
            let called = step.wait_for(synchroniser.uninstall(context)).await?;
            called.map_err(|error| controller_failed("rsync", "removing the context", &error))?;
        }
        Ok(())
    }
}

impl Uninstall {
    /// Gives networks of clusters that Drystone made back to the fabric.
    async fn free_networks(&self, step: &StepContext, context: ContextId) -> Result<(), StepError> {
        let context = self.0.contexts.load(context).await.map_err(context_failed)?;
        let Some(app) = context.apps.get(NETWORK_APP) else { return Ok(()) };
        for name in app.clusters.keys() {
            give_back(step, &self.0, name).await?;
        }
        Ok(())
    }
}

/// Lifts a stop: it was for what was going on then. EMCO's synchroniser does nothing with a context for as long as its flag is set.
pub(crate) async fn lift_stop(contexts: &AppContexts, context: ContextId) -> Result<(), AppContextError> {
    let lift = |sync: &mut SyncState| {
        if sync.stop == Some(true) {
            sync.stop = Some(false);
        }
        Ok::<(), AppContextError>(())
    };
    match contexts.edit_sync(context, lift).await {
        Err(AppContextError::NotFound(_)) => Ok(()),
        lifted => lifted,
    }
}

impl Action for HaltContext {
    const NAME: &'static str = "emco.halt";
    type Parameters = OneContext;
    type Output = ();

    async fn run(&self, _: &StepContext, parameters: OneContext) -> Result<(), StepError> {
        self.0
            .contexts
            .edit_sync::<(), AppContextError, _>(parameters.context, |sync| {
                sync.stop = Some(true);
                Ok(())
            })
            .await
            .map_err(context_failed)
    }
}
