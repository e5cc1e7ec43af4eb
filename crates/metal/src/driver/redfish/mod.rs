//! Hosts whose management controller speaks Redfish.
//!
//! The order of requests and the allowances for what controllers do differently follow what Ironic and sushy found out
//! over the years: eject before inserting, take a refusal in the wanted state as success, go through the system's
//! virtual media and then its managers'. What only some makers do is in a table ([`quirks`]).
//!
//! Rooms: [`power`], [`media`], [`boot`], [`firmware`], [`inspection`].

mod boot;
mod firmware;
mod inspection;
mod media;
mod power;
mod quirks;
#[cfg(test)]
mod tests;

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use drystone_redfish::{
    client::{CertificateCheck, Client, Options, RedfishError},
    types::{ComputerSystem, PowerState},
};
use serde_json::{Map, Value, json};
use url::Url;

use self::quirks::Quirks;
use super::{Answer, BootOrder, BootProgress, Credentials, DriverError, Drivers, HostDriver, HostState};
use crate::{
    model::{BmcAddress, BootVia, FirmwareReading, Inventory, Protocol},
    plan::conditions::Health,
};

/// Where systems are.
const SYSTEMS: &str = "/redfish/v1/Systems";

/// Limits of a request.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
const REQUEST_LIMIT: Duration = Duration::from_secs(30);

/// How long a drive may take to be erased.
const ERASE_LIMIT: Duration = Duration::from_secs(3600);

/// How long is waited, and how often is asked.
#[derive(Debug, Clone, Copy)]
pub struct Pauses {
    /// How long power may take to follow.
    pub power_limit: Duration,
    /// Between two resets that the controller refuses for now (six are sent).
    pub conflict: Duration,
    /// Between two insertions that fail by the controller's own fault (three are tried).
    pub insertion: Duration,
    /// Before the second of six changes that a host testing itself refuses; doubled each time.
    pub busy: Duration,
    /// Between two looks at a boot mode that is to change.
    pub mode: Duration,
    /// How long a boot mode may take to change.
    pub mode_limit: Duration,
}

impl Default for Pauses {
    fn default() -> Self {
        Self {
            power_limit: Duration::from_secs(60),
            conflict: Duration::from_secs(10),
            insertion: Duration::from_secs(3),
            busy: Duration::from_secs(5),
            mode: Duration::from_secs(5),
            mode_limit: Duration::from_secs(60),
        }
    }
}

/// Makes Redfish drivers.
#[derive(Debug, Clone, Copy, Default)]
pub struct RedfishDrivers {
    /// How long they wait.
    pub pauses: Pauses,
}

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
        if address.scheme.protocol != Protocol::Redfish || address.scheme.boot == BootVia::Network {
            return Err(refused(
                "only virtual media and UEFI HTTP can be booted; use the scheme redfish-virtualmedia"
                    .to_owned(),
            ));
        }
        let check = if verify_tls { CertificateCheck::Platform } else { CertificateCheck::Disabled };
        let options = Options::new(address.base.as_str())
            .credentials(&credentials.username, &credentials.password)
            .certificates(check)
            .timeouts(CONNECT_LIMIT, REQUEST_LIMIT);
        let client = Client::new(options).map_err(|error| refused(error.to_string()))?;
        let (system, boot) = (address.system.clone(), address.scheme.boot);
        Ok(Box::new(RedfishHost { client, system, found: Mutex::default(), boot, pauses: self.pauses }))
    }
}

struct RedfishHost {
    client: Client,
    /// The system that the address names.
    system: Option<String>,
    /// The only system there is, once it was found.
    found: Mutex<Option<String>>,
    boot: BootVia,
    pauses: Pauses,
}

/// A system as it was read.
struct System {
    uri: String,
    body: Value,
    value: ComputerSystem,
}

impl System {
    fn quirks(&self) -> &'static Quirks {
        Quirks::of(self.value.manufacturer.as_deref())
    }
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

    async fn system(&self) -> Result<System, DriverError> {
        let doing = "reading the system";
        let known = self.system.clone().or_else(|| self.found().clone());
        let (uri, resource) = match known {
            Some(uri) => (uri.clone(), self.client.get(&uri).await),
            None => {
                let uri = self.only_system().await?;
                (uri.clone(), self.client.get(&uri).await)
            }
        };
        if resource.as_ref().is_err_and(|error| error.status() == Some(404)) {
            // It may have got another name; the next one who asks looks.
            self.found().take();
        }
        let resource = resource.map_err(|error| self.error(doing, &error))?;
        let body = resource.body.clone();
        let fetched = resource.parse::<ComputerSystem>().map_err(|error| self.error(doing, &error))?;
        Ok(System { uri, body, value: fetched.value })
    }

    fn found(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn only_system(&self) -> Result<String, DriverError> {
        let members =
            self.client.members(SYSTEMS).await.map_err(|error| self.error("listing systems", &error))?;
        match members.as_slice() {
            [only] => Ok(self.found().insert(only.clone()).clone()),
            several => {
                let reason = format!("it has {} systems; name one in spec.bmc.address", several.len());
                Err(self.refused("finding the system", reason))
            }
        }
    }
}

/// Target of an action, as the resource publishes it.
fn action(actions: &Map<String, Value>, name: &str) -> Option<String> {
    actions.get(&format!("#{name}"))?.get("target")?.as_str().map(str::to_owned)
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
        None => BootProgress::Unknown,
        Some("None") => BootProgress::None,
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
            let read = inspection::read(&self.client, &system.value).await;
            read.map_err(|error| self.error("reading the hardware", &error))
        })
    }

    fn state(&self) -> Answer<'_, HostState> {
        Box::pin(async {
            let system = self.system().await?.value;
            let health = Health::of(system.status.health.as_deref());
            Ok(HostState { powered_on: is_on(&system), progress: progress(&system), health })
        })
    }

    fn medium(&self) -> Answer<'_, Option<String>> {
        Box::pin(async {
            let system = self.system().await?;
            if self.boot == BootVia::UefiHttp {
                return Ok(boot::http_image(&system.value));
            }
            let images = self.slots(&system).await?.into_iter().filter_map(|slot| slot.media.image);
            Ok(images.into_iter().find(|image| !image.is_empty()))
        })
    }

    fn power_on(&self) -> Answer<'_, ()> {
        Box::pin(self.switch(true))
    }

    fn power_off(&self) -> Answer<'_, ()> {
        Box::pin(self.switch(false))
    }

    fn ask_to_end(&self) -> Answer<'_, bool> {
        Box::pin(self.shut_down())
    }

    fn boot_medium<'a>(&'a self, image: &'a Url, order: BootOrder) -> Answer<'a, ()> {
        Box::pin(async move {
            let system = self.system().await?;
            self.set_mode(&system, order.mode).await?;
            if self.boot == BootVia::UefiHttp {
                return self.boot_from(&["UefiHttp"], order.persistence, Some(image)).await;
            }
            self.insert(&system, image).await?;
            self.boot_from(system.quirks().cd_targets, order.persistence, None).await
        })
    }

    fn boot_medium_again(&self) -> Answer<'_, ()> {
        Box::pin(self.restore_override())
    }

    fn boot_disk(&self) -> Answer<'_, ()> {
        Box::pin(self.boot_from(&["Hdd"], super::Persistence::EveryBoot, None))
    }

    fn eject(&self) -> Answer<'_, ()> {
        Box::pin(async {
            let system = self.system().await?;
            if self.boot == BootVia::UefiHttp {
                return self.forget_http_image(&system).await;
            }
            for slot in self.slots(&system).await? {
                if slot.media.image.as_deref().is_some_and(|image| !image.is_empty()) {
                    self.eject_slot(&slot).await?;
                }
            }
            Ok(())
        })
    }

    fn firmware(&self) -> Answer<'_, Option<FirmwareReading>> {
        Box::pin(self.read_firmware())
    }

    fn set_firmware<'a>(&'a self, settings: &'a Map<String, Value>) -> Answer<'a, ()> {
        Box::pin(self.write_firmware(settings))
    }

    fn erase_drives(&self) -> Answer<'_, usize> {
        Box::pin(async {
            let system = self.system().await?;
            let drives = inspection::drives(&self.client, &system.value).await;
            let drives = drives.map_err(|error| self.error("reading the drives", &error))?;
            let mut erased = 0;
            for target in drives.iter().filter_map(|drive| action(&drive.actions, "Drive.SecureErase")) {
                let outcome = self.client.action(&target, &json!({})).await;
                let outcome = outcome.map_err(|error| self.error("erasing a drive", &error))?;
                let done = self.client.complete(outcome, ERASE_LIMIT).await;
                done.map_err(|error| self.error("erasing a drive", &error))?;
                erased += 1;
            }
            Ok(erased)
        })
    }
}
