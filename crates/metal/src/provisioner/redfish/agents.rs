//! Boots a host into its agent and has it carry out an order.

use std::time::Duration;

use drystone_agent::protocol::{Inventory, Order, Report};
use drystone_api::BootMode;
use drystone_engine::events::EventKind;

use super::{Job, Progress, RedfishProvisioner, Step};
use crate::{
    agent::{AgentDesk, AgentState, medium_key},
    driver::{BootOrder, DriverError, HostDriver, Persistence},
};

/// How often an agent at work is looked at.
const AGENT_POLL: Duration = Duration::from_millis(250);
/// How often the controller of a host is looked at whose agent does not talk.
const BOOT_LOOK: Duration = Duration::from_secs(1);
/// An agent that said something so recently is at work.
const TALKING: Duration = Duration::from_secs(30);
/// How long a host may take from power on until its agent says something: firmware of large servers takes its time.
const FIRST_WORD: Duration = Duration::from_secs(1200);
/// An agent that is silent for so long is taken for dead; it says something every ten seconds.
const SILENCE: Duration = Duration::from_secs(180);

/// For what an agent that inspects is booted.
pub(super) const INSPECTION: &str = "inspect";

impl RedfishProvisioner {
    /// Has the host inspected by its agent, where `spec.inspectionMode` is `agent`; leaves it off. Nothing is found otherwise.
    pub(super) async fn inspect_by_agent(
        &self,
        job: &Job<'_>,
        driver: &dyn HostDriver,
    ) -> Step<Option<Inventory>> {
        let wanted = job.host.spec.inspection_mode.as_deref() == Some("agent");
        let Some(desk) = self.agents.as_ref().filter(|_| wanted) else { return Ok(Progress::Done(None)) };
        if let Progress::Working { again, note } =
            self.run_agent(job, desk, driver, INSPECTION, Order::Inspect).await?
        {
            return Ok(Progress::Working { again, note });
        }
        let Some(found) = desk.inventory(&job.uid()) else {
            // It told a process before this one, and tells only that it has: it is asked once more.
            desk.try_again(&job.uid());
            return Ok(Progress::again(AGENT_POLL));
        };
        driver.power_off().await?;
        driver.eject().await?;
        self.media.withdraw(&job.uid(), &medium_key(INSPECTION));
        desk.dismiss(&job.uid());
        Ok(Progress::Done(Some(found)))
    }

    /// The desk that agents report at.
    pub(super) fn desk(&self, job: &Job<'_>, doing: &str) -> Result<&AgentDesk, DriverError> {
        let desk = self.agents.as_ref();
        desk.ok_or_else(|| {
            job.refused(doing, "this Drystone serves no agents, which write disk images; use format live-iso")
        })
    }

    /// Has the host's agent carry out an order; the host is booted into it first. What is found half-done is gone on with.
    pub(super) async fn run_agent(
        &self,
        job: &Job<'_>,
        desk: &AgentDesk,
        driver: &dyn HostDriver,
        purpose: &str,
        order: Order,
    ) -> Step<Report> {
        let (uid, key) = (job.uid(), medium_key(purpose));
        desk.expect(job.host, purpose, order);
        match desk.state(&uid) {
            AgentState::Done(report) => {
                self.booting.end(&uid);
                return Ok(Progress::Done(*report));
            }
            AgentState::Failed(reason) => {
                // The next pass, after a pause, finds an agent that has tried again.
                desk.try_again(&uid);
                return Err(job.refused("the agent on the host", reason));
            }
            // Who talks is on; its controller, which is slow, need not be asked.
            AgentState::AtWork { silent, note } if silent < TALKING => {
                return Ok(Progress::Working { again: AGENT_POLL, note });
            }
            AgentState::AtWork { .. } | AgentState::Unheard => {}
        }
        let network_data = job.seed.map(|seed| seed.network_data.clone()).unwrap_or_default();
        let medium = desk.offer_medium(&self.media, job.host, purpose, &network_data).await;
        let medium = medium.map_err(|error| job.refused("making the agent's medium", error.to_string()))?;
        let runs = driver.state().await?.powered_on == Some(true);
        if runs && self.has_medium(driver, &uid, &key).await? {
            return self.follow_agent(job, desk, driver).await;
        }
        driver.power_off().await?;
        desk.restart(&uid);
        self.booting.end(&uid);
        let mode = job.host.spec.boot_mode.unwrap_or(BootMode::UEFI);
        driver.boot_medium(&medium, BootOrder { persistence: Persistence::Once, mode }).await?;
        driver.power_on().await?;
        job.tell(EventKind::Normal, "PowerOn", "Host booting the agent");
        Ok(Progress::Working { again: AGENT_POLL, note: "booting the agent".to_owned() })
    }

    /// Whether the medium inserted is that one.
    pub(super) async fn has_medium(
        &self,
        driver: &dyn HostDriver,
        uid: &str,
        key: &str,
    ) -> Result<bool, DriverError> {
        let medium = driver.medium().await?;
        Ok(medium.is_some_and(|medium| self.media.is_url_of(&medium, uid, key)))
    }

    /// What to make of a host that is on, with an agent that has not talked for a while.
    async fn follow_agent(&self, job: &Job<'_>, desk: &AgentDesk, driver: &dyn HostDriver) -> Step<Report> {
        let uid = job.uid();
        match desk.state(&uid) {
            AgentState::AtWork { silent, .. } if silent > SILENCE => {
                self.give_up(job, desk, driver, "the agent was silent", SILENCE).await
            }
            AgentState::AtWork { note, .. } => Ok(Progress::Working { again: BOOT_LOOK, note }),
            // It spoke just now; the next pass hears what it said.
            AgentState::Done(_) | AgentState::Failed(_) => Ok(Progress::again(AGENT_POLL)),
            AgentState::Unheard if self.booting.since(&uid) > FIRST_WORD => {
                self.give_up(job, desk, driver, "the agent said nothing after power on", FIRST_WORD).await
            }
            AgentState::Unheard => {
                Ok(Progress::Working { again: BOOT_LOOK, note: "booting the agent".to_owned() })
            }
        }
    }

    /// Switches the host off: the next pass boots the agent anew.
    async fn give_up(
        &self,
        job: &Job<'_>,
        desk: &AgentDesk,
        driver: &dyn HostDriver,
        what: &str,
        after: Duration,
    ) -> Step<Report> {
        driver.power_off().await?;
        desk.restart(&job.uid());
        self.booting.end(&job.uid());
        Err(DriverError::Stuck { host: job.address.base.to_string(), what: what.to_owned(), after })
    }
}
