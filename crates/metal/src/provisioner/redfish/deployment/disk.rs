//! Any other image is written to the host's disk, by the agent that the host is booted with. Then the host boots the disk.

use std::time::Duration;

use drystone_agent::protocol::Order;
use drystone_engine::events::EventKind;
use url::Url;

use super::{BOOT_POLL, Job, Progress, RedfishProvisioner, Step};
use crate::{
    agent::{AgentDesk, deployment as order_for, medium_key},
    driver::{BootProgress, DriverError, HostDriver},
    medium::Seed,
};

/// How long an operating system that was written may take to run; how long one may only have been started, on machines whose
/// controller tells no more.
const BOOT_LIMIT: Duration = Duration::from_secs(1800);
const STARTED_LIMIT: Duration = Duration::from_secs(600);

impl RedfishProvisioner {
    /// Writes the image to the disk and boots from it.
    pub(in super::super) async fn write_disk(&self, job: &Job<'_>, url: &Url) -> Step<()> {
        let doing = || format!("provisioning {url}");
        let desk = self.desk(job, &doing())?;
        let seed = job.seed.ok_or_else(|| job.refused(doing(), "there is nothing to boot it with"))?;
        let image = job.host.spec.image.clone().unwrap_or_default();
        let instance = seed.instance_id();
        let driver = self.hosts.open(job)?;
        if !AgentDesk::has_written(job.host, &instance) {
            let mut order =
                order_for(job.host, &image, seed).map_err(|error| job.refused(doing(), error.to_string()))?;
            for url in [&mut order.image.url, &mut order.image.checksum] {
                let seen = desk.as_seen_by(job.host, url).await;
                *url = seen.map_err(|error| job.refused(doing(), error.to_string()))?;
            }
            let order = Order::Deploy(Box::new(order));
            let worked = self.run_agent(job, desk, driver.as_ref(), &instance, order).await?;
            if let Progress::Working { again, note } = worked {
                return Ok(Progress::Working { again, note });
            }
        }
        self.boot_written(job, desk, driver.as_ref(), seed).await
    }

    /// Restarts a host from the disk that has been written. Done when its operating system runs.
    async fn boot_written(
        &self,
        job: &Job<'_>,
        desk: &AgentDesk,
        driver: &dyn HostDriver,
        seed: &Seed,
    ) -> Step<()> {
        let (uid, instance) = (job.uid(), seed.instance_id());
        let state = driver.state().await?;
        let key = medium_key(&instance);
        if state.powered_on != Some(true) || self.has_medium(driver, &uid, &key).await? {
            driver.power_off().await?;
            driver.eject().await?;
            driver.boot_disk().await?;
            driver.power_on().await?;
            self.media.withdraw(&uid, &key);
            desk.dismiss(&uid);
            self.booting.end(&uid);
            job.tell(EventKind::Normal, "PowerOn", "Host booting from its disk");
            return Ok(Progress::again(BOOT_POLL));
        }
        let waited = self.booting.since(&uid);
        let runs = match state.progress {
            // Who knows nothing does not keep others waiting.
            BootProgress::OperatingSystemRunning | BootProgress::Unknown => true,
            BootProgress::OperatingSystemStarted => waited > STARTED_LIMIT,
            BootProgress::None | BootProgress::Firmware => false,
        };
        if runs {
            self.booting.end(&uid);
            return Ok(Progress::Done(()));
        }
        if waited > BOOT_LIMIT {
            self.booting.end(&uid);
            let what = "the operating system that was written did not start".to_owned();
            return Err(DriverError::Stuck { host: job.address.base.to_string(), what, after: BOOT_LIMIT });
        }
        Ok(Progress::Working { again: BOOT_POLL, note: "booting from the disk".to_owned() })
    }
}
