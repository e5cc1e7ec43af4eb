//! Setting a host up before it is available.

use std::time::Duration;

use serde_json::{Map, Value};

use super::{Job, Preparation, Progress, RedfishProvisioner, Step};
use crate::driver::DriverError;

/// How often firmware that takes new settings is looked at.
const FIRMWARE_POLL: Duration = Duration::from_secs(1);

impl RedfishProvisioner {
    /// Has the firmware take new settings: they are written, and the host is restarted so that it reads them.
    pub(super) async fn set_up(&self, job: &Job<'_>, preparation: &Preparation) -> Step<()> {
        if preparation.raid.is_some() {
            return Err(job.refused(
                "preparing",
                "spec.raid: this way of provisioning sets up no RAID; annotate the host with drystone.dev/provisioner: ironic",
            ));
        }
        let uid = job.uid();
        if preparation.firmware_settings.is_empty() {
            return Ok(Progress::Done(()));
        }
        let driver = self.hosts.open(job)?;
        let Some(reading) = driver.firmware().await? else {
            return Err(job.refused("preparing", "its management controller publishes no firmware settings"));
        };
        let missing: Map<String, Value> = preparation
            .firmware_settings
            .iter()
            .filter(|(name, value)| reading.settings.get(*name).map(String::as_str) != value.as_str())
            .map(|(name, value)| (name.clone(), reading.typed(name, value.as_str().unwrap_or_default())))
            .collect();
        if missing.is_empty() {
            self.firmware.end(&uid);
            if !job.host.spec.online {
                driver.power_off().await?;
            }
            return Ok(Progress::Done(()));
        }
        if !self.firmware.contains(&uid) {
            driver.set_firmware(&missing).await?;
            driver.power_off().await?;
            driver.power_on().await?;
        }
        let waited = self.firmware.since(&uid);
        if waited > self.timing.firmware {
            self.firmware.end(&uid);
            let names: Vec<&str> = missing.keys().map(String::as_str).collect();
            return Err(DriverError::Stuck {
                host: job.address.base.to_string(),
                what: format!("firmware did not take the settings {}", names.join(", ")),
                after: waited,
            });
        }
        let note = format!("{} firmware settings not taken yet", missing.len());
        Ok(Progress::Working { again: FIRMWARE_POLL, note })
    }
}
