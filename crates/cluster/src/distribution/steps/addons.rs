//! Manifests that make a cluster of kubeadm whole: the network plugin above all.

use std::time::Duration;

use drystone_engine::action::{Action, StepContext, StepError};
use drystone_identity::Secret as Hidden;
use drystone_ssh::Redaction;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;

use super::{
    super::{kubeadm, reach},
    parameters::InstallParameters,
    program::Program,
};
use crate::steps::objects::subject;

/// Applies the manifests of `spec.kubeadm.addonsConfigMap` on the first control plane.
pub struct ApplyAddons;

impl Action for ApplyAddons {
    const NAME: &'static str = "cluster.apply-addons";
    type Parameters = InstallParameters;
    type Output = ();

    async fn run(&self, context: &StepContext, parameters: InstallParameters) -> Result<(), StepError> {
        let (cluster, names) = subject(context).await?;
        let name = cluster.spec.kubeadm.clone().unwrap_or_default().addons_config_map;
        if name.is_empty() {
            return Ok(());
        }
        let maps: Api<ConfigMap> = Api::namespaced(context.client().clone(), &names.namespace);
        let map = maps
            .get(&name)
            .await
            .map_err(|error| StepError::from_kube("reading spec.kubeadm.addonsConfigMap", &error))?;
        let manifests: Vec<String> = map.data.unwrap_or_default().into_values().collect();
        let host =
            reach::connect(context, &cluster, &names, &parameters.host, Duration::from_secs(60)).await?;
        Program::new(format!("applying {name}"), kubeadm::apply_addons())
            .input(Hidden::new(manifests.join("\n---\n")))
            .limit(Duration::from_secs(240))
            .run(context, &host, &Redaction::new(host.secrets.clone()))
            .await?;
        Ok(())
    }
}
