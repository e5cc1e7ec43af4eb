//! Reaching a host for the first time.

use std::time::Duration;

use drystone_api::Distribution;
use drystone_engine::action::{Action, StepContext, StepError};
use drystone_ssh::Redaction;
use serde::{Deserialize, Serialize};

use super::{
    super::{kubeadm, reach},
    parameters::InstallParameters,
    program::Program,
};
use crate::steps::objects::subject;

/// How long a host may take to be reached: it may be booting still.
const PATIENCE: Duration = Duration::from_secs(600);

/// Reaches a host, learns its key if that is wanted, and makes it ready for the installer.
pub struct PrepareHost;

/// What is known of a host afterwards.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PreparedHost {
    /// Fingerprint of the key that it showed.
    pub host_key: String,
    /// Kernel and operating system.
    pub system: String,
}

impl Action for PrepareHost {
    const NAME: &'static str = "cluster.prepare-host";
    type Parameters = InstallParameters;
    type Output = PreparedHost;

    async fn run(
        &self,
        context: &StepContext,
        parameters: InstallParameters,
    ) -> Result<PreparedHost, StepError> {
        let (cluster, names) = subject(context).await?;
        let host = reach::connect(context, &cluster, &names, &parameters.host, PATIENCE).await?;
        let redaction = Redaction::new(host.secrets.clone());
        let doing = format!("looking at {}", parameters.host);
        let look = "uname -sr; . /etc/os-release 2>/dev/null && echo \"$PRETTY_NAME\"; [ \"$(id -u)\" = 0 ]";
        let looked =
            Program::new(doing, look).limit(Duration::from_secs(60)).run(context, &host, &redaction).await?;
        if cluster.spec.distribution == Distribution::Kubeadm {
            let settings = cluster.spec.kubeadm.clone().unwrap_or_default();
            let bears_swap =
                settings.ignore_preflight_errors.iter().any(|check| check == "Swap" || check == "all");
            let doing = format!("preparing {}", parameters.host);
            Program::new(doing, kubeadm::prepare())
                .environment("DRYSTONE_SWAP_OFF", if bears_swap { "" } else { "yes" })
                .limit(Duration::from_secs(120))
                .run(context, &host, &redaction)
                .await?;
        }
        let system = looked.stdout.text().replace('\n', ", ");
        Ok(PreparedHost { host_key: host.session.host_key().to_string(), system })
    }
}
