//! Status of what is at a path, out of documents and contexts.

use drystone_api::emco::Document as _;
use drystone_appcontext::{AppContext, AppContextError, AppContexts, ContextId};
use serde_json::Value;

use super::{StatusQuery, Whose, context_of, project};
use crate::{
    library::Library,
    model::{History, Refusal, Target},
    plan::{cloud, group},
    steps::phase_of,
};

/// Answers queries. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Statuses {
    library: Library,
    contexts: AppContexts,
}

impl Statuses {
    /// Over documents and contexts.
    pub fn new(library: Library, contexts: AppContexts) -> Self {
        Self { library, contexts }
    }

    /// Whose status it is, and its history, by the document at a path.
    fn known(&self, path: &str) -> Result<(Whose, History), Refusal> {
        match Target::parse(path)? {
            Target::Group(path) => {
                let group = self.library.group(&path)?;
                let status = group.status.clone().unwrap_or_default();
                let whose = Whose::Group {
                    project: path.project,
                    composite_app: path.composite_app,
                    version: path.version,
                    profile: group.spec.composite_profile.clone(),
                    name: path.name,
                };
                Ok((whose, History::from(&status.state_info[..])))
            }
            Target::Cloud(path) => {
                let cloud = self.library.cloud(&path)?;
                let status = cloud.status.clone().unwrap_or_default();
                let whose = Whose::Cloud { project: path.project, name: cloud.document_name().to_owned() };
                Ok((whose, History::from(&status.state_info[..])))
            }
            Target::Networks(name) => {
                let cluster = self.library.cluster(&name)?;
                let status = cluster.status.clone().unwrap_or_default().networks;
                Ok((Whose::Cluster(name), History::from(&status.state_info[..])))
            }
        }
    }

    /// The contexts that the status of what is at a path is of, at present.
    pub(super) fn followed(&self, path: &str) -> Result<Vec<ContextId>, Refusal> {
        let (_, history) = self.known(path)?;
        let mut contexts: Vec<ContextId> = history.context().into_iter().collect();
        contexts.extend(history.status_context().filter(|carrier| !contexts.contains(carrier)));
        Ok(contexts)
    }

    pub(super) fn contexts(&self) -> &AppContexts {
        &self.contexts
    }

    /// Answers a query about the group, the logical cloud or the networks of the cluster at a path.
    ///
    /// # Errors
    /// There is nothing at the path, or the contexts cannot be read.
    pub async fn answer(&self, path: &str, query: &StatusQuery) -> Result<Value, Refusal> {
        let (whose, history) = self.known(path)?;
        let asked = context_of(&history, query);
        if query.instance.is_some() && asked.is_none() {
            return Err(Refusal::missing(format!("instance: {path} never had that AppContext")));
        }
        let context = match asked {
            Some(context) => self.load(context).await?,
            None => None,
        };
        let carrier = context.as_ref().and_then(|context| context.sync.status_context);
        let carrier = match carrier.filter(|carrier| Some(*carrier) != asked) {
            Some(carrier) => self.load(carrier).await?,
            None => None,
        };
        Ok(project(&whose, &history, context.as_ref(), carrier.as_ref(), query))
    }

    async fn load(&self, context: ContextId) -> Result<Option<AppContext>, Refusal> {
        match self.contexts.load(context).await {
            Ok(context) => Ok(Some(context)),
            Err(AppContextError::NotFound(_)) => Ok(None),
            Err(error) => Err(Refusal::failed(error.to_string())),
        }
    }

    /// Whether nothing of what is at a path is on clusters any more, so that it may be deleted.
    ///
    /// # Errors
    /// What is left (409), or that it cannot be told.
    pub async fn settled(&self, path: &str) -> Result<(), Refusal> {
        let (_, history) = self.known(path)?;
        let phase =
            phase_of(&self.contexts, &history).await.map_err(|error| Refusal::failed(error.to_string()))?;
        match Target::parse(path)? {
            Target::Group(path) => group::may_be_deleted(&path.name, &history, phase),
            Target::Cloud(path) => cloud::may_be_deleted(&path.name, &history, phase),
            Target::Networks(name) if history.state().is_deployed() => Err(Refusal::state(format!(
                "networks of {name} are {}; terminate them first",
                history.state()
            ))),
            Target::Networks(_) => Ok(()),
        }
    }
}
