//! Power, and the patience with operating systems that are to end by themselves.

use std::time::Duration;

use drystone_api::ImageFormat;

use super::{Job, Power, Powered, Progress, RedfishProvisioner, Step};
use crate::medium::MEDIUM_IMAGE;

/// How often a host that is to end by itself is looked at.
const ENDING_POLL: Duration = Duration::from_millis(500);

impl RedfishProvisioner {
    /// Brings power where it is wanted.
    pub(super) async fn switch(&self, job: &Job<'_>, wanted: Power) -> Step<Powered> {
        let (driver, uid) = (self.hosts.open(job)?, job.uid());
        let was_ending = self.ending.contains(&uid);
        let state = driver.state().await?;
        if state.powered_on == Some(wanted.is_on()) {
            self.ends(&uid);
            if wanted.is_on() {
                self.take_out(job, driver.as_ref(), &state).await?;
            }
            return Ok(Progress::Done(Powered { changed: was_ending, health: state.health }));
        }
        match wanted {
            Power::On => {
                let image = job.status().provisioning.image;
                if image.is_some_and(|image| {
                    image.format == Some(ImageFormat::LiveIso) && image.url != MEDIUM_IMAGE
                }) {
                    driver.boot_medium_again().await?;
                }
                driver.power_on().await?;
            }
            Power::HardOff => driver.power_off().await?,
            Power::SoftOff => {
                // A host without an operating system, or whose controller cannot ask it, is switched off at once.
                let in_time = self.ending.since(&uid) < self.timing.soft_off;
                // A request that failed is made again, as long as there is time.
                if in_time && (self.asked.contains(&uid) || driver.ask_to_end().await?) {
                    self.asked.since(&uid);
                    return Ok(Progress::again(ENDING_POLL));
                }
                driver.power_off().await?;
            }
        }
        self.ends(&uid);
        Ok(Progress::Done(Powered { changed: true, health: state.health }))
    }

    /// Nobody waits any more for a host to end by itself.
    fn ends(&self, uid: &str) {
        self.ending.end(uid);
        self.asked.end(uid);
    }
}
