//! `emco.write-context`: the context of a deployment, a logical cloud, or the networks of a cluster.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use drystone_api::{Cluster, emco::Document as _};
use drystone_appcontext::{
    AppContext, AppContextError, AppContexts, ClusterName, ContextId, Creation, State as Phase,
};
use drystone_engine::action::{Action, StepContext, StepError};
use futures::{StreamExt as _, TryStreamExt as _};
use kube::Api;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{StepDependencies, context_failed, refused, unplaced};
use crate::{
    builtin::{fabric::FabricNetworks, networks},
    logical_cloud,
    model::{Amounts, ClusterFacts, Deployment, GroupPath, History, Manifests, Refusal, Target},
    plan::{
        context::{self, Home},
        placement::{Request, filter, needs_of},
    },
    seams::ChartFailure,
};

/// Applications that are rendered at the same time; the renderer has limits of its own.
const RENDERED_AT_ONCE: usize = 8;

/// How often it is looked whether the fabric has the networks of a cluster, and how many times at most: a minute.
const FABRIC_LOOK_AGAIN: Duration = Duration::from_millis(250);
const FABRIC_LOOKS: u32 = 240;

/// `emco.write-context`: writes the context. Undone, it is deleted.
pub struct WriteContext(pub(super) Arc<StepDependencies>);

/// Of what, under which number.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WriteContextParameters {
    /// Path of the group, the logical cloud, or the cluster.
    pub path: String,
    /// The context.
    pub context: ContextId,
    /// The context that carries the status, if this one takes the place of another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<ContextId>,
}

/// What was written.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Written {
    /// Applications.
    pub apps: usize,
    /// Clusters, over all applications.
    pub parts: usize,
}

impl Action for WriteContext {
    const NAME: &'static str = "emco.write-context";
    type Parameters = WriteContextParameters;
    type Output = Written;

    async fn run(
        &self,
        step: &StepContext,
        parameters: WriteContextParameters,
    ) -> Result<Written, StepError> {
        self.0.current(step).await?;
        let context = match Target::parse(&parameters.path).map_err(|refusal| refused(&refusal))? {
            Target::Group(path) => self.of_group(&path, &parameters).await?,
            Target::Cloud(path) => {
                logical_cloud::context(
                    step.client(),
                    &self.0.library,
                    &path,
                    parameters.context,
                    parameters.status,
                )
                .await?
            }
            Target::Networks(cluster) => self.of_networks(step, &cluster, parameters.context).await?,
        };
        let parts = context.parts().count();
        step.progress(60, format!("{} applications, {parts} parts", context.apps.len()));
        match self.0.contexts.create(&context).await.map_err(context_failed)? {
            Creation::Created => {}
            // An attempt whose answer was lost, or that was cut short after it.
            Creation::Existed => step.log("the context is there already"),
        }
        Ok(Written { apps: context.apps.len(), parts })
    }

    async fn undo(&self, step: &StepContext, parameters: WriteContextParameters) -> Result<(), StepError> {
        if let Ok(Target::Networks(cluster)) = Target::parse(&parameters.path) {
            give_back(step, &self.0, &cluster).await?;
        }
        self.0.contexts.delete(parameters.context).await.map_err(context_failed)
    }
}

/// Gives the networks of a cluster back to the fabric, if Drystone made the cluster.
pub(super) async fn give_back(
    step: &StepContext,
    dependencies: &StepDependencies,
    name: &ClusterName,
) -> Result<(), StepError> {
    let Ok(cluster) = dependencies.library.cluster(name) else { return Ok(()) };
    let Some(own) = composed(step, &cluster).await? else { return Ok(()) };
    let fabric = FabricNetworks::new(step.client().clone());
    while !fabric.remove(&own).await.map_err(|refusal| refused(&refusal))? {
        step.wait_for(tokio::time::sleep(FABRIC_LOOK_AGAIN)).await?;
    }
    Ok(())
}

/// The cluster of Drystone's own that a cluster is, if it is one.
async fn composed(
    step: &StepContext,
    cluster: &drystone_api::emco::Cluster,
) -> Result<Option<Cluster>, StepError> {
    let Some(own) = &cluster.spec.drystone_cluster else { return Ok(None) };
    let api: Api<Cluster> = Api::namespaced(step.client().clone(), &own.namespace);
    api.get_opt(&own.name).await.map_err(|error| StepError::from_kube("looking at the cluster", &error))
}

impl WriteContext {
    /// Networks of clusters that Drystone made are the fabric's; there is nothing to apply in the cluster.
    async fn of_networks(
        &self,
        step: &StepContext,
        name: &ClusterName,
        id: ContextId,
    ) -> Result<AppContext, StepError> {
        let library = &self.0.library;
        let cluster = library.cluster(name).map_err(|refusal| refused(&refusal))?;
        let (networks, provider_networks) = library.networks_of(name);
        let facts = library.facts().remove(name).unwrap_or_else(|| ClusterFacts::named(name.clone()));
        let told = match composed(step, &cluster).await? {
            Some(own) => {
                let fabric = FabricNetworks::new(step.client().clone());
                let applied = fabric.apply(&own, &networks, &provider_networks).await;
                applied.map_err(|refusal| refused(&refusal))?;
                self.carried(step, &fabric, &own).await?;
                networks::context(id, &facts, &[], &[])
            }
            None => networks::context(id, &facts, &networks, &provider_networks),
        };
        told.map_err(|refusal| refused(&refusal))
    }

    /// Waits until the fabric has the networks. What it cannot carry out, at once or after a while, is taken back and refused; what only takes
    /// long goes on by itself.
    async fn carried(
        &self,
        step: &StepContext,
        fabric: &FabricNetworks,
        cluster: &Cluster,
    ) -> Result<(), StepError> {
        for _ in 0..FABRIC_LOOKS {
            match fabric.settled(cluster).await {
                Ok(true) => return Ok(()),
                Ok(false) => step.wait_for(tokio::time::sleep(FABRIC_LOOK_AGAIN)).await?,
                Err(refusal) => {
                    if refusal.code == 422 {
                        fabric.remove(cluster).await.map_err(|refusal| refused(&refusal))?;
                    }
                    return Err(refused(&refusal));
                }
            }
        }
        if let Some(refusal) = fabric.refusal(cluster).await.map_err(|refusal| refused(&refusal))? {
            fabric.remove(cluster).await.map_err(|refusal| refused(&refusal))?;
            return Err(refused(&refusal));
        }
        step.log("the fabric manager is still at work on the networks");
        Ok(())
    }

    async fn of_group(
        &self,
        path: &GroupPath,
        parameters: &WriteContextParameters,
    ) -> Result<AppContext, StepError> {
        let deployment = self.0.library.deployment(path).map_err(|refusal| refused(&refusal))?;
        let home = home(&self.0, &deployment).await?;
        let manifests = render(&self.0, &deployment, &home.namespace).await?;
        let facts = self.0.facts(&deployment).await;
        let needs = needs(&deployment, &manifests);
        let allowed = self.0.allowed(&deployment);
        let placement = filter(&requests(&deployment, &needs), &facts, Some(&allowed))
            .map_err(|error| unplaced(&error))?;
        Ok(context::context(
            parameters.context,
            &deployment,
            &home,
            &placement,
            &manifests,
            parameters.status,
        ))
    }
}

/// What is asked of placement.
pub(crate) fn requests<'a>(
    deployment: &'a Deployment,
    needs: &BTreeMap<String, Amounts>,
) -> Vec<Request<'a>> {
    let request = |app: &'a crate::model::DeployedApp| Request {
        app: &app.name,
        intent: &app.intent,
        rules: &app.rules,
        needs: needs.get(&app.name).copied().unwrap_or_default(),
    };
    deployment.apps.iter().map(request).collect()
}

/// What the pods of applications ask for, of those whose rules want to know.
pub(crate) fn needs(
    deployment: &Deployment,
    manifests: &BTreeMap<String, Manifests>,
) -> BTreeMap<String, Amounts> {
    let wanted = deployment.apps.iter().filter(|app| app.rules.must_have_room);
    let of = |app: &crate::model::DeployedApp| {
        let texts = manifests.get(&app.name).map(|all| all.objects.iter().map(|one| &*one.text));
        (app.name.clone(), needs_of_texts(texts.into_iter().flatten()))
    };
    wanted.map(of).collect()
}

/// What the pods of manifests ask for.
pub(crate) fn needs_of_texts<'a>(texts: impl Iterator<Item = &'a str>) -> Amounts {
    let read = |text: &str| -> Option<Value> {
        serde_json::from_str(text).ok().or_else(|| serde_saphyr::from_str(text).ok())
    };
    let objects: Vec<Value> = texts.filter_map(read).collect();
    needs_of(&objects)
}

/// Renders all applications of a deployment.
pub(crate) async fn render(
    dependencies: &StepDependencies,
    deployment: &Deployment,
    namespace: &str,
) -> Result<BTreeMap<String, Manifests>, StepError> {
    let rendered = deployment.apps.iter().map(|app| async move {
        let manifests = dependencies.charts.render(app, &deployment.release, namespace).await;
        let manifests = manifests.map_err(|failure| match failure {
            ChartFailure::Refused(refusal) => refused(&refusal),
            ChartFailure::NotNow(why) => StepError::transient(why),
        })?;
        Ok::<_, StepError>((app.name.clone(), manifests))
    });
    let rendered: Vec<_> = rendered.collect();
    futures::stream::iter(rendered).buffer_unordered(RENDERED_AT_ONCE).try_collect().await
}

/// Namespace and level of a deployment's logical cloud, which must be there.
pub(crate) async fn home(
    dependencies: &StepDependencies,
    deployment: &Deployment,
) -> Result<Home, StepError> {
    let path = deployment.path.cloud(&deployment.cloud);
    let cloud = dependencies.library.cloud(&path).map_err(|refusal| refused(&refusal))?;
    let status = cloud.status.clone().unwrap_or_default();
    let history = History::from(&status.state_info[..]);
    let phase = phase_of(&dependencies.contexts, &history).await.map_err(context_failed)?;
    if phase != Some(Phase::Instantiated) {
        let is = phase.map_or("not instantiated".to_owned(), |phase| format!("{phase}, not Instantiated"));
        return Err(refused(&Refusal::state(format!("logical cloud {} is {is}", cloud.document_name()))));
    }
    let namespace = if cloud.spec.namespace.is_empty() { "default" } else { &cloud.spec.namespace };
    Ok(Home {
        cloud: cloud.document_name().to_owned(),
        namespace: namespace.to_owned(),
        level: cloud.spec.level.clone(),
    })
}

/// How far the synchroniser is with the present context of a history, orders that wait counted as begun; none if there is none any more.
///
/// # Errors
/// The store fails.
pub async fn phase_of(contexts: &AppContexts, history: &History) -> Result<Option<Phase>, AppContextError> {
    let Some(context) = history.context() else { return Ok(None) };
    match contexts.sync_state(context).await {
        Ok(sync) => Ok(Some(sync.phase())),
        Err(AppContextError::NotFound(_)) => Ok(None),
        Err(error) => Err(error),
    }
}
