//! What somebody wants of a host, and what a host has.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::quantity::{Bandwidth, Memory};

/// Kind of an accelerator (Redfish `ProcessorType` without `CPU`).
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum AcceleratorType {
    /// Graphics processor.
    #[default]
    GPU,
    /// Field-programmable gate array.
    FPGA,
    /// Digital signal processor.
    DSP,
    /// Anything else that accelerates.
    Accelerator,
}

/// Accelerators of one model that a host has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Accelerator {
    /// Kind.
    #[serde(rename = "type")]
    pub kind: AcceleratorType,
    /// Model as the hardware reports it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub model: String,
    /// Memory of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,
    /// How many.
    pub count: u32,
}

/// Accelerators that a host must have.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AcceleratorRequirement {
    /// Kind; GPU unless said otherwise.
    #[serde(rename = "type", default)]
    pub kind: AcceleratorType,
    /// Part of the model's name, compared without regard to case; any model if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Least memory of each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_memory: Option<Memory>,
    /// How many at least.
    #[schemars(range(min = 1, max = 1024))]
    pub count: u32,
}

/// Drives that a host must have.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DriveRequirement {
    /// How many at least.
    #[schemars(range(min = 1, max = 1024))]
    pub count: u32,
    /// Least capacity of each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_capacity: Option<Memory>,
    /// `SSD`, `HDD` or `NVMe`, compared without regard to case; any if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media: Option<String>,
}

/// What the network of a host must offer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NetworkRequirement {
    /// Least speed of the host's fastest port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_bandwidth: Option<Bandwidth>,
    /// Most switches on the way between any two hosts of the group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 64))]
    pub max_hops: Option<u32>,
}

/// What a host must have to take part.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HostRequirement {
    /// Least number of processor cores.
    #[serde(default)]
    #[schemars(range(min = 0, max = 65536))]
    pub cores: u32,
    /// Least memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,
    /// Accelerators.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accelerators: Vec<AcceleratorRequirement>,
    /// Least capacity of all local drives together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<Memory>,
    /// Drives.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drives: Vec<DriveRequirement>,
    /// Network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkRequirement>,
}
