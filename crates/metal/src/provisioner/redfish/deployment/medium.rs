//! `medium:///`: the medium made of the host's data is booted, and nothing else.

use super::{Job, Progress, RedfishProvisioner, Step};
use crate::driver::{BootProgress, Persistence};

impl RedfishProvisioner {
    /// Boots the medium made of the host's user data, network data and metadata; takes it out when the host runs.
    pub(in super::super) async fn boot_medium(&self, job: &Job<'_>) -> Step<()> {
        let seed = job.seed.ok_or_else(|| job.refused("provisioning", "there is nothing to boot it with"))?;
        let (key, instance) = (job.uid(), seed.instance_id());
        let archive =
            seed.archive().map_err(|error| job.refused("writing the boot medium", error.to_string()))?;
        let url = self.media.offer(&key, &instance, archive);
        let driver = self.hosts.open(job)?;
        let is_ours = |medium: &str| self.media.is_url_of(medium, &key, &instance);
        let state = match self.boot_from(job, driver.as_ref(), &url, Persistence::Once, is_ours).await? {
            Progress::Working { again, note } => return Ok(Progress::Working { again, note }),
            Progress::Done(state) => state,
        };
        // Where nobody tells whether the host has read the medium, it stays in until the host is emptied.
        if state.progress != BootProgress::Unknown {
            driver.eject().await?;
            self.media.withdraw(&key, &instance);
        }
        Ok(Progress::Done(()))
    }
}
