//! `ResourceBlock`: what a piece of hardware offers, and to which pool it belongs at the moment (Redfish term).

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Accelerator, ObjectReference, quantity::Memory};

/// Which hardware this is.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "drystone.dev",
    version = "v1alpha1",
    kind = "ResourceBlock",
    plural = "resourceblocks",
    shortname = "rb",
    category = "drystone",
    namespaced,
    status = "ResourceBlockStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Type","type":"string","jsonPath":".spec.type"}"#,
    printcolumn = r#"{"name":"Pool","type":"string","jsonPath":".status.pool"}"#,
    printcolumn = r#"{"name":"Cores","type":"integer","jsonPath":".status.cores"}"#,
    printcolumn = r#"{"name":"Memory","type":"string","jsonPath":".status.memory"}"#,
    printcolumn = r#"{"name":"GPUs","type":"integer","jsonPath":".status.gpuCount"}"#,
    printcolumn = r#"{"name":"Consumer","type":"string","jsonPath":".status.consumer.name"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct ResourceBlockSpec {
    /// What it mainly is.
    #[serde(rename = "type")]
    pub kind: ResourceBlockType,
    /// The BareMetalHost that it describes, in the same namespace; absent for pooled devices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The Redfish resource that it was read from.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub source: String,
    /// Keep it out of every composition.
    #[serde(default)]
    pub maintenance: bool,
}

/// Kind of a block (Redfish `ResourceBlockType`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ResourceBlockType {
    /// A whole server.
    #[default]
    ComputerSystem,
    /// Pooled accelerators.
    Processor,
    /// Pooled memory.
    Memory,
    /// Pooled drives.
    Storage,
    /// Pooled network devices.
    Network,
}

/// Pool that a block is in.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum BlockPool {
    /// Not inspected yet, or not usable.
    #[default]
    Unassigned,
    /// Unclaimed and powered off.
    Free,
    /// Unclaimed and powered on.
    Online,
    /// Claimed, not in service yet.
    Reserved,
    /// In service.
    Active,
    /// Out of order.
    Failed,
}

/// What it has and where it is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResourceBlockStatus {
    /// Pool.
    #[serde(default)]
    pub pool: BlockPool,
    /// Processor cores.
    #[serde(default)]
    pub cores: u32,
    /// Hardware threads.
    #[serde(default)]
    pub threads: u32,
    /// Memory.
    #[serde(default)]
    pub memory: Memory,
    /// Accelerators.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accelerators: Vec<Accelerator>,
    /// How many GPUs in all.
    #[serde(default)]
    pub gpu_count: u32,
    /// Drives.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drives: Vec<Drive>,
    /// Network interfaces.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nics: Vec<BlockNic>,
    /// Chassis it sits in.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub chassis: String,
    /// Power drawn when idle, in watts, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_watts: Option<u32>,
    /// Power drawn under load, in watts, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub busy_watts: Option<u32>,
    /// Who claimed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consumer: Option<ObjectReference>,
    /// Why it is `Failed` or `Unassigned`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// When the hardware was last read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_inspection: Option<Time>,
}

/// A drive.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Drive {
    /// Name.
    pub name: String,
    /// Capacity.
    pub capacity: Memory,
    /// `SSD`, `HDD` or `NVMe`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub media: String,
}

/// A network interface.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BlockNic {
    /// Name: `eth0`.
    pub name: String,
    /// MAC address, lower case.
    pub mac: String,
    /// Speed in Gbit/s.
    #[serde(default)]
    pub speed_gbps: u32,
}
