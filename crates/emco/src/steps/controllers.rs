//! What controllers are told.

use std::sync::Arc;

use drystone_appcontext::{
    ContextId,
    contract::{Event, PlacementController as _},
};
use drystone_emco_grpc::{CheckedPlacement, tolerated};
use drystone_engine::action::{Action, StepContext, StepError};
use serde::{Deserialize, Serialize};

use super::{StepDependencies, controller_failed};

/// `emco.filter-clusters`: a placement controller says which clusters will do.
pub struct FilterClusters(pub(super) Arc<StepDependencies>);

/// `emco.update-context`: an action controller shapes a context.
pub struct UpdateContext(pub(super) Arc<StepDependencies>);

/// `emco.terminate-context`: an action controller hears that a context goes.
pub struct TerminateContext(pub(super) Arc<StepDependencies>);

/// `emco.post-event`: a controller hears what has happened. Never fails: what it does about it is its own affair.
pub struct PostEvent(pub(super) Arc<StepDependencies>);

/// Which controller, about which context.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ControllerParameters {
    /// The controller.
    pub controller: String,
    /// Its intent.
    pub intent: String,
    /// The context.
    pub context: ContextId,
    /// The context whose place it takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<ContextId>,
}

/// What has happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventKind {
    /// A context is being installed.
    Instantiate,
    /// One is being removed.
    Terminate,
    /// One takes the place of another.
    Update,
}

/// Which controller hears of what.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PostEventParameters {
    /// The controller.
    pub controller: String,
    /// The context.
    pub context: ContextId,
    /// What has happened.
    pub event: EventKind,
}

impl Action for FilterClusters {
    const NAME: &'static str = "emco.filter-clusters";
    type Parameters = ControllerParameters;
    type Output = ();

    async fn run(&self, step: &StepContext, parameters: ControllerParameters) -> Result<(), StepError> {
        self.0.current(step).await?;
        let controller = self.0.controllers.placement(&parameters.controller);
        // It writes into the context itself: what it leaves has to be what it was given, or less.
        let controller = CheckedPlacement::new(controller, self.0.contexts.clone());
        let called = step.wait_for(controller.filter_clusters(parameters.context)).await?;
        called.map_err(|error| controller_failed(&parameters.controller, "filtering clusters", &error))
    }
}

impl Action for UpdateContext {
    const NAME: &'static str = "emco.update-context";
    type Parameters = ControllerParameters;
    type Output = ();

    async fn run(&self, step: &StepContext, parameters: ControllerParameters) -> Result<(), StepError> {
        self.0.current(step).await?;
        let controller = self.0.controllers.action(&parameters.controller);
        let call = controller.update_context(parameters.context, &parameters.intent, parameters.from);
        let called = step.wait_for(call).await?;
        called.map_err(|error| controller_failed(&parameters.controller, "updating the context", &error))
    }
}

impl Action for TerminateContext {
    const NAME: &'static str = "emco.terminate-context";
    type Parameters = ControllerParameters;
    type Output = ();

    async fn run(&self, step: &StepContext, parameters: ControllerParameters) -> Result<(), StepError> {
        self.0.current(step).await?;
        let controller = self.0.controllers.action(&parameters.controller);
        let called = tolerated(step.wait_for(controller.terminate(parameters.context)).await?);
        called.map_err(|error| controller_failed(&parameters.controller, "terminating the context", &error))
    }
}

impl Action for PostEvent {
    const NAME: &'static str = "emco.post-event";
    type Parameters = PostEventParameters;
    type Output = ();

    async fn run(&self, step: &StepContext, parameters: PostEventParameters) -> Result<(), StepError> {
        let event = match parameters.event {
            EventKind::Instantiate => Event::Instantiate,
            EventKind::Terminate => Event::Terminate,
            EventKind::Update => Event::Update,
        };
        match self.0.current(step).await {
            Err(StepError::Cancelled) => return Err(StepError::Cancelled),
            // A failure would undo what has been written down already.
            Err(error) => step.log(format!("{} may not be known yet: {error}", parameters.controller)),
            Ok(()) => {}
        }
        let controller = self.0.controllers.action(&parameters.controller);
        if let Err(error) = tolerated(step.wait_for(controller.post_event(parameters.context, event)).await?)
        {
            step.log(format!("{} did not take the event: {error}", parameters.controller));
        }
        Ok(())
    }
}
