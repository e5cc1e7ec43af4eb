//! Power.

use std::time::Duration;

use drystone_redfish::types::{ComputerSystem, ResetType};
use serde_json::json;
use tokio::time::Instant;

use super::{DriverError, RedfishHost, action, is_on};

/// Pauses between looks at the power state, growing.
const FIRST_POLL: Duration = Duration::from_millis(50);
const LONGEST_POLL: Duration = Duration::from_secs(2);

/// How often a reset is sent that the controller refuses for now.
const RESETS: u32 = 6;

impl RedfishHost {
    /// Switches and waits until power has followed.
    pub(super) async fn switch(&self, on: bool) -> Result<(), DriverError> {
        let system = self.system().await?.value;
        if is_on(&system) == Some(on) {
            return Ok(());
        }
        self.reset(on, &system).await?;
        if self.await_power(on).await? {
            return Ok(());
        }
        Err(DriverError::Stuck {
            host: self.client.base().to_string(),
            what: if on { "power stayed off" } else { "power stayed on" }.to_owned(),
            after: self.pauses.power_limit,
        })
    }

    /// Sends a reset. Some controllers refuse what is the case already, some refuse for a while: a refusal counts only
    /// if power is still not where it is wanted.
    async fn reset(&self, on: bool, system: &ComputerSystem) -> Result<(), DriverError> {
        let kind = if on { ResetType::On } else { ResetType::ForceOff };
        let mut attempt = 1;
        loop {
            match self.client.action(&target(system), &json!({"ResetType": kind.as_str()})).await {
                Ok(_) => return Ok(()),
                Err(error) if matches!(error.status(), Some(400 | 409)) => {
                    if is_on(&self.system().await?.value) == Some(on) {
                        return Ok(());
                    }
                    if error.status() == Some(400) || attempt >= RESETS {
                        return Err(self.error("resetting the system", &error));
                    }
                    attempt += 1;
                    tokio::time::sleep(self.pauses.conflict).await;
                }
                Err(error) => return Err(self.error("resetting the system", &error)),
            }
        }
    }

    /// Asks the operating system to end. False if there is nobody to ask.
    pub(super) async fn shut_down(&self) -> Result<bool, DriverError> {
        let system = self.system().await?.value;
        match self.client.action(&target(&system), &json!({"ResetType": "GracefulShutdown"})).await {
            Ok(_) => Ok(true),
            // It knows no such reset, or nothing runs there that could be asked.
            Err(error) if matches!(error.status(), Some(400 | 404 | 405 | 409 | 501)) => Ok(false),
            Err(error) => Err(self.error("asking the operating system to end", &error)),
        }
    }

    async fn await_power(&self, wanted: bool) -> Result<bool, DriverError> {
        let deadline = Instant::now() + self.pauses.power_limit;
        let mut pause = FIRST_POLL;
        loop {
            if is_on(&self.system().await?.value) == Some(wanted) {
                return Ok(true);
            }
            if Instant::now() + pause > deadline {
                return Ok(false);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_POLL);
        }
    }
}

fn target(system: &ComputerSystem) -> String {
    action(&system.actions, "ComputerSystem.Reset")
        .unwrap_or_else(|| format!("{}/Actions/ComputerSystem.Reset", system.odata_id))
}
