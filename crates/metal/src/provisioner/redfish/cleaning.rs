//! Cleaning: what is left of an image on a host's drives goes.

use drystone_agent::protocol::Order;
use drystone_api::{HostImage, ImageFormat};

use super::{Job, Progress, RedfishProvisioner, Step};
use crate::{
    agent::{AgentDesk, WRITTEN, medium_key},
    driver::HostDriver,
    medium::MEDIUM_IMAGE,
};

/// For what an agent that cleans is booted.
pub(super) const PURPOSE: &str = "clean";

impl RedfishProvisioner {
    /// The desk of the agent that is to clean the host: one that a disk image was written to, unless
    /// `spec.automatedCleaningMode` is `disabled`.
    pub(super) fn cleaned_by_agent(&self, job: &Job<'_>) -> Option<&AgentDesk> {
        let was_written = job.host.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(WRITTEN))
            || job.status().provisioning.image.as_ref().is_some_and(is_disk_image);
        self.agents.as_ref().filter(|_| was_written && is_wanted(job))
    }

    /// Has partition tables wiped by the agent. The host may be left on.
    pub(super) async fn clean_by_agent(
        &self,
        job: &Job<'_>,
        desk: &AgentDesk,
        driver: &dyn HostDriver,
    ) -> Step<()> {
        if let Progress::Working { again, note } =
            self.run_agent(job, desk, driver, PURPOSE, Order::Clean).await?
        {
            return Ok(Progress::Working { again, note });
        }
        self.media.withdraw(&job.uid(), &medium_key(PURPOSE));
        desk.dismiss(&job.uid());
        Ok(Progress::Done(()))
    }

    /// Cleans a host that is off by its controller, unless `spec.automatedCleaningMode` is `disabled`.
    pub(super) async fn clean(&self, job: &Job<'_>, driver: &dyn HostDriver) -> Step<()> {
        if is_wanted(job) {
            driver.erase_drives().await?;
        }
        Ok(Progress::Done(()))
    }
}

fn is_wanted(job: &Job<'_>) -> bool {
    job.host.spec.automated_cleaning_mode.as_deref() != Some("disabled")
}

fn is_disk_image(image: &HostImage) -> bool {
    image.url != MEDIUM_IMAGE && image.format != Some(ImageFormat::LiveIso)
}
