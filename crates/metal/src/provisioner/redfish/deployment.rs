//! What is done with an image, by its kind; each kind has a file of its own.

mod disk;
mod live_image;
mod medium;

pub(super) use medium::TakenOut;

use drystone_api::{BootMode, ImageFormat};
use url::Url;

use super::{BOOT_POLL, Job, Progress, RedfishProvisioner, Step};
use crate::{
    driver::{BootOrder, BootProgress, DriverError, HostDriver, HostState, Persistence},
    medium::MEDIUM_IMAGE,
};

/// What is done with an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Deployment {
    /// `medium:///`: the medium made of the host's data is booted, and nothing else.
    Medium,
    /// `live-iso`: the image itself is booted, at every start.
    LiveImage(Url),
    /// Anything else: the image is written to the host's disk.
    Disk(Url),
}

impl Deployment {
    /// What to do with the image of a host.
    pub(super) fn of(job: &Job<'_>) -> Result<Self, DriverError> {
        let Some(image) = &job.host.spec.image else {
            return Err(job.refused("provisioning", "spec.image is missing"));
        };
        if image.url == MEDIUM_IMAGE {
            return Ok(Self::Medium);
        }
        let url = Url::parse(&image.url)
            .map_err(|_| job.refused("provisioning", format!("spec.image.url: `{}` is no URL", image.url)))?;
        Ok(if image.format == Some(ImageFormat::LiveIso) { Self::LiveImage(url) } else { Self::Disk(url) })
    }
}

impl RedfishProvisioner {
    /// Restarts a host from a medium; what is found half-done (a crash came between) is gone on with: a host that runs
    /// from the medium already is not switched off again. Done when its operating system runs.
    pub(super) async fn boot_from(
        &self,
        job: &Job<'_>,
        driver: &dyn HostDriver,
        medium: &Url,
        persistence: Persistence,
        is_ours: impl Fn(&str) -> bool + Send,
    ) -> Step<HostState> {
        let (uid, state) = (job.uid(), driver.state().await?);
        let runs = state.powered_on == Some(true);
        if runs && driver.medium().await?.as_deref().is_some_and(is_ours) {
            // Where nobody tells how far it is, power is all there is to know.
            if matches!(state.progress, BootProgress::Unknown | BootProgress::OperatingSystemRunning) {
                self.starting.end(&uid);
                return Ok(Progress::Done(state));
            }
            // It may have booted something else, or nothing.
            let waited = self.starting.since(&uid);
            if waited > self.timing.boot {
                self.starting.end(&uid);
                return Err(DriverError::Stuck {
                    host: job.address.base.to_string(),
                    what: "the operating system on the medium did not start".to_owned(),
                    after: waited,
                });
            }
            return Ok(Progress::again(BOOT_POLL));
        }
        let mode = job.host.spec.boot_mode.unwrap_or(BootMode::UEFI);
        driver.power_off().await?;
        driver.boot_medium(medium, BootOrder { persistence, mode }).await?;
        driver.power_on().await?;
        self.starting.end(&uid);
        self.starting.since(&uid);
        job.tell(drystone_engine::events::EventKind::Normal, "PowerOn", "Host booting from its medium");
        Ok(Progress::again(BOOT_POLL))
    }
}
