//! The system and its case: power, boot, drives.

use std::time::Instant;

use drystone_redfish::{
    error::ServiceError,
    message::{self, Message, Severity},
    server::{Parameters, Properties, Reply, RequestBody},
    types::{
        Boot, BootProgress, Chassis, ComputerSystem, Link, Location, MemorySummary, Placement, PowerState,
        ProcessorSummary, ResetType, Status,
    },
};
use serde_json::{Value, json};
use url::Url;

use super::{Bmc, CHASSIS, MANAGER, SYSTEM, body, failed, inventory};
use crate::hardware::{
    Accepted, BootOverride, BootTarget, Change, HardwareError, OverrideEnabled, Phase, Situation,
};

/// Ways to erase a drive. All come to the same.
pub(super) const SANITIZATIONS: [&str; 3] = ["BlockErase", "CryptographicErase", "Overwrite"];

impl Bmc {
    /// The system.
    pub(super) fn system(&self) -> Result<Value, ServiceError> {
        let situation = self.hardware.situation();
        let host = self.hardware.spec();
        let link = |room: &str| Some(Link::to(format!("{SYSTEM}/{room}")));
        let mut system = ComputerSystem::at(SYSTEM, &host.name);
        system.system_type = Some("Physical".to_owned());
        system.uuid = Some(host.uuid.to_string());
        system.host_name.clone_from(&situation.record.host_name);
        system.manufacturer = Some("Drystone".to_owned());
        system.model = Some("Emulated server".to_owned());
        system.serial_number = Some(inventory::serial(host.uuid, "system"));
        system.bios_version = Some(env!("CARGO_PKG_VERSION").to_owned());
        system.power_state = Some(power_state(situation.phase));
        system.status = status(&situation);
        system.processor_summary = ProcessorSummary {
            count: Some(host.processor.sockets),
            core_count: Some(host.processor.cores),
            logical_processor_count: Some(host.processor.threads),
            model: Some(host.processor.model.clone()),
            status: Status::healthy("Enabled"),
        };
        // Sizes are far below the point where a float loses mebibytes.
        #[expect(clippy::cast_precision_loss, reason = "at most 2^30 MiB")]
        let gib = host.memory_mib as f64 / 1024.0;
        system.memory_summary =
            MemorySummary { total_system_memory_gib: Some(gib), status: Status::healthy("Enabled") };
        system.boot = boot(&situation.record.boot);
        system.boot_progress = progress(&situation);
        (system.processors, system.memory) = (link("Processors"), link("Memory"));
        (system.storage, system.ethernet_interfaces) = (link("Storage"), link("EthernetInterfaces"));
        system.links.chassis = vec![Link::to(CHASSIS)];
        system.links.managed_by = vec![Link::to(MANAGER)];
        let reset = json!({"target": format!("{SYSTEM}/Actions/ComputerSystem.Reset"),
            "ResetType@Redfish.AllowableValues": ResetType::ALL.map(ResetType::as_str)});
        system.actions.insert("#ComputerSystem.Reset".to_owned(), reset);
        body(&system)
    }

    /// The case.
    pub(super) fn chassis(&self) -> Result<Value, ServiceError> {
        let host = self.hardware.spec();
        let mut chassis = Chassis::at(CHASSIS, &format!("Chassis of {}", host.name));
        chassis.chassis_type = Some("RackMount".to_owned());
        chassis.manufacturer = Some("Drystone".to_owned());
        chassis.model = Some("Emulated server".to_owned());
        chassis.serial_number = Some(inventory::serial(host.uuid, "chassis"));
        chassis.power_state = Some(power_state(self.hardware.situation().phase));
        if host.watts.busy > 0 {
            chassis.min_power_watts = Some(f64::from(host.watts.idle));
            chassis.max_power_watts = Some(f64::from(host.watts.busy));
        }
        let rack = Some(host.rack.clone()).filter(|rack| !rack.is_empty());
        chassis.location = Location { placement: Placement { row: None, rack } };
        chassis.environment_metrics = Some(Link::to(format!("{CHASSIS}/EnvironmentMetrics")));
        chassis.links.computer_systems = vec![Link::to(SYSTEM)];
        chassis.links.managed_by = vec![Link::to(MANAGER)];
        chassis.status = Status::healthy("Enabled");
        body(&chassis)
    }

    /// What the case measures. An emulated system that runs draws what it draws when idle.
    pub(super) fn environment(&self) -> Value {
        let watts = if self.hardware.is_on() { self.hardware.spec().watts.idle } else { 0 };
        json!({"@odata.id": format!("{CHASSIS}/EnvironmentMetrics"),
            "@odata.type": "#EnvironmentMetrics.v1_3_1.EnvironmentMetrics", "Id": "EnvironmentMetrics",
            "Name": "Environment metrics", "PowerWatts": {"Reading": watts}})
    }

    /// PATCH of the system: boot override and host name.
    pub(super) async fn change_system(&self, request: RequestBody) -> Result<Reply, ServiceError> {
        let mut properties = Properties::update(request.required()?);
        let current = self.hardware.situation().record.boot;
        let new_boot = properties.object("Boot", |boot| read_boot(boot, current));
        let host_name = properties.nullable_string("HostName");
        properties.read_only(&[
            "SystemType",
            "UUID",
            "Manufacturer",
            "Model",
            "SerialNumber",
            "BiosVersion",
            "PowerState",
            "Status",
            "ProcessorSummary",
            "MemorySummary",
            "BootProgress",
            "Processors",
            "Memory",
            "Storage",
            "EthernetInterfaces",
            "Links",
            "Actions",
        ]);
        if let Some(Some(name)) = &host_name
            && name.len() > 253
        {
            properties.format_error::<()>("HostName", name);
        }
        properties.finish()?;
        let change = |record: &mut crate::hardware::HostRecord| {
            if let Some(boot) = new_boot {
                record.boot = boot;
            }
            if let Some(name) = host_name {
                record.host_name = name;
            }
        };
        self.hardware.change(Change::System, change).await.map_err(|error| failed(&error))?;
        Ok(Reply::updated(self.system()?))
    }

    /// `ComputerSystem.Reset`.
    pub(super) async fn reset_system(&self, request: RequestBody) -> Result<Reply, ServiceError> {
        let mut parameters = Parameters::action("ComputerSystem.Reset", request.into_object());
        parameters.require("ResetType");
        let name = parameters.choice("ResetType", &ResetType::ALL.map(ResetType::as_str));
        parameters.finish()?;
        let kind = ResetType::ALL.into_iter().find(|kind| Some(kind.as_str()) == name.as_deref());
        let kind = kind.ok_or_else(|| ServiceError::internal(&"a checked reset type is not known"))?;
        if self.faults.power_stuck(Instant::now(), rand::random) {
            tracing::info!(host = self.hardware.spec().name, "a fault keeps the power as it is");
            return Ok(Reply::no_content());
        }
        match self.hardware.reset(kind).await {
            Ok(Accepted::Begun) => Ok(Reply::no_content()),
            Ok(Accepted::NothingToDo) => Ok(Reply::no_operation()),
            Err(HardwareError::Conflict { .. }) => Err(ServiceError::conflict(
                message::action_parameter_value_conflict("ResetType", kind.as_str()),
            )),
            Err(error) => Err(failed(&error)),
        }
    }

    /// `Drive.SecureErase`. A system lies on the first drive; the others are empty anyway.
    pub(super) async fn erase_drive(
        &self,
        drive: &str,
        uri: &str,
        request: RequestBody,
    ) -> Result<Reply, ServiceError> {
        let mut parameters = Parameters::action("Drive.SecureErase", request.into_object());
        parameters.choice("SanitizationType", &SANITIZATIONS);
        parameters.unsigned("OverwritePasses", 1, 100);
        parameters.finish()?;
        let drives = &self.hardware.spec().drives;
        let index =
            drives.iter().position(|spec| spec.name == drive).ok_or_else(|| ServiceError::not_found(uri))?;
        if index > 0 && !self.hardware.is_on() {
            return Ok(Reply::no_content());
        }
        match self.hardware.erase_drives().await {
            Ok(()) => Ok(Reply::no_content()),
            Err(HardwareError::Conflict { .. }) => Err(ServiceError::conflict(message::resource_in_use())),
            Err(error) => Err(failed(&error)),
        }
    }
}

fn power_state(phase: Phase) -> PowerState {
    match phase {
        Phase::Off => PowerState::Off,
        Phase::PoweringOff => PowerState::PoweringOff,
        Phase::Post | Phase::OsStarting | Phase::OsRunning | Phase::NoBoot | Phase::ShuttingDown => {
            PowerState::On
        }
    }
}

/// State and health. A host that boots nothing says why.
fn status(situation: &Situation) -> Status {
    let mut status = Status::healthy(match situation.phase {
        Phase::Off => "StandbyOffline",
        Phase::Post | Phase::OsStarting => "Starting",
        _ => "Enabled",
    });
    if !situation.reason.is_empty() {
        let text = "The system boots nothing: %1.";
        let resolution = "Insert a medium, set the boot override, and reset the system.";
        status.conditions = vec![Message::new(
            "Drystone.1.0",
            "NothingBoots",
            Severity::Warning,
            text,
            &[&situation.reason],
            resolution,
        )];
    }
    status
}

fn progress(situation: &Situation) -> BootProgress {
    let (state, oem) = match situation.phase {
        Phase::Off | Phase::PoweringOff => ("None", None),
        Phase::Post => ("SystemHardwareInitializationComplete", None),
        Phase::OsStarting => ("OSBootStarted", None),
        Phase::OsRunning | Phase::ShuttingDown => ("OSRunning", None),
        Phase::NoBoot => ("OEM", Some("NothingBoots".to_owned())),
    };
    BootProgress {
        last_state: Some(state.to_owned()),
        last_state_time: Some(format!("{:.0}", situation.since)),
        oem_last_state: oem,
    }
}

fn boot(settings: &BootOverride) -> Boot {
    Boot {
        boot_source_override_enabled: Some(settings.enabled.as_str().to_owned()),
        boot_source_override_mode: Some(if settings.legacy { "Legacy" } else { "UEFI" }.to_owned()),
        boot_source_override_target: Some(settings.target.as_str().to_owned()),
        allowable_targets: BootTarget::ALL.iter().map(|(name, _)| (*name).to_owned()).collect(),
        http_boot_uri: settings.http_boot_uri.clone(),
    }
}

/// Reads `Boot`, over what is set now.
fn read_boot(properties: &mut Properties, current: BootOverride) -> BootOverride {
    let mut boot = current;
    let find = |all: &[(&str, BootTarget)], name: &str| {
        all.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
    };
    if let Some(name) = properties.choice("BootSourceOverrideTarget", &BootTarget::ALL.map(|(name, _)| name))
    {
        boot.target = find(&BootTarget::ALL, &name).unwrap_or_default();
    }
    if let Some(name) =
        properties.choice("BootSourceOverrideEnabled", &OverrideEnabled::ALL.map(|(name, _)| name))
    {
        let found = OverrideEnabled::ALL.iter().find(|(known, _)| *known == name);
        boot.enabled = found.map(|(_, value)| *value).unwrap_or_default();
    }
    if let Some(mode) = properties.choice("BootSourceOverrideMode", &["UEFI", "Legacy"]) {
        boot.legacy = mode == "Legacy";
    }
    if let Some(uri) = properties.nullable_string("HttpBootUri") {
        if let Some(uri) = uri.as_deref().filter(|uri| !is_http(uri)) {
            properties.format_error::<()>("HttpBootUri", uri);
        }
        boot.http_boot_uri = uri;
    }
    if boot.target == BootTarget::UefiHttp
        && boot.enabled != OverrideEnabled::Disabled
        && boot.http_boot_uri.is_none()
    {
        properties
            .reject(message::property_value_conflict("Boot/BootSourceOverrideTarget", "Boot/HttpBootUri"));
    }
    boot
}

/// Whether an image can be fetched from there.
pub(super) fn is_http(text: &str) -> bool {
    Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
}
