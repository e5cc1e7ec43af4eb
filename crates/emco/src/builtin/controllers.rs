//! gac and ovnaction behind the contract of action controllers.

mod applied;
mod declared;
mod fetch;
#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, sync::Arc};

use async_trait::async_trait;
use drystone_appcontext::{
    AppContext, AppContextError, AppContexts, ClusterName, ContextId, Meta,
    contract::{ActionController, ControllerError, Event},
};
use drystone_store::StoreError;

pub use declared::{DeclaredIntents, Files};
pub use fetch::{Fetch, HttpValues};

use super::{
    gac::{self, Clusters, FetchedValues, GenericIntent, Marks},
    interfaces::{self, NetworkIntent},
};
use crate::model::{GroupPath, Refusal};

/// Where built-in controllers find what was declared.
#[async_trait]
pub trait Intents: Send + Sync + 'static {
    /// A generic intent of a group with all that is below it.
    ///
    /// # Errors
    /// It is not there (404), or could not be read.
    async fn generic(&self, group: &GroupPath, name: &str) -> Result<GenericIntent, Refusal>;

    /// A network controller intent of a group with all that is below it.
    ///
    /// # Errors
    /// It is not there (404), or could not be read.
    async fn network(&self, group: &GroupPath, name: &str) -> Result<NetworkIntent, Refusal>;

    /// What is known of clusters. One that is not known is left out.
    ///
    /// # Errors
    /// It could not be read.
    async fn clusters(&self, names: &BTreeSet<ClusterName>) -> Result<Clusters, Refusal>;
}

/// The generic action controller.
#[derive(Clone)]
pub struct GenericActions {
    contexts: AppContexts,
    intents: Arc<dyn Intents>,
    fetch: Option<Arc<dyn Fetch>>,
}

impl GenericActions {
    /// Name under which group intents name it.
    pub const NAME: &'static str = "gac";

    /// A controller. Without `fetch`, values that are to be fetched (`$(http…)$`) are refused.
    pub fn new(contexts: AppContexts, intents: Arc<dyn Intents>, fetch: Option<Arc<dyn Fetch>>) -> Self {
        Self { contexts, intents, fetch }
    }

    async fn update(&self, id: ContextId, name: &str) -> Result<(), Failure> {
        let context = self.contexts.load(id).await?;
        let intent = self.intents.generic(&group_of(&context.meta), name).await?;
        let clusters = self.intents.clusters(&clusters_of(&context)).await?;
        let fetched = self.fetched(&gac::addresses(&context, &intent, &clusters)).await?;
        let record = applied::Record::new(&self.contexts, id, Self::NAME, name);
        let done = match record.read().await? {
            Some(done) => done,
            None => {
                let mut draft = context;
                let marks = gac::apply(&mut draft, &intent, &clusters, &fetched, &Marks::new())?;
                // Nothing that could be done twice, nothing to remember.
                if !marks.is_empty() {
                    record.write(&marks).await?;
                }
                marks
            }
        };
        let apply = |context: &mut AppContext| {
            gac::apply(context, &intent, &clusters, &fetched, &done).map(drop).map_err(Failure::from)
        };
        self.contexts.edit(id, apply).await
    }

    async fn fetched(&self, addresses: &BTreeSet<String>) -> Result<FetchedValues, Refusal> {
        let mut fetched = FetchedValues::new();
        for address in addresses {
            let Some(fetch) = &self.fetch else {
                return Err(Refusal::unfit(format!(
                    "a JSON patch takes a value from {address}: that is not allowed here, or whoever writes an intent could make this machine ask any address; write the value itself, or have the host allowed"
                )));
            };
            let value = fetch.fetch(address).await.map_err(Refusal::unfit)?;
            fetched.insert(address.clone(), value);
        }
        Ok(fetched)
    }
}

#[async_trait]
impl ActionController for GenericActions {
    async fn update_context(
        &self,
        context: ContextId,
        intent: &str,
        _: Option<ContextId>,
    ) -> Result<(), ControllerError> {
        self.update(context, intent).await.map_err(ControllerError::from)
    }

    async fn terminate(&self, _: ContextId) -> Result<(), ControllerError> {
        Ok(())
    }

    async fn post_event(&self, _: ContextId, _: Event) -> Result<(), ControllerError> {
        Ok(())
    }
}

/// The controller of interfaces on networks.
#[derive(Clone)]
pub struct InterfaceActions {
    contexts: AppContexts,
    intents: Arc<dyn Intents>,
}

impl InterfaceActions {
    /// Name under which group intents name it.
    pub const NAME: &'static str = "ovnaction";

    /// A controller.
    pub fn new(contexts: AppContexts, intents: Arc<dyn Intents>) -> Self {
        Self { contexts, intents }
    }

    async fn update(&self, id: ContextId, name: &str) -> Result<(), Failure> {
        let context = self.contexts.load(id).await?;
        let intent = self.intents.network(&group_of(&context.meta), name).await?;
        let clusters = self.intents.clusters(&clusters_of(&context)).await?;
        let apply =
            |context: &mut AppContext| interfaces::apply(context, &intent, &clusters).map_err(Failure::from);
        self.contexts.edit(id, apply).await
    }
}

#[async_trait]
impl ActionController for InterfaceActions {
    async fn update_context(
        &self,
        context: ContextId,
        intent: &str,
        _: Option<ContextId>,
    ) -> Result<(), ControllerError> {
        self.update(context, intent).await.map_err(ControllerError::from)
    }

    async fn terminate(&self, _: ContextId) -> Result<(), ControllerError> {
        Ok(())
    }

    async fn post_event(&self, _: ContextId, _: Event) -> Result<(), ControllerError> {
        Ok(())
    }
}

/// The group that a context is of.
fn group_of(meta: &Meta) -> GroupPath {
    GroupPath {
        project: meta.project.clone(),
        composite_app: meta.composite_app.clone(),
        version: meta.version.clone(),
        name: meta.deployment_intent_group.clone(),
    }
}

fn clusters_of(context: &AppContext) -> BTreeSet<ClusterName> {
    context.parts().map(|(_, cluster, _)| cluster.clone()).collect()
}

/// Why a context was not changed.
enum Failure {
    Refusal(Refusal),
    Context(AppContextError),
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refusal(refusal)
    }
}

impl From<AppContextError> for Failure {
    fn from(error: AppContextError) -> Self {
        Self::Context(error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Context(error.into())
    }
}

impl From<Failure> for ControllerError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refusal(refusal) => Self::Refused(refusal.message),
            // The store may answer again: that is no refusal.
            Failure::Context(AppContextError::Store(error)) => Self::Unreachable(error.to_string()),
            Failure::Context(error) => Self::Refused(error.to_string()),
        }
    }
}
