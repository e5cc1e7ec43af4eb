//! `ComputerSystem`: a server as its BMC shows it.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Link, Status, part, resource};

/// Whether a system is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PowerState {
    /// On.
    On,
    /// Off; the BMC still runs.
    Off,
    /// Between off and on.
    PoweringOn,
    /// Between on and off.
    PoweringOff,
    /// Paused.
    Paused,
    /// Something that this version does not know.
    #[serde(other)]
    Unknown,
}

/// What a reset does (`Resource.ResetType`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ResetType {
    /// Switch on.
    On,
    /// Switch off at once.
    ForceOff,
    /// Ask the operating system to shut down, then switch off.
    GracefulShutdown,
    /// Ask the operating system to shut down, then switch on again.
    GracefulRestart,
    /// Switch off at once, then on again.
    ForceRestart,
    /// Non-maskable interrupt.
    Nmi,
    /// Switch on even if that does not seem needed.
    ForceOn,
    /// What the button at the front does.
    PushPowerButton,
    /// Take the power away and give it back.
    PowerCycle,
}

impl ResetType {
    /// Every type that Drystone knows.
    pub const ALL: [Self; 9] = [
        Self::On,
        Self::ForceOff,
        Self::GracefulShutdown,
        Self::GracefulRestart,
        Self::ForceRestart,
        Self::Nmi,
        Self::ForceOn,
        Self::PushPowerButton,
        Self::PowerCycle,
    ];

    /// Its name in Redfish.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::On => "On",
            Self::ForceOff => "ForceOff",
            Self::GracefulShutdown => "GracefulShutdown",
            Self::GracefulRestart => "GracefulRestart",
            Self::ForceRestart => "ForceRestart",
            Self::Nmi => "Nmi",
            Self::ForceOn => "ForceOn",
            Self::PushPowerButton => "PushPowerButton",
            Self::PowerCycle => "PowerCycle",
        }
    }
}

resource! {
    /// A server.
    ComputerSystem, "#ComputerSystem.v1_27_0.ComputerSystem" {
        /// `Physical`, `Composed` …
        system_type: Option<String>,
        /// UUID.
        #[serde(rename = "UUID")]
        uuid: Option<String>,
        /// Name that the operating system goes by.
        host_name: Option<String>,
        /// Who made it.
        manufacturer: Option<String>,
        /// Model.
        model: Option<String>,
        /// Serial number.
        serial_number: Option<String>,
        /// Version of the firmware.
        bios_version: Option<String>,
        /// Whether it is on.
        power_state: Option<PowerState>,
        /// State and health.
        status: Status,
        /// Processors in short.
        processor_summary: ProcessorSummary,
        /// Memory in short.
        memory_summary: MemorySummary,
        /// What it boots.
        boot: Boot,
        /// How far its boot has come.
        boot_progress: BootProgress,
        /// Processors, accelerators among them.
        processors: Option<Link>,
        /// Memory modules.
        memory: Option<Link>,
        /// Storage.
        storage: Option<Link>,
        /// Network interfaces.
        ethernet_interfaces: Option<Link>,
        /// Virtual media, where they are under the system.
        virtual_media: Option<Link>,
        /// Links.
        links: ComputerSystemLinks,
        /// Actions, by name: `#ComputerSystem.Reset`.
        actions: Map<String, Value>,
    }
}

part! {
    /// Links of a system.
    ComputerSystemLinks {
        /// Chassis that hold it.
        chassis: Vec<Link>,
        /// Its BMC.
        managed_by: Vec<Link>,
        /// Resource blocks that it is composed of.
        resource_blocks: Vec<Link>,
    }
}

part! {
    /// Processors in short.
    ProcessorSummary {
        /// Number of processors.
        count: Option<u32>,
        /// Cores in all.
        core_count: Option<u32>,
        /// Hardware threads in all.
        logical_processor_count: Option<u32>,
        /// Model.
        model: Option<String>,
        /// State and health.
        status: Status,
    }
}

part! {
    /// Memory in short.
    MemorySummary {
        /// Size in GiB.
        #[serde(rename = "TotalSystemMemoryGiB")]
        total_system_memory_gib: Option<f64>,
        /// State and health.
        status: Status,
    }
}

part! {
    /// What a system boots.
    Boot {
        /// `Disabled`, `Once` or `Continuous`.
        boot_source_override_enabled: Option<String>,
        /// `UEFI` or `Legacy`.
        boot_source_override_mode: Option<String>,
        /// `None`, `Pxe`, `Cd`, `Hdd`, `UefiHttp` …
        boot_source_override_target: Option<String>,
        /// Targets that it can boot.
        #[serde(rename = "BootSourceOverrideTarget@Redfish.AllowableValues")]
        allowable_targets: Vec<String>,
        /// What the target `UefiHttp` boots.
        http_boot_uri: Option<String>,
    }
}

part! {
    /// How far a boot has come.
    BootProgress {
        /// `None`, `SystemHardwareInitializationComplete`, `OSBootStarted`, `OSRunning`, `OEM` …
        last_state: Option<String>,
        /// When it came there.
        last_state_time: Option<String>,
        /// What the last state `OEM` means.
        oem_last_state: Option<String>,
    }
}
