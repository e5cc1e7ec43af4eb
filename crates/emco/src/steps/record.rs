//! `emco.record`: what became of it is written down, in one write.

use std::sync::Arc;

use drystone_api::{
    SYSTEM_NAMESPACE,
    emco::{Cluster, DeploymentIntentGroup, LogicalCloud, StateEntry},
};
use drystone_appcontext::ContextId;
use drystone_engine::{
    action::{Action, StepContext, StepError},
    harness::{StatusError, update_status},
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::{Api, Client};
use serde::{Deserialize, Serialize};

use super::{StepDependencies, refused};
use crate::model::{Entry, Target};

/// `emco.record`: appends entries to a history.
pub struct Record(pub(super) Arc<StepDependencies>);

/// Which entries, to whose history.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RecordParameters {
    /// Path of the group, the logical cloud, or the cluster.
    pub path: String,
    /// What is appended, unless it is there.
    pub entries: Vec<RecordEntry>,
    /// The context that carries the status from then on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<ContextId>,
}

/// An entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RecordEntry {
    /// The state.
    pub state: String,
    /// The context; empty if there is none.
    pub context: String,
    /// The revision.
    pub revision: i64,
}

impl From<&Entry> for RecordEntry {
    fn from(entry: &Entry) -> Self {
        let entry = StateEntry::from(entry);
        Self { state: entry.state, context: entry.context_id, revision: entry.revision }
    }
}

impl Action for Record {
    const NAME: &'static str = "emco.record";
    type Parameters = RecordParameters;
    type Output = ();

    async fn run(&self, step: &StepContext, parameters: RecordParameters) -> Result<(), StepError> {
        let target = Target::parse(&parameters.path).map_err(|refusal| refused(&refusal))?;
        self.0.current(step).await?;
        append(step.client(), &self.0, &target, &parameters).await
    }
}

/// Appends entries, unless the history ends with them: an attempt whose answer was lost.
fn grow(history: &mut Vec<StateEntry>, parameters: &RecordParameters, time: jiff::Timestamp) {
    let told = |entry: &StateEntry| RecordEntry {
        state: entry.state.clone(),
        context: entry.context_id.clone(),
        revision: entry.revision,
    };
    let start = history.len().saturating_sub(parameters.entries.len());
    if history[start..].iter().map(told).eq(parameters.entries.iter().cloned()) {
        return;
    }
    let entry = |entry: &RecordEntry| StateEntry {
        state: entry.state.clone(),
        context_id: entry.context.clone(),
        time: Some(MicroTime(time)),
        revision: entry.revision,
    };
    history.extend(parameters.entries.iter().map(entry));
}

async fn append(
    client: &Client,
    dependencies: &StepDependencies,
    target: &Target,
    parameters: &RecordParameters,
) -> Result<(), StepError> {
    let now = jiff::Timestamp::now();
    let carrier = parameters.status.map(|status| status.to_string());
    let library = &dependencies.library;
    let written: Result<(), StatusError> = match target {
        Target::Group(path) => {
            let group = library.group(path).map_err(|refusal| refused(&refusal))?;
            let api: Api<DeploymentIntentGroup> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
            let change = |status: &mut drystone_api::emco::DeploymentIntentGroupStatus| {
                grow(&mut status.state_info, parameters, now);
                status.status_context_id =
                    carrier.clone().unwrap_or(std::mem::take(&mut status.status_context_id));
                status.message.clear();
            };
            update_status(&api, group.as_ref(), change).await.map(drop)
        }
        Target::Cloud(path) => {
            let cloud = library.cloud(path).map_err(|refusal| refused(&refusal))?;
            let api: Api<LogicalCloud> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
            let change = |status: &mut drystone_api::emco::LogicalCloudStatus| {
                grow(&mut status.state_info, parameters, now);
                status.status_context_id =
                    carrier.clone().unwrap_or(std::mem::take(&mut status.status_context_id));
                status.message.clear();
            };
            update_status(&api, cloud.as_ref(), change).await.map(drop)
        }
        Target::Networks(name) => {
            let cluster = library.cluster(name).map_err(|refusal| refused(&refusal))?;
            let api: Api<Cluster> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
            let change = |status: &mut drystone_api::emco::ClusterStatus| {
                let networks = &mut status.networks;
                grow(&mut networks.state_info, parameters, now);
                networks.status_context_id =
                    carrier.clone().unwrap_or(std::mem::take(&mut networks.status_context_id));
            };
            update_status(&api, cluster.as_ref(), change).await.map(drop)
        }
    };
    written.map_err(|error| match error {
        StatusError::Replaced { .. } => StepError::permanent(error),
        StatusError::Api { .. } => StepError::transient(error),
    })
}
