//! Software on hosts: its controllers, with SSH as the way to hosts.

use std::{path::Path, sync::Arc};

use drystone_engine::{action::ActionRegistry, events::EventSink, harness::Caches};
use drystone_software::{
    access::ssh::SshDoor,
    artifacts::ArtifactCache,
    controller::SoftwareConfig,
    plan::Timing,
    steps::{self, StepDependencies},
};

use super::pki::Keys;
use crate::command::Failure;

/// Registers the steps of rollouts, and says what the controllers need. Files on their way to hosts are kept in the data directory.
pub(super) fn prepare(
    actions: &mut ActionRegistry,
    keys: &Keys,
    data: &Path,
    caches: Caches,
    events: Arc<dyn EventSink>,
) -> Result<SoftwareConfig, Failure> {
    let own = reqwest::Certificate::from_pem(keys.authority.certificate_pem().as_bytes())?;
    let fetching = reqwest::Client::builder().tls_certs_merge([own]).build()?;
    let dependencies = StepDependencies {
        door: Arc::new(SshDoor::default()),
        caches,
        artifacts: ArtifactCache::new(data.join("software"), fetching),
    };
    steps::register(actions, &dependencies)?;
    Ok(SoftwareConfig { dependencies, timing: Timing::default(), events })
}
