//! `emco.make-cluster`: where no cluster fits, and the group allows it, one is made out of free hosts.

use std::{sync::Arc, time::Duration};

use drystone_api::{
    Cluster, ClusterPhase, SYSTEM_NAMESPACE,
    emco::{ClusterReference, ClusterReferenceSpec, DRYSTONE_PROVIDER, NewClusterPolicy, object_name},
};
use drystone_appcontext::ClusterName;
use drystone_engine::{
    action::{Action, StepContext, StepError},
    reference::{is_conflict, is_not_found},
};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, PostParams},
};
use serde::{Deserialize, Serialize};

use super::{
    StepDependencies,
    context::{home, needs, render, requests},
    refused, unplaced,
};
use crate::{
    clusters::{LABELS_ANNOTATION, onboarded_name},
    model::{CloudPath, GroupPath, Refusal, Target},
    plan::placement::place,
};

/// How often it is looked whether the cluster is there.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// Annotation of a cluster that was made for a deployment: the uid of the operation that had it made.
const MADE_FOR: &str = "emco.drystone.dev/made-for-operation";

/// `emco.make-cluster`: makes a cluster if none fits, and waits until applications can be deployed to it. Undone, it is given back.
pub struct MakeCluster(pub(super) Arc<StepDependencies>);

/// For whom.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MakeClusterParameters {
    /// Path of the group.
    pub path: String,
}

/// What was made.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Made {
    /// The cluster, if one had to be made.
    pub cluster: Option<ClusterName>,
}

impl Action for MakeCluster {
    const NAME: &'static str = "emco.make-cluster";
    type Parameters = MakeClusterParameters;
    type Output = Made;

    async fn run(&self, step: &StepContext, parameters: MakeClusterParameters) -> Result<Made, StepError> {
        let Target::Group(path) = Target::parse(&parameters.path).map_err(|refusal| refused(&refusal))?
        else {
            return Ok(Made::default());
        };
        self.0.current(step).await?;
        let group = self.0.library.group(&path).map_err(|refusal| refused(&refusal))?;
        let Some(policy) = &group.spec.new_cluster else { return Ok(Made::default()) };
        let name = made_name(&path, step);
        let api: Api<Cluster> = Api::namespaced(step.client().clone(), &policy.namespace);
        let begun = match api.get_opt(&name).await {
            Ok(found) => found.is_some(),
            Err(error) => return Err(StepError::from_kube("looking for the new cluster", &error)),
        };
        if !begun {
            let Some(why) = self.why_none_fits(&path).await? else { return Ok(Made::default()) };
            step.log(format!("{why}; cluster {}/{name} is made", policy.namespace));
            make(&api, &name, policy, step).await?;
        }
        let made = self.wait(step, &api, &name, policy).await?;
        if let Some(cluster) = &made.cluster {
            refer(step, &path.cloud(&group.spec.logical_cloud), cluster).await?;
        }
        Ok(made)
    }

    async fn undo(&self, step: &StepContext, parameters: MakeClusterParameters) -> Result<(), StepError> {
        let Ok(Target::Group(path)) = Target::parse(&parameters.path) else { return Ok(()) };
        let Ok(group) = self.0.library.group(&path) else { return Ok(()) };
        let Some(policy) = &group.spec.new_cluster else { return Ok(()) };
        let api: Api<Cluster> = Api::namespaced(step.client().clone(), &policy.namespace);
        let name = made_name(&path, step);
        let ours = match api.get_opt(&name).await {
            Ok(found) => {
                found.is_some_and(|found| found.annotations().get(MADE_FOR) == Some(&step.operation().uid))
            }
            Err(error) => return Err(StepError::from_kube("looking for the new cluster", &error)),
        };
        if !ours {
            return Ok(());
        }
        match api.delete(&name, &DeleteParams::default()).await {
            Ok(_) => Ok(()),
            Err(error) if is_not_found(&error) => Ok(()),
            Err(error) => Err(StepError::from_kube("giving the new cluster back", &error)),
        }
    }
}

/// The name of the cluster that an operation makes: always the same one.
fn made_name(path: &GroupPath, step: &StepContext) -> String {
    let readable: String =
        path.name.to_ascii_lowercase().chars().filter(char::is_ascii_alphanumeric).take(20).collect();
    let digest = step.idempotency_key().simple().to_string();
    format!("app-{readable}-{}", &digest[..8])
}

async fn make(
    api: &Api<Cluster>,
    name: &str,
    policy: &NewClusterPolicy,
    step: &StepContext,
) -> Result<(), StepError> {
    let mut cluster = Cluster::new(name, policy.cluster.clone());
    let annotations = cluster.annotations_mut();
    annotations.insert(LABELS_ANNOTATION.to_owned(), policy.labels.join(","));
    annotations.insert(MADE_FOR.to_owned(), step.operation().uid.clone());
    match api.create(&PostParams::default(), &cluster).await {
        Ok(_) => Ok(()),
        Err(error) if is_conflict(&error) => Ok(()),
        Err(error) => Err(StepError::from_kube("making a cluster", &error)),
    }
}

/// Makes the cluster one of the logical cloud's.
async fn refer(step: &StepContext, cloud: &CloudPath, cluster: &ClusterName) -> Result<(), StepError> {
    let path = format!("{}/cluster-references/{}", cloud.path(), cluster.cluster);
    let spec = ClusterReferenceSpec {
        path: path.clone(),
        description: "made because no cluster fitted an application".to_owned(),
        cluster_provider: cluster.provider.clone(),
        cluster: cluster.cluster.clone(),
        ..ClusterReferenceSpec::default()
    };
    let api: Api<ClusterReference> = Api::namespaced(step.client().clone(), SYSTEM_NAMESPACE);
    let reference = ClusterReference::new(&object_name(&path), spec);
    match api.create(&PostParams::default(), &reference).await {
        Ok(_) => Ok(()),
        Err(error) if is_conflict(&error) => Ok(()),
        Err(error) => Err(StepError::from_kube("making the new cluster one of the logical cloud's", &error)),
    }
}

impl MakeCluster {
    /// Why no cluster fits, where a new one would help; nothing if all is well, or for other reasons, which the next step tells.
    async fn why_none_fits(&self, path: &GroupPath) -> Result<Option<String>, StepError> {
        let deployment = self.0.library.deployment(path).map_err(|refusal| refused(&refusal))?;
        let home = home(&self.0, &deployment).await?;
        if home.level != "0" {
            // Its user and namespace would have to be made there first, which is the logical cloud's affair.
            return Ok(None);
        }
        let manifests = render(&self.0, &deployment, &home.namespace).await?;
        let needs = needs(&deployment, &manifests);
        let facts = self.0.facts(&deployment).await;
        match place(&requests(&deployment, &needs), &facts, Some(&self.0.allowed(&deployment))) {
            Ok(_) => Ok(None),
            Err(error) if error.homeless.is_empty() => Err(unplaced(&error)),
            Err(error) => Ok(Some(error.to_string())),
        }
    }

    async fn wait(
        &self,
        step: &StepContext,
        api: &Api<Cluster>,
        name: &str,
        policy: &NewClusterPolicy,
    ) -> Result<Made, StepError> {
        let onboarded = ClusterName::new(DRYSTONE_PROVIDER, onboarded_name(&policy.namespace, name));
        loop {
            let found = api.get_opt(name).await;
            let found = found.map_err(|error| StepError::from_kube("following the new cluster", &error))?;
            let Some(cluster) = found else {
                return Err(refused(&Refusal::state(format!(
                    "the new cluster {name} was deleted meanwhile"
                ))));
            };
            let status = cluster.status.unwrap_or_default();
            if status.phase == ClusterPhase::Failed {
                let why = format!("no cluster fits, and none could be made: {}", status.message);
                return Err(refused(&Refusal::state(why)));
            }
            let is_known = self.0.library.cluster(&onboarded).is_ok();
            if status.phase == ClusterPhase::Ready && is_known {
                step.log(format!("cluster {onboarded} is there, in namespace {SYSTEM_NAMESPACE}"));
                return Ok(Made { cluster: Some(onboarded) });
            }
            step.progress(50, format!("cluster {name}: {:?} {}", status.phase, status.message));
            step.wait_for(tokio::time::sleep(LOOK_AGAIN)).await?;
        }
    }
}
