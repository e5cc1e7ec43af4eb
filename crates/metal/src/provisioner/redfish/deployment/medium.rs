//! `medium:///`: the medium made of the host's data is booted, and nothing else.

use std::{
    collections::HashSet,
    sync::{Mutex, PoisonError},
};

use drystone_api::ProvisioningState;

use super::{Job, Progress, RedfishProvisioner, Step};
use crate::driver::{BootProgress, DriverError, HostDriver, HostState, Persistence};
use crate::medium::MEDIUM_IMAGE;

/// Hosts whose medium has been taken out again, by unique id. In memory: after a restart each is looked at once.
#[derive(Debug, Default)]
pub(in super::super) struct TakenOut(Mutex<HashSet<String>>);

impl TakenOut {
    fn with<T>(&self, work: impl FnOnce(&mut HashSet<String>) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A medium was put in, or the host is gone.
    pub(in super::super) fn forget(&self, uid: &str) {
        self.with(|all| all.remove(uid));
    }
}

impl RedfishProvisioner {
    /// Boots the medium made of the host's user data, network data and metadata.
    ///
    /// It stays in until it is written down that the host runs: by it, whoever comes after a crash knows that the host has booted already and
    /// is not to be reset again.
    pub(in super::super) async fn boot_medium(&self, job: &Job<'_>) -> Step<()> {
        let seed = job.seed.ok_or_else(|| job.refused("provisioning", "there is nothing to boot it with"))?;
        let (key, instance) = (job.uid(), seed.instance_id());
        let archive =
            seed.archive().map_err(|error| job.refused("writing the boot medium", error.to_string()))?;
        let url = self.media.offer(&key, &instance, archive);
        let driver = self.hosts.open(job)?;
        self.taken_out.forget(&key);
        let is_ours = |medium: &str| self.media.is_url_of(medium, &key, &instance);
        match self.boot_from(job, driver.as_ref(), &url, Persistence::Once, is_ours).await? {
            Progress::Working { again, note } => Ok(Progress::Working { again, note }),
            Progress::Done(_) => Ok(Progress::Done(())),
        }
    }

    /// Takes the medium out of a host that runs what was on it. Where nobody tells whether the host has read it, it stays in until the host is
    /// emptied.
    pub(in super::super) async fn take_out(
        &self,
        job: &Job<'_>,
        driver: &dyn HostDriver,
        state: &HostState,
    ) -> Result<(), DriverError> {
        let (uid, provisioning) = (job.uid(), job.status().provisioning);
        let booted = provisioning.state == ProvisioningState::Provisioned
            && provisioning.image.is_some_and(|image| image.url == MEDIUM_IMAGE);
        let runs = state.progress == BootProgress::OperatingSystemRunning;
        if !booted || !runs || self.taken_out.with(|all| all.contains(&uid)) {
            return Ok(());
        }
        if self.has_medium(driver, &uid, &provisioning.instance_id).await? {
            driver.eject().await?;
        }
        self.media.withdraw(&uid, &provisioning.instance_id);
        self.taken_out.with(|all| all.insert(uid));
        Ok(())
    }
}
