//! What a host boots: boot override and boot mode.

use drystone_api::BootMode;
use drystone_redfish::{client::RedfishError, types::ComputerSystem};
use serde_json::{Map, Value, json};
use tokio::time::Instant;
use url::Url;

use super::{DriverError, RedfishHost, System};
use crate::driver::Persistence;

/// How often a change is sent that a host testing itself refuses.
const BUSY_ATTEMPTS: u32 = 6;

const ENABLED: &str = "BootSourceOverrideEnabled";
const TARGET: &str = "BootSourceOverrideTarget";
const MODE: &str = "BootSourceOverrideMode";

/// The image that a host boots over HTTP.
pub(super) fn http_image(system: &ComputerSystem) -> Option<String> {
    let boot = &system.boot;
    let is_set = boot.boot_source_override_target.as_deref() == Some("UefiHttp");
    boot.http_boot_uri.clone().filter(|uri| is_set && !uri.is_empty())
}

const fn mode_name(mode: BootMode) -> &'static str {
    match mode {
        BootMode::UEFI | BootMode::UEFISecureBoot => "UEFI",
        BootMode::Legacy => "Legacy",
    }
}

impl RedfishHost {
    /// Makes the next start, or every one, boot from the first of these targets that the system knows.
    pub(super) async fn boot_from(
        &self,
        targets: &[&str],
        persistence: Persistence,
        image: Option<&Url>,
    ) -> Result<(), DriverError> {
        let doing = "setting the boot override";
        let wanted = match persistence {
            Persistence::Once => "Once",
            Persistence::EveryBoot => "Continuous",
        };
        let system = self.system().await?;
        match self.change_override(&system, targets, wanted, image).await {
            // Some know no lasting override: it is set anew before each start then.
            Err(error) if wanted == "Continuous" && matches!(error.status(), Some(400 | 409 | 501)) => {
                self.change_override(&system, targets, "Once", image).await
            }
            other => other,
        }
        .map_err(|error| self.error(doing, &error))
    }

    async fn change_override(
        &self,
        system: &System,
        targets: &[&str],
        enabled: &str,
        image: Option<&Url>,
    ) -> Result<(), RedfishError> {
        let (quirks, read, system) = (system.quirks(), system, &system.value);
        let allowed = &system.boot.allowable_targets;
        let known = targets.iter().find(|target| allowed.iter().any(|one| one == **target));
        let target = known.or(targets.last()).copied().unwrap_or("None");
        let mut boot = Map::new();
        boot.insert(TARGET.to_owned(), json!(target));
        let same = system.boot.boot_source_override_enabled.as_deref() == Some(enabled);
        if !same || quirks.always_sends_enabled || quirks.sends_boot_together {
            boot.insert(ENABLED.to_owned(), json!(enabled));
        }
        if quirks.sends_boot_together
            && let Some(mode) = &system.boot.boot_source_override_mode
        {
            boot.insert(MODE.to_owned(), json!(mode));
        }
        if let Some(image) = image {
            boot.insert("HttpBootUri".to_owned(), json!(image.as_str()));
        }
        self.change_boot(read, Value::Object(boot)).await
    }

    /// Changes `Boot` of the system, or of its settings resource where that is what holds it.
    async fn change_boot(&self, system: &System, boot: Value) -> Result<(), RedfishError> {
        let (body, busy_message) = (json!({"Boot": boot}), system.quirks().busy_message);
        let uri = self.settings_of(system).await?.unwrap_or_else(|| system.uri.clone());
        let mut pause = self.pauses.busy;
        for attempt in 1.. {
            match self.client.modify(&uri, |_| Some(body.clone())).await {
                Err(error) if attempt < BUSY_ATTEMPTS && busy_message.is_some_and(|key| error.says(key)) => {
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
                other => return other.map(drop),
            }
        }
        Ok(())
    }

    /// The settings resource of a system, if its boot override is changed there.
    async fn settings_of(&self, system: &System) -> Result<Option<String>, RedfishError> {
        let pointer = "/@Redfish.Settings/SettingsObject/@odata.id";
        let Some(settings) = system.body.pointer(pointer).and_then(Value::as_str) else { return Ok(None) };
        match self.client.get(settings).await {
            Ok(found) if found.body.get("Boot").is_some_and(|boot| boot.get(TARGET).is_some()) => {
                Ok(Some(settings.to_owned()))
            }
            Ok(_) => Ok(None),
            Err(error) if error.status() == Some(404) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Brings the boot mode to what is wanted, and waits until it is; and secure boot, where the system has it.
    pub(super) async fn set_mode(&self, system: &System, mode: BootMode) -> Result<(), DriverError> {
        let doing = "setting the boot mode";
        let wanted = mode_name(mode);
        self.set_secure_boot(system, mode == BootMode::UEFISecureBoot).await?;
        let present = system.value.boot.boot_source_override_mode.as_deref();
        // A system that does not tell its mode has but one.
        if present.is_none_or(|present| present == wanted) {
            return Ok(());
        }
        let (boot, quirks) = (json!({MODE: wanted}), system.quirks());
        let changed = self.change_boot(system, boot).await;
        changed.map_err(|error| self.error(doing, &error))?;
        let limit = if quirks.mode_takes_long { self.pauses.mode_limit * 3 } else { self.pauses.mode_limit };
        let deadline = Instant::now() + limit;
        loop {
            let now = self.system().await?.value.boot.boot_source_override_mode;
            if now.as_deref() == Some(wanted) {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(DriverError::Stuck {
                    host: self.client.base().to_string(),
                    what: format!("the boot mode was not {wanted}"),
                    after: limit,
                });
            }
            tokio::time::sleep(self.pauses.mode).await;
        }
    }

    async fn set_secure_boot(&self, system: &System, wanted: bool) -> Result<(), DriverError> {
        let doing = "setting secure boot";
        let Some(uri) = system.body.pointer("/SecureBoot/@odata.id").and_then(Value::as_str) else {
            let none = "the system has no secure boot; change spec.bootMode to UEFI";
            return if wanted { Err(self.refused(doing, none)) } else { Ok(()) };
        };
        let change = |body: &Value| {
            let present = body.get("SecureBootEnable").and_then(Value::as_bool).unwrap_or(false);
            (present != wanted).then(|| json!({"SecureBootEnable": wanted}))
        };
        match self.client.modify(uri, change).await {
            // It is not there after all: nothing is to be switched off.
            Err(error) if !wanted && matches!(error.status(), Some(404 | 405 | 501)) => Ok(()),
            other => other.map(drop).map_err(|error| self.error(doing, &error)),
        }
    }

    /// Sets the override anew where it is no lasting one.
    pub(super) async fn restore_override(&self) -> Result<(), DriverError> {
        let system = self.system().await?;
        let boot = &system.value.boot;
        if boot.boot_source_override_enabled.as_deref() == Some("Continuous") {
            return Ok(());
        }
        let (http, discs): (&[&str], _) = (&["UefiHttp"], system.quirks().cd_targets);
        let targets = if self.boot == crate::model::BootVia::UefiHttp { http } else { discs };
        self.boot_from(targets, Persistence::EveryBoot, None).await
    }

    /// Makes the host boot nothing over HTTP any more.
    pub(super) async fn forget_http_image(&self, system: &System) -> Result<(), DriverError> {
        if http_image(&system.value).is_none() {
            return Ok(());
        }
        let boot = json!({TARGET: "None", ENABLED: "Disabled"});
        let changed = self.change_boot(system, boot).await;
        changed.map_err(|error| self.error("taking back the boot override", &error))
    }
}
