//! What is different for clusters that are installed over SSH.

use std::time::Duration;

use drystone_api::{
    Cluster, ClusterMember, ClusterSpec, ClusterStatus, Composition, CompositionMember, Distribution,
    Operation, OperationSpec, ScriptRuns,
};
use drystone_engine::{harness::update_status, plan::PlanError};
use kube::Api;

use super::reconcile::{ClusterReconciler, ReconcileError, api_error};
use crate::{
    distribution::{self, is_listed, listed, plan::Installation, script, steps::kubeconfig::Endpoint},
    model::Names,
    plan::{Situation, converge},
};

/// How long one run of an installer may take, with what comes before and after it.
pub(super) fn limit(spec: &ClusterSpec) -> Duration {
    let settings = script::settings(spec);
    Duration::from_secs(u64::from(settings.timeout_seconds.unwrap_or(1800)) + 600)
}

/// Gives members the addresses that the specification lists.
pub(super) fn address_listed(spec: &ClusterSpec, members: &mut [ClusterMember]) {
    for member in members {
        if let Some(host) = spec.hosts.iter().find(|host| host.name == member.host) {
            member.address = host.address.to_string();
        }
    }
}

impl ClusterReconciler {
    /// The plan for what is wanted, by the cluster's distribution.
    pub(super) fn plan(
        &self,
        cluster: &Cluster,
        situation: Situation<'_>,
    ) -> Result<OperationSpec, PlanError> {
        let spec = &cluster.spec;
        if !spec.distribution.is_installed() {
            return converge(&situation);
        }
        let settings = spec.kubeadm.clone().unwrap_or_default();
        let addons = spec.distribution == Distribution::Kubeadm && !settings.addons_config_map.is_empty();
        distribution::plan::converge(&Installation {
            situation,
            composed: !is_listed(spec),
            once: runs_once(spec),
            addons,
            limit: limit(spec),
        })
    }

    /// Hosts that a cluster should have.
    pub(super) async fn wanted(
        &self,
        cluster: &Cluster,
        names: &Names,
    ) -> Result<Vec<CompositionMember>, ReconcileError> {
        if is_listed(&cluster.spec) {
            return Ok(listed(&cluster.spec));
        }
        let compositions: Api<Composition> = Api::namespaced(self.client.clone(), &names.namespace);
        let composition =
            compositions.get_opt(&names.composition()).await.map_err(api_error("reading the Composition"))?;
        Ok(composition.and_then(|composition| composition.status).unwrap_or_default().members)
    }

    /// Tells where the API is, once the kubeconfig was fetched.
    pub(super) async fn publish_fetched(
        &self,
        clusters: &Api<Cluster>,
        cluster: &Cluster,
        names: &Names,
        operation: &Operation,
    ) -> Result<(), ReconcileError> {
        let steps = operation.status.iter().flat_map(|status| &status.steps);
        let output = steps.into_iter().find(|step| step.id == "kubeconfig").map(|step| step.output.clone());
        let Some(endpoint) = output.and_then(|output| serde_json::from_value::<Endpoint>(output).ok()) else {
            return Ok(());
        };
        update_status(clusters, cluster, |status: &mut ClusterStatus| {
            status.endpoint.clone_from(&endpoint.server);
            status.kubeconfig_secret = names.kubeconfig_secret();
        })
        .await?;
        Ok(())
    }
}

/// Whether one run of the user's program does all hosts.
pub(super) fn runs_once(spec: &ClusterSpec) -> bool {
    spec.distribution == Distribution::Script && script::settings(spec).runs == ScriptRuns::Once
}
