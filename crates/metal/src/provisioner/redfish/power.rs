//! Power, and the patience with operating systems that are to end by themselves.

use std::time::Duration;

use super::{Job, Power, Progress, RedfishProvisioner, Step};

/// How often a host that is to end by itself is looked at.
const ENDING_POLL: Duration = Duration::from_millis(500);

impl RedfishProvisioner {
    /// Brings power where it is wanted.
    pub(super) async fn switch(&self, job: &Job<'_>, wanted: Power) -> Step<bool> {
        let (driver, uid) = (self.hosts.open(job)?, job.uid());
        let was_asked = self.ending.contains(&uid);
        if driver.state().await?.powered_on == wanted.is_on() {
            self.ending.end(&uid);
            return Ok(Progress::Done(was_asked));
        }
        match wanted {
            Power::On => driver.power_on().await?,
            Power::HardOff => driver.power_off().await?,
            Power::SoftOff => {
                // A host without an operating system, or whose controller cannot ask it, is switched off at once.
                let in_time = self.ending.since(&uid) < self.timing.soft_off;
                if in_time && (was_asked || driver.ask_to_end().await?) {
                    return Ok(Progress::again(ENDING_POLL));
                }
                driver.power_off().await?;
            }
        }
        self.ending.end(&uid);
        Ok(Progress::Done(true))
    }
}
