//! Hosts whose management controller speaks Redfish.
//!
//! The order of requests and the allowances for what controllers do differently follow what Ironic and sushy found out
//! over the years: eject before inserting, take a refusal in the wanted state as success, go through the system's
//! virtual media and then its managers'.

mod inspection;

use std::time::Duration;

use drystone_redfish::{
    client::{CertificateCheck, Client, Options, RedfishError},
    types::{ComputerSystem, Manager, PowerState, ResetType, VirtualMedia},
};
use serde_json::{Value, json};
use tokio::time::Instant;
use url::Url;

use super::{Answer, BootProgress, Credentials, DriverError, Drivers, HostDriver, HostState};
use crate::model::{BmcAddress, BootVia, Inventory};

/// Where systems are.
const SYSTEMS: &str = "/redfish/v1/Systems";

/// Limits of a request.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
const REQUEST_LIMIT: Duration = Duration::from_secs(20);

/// How long power may take to follow.
const POWER_LIMIT: Duration = Duration::from_secs(60);

/// Pauses between looks at the power state, growing.
const FIRST_POLL: Duration = Duration::from_millis(50);
const LONGEST_POLL: Duration = Duration::from_secs(2);

/// Makes Redfish drivers.
#[derive(Debug, Clone, Copy, Default)]
pub struct RedfishDrivers;

impl Drivers for RedfishDrivers {
    fn open(
        &self,
        address: &BmcAddress,
        credentials: &Credentials,
        verify_tls: bool,
    ) -> Result<Box<dyn HostDriver>, DriverError> {
        let refused = |reason: String| DriverError::Refused {
            host: address.base.to_string(),
            doing: "reading the address".to_owned(),
            reason,
        };
        if address.boot != BootVia::VirtualMedia {
            return Err(refused(
                "only virtual media can be booted; use the scheme redfish-virtualmedia".to_owned(),
            ));
        }
        let check = if verify_tls { CertificateCheck::Platform } else { CertificateCheck::Disabled };
        let options = Options::new(address.base.as_str())
            .credentials(&credentials.username, &credentials.password)
            .certificates(check)
            .timeouts(CONNECT_LIMIT, REQUEST_LIMIT);
        let client = Client::new(options).map_err(|error| refused(error.to_string()))?;
        Ok(Box::new(RedfishHost { client, system: address.system.clone() }))
    }
}

struct RedfishHost {
    client: Client,
    system: Option<String>,
}

/// A slot for media, with the URIs of its actions.
struct Slot {
    uri: String,
    media: VirtualMedia,
}

impl RedfishHost {
    fn error(&self, doing: &str, error: &RedfishError) -> DriverError {
        let host = self.client.base().to_string();
        match error {
            RedfishError::Unauthorized { .. } => DriverError::Unauthorized { host },
            RedfishError::Timeout { .. } | RedfishError::Unreachable { .. } => {
                DriverError::Unreachable { host, reason: error.to_string() }
            }
            _ => DriverError::Refused { host, doing: doing.to_owned(), reason: error.to_string() },
        }
    }

    fn refused(&self, doing: &str, reason: impl Into<String>) -> DriverError {
        DriverError::Refused {
            host: self.client.base().to_string(),
            doing: doing.to_owned(),
            reason: reason.into(),
        }
    }

    async fn system(&self) -> Result<ComputerSystem, DriverError> {
        let uri = match &self.system {
            Some(uri) => uri.clone(),
            None => {
                let members = self
                    .client
                    .members(SYSTEMS)
                    .await
                    .map_err(|error| self.error("listing systems", &error))?;
                match members.as_slice() {
                    [only] => only.clone(),
                    several => {
                        let reason =
                            format!("it has {} systems; name one in spec.bmc.address", several.len());
                        return Err(self.refused("finding the system", reason));
                    }
                }
            }
        };
        let system =
            self.client.get_as(&uri).await.map_err(|error| self.error("reading the system", &error))?;
        Ok(system.value)
    }

    /// Slots of the system itself, else of its managers.
    async fn slots(&self, system: &ComputerSystem) -> Result<Vec<Slot>, DriverError> {
        let doing = "reading virtual media";
        let mut collections: Vec<String> =
            system.virtual_media.iter().map(|link| link.odata_id.clone()).collect();
        if collections.is_empty() {
            for manager in &system.links.managed_by {
                let manager = self.client.get_as::<Manager>(&manager.odata_id).await;
                let manager = manager.map_err(|error| self.error("reading the manager", &error))?;
                collections.extend(manager.value.virtual_media.map(|link| link.odata_id));
            }
        }
        let mut slots = Vec::new();
        for collection in collections {
            let members =
                self.client.members(&collection).await.map_err(|error| self.error(doing, &error))?;
            for uri in members {
                let media = self
                    .client
                    .get_as::<VirtualMedia>(&uri)
                    .await
                    .map_err(|error| self.error(doing, &error))?;
                slots.push(Slot { uri, media: media.value });
            }
        }
        // CDs first: what is booted is a CD.
        slots.sort_by_key(|slot| !slot.media.media_types.iter().any(|kind| kind == "CD" || kind == "DVD"));
        Ok(slots)
    }

    async fn eject_slot(&self, slot: &Slot) -> Result<(), DriverError> {
        let done = match action(&slot.media.actions, "VirtualMedia.EjectMedia") {
            Some(target) => self.client.action(&target, &json!({})).await,
            None => self.client.patch(&slot.uri, &json!({"Image": null, "Inserted": false}), None).await,
        };
        done.map(drop).map_err(|error| self.error("ejecting the medium", &error))
    }

    async fn reset(&self, system: &ComputerSystem, kind: ResetType) -> Result<(), DriverError> {
        let target = reset_target(system);
        match self.client.action(&target, &json!({"ResetType": kind.as_str()})).await {
            Ok(_) => Ok(()),
            // Some controllers refuse what is the case already; whether it is, the caller sees.
            Err(error) if matches!(error.status(), Some(400 | 409)) => Ok(()),
            Err(error) => Err(self.error("resetting the system", &error)),
        }
    }

    async fn await_power(&self, wanted: bool, limit: Duration) -> Result<bool, DriverError> {
        let deadline = Instant::now() + limit;
        let mut pause = FIRST_POLL;
        loop {
            if is_on(&self.system().await?) == Some(wanted) {
                return Ok(true);
            }
            if Instant::now() + pause > deadline {
                return Ok(false);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_POLL);
        }
    }

    async fn switch(&self, on: bool) -> Result<(), DriverError> {
        let system = self.system().await?;
        if is_on(&system) == Some(on) {
            return Ok(());
        }
        self.reset(&system, if on { ResetType::On } else { ResetType::ForceOff }).await?;
        if self.await_power(on, POWER_LIMIT).await? {
            return Ok(());
        }
        let what = if on { "power stayed off" } else { "power stayed on" };
        Err(DriverError::Stuck {
            host: self.client.base().to_string(),
            what: what.to_owned(),
            after: POWER_LIMIT,
        })
    }
}

/// Target of an action, as the resource publishes it.
fn action(actions: &serde_json::Map<String, Value>, name: &str) -> Option<String> {
    actions.get(&format!("#{name}"))?.get("target")?.as_str().map(str::to_owned)
}

fn reset_target(system: &ComputerSystem) -> String {
    action(&system.actions, "ComputerSystem.Reset")
        .unwrap_or_else(|| format!("{}/Actions/ComputerSystem.Reset", system.odata_id))
}

/// Whether power is on; `None` while it is changing.
fn is_on(system: &ComputerSystem) -> Option<bool> {
    match system.power_state {
        Some(PowerState::On | PowerState::Paused) => Some(true),
        Some(PowerState::Off) => Some(false),
        _ => None,
    }
}

/// DSP0268, property `BootProgress.LastState` of a ComputerSystem.
fn progress(system: &ComputerSystem) -> BootProgress {
    match system.boot_progress.last_state.as_deref() {
        Some("OSRunning") => BootProgress::OperatingSystemRunning,
        Some("OSBootStarted") => BootProgress::OperatingSystemStarted,
        None | Some("None") => BootProgress::Unknown,
        Some(_) => BootProgress::Firmware,
    }
}

impl HostDriver for RedfishHost {
    fn verify(&self) -> Answer<'_, ()> {
        Box::pin(async { self.system().await.map(drop) })
    }

    fn inspect(&self) -> Answer<'_, Inventory> {
        Box::pin(async {
            let system = self.system().await?;
            inspection::read(&self.client, &system)
                .await
                .map_err(|error| self.error("reading the hardware", &error))
        })
    }

    fn state(&self) -> Answer<'_, HostState> {
        Box::pin(async {
            let system = self.system().await?;
            let medium = self.slots(&system).await?.into_iter().find_map(|slot| slot.media.image);
            let medium = medium.filter(|image| !image.is_empty());
            Ok(HostState { powered_on: is_on(&system) == Some(true), progress: progress(&system), medium })
        })
    }

    fn power_on(&self) -> Answer<'_, ()> {
        Box::pin(self.switch(true))
    }

    fn power_off(&self) -> Answer<'_, ()> {
        Box::pin(self.switch(false))
    }

    fn ask_to_end(&self) -> Answer<'_, bool> {
        Box::pin(async {
            let system = self.system().await?;
            let target = reset_target(&system);
            match self.client.action(&target, &json!({"ResetType": "GracefulShutdown"})).await {
                Ok(_) => Ok(true),
                // It knows no such reset, or nothing runs there that could be asked.
                Err(error) if matches!(error.status(), Some(400 | 404 | 405 | 409 | 501)) => Ok(false),
                Err(error) => Err(self.error("asking the operating system to end", &error)),
            }
        })
    }

    fn boot_medium_once<'a>(&'a self, image: &'a Url) -> Answer<'a, ()> {
        Box::pin(async move {
            let system = self.system().await?;
            let slots = self.slots(&system).await?;
            let Some(slot) = slots.first() else {
                return Err(self.refused("inserting the medium", "the controller has no virtual media"));
            };
            if slot.media.image.as_deref().is_some_and(|present| !present.is_empty())
                || slot.media.inserted == Some(true)
            {
                self.eject_slot(slot).await?;
            }
            let inserted = match action(&slot.media.actions, "VirtualMedia.InsertMedia") {
                Some(target) => self.client.action(&target, &json!({"Image": image.as_str()})).await,
                None => {
                    let body = json!({"Image": image.as_str(), "Inserted": true, "WriteProtected": true});
                    self.client.patch(&slot.uri, &body, None).await
                }
            };
            inserted.map_err(|error| self.error("inserting the medium", &error))?;
            let boot =
                json!({"Boot": {"BootSourceOverrideTarget": "Cd", "BootSourceOverrideEnabled": "Once"}});
            let changed = self.client.modify(&system.odata_id, |_| Some(boot.clone())).await;
            changed.map(drop).map_err(|error| self.error("setting the boot override", &error))
        })
    }

    fn boot_disk(&self) -> Answer<'_, ()> {
        Box::pin(async {
            let system = self.system().await?;
            let boot = |enabled: &str| json!({"Boot": {"BootSourceOverrideTarget": "Hdd", "BootSourceOverrideEnabled": enabled}});
            let always = boot("Continuous");
            match self.client.modify(&system.odata_id, |_| Some(always.clone())).await {
                Ok(_) => Ok(()),
                // Some controllers know no override that stays; the disk is what they boot by themselves later.
                Err(error) if matches!(error.status(), Some(400)) => {
                    let once = boot("Once");
                    let changed = self.client.modify(&system.odata_id, |_| Some(once.clone())).await;
                    changed.map(drop).map_err(|error| self.error("setting the boot override", &error))
                }
                Err(error) => Err(self.error("setting the boot override", &error)),
            }
        })
    }

    fn eject(&self) -> Answer<'_, ()> {
        Box::pin(async {
            let system = self.system().await?;
            for slot in self.slots(&system).await? {
                if slot.media.image.as_deref().is_some_and(|image| !image.is_empty()) {
                    self.eject_slot(&slot).await?;
                }
            }
            Ok(())
        })
    }

    fn erase_drives(&self) -> Answer<'_, usize> {
        Box::pin(async {
            let system = self.system().await?;
            let drives = inspection::drives(&self.client, &system).await;
            let drives = drives.map_err(|error| self.error("reading the drives", &error))?;
            let mut erased = 0;
            for target in drives.iter().filter_map(|drive| action(&drive.actions, "Drive.SecureErase")) {
                let outcome = self.client.action(&target, &json!({})).await;
                let outcome = outcome.map_err(|error| self.error("erasing a drive", &error))?;
                let done = self.client.complete(outcome, Duration::from_secs(3600)).await;
                done.map_err(|error| self.error("erasing a drive", &error))?;
                erased += 1;
            }
            Ok(erased)
        })
    }
}
