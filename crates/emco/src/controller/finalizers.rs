//! What has contexts and is deleted: the contexts are taken back from their clusters, deleted, and only then does it go.

use std::{sync::Arc, time::Duration};

use drystone_api::{
    SYSTEM_NAMESPACE,
    emco::{Cluster, DeploymentIntentGroup, Document as _, StateEntry},
};
use drystone_appcontext::{AppContextError, ContextId, State as Phase, SyncEvent};
use drystone_engine::harness::{Reconciler, Requeue, has_finalizer, is_deleted, remove_finalizer};
use kube::{Api, Client};

use super::{FINALIZER, Failure};
use crate::{
    model::History,
    steps::{StepDependencies, lift_stop},
};

/// How often it is looked whether a context is gone from its clusters.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Takes contexts back.
#[derive(Clone)]
pub(super) struct Ends {
    pub(super) client: Client,
    pub(super) dependencies: StepDependencies,
}

impl Ends {
    /// Takes all contexts of a history back, and deletes them. Whether that is done.
    pub(super) async fn end(&self, entries: &[StateEntry]) -> Result<bool, Failure> {
        let history = History::from(entries);
        // What was migrated away is another group's.
        let moved = history.0.last().is_some_and(|entry| entry.state == crate::model::State::Updated);
        if moved {
            return Ok(true);
        }
        let contexts = history.contexts();
        if let Some(present) = history.context()
            && !self.is_gone(present).await?
        {
            return Ok(false);
        }
        // Whatever came before it is told to go with it, and may be at clusters until it has.
        for context in &contexts {
            if self.has_orders(*context).await? {
                return Ok(false);
            }
        }
        for context in contexts {
            self.dependencies.contexts.delete(context).await?;
        }
        Ok(true)
    }

    /// Whether the synchroniser has something to do with a context.
    async fn has_orders(&self, context: ContextId) -> Result<bool, Failure> {
        match self.dependencies.contexts.sync_state(context).await {
            Ok(sync) => Ok(sync.has_orders()),
            Err(AppContextError::NotFound(_)) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether nothing of a context is at clusters any more; has it removed, if something is.
    async fn is_gone(&self, context: ContextId) -> Result<bool, Failure> {
        let sync = match self.dependencies.contexts.sync_state(context).await {
            Ok(sync) => sync,
            Err(AppContextError::NotFound(_)) => return Ok(true),
            Err(error) => return Err(error.into()),
        };
        // One that was to replace another one, and was stopped before it began, stands in for that.
        let was_asked = sync.queue.last().is_some_and(|last| last.event != SyncEvent::Terminate);
        match sync.phase() {
            Phase::Created if !was_asked => Ok(true),
            // A removal that was stopped, and not one that failed: whoever deletes it wants it to go on.
            Phase::TerminateFailed if sync.stop == Some(true) => self.uninstall(context).await,
            Phase::Terminated | Phase::TerminateFailed => Ok(true),
            Phase::Terminating => Ok(false),
            _ => self.uninstall(context).await,
        }
    }

    /// Has a context removed. That it is not, yet.
    async fn uninstall(&self, context: ContextId) -> Result<bool, Failure> {
        lift_stop(&self.dependencies.contexts, context).await?;
        let synchroniser = self.dependencies.controllers.synchroniser();
        synchroniser.uninstall(context).await.map_err(|error| Failure::Other(error.to_string()))?;
        Ok(false)
    }
}

/// Deployment intent groups that are deleted.
pub(super) struct Groups(pub(super) Ends);

impl Reconciler for Groups {
    type Object = DeploymentIntentGroup;
    type Error = Failure;

    const NAME: &'static str = "emco-group";

    async fn reconcile(&self, group: Arc<DeploymentIntentGroup>) -> Result<Requeue, Failure> {
        if !is_deleted(group.as_ref()) || !has_finalizer(group.as_ref(), FINALIZER) {
            return Ok(Requeue::OnChange);
        }
        let status = group.status.clone().unwrap_or_default();
        if !self.0.end(&status.state_info).await? {
            return Ok(Requeue::After(LOOK_AGAIN));
        }
        let api: Api<DeploymentIntentGroup> = Api::namespaced(self.0.client.clone(), SYSTEM_NAMESPACE);
        remove_finalizer(&api, group.as_ref(), FINALIZER).await?;
        tracing::info!(path = group.path(), "deployment intent group is gone, with its contexts");
        Ok(Requeue::OnChange)
    }
}

/// Networks of clusters that are deleted.
pub(super) struct Networks(pub(super) Ends);

impl Reconciler for Networks {
    type Object = Cluster;
    type Error = Failure;

    const NAME: &'static str = "emco-networks";

    async fn reconcile(&self, cluster: Arc<Cluster>) -> Result<Requeue, Failure> {
        if !is_deleted(cluster.as_ref()) || !has_finalizer(cluster.as_ref(), FINALIZER) {
            return Ok(Requeue::OnChange);
        }
        let status = cluster.status.clone().unwrap_or_default();
        if !self.0.end(&status.networks.state_info).await? {
            return Ok(Requeue::After(LOOK_AGAIN));
        }
        let api: Api<Cluster> = Api::namespaced(self.0.client.clone(), SYSTEM_NAMESPACE);
        remove_finalizer(&api, cluster.as_ref(), FINALIZER).await?;
        Ok(Requeue::OnChange)
    }
}
