//! The in-house way: everything through the host's management controller, nothing between.
//!
//! Rooms: [`deployment`] (what to boot for which image, each kind in a file of its own), [`hosts`] (drivers, kept while
//! they are in use), [`power`], [`preparation`], [`agents`] (what needs a program on the host itself), [`cleaning`].

mod agents;
mod cleaning;
mod deployment;
mod hosts;
mod power;
mod preparation;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;

use self::{
    deployment::{Deployment, TakenOut},
    hosts::OpenHosts,
};
use super::{Inspected, Job, Power, Powered, Preparation, Progress, Provisioner, Registered, Step, Waits};
use crate::{
    agent::{AgentDesk, medium_key},
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
    /// Hosts whose operating system is to end.
    ending: Waits,
    /// Those of them whose operating system was asked to.
    asked: Waits,
    /// Hosts whose firmware was given new settings.
    firmware: Waits,
    /// Hosts that were started from a medium.
    starting: Waits,
    /// Hosts that have read their medium.
    taken_out: TakenOut,
    /// Where agents report; without it no disk images are written.
    agents: Option<AgentDesk>,
    /// Hosts that boot their agent or their disk.
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
            asked: Waits::default(),
            firmware: Waits::default(),
            starting: Waits::default(),
            taken_out: TakenOut::default(),
            agents: None,
            booting: Waits::default(),
            timing: Timing::default(),
        }
    }

    /// With agents, which write disk images.
    #[must_use]
    pub fn agents(mut self, desk: AgentDesk) -> Self {
        self.agents = Some(desk);
        self
    }

    /// With other limits.
    #[must_use]
    pub fn timing(mut self, timing: Timing) -> Self {
        self.timing = timing;
        self
    }
}

impl RedfishProvisioner {
    /// Whatever the host was given to boot is there no longer.
    fn withdraw_media(&self, job: &Job<'_>) {
        let instance = job.status().provisioning.instance_id;
        let wanted = job.seed.map(crate::medium::Seed::instance_id);
        for instance in [Some(instance), wanted].into_iter().flatten() {
            self.media.withdraw(&job.uid(), &instance);
            self.media.withdraw(&job.uid(), &medium_key(&instance));
        }
        for purpose in [cleaning::PURPOSE, agents::INSPECTION] {
            self.media.withdraw(&job.uid(), &medium_key(purpose));
        }
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
        let found = match self.inspect_by_agent(job, driver.as_ref()).await? {
            Progress::Working { again, note } => return Ok(Progress::Working { again, note }),
            Progress::Done(found) => found,
        };
        let inventory = driver.inspect().await?;
        let powered_on = driver.state().await?.powered_on == Some(true);
        let mut details = inventory.hardware_details(&kube::ResourceExt::name_any(job.host));
        if let Some(found) = found {
            crate::agent::lay_over(&mut details, &found);
        }
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
        self.starting.end(&job.uid());
        let by_agent = self.cleaned_by_agent(job);
        if let Some(desk) = by_agent
            && let Progress::Working { again, note } = self.clean_by_agent(job, desk, driver.as_ref()).await?
        {
            return Ok(Progress::Working { again, note });
        }
        driver.power_off().await?;
        driver.eject().await?;
        if by_agent.is_none()
            && let Progress::Working { again, note } = self.clean(job, driver.as_ref()).await?
        {
            return Ok(Progress::Working { again, note });
        }
        self.withdraw_media(job);
        if let Some(desk) = &self.agents {
            desk.dismiss(&job.uid());
            let forgotten = desk.forget_written(job.host).await;
            forgotten.map_err(|error| job.refused("noting that the disk is empty", error.to_string()))?;
        }
        Ok(Progress::Done(()))
    }

    async fn power(&self, job: &Job<'_>, wanted: Power) -> Step<Powered> {
        self.switch(job, wanted).await
    }

    async fn detach(&self, job: &Job<'_>) -> Step<()> {
        self.withdraw_media(job);
        if let Some(desk) = &self.agents {
            desk.dismiss(&job.uid());
        }
        for waits in [&self.ending, &self.asked, &self.firmware, &self.starting, &self.booting] {
            waits.end(&job.uid());
        }
        self.taken_out.forget(&job.uid());
        self.hosts.close(&job.uid());
        Ok(Progress::Done(()))
    }
}
