//! How hosts are provisioned: what the command line says, as the metal domain takes it.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use drystone_metal::{
    agent::AgentDesk,
    driver::{Credentials, redfish::RedfishDrivers},
    http::BootMedia,
    plan::Pacing,
    provisioner::{
        Ways,
        ironic::{IronicConfig, IronicProvisioner},
        redfish::RedfishProvisioner,
    },
};
use url::Url;

use super::Failure;

/// Options about hosts.
#[derive(Debug, clap::Args)]
pub(crate) struct MetalArgs {
    /// Base URL of an Ironic, for hosts that Drystone cannot provision itself and those annotated `drystone.dev/provisioner: ironic`
    #[arg(long, value_name = "URL")]
    ironic: Option<Url>,
    /// File with `USER:PASSWORD` for Ironic, if it wants them
    #[arg(long, value_name = "FILE", requires = "ironic")]
    ironic_credentials: Option<PathBuf>,
    /// Interface of Ironic's nodes other than its own choice: `bios=no-bios` (repeatable)
    #[arg(long, value_name = "KIND=NAME", value_parser = interface, requires = "ironic")]
    ironic_interface: Vec<(String, String)>,
    /// Pause in seconds that doubles with every failure in a row of a host: 60 is Metal3's; by default half a second, a minute at most
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    host_retry: Option<u64>,
}

fn interface(text: &str) -> Result<(String, String), String> {
    let (kind, name) = text.split_once('=').ok_or("expected KIND=NAME, such as bios=no-bios")?;
    let is_word = |word: &str| {
        !word.is_empty()
            && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    if is_word(kind) && is_word(name) {
        return Ok((kind.to_owned(), name.to_owned()));
    }
    Err("expected KIND=NAME, such as bios=no-bios".to_owned())
}

impl MetalArgs {
    /// The ways of provisioning: our own, and Ironic's if there is one.
    pub(super) fn ways(&self, media: BootMedia, agents: AgentDesk) -> Result<Ways, Failure> {
        let own = RedfishProvisioner::new(Arc::new(RedfishDrivers::default()), media).agents(agents);
        let Some(url) = &self.ironic else { return Ok(Ways::new(vec![Arc::new(own)])) };
        let credentials = match &self.ironic_credentials {
            Some(file) => {
                let text = std::fs::read_to_string(file)
                    .map_err(|error| Failure::from(format!("{}: {error}", file.display())))?;
                let (username, password) = text
                    .trim()
                    .split_once(':')
                    .ok_or_else(|| Failure::from(format!("{}: expected USER:PASSWORD", file.display())))?;
                Some(Credentials { username: username.to_owned(), password: password.to_owned() })
            }
            None => None,
        };
        let interfaces: BTreeMap<String, String> = self.ironic_interface.iter().cloned().collect();
        let ironic = IronicProvisioner::new(IronicConfig { url: url.clone(), credentials, interfaces })
            .map_err(|error| Failure::from(error.to_string()))?;
        Ok(Ways::new(vec![Arc::new(own), Arc::new(ironic)]))
    }

    /// Pauses between attempts.
    pub(super) fn pacing(&self) -> Pacing {
        match self.host_retry {
            Some(seconds) => Pacing { retry_unit: Duration::from_secs(seconds), ..Pacing::METAL3 },
            None => Pacing::QUICK,
        }
    }
}
