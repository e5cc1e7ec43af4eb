//! `live-iso`: the image itself is booted.

use url::Url;

use super::{Job, Progress, RedfishProvisioner, Step};
use crate::driver::Persistence;

impl RedfishProvisioner {
    /// Boots the image through virtual media.
    pub(in super::super) async fn boot_live_image(&self, job: &Job<'_>, image: &Url) -> Step<()> {
        let driver = self.hosts.open(job)?;
        let is_ours = |medium: &str| medium == image.as_str();
        match self.boot_from(job, driver.as_ref(), image, Persistence::EveryBoot, is_ours).await? {
            Progress::Working { again, note } => Ok(Progress::Working { again, note }),
            Progress::Done(_) => Ok(Progress::Done(())),
        }
    }
}
