//! Cleaning: what is left of an image on a host's drives goes.

use super::{Job, Progress, RedfishProvisioner, Step};
use crate::driver::HostDriver;

impl RedfishProvisioner {
    /// Cleans a host that is off, unless `spec.automatedCleaningMode` is `disabled`.
    pub(super) async fn clean(&self, job: &Job<'_>, driver: &dyn HostDriver) -> Step<()> {
        if job.host.spec.automated_cleaning_mode.as_deref() != Some("disabled") {
            driver.erase_drives().await?;
        }
        Ok(Progress::Done(()))
    }
}
