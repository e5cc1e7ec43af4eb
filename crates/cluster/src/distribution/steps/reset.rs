//! Taking Kubernetes off a host.

use std::time::Duration;

use drystone_api::{Cluster, Distribution, MemberRole};
use drystone_engine::action::{Action, StepContext, StepError};
use drystone_ssh::Redaction;

use super::{
    super::{kubeadm, reach, script::ScriptAction, uid},
    install::Work,
    parameters::InstallParameters,
    program::Program,
};
use crate::{
    model::Names,
    steps::{StepDependencies, objects::subject},
};

/// How long a host that is to leave may take to be reached.
const PATIENCE: Duration = Duration::from_secs(60);

/// Takes Kubernetes off a host. One that was not ready and cannot be reached is left, and a control plane forgets its member of etcd.
pub struct ResetHost(pub(super) StepDependencies);

impl Action for ResetHost {
    const NAME: &'static str = "cluster.reset-host";
    type Parameters = InstallParameters;
    type Output = ();

    async fn run(&self, context: &StepContext, parameters: InstallParameters) -> Result<(), StepError> {
        match self.reset(context, &parameters).await {
            Err(error) if parameters.expendable && error != StepError::Cancelled => {
                context.log(format!("left to its being switched off: {error}"));
                Ok(())
            }
            result => result,
        }
    }
}

impl ResetHost {
    async fn reset(&self, context: &StepContext, parameters: &InstallParameters) -> Result<(), StepError> {
        let (cluster, names) = subject(context).await?;
        let host = match reach::connect(context, &cluster, &names, &parameters.host, PATIENCE).await {
            Ok(host) => host,
            Err(error) if parameters.dead && !matches!(error, StepError::Cancelled) => {
                context.log(format!("host {} was not ready and is left as it is: {error}", parameters.host));
                return forget(context, &cluster, &names, parameters).await;
            }
            Err(error) => return Err(error),
        };
        if cluster.spec.distribution == Distribution::Script {
            let work = Work { dependencies: &self.0, context, cluster: &cluster, names: &names, once: false };
            if let Err(StepError::Permanent(why)) = work.check_owner(&host, parameters).await {
                // Not ours any more: nothing to take off.
                context.log(why);
                return Ok(());
            }
            return work.run(&host, parameters, ScriptAction::Remove, None).await;
        }
        Program::new(format!("kubeadm reset on {}", parameters.host), kubeadm::reset())
            .environment("DRYSTONE_CLUSTER_UID", uid(&cluster))
            .run(context, &host, &Redaction::new(host.secrets.clone()))
            .await
            .map(drop)
    }
}

/// Takes the member of etcd of a host that is gone out, by way of a control plane that works.
async fn forget(
    context: &StepContext,
    cluster: &Cluster,
    names: &Names,
    parameters: &InstallParameters,
) -> Result<(), StepError> {
    let concerned =
        parameters.role == MemberRole::ControlPlane && cluster.spec.distribution == Distribution::Kubeadm;
    if !concerned || parameters.via.is_empty() {
        return Ok(());
    }
    let via = reach::connect(context, cluster, names, &parameters.via, PATIENCE).await?;
    Program::new(format!("taking {} out of etcd", parameters.host), kubeadm::forget_member())
        .environment("DRYSTONE_HOST", parameters.via.clone())
        .environment("DRYSTONE_GONE", parameters.host.clone())
        .limit(Duration::from_secs(120))
        .run(context, &via, &Redaction::new(via.secrets.clone()))
        .await
        .map(drop)
}
