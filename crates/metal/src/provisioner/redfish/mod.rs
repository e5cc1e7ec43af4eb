//! The in-house way: everything through the host's management controller, nothing between.
//!
//! Rooms: [`deployment`] (what to boot for which image, each kind in a file of its own), [`hosts`] (drivers, kept while
//! they are in use), [`power`], [`preparation`], [`cleaning`].

mod cleaning;
mod deployment;
mod hosts;
mod power;
mod preparation;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;

use self::{deployment::Deployment, hosts::OpenHosts};
use super::{Inspected, Job, Power, Powered, Preparation, Progress, Provisioner, Registered, Step, Waits};
use crate::{
    driver::{DriverError, Drivers},
    http::BootMedia,
    model::{BmcAddress, BootVia, FirmwareReading, Protocol},
};

/// How often a booting host is looked at.
const BOOT_POLL: Duration = Duration::from_millis(250);

/// The way.
pub struct RedfishProvisioner {
    hosts: OpenHosts,
    media: BootMedia,
    /// Hosts whose operating system was asked to end.
    ending: Waits,
    /// Hosts whose firmware was given new settings.
    firmware: Waits,
    /// Hosts that were started from a medium.
    booting: Waits,
    timing: Timing,
}

/// How long things may take.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// How long an operating system gets to end by itself before its host is switched off (Metal3: 180 s).
    pub soft_off: Duration,
    /// How long firmware may take to take new settings.
    pub firmware: Duration,
    /// How long a host may take until the operating system on its medium runs (Ironic: 1800 s).
    pub boot: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            soft_off: Duration::from_secs(180),
            firmware: Duration::from_secs(1800),
            boot: Duration::from_secs(1800),
        }
    }
}

impl RedfishProvisioner {
    /// The way, with what makes drivers and what serves media.
    pub fn new(drivers: Arc<dyn Drivers>, media: BootMedia) -> Self {
        Self {
            hosts: OpenHosts::new(drivers),
            media,
            ending: Waits::default(),
            firmware: Waits::default(),
            booting: Waits::default(),
            timing: Timing::default(),
        }
    }

    /// With other limits.
    #[must_use]
    pub fn timing(mut self, timing: Timing) -> Self {
        self.timing = timing;
        self
    }
}

#[async_trait]
impl Provisioner for RedfishProvisioner {
    fn name(&self) -> &'static str {
        "redfish"
    }

    fn serves(&self, address: &BmcAddress) -> bool {
        address.scheme.protocol == Protocol::Redfish && address.scheme.boot != BootVia::Network
    }

    async fn register(&self, job: &Job<'_>) -> Step<Registered> {
        self.hosts.open(job)?.verify().await?;
        Ok(Progress::Done(Registered { id: job.uid() }))
    }

    async fn inspect(&self, job: &Job<'_>) -> Step<Inspected> {
        let driver = self.hosts.open(job)?;
        let inventory = driver.inspect().await?;
        let powered_on = driver.state().await?.powered_on == Some(true);
        let details = inventory.hardware_details(&kube::ResourceExt::name_any(job.host));
        Ok(Progress::Done(Inspected { details, inventory, powered_on }))
    }

    async fn firmware(&self, job: &Job<'_>) -> Result<Option<FirmwareReading>, DriverError> {
        self.hosts.open(job)?.firmware().await
    }

    async fn prepare(&self, job: &Job<'_>, preparation: &Preparation) -> Step<()> {
        self.set_up(job, preparation).await
    }

    async fn provision(&self, job: &Job<'_>) -> Step<()> {
        match Deployment::of(job)? {
            Deployment::Medium => self.boot_medium(job).await,
            Deployment::LiveImage(url) => self.boot_live_image(job, &url).await,
            Deployment::Disk(url) => self.write_disk(job, &url).await,
        }
    }

    async fn deprovision(&self, job: &Job<'_>) -> Step<()> {
        let driver = self.hosts.open(job)?;
        self.booting.end(&job.uid());
        driver.power_off().await?;
        driver.eject().await?;
        if let Progress::Working { again, note } = self.clean(job, driver.as_ref()).await? {
            return Ok(Progress::Working { again, note });
        }
        self.media.withdraw(&job.uid(), &job.status().provisioning.instance_id);
        Ok(Progress::Done(()))
    }

    async fn power(&self, job: &Job<'_>, wanted: Power) -> Step<Powered> {
        self.switch(job, wanted).await
    }

    async fn detach(&self, job: &Job<'_>) -> Step<()> {
        self.media.withdraw(&job.uid(), &job.status().provisioning.instance_id);
        for waits in [&self.ending, &self.firmware, &self.booting] {
            waits.end(&job.uid());
        }
        self.hosts.close(&job.uid());
        Ok(Progress::Done(()))
    }
}
