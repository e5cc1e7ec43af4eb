//! The steps on stacks.

use std::sync::Arc;

use drystone_engine::action::{Action, StepContext, StepError};

use super::{
    InventoryAsk, InventoryParameters, MarkUnhealthyParameters, StackCreateParameters, StackDeleteParameters,
    StackOutput, StackUpdateParameters, VimSession,
    load::{Loaded, Loader},
};
use crate::{
    model::{Inventory, Phase},
    plan::operation::STACK,
};

/// `vnfm.stack-create`: makes the stack of an instance, and waits until it is there. Undone, the stack is deleted.
pub struct StackCreate {
    pub(super) loader: Arc<Loader>,
}

/// `vnfm.stack-update`: changes the stack of an instance. Undone, it is changed back.
pub struct StackUpdate {
    pub(super) loader: Arc<Loader>,
}

/// `vnfm.stack-delete`: deletes the stack of an instance. Undone, it is made again where it was deleted in order to be made anew.
pub struct StackDelete {
    pub(super) loader: Arc<Loader>,
}

/// `vnfm.mark-unhealthy`: has a resource replaced, or be the first to go, with the next change of the stack.
pub struct MarkUnhealthy {
    pub(super) loader: Arc<Loader>,
}

/// `vnfm.inventory`: reads what there is.
pub struct ReadInventory {
    pub(super) loader: Arc<Loader>,
}

/// Makes the stack, and tells how far it is.
async fn create(
    context: &StepContext,
    (loaded, session): &(Loaded, Box<dyn VimSession>),
    parameters: &StackCreateParameters,
) -> Result<String, StepError> {
    let request = loaded.stack_request(Phase::Forward)?;
    let mut told = |message: String| context.progress(10, message);
    let made = session.create(&parameters.name, &parameters.owner, &request, &mut told);
    Ok(context.wait_for(made).await??)
}

impl Action for StackCreate {
    const NAME: &'static str = "vnfm.stack-create";
    type Parameters = StackCreateParameters;
    type Output = StackOutput;

    async fn run(
        &self,
        context: &StepContext,
        parameters: StackCreateParameters,
    ) -> Result<StackOutput, StepError> {
        let loaded = self.loader.load(context).await?;
        Ok(StackOutput { stack: create(context, &loaded, &parameters).await? })
    }

    async fn undo(&self, context: &StepContext, parameters: StackCreateParameters) -> Result<(), StepError> {
        if parameters.keep {
            return Ok(());
        }
        let (_, session) = self.loader.load(context).await?;
        let mut told = |message: String| context.log(message);
        // An attempt whose answer was lost has no output; its stack is found by its owner.
        let Some(stack) = session.find(&parameters.name, &parameters.owner).await? else { return Ok(()) };
        Ok(context.wait_for(session.delete(&stack, &mut told)).await??)
    }
}

impl Action for StackUpdate {
    const NAME: &'static str = "vnfm.stack-update";
    type Parameters = StackUpdateParameters;
    type Output = StackOutput;

    async fn run(
        &self,
        context: &StepContext,
        parameters: StackUpdateParameters,
    ) -> Result<StackOutput, StepError> {
        let (loaded, session) = self.loader.load(context).await?;
        let request = loaded.stack_request(Phase::Forward)?;
        let mut told = |message: String| context.progress(10, message);
        let done = session.update(&parameters.stack, &parameters.owner, &request, &mut told);
        context.wait_for(done).await??;
        Ok(StackOutput { stack: parameters.stack })
    }

    async fn undo(&self, context: &StepContext, parameters: StackUpdateParameters) -> Result<(), StepError> {
        let (loaded, session) = self.loader.load(context).await?;
        if !parameters.known.is_empty() {
            mark_new(session.as_ref(), &parameters).await?;
        }
        let request = loaded.stack_request(Phase::Rollback)?;
        let mut told = |message: String| context.log(message);
        let done = session.update(&parameters.stack, &parameters.owner, &request, &mut told);
        Ok(context.wait_for(done).await??)
    }
}

/// Members of groups that were not there before are the ones that go.
async fn mark_new(session: &dyn VimSession, parameters: &StackUpdateParameters) -> Result<(), StepError> {
    let ask = InventoryAsk { stack: &parameters.stack, names: &[], known: &[] };
    let inventory = session.inventory(ask).await?;
    for server in inventory.servers.iter().filter(|server| !parameters.known.contains(&server.id)) {
        if let (Some(stack), Some(resource)) = (&server.parent_stack, &server.parent_resource) {
            session.mark_unhealthy(stack, resource, "rolled back").await?;
        }
    }
    Ok(())
}

impl Action for StackDelete {
    const NAME: &'static str = "vnfm.stack-delete";
    type Parameters = StackDeleteParameters;
    type Output = ();

    async fn run(&self, context: &StepContext, parameters: StackDeleteParameters) -> Result<(), StepError> {
        let (_, session) = self.loader.load(context).await?;
        let mut told = |message: String| context.progress(10, message);
        Ok(context.wait_for(session.delete(&parameters.stack, &mut told)).await??)
    }

    async fn undo(&self, context: &StepContext, parameters: StackDeleteParameters) -> Result<(), StepError> {
        let loaded = self.loader.load(context).await?;
        let name = parameters.stack.split('/').next().unwrap_or_default().to_owned();
        if parameters.renew {
            let again = StackCreateParameters { name, owner: parameters.owner, keep: true };
            return create(context, &loaded, &again).await.map(drop);
        }
        // Not begun, or nothing came of it: there is nothing to take back.
        let there = loaded.1.find(&name, &parameters.owner).await?;
        if there.as_deref() == Some(&parameters.stack) {
            return Ok(());
        }
        Err(StepError::permanent(format!(
            "stack {} is deleted, which cannot be taken back; have the operation tried again, or give it up",
            parameters.stack
        )))
    }
}

impl Action for MarkUnhealthy {
    const NAME: &'static str = "vnfm.mark-unhealthy";
    type Parameters = MarkUnhealthyParameters;
    type Output = ();

    async fn run(&self, context: &StepContext, parameters: MarkUnhealthyParameters) -> Result<(), StepError> {
        let (_, session) = self.loader.load(context).await?;
        let MarkUnhealthyParameters { stack, resource, reason } = parameters;
        Ok(context.wait_for(session.mark_unhealthy(&stack, &resource, &reason)).await??)
    }
}

impl Action for ReadInventory {
    const NAME: &'static str = "vnfm.inventory";
    type Parameters = InventoryParameters;
    type Output = Inventory;

    async fn run(
        &self,
        context: &StepContext,
        parameters: InventoryParameters,
    ) -> Result<Inventory, StepError> {
        let (_, session) = self.loader.load(context).await?;
        let stack = match parameters.stack {
            Some(stack) => stack,
            None => context.input::<StackOutput>(STACK)?.stack,
        };
        let ask = InventoryAsk { stack: &stack, names: &parameters.names, known: &parameters.known };
        Ok(context.wait_for(session.inventory(ask)).await??)
    }
}
