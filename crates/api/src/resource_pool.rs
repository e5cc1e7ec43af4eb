//! `ResourcePool`: hosts that are looked after together while nobody uses them, and how many of them wait with power on.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::quantity::TimeSpan;

/// Which hosts a pool looks after, and how. A host that several pools select belongs to the oldest of them.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "drystone.dev",
    version = "v1alpha1",
    kind = "ResourcePool",
    plural = "resourcepools",
    shortname = "rpool",
    category = "drystone",
    namespaced,
    status = "ResourcePoolStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Hosts","type":"integer","jsonPath":".status.counts.hosts"}"#,
    printcolumn = r#"{"name":"Free","type":"integer","jsonPath":".status.counts.free"}"#,
    printcolumn = r#"{"name":"Warm","type":"integer","jsonPath":".status.counts.warm"}"#,
    printcolumn = r#"{"name":"Reserved","type":"integer","jsonPath":".status.counts.reserved"}"#,
    printcolumn = r#"{"name":"Active","type":"integer","jsonPath":".status.counts.active"}"#,
    printcolumn = r#"{"name":"Failed","type":"integer","jsonPath":".status.counts.failed"}"#,
    printcolumn = r#"{"name":"Watts","type":"integer","jsonPath":".status.watts"}"#,
    printcolumn = r#"{"name":"Message","type":"string","jsonPath":".status.message","priority":1}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct ResourcePoolSpec {
    /// Labels of the BareMetalHosts, in the pool's namespace; all unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
    /// Only hosts of this site.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site: Option<String>,
    /// Only hosts that have some of this: `Accelerators` selects the hosts with accelerators.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<PoolResourceKind>,
    /// How many unclaimed hosts are kept powered on, so that a composition starts sooner.
    #[serde(default)]
    #[schemars(range(max = 100_000))]
    pub warm_spares: u32,
    /// How long an unclaimed host beyond the warm spares may stay on; for ever if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_power_down: Option<TimeSpan>,
    /// Most power that the hosts of a chassis may draw together, in watts: as much is neither composed nor powered on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chassis_power_budget_watts: Option<u32>,
    /// How many usable hosts new compositions leave unclaimed. Compositions that have hosts already may use them, so that
    /// what fails can be replaced.
    #[serde(default)]
    #[schemars(range(max = 100_000))]
    pub min_free: u32,
}

/// What a resource manager counts.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum PoolResourceKind {
    /// Processor cores.
    #[default]
    Compute,
    /// Memory, in GiB.
    Memory,
    /// Accelerators, in devices.
    Accelerators,
    /// Drives, in GiB.
    Storage,
    /// Ports, in Gbit/s.
    Network,
}

/// Something counted by state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PoolCounts {
    /// In all.
    #[serde(default)]
    pub hosts: u64,
    /// Unclaimed and powered off.
    #[serde(default)]
    pub free: u64,
    /// Unclaimed and powered on.
    #[serde(default)]
    pub warm: u64,
    /// Claimed, not in service yet.
    #[serde(default)]
    pub reserved: u64,
    /// In service.
    #[serde(default)]
    pub active: u64,
    /// Out of order.
    #[serde(default)]
    pub failed: u64,
    /// Not usable for other reasons: not inspected yet, in maintenance, paused.
    #[serde(default)]
    pub unassigned: u64,
}

/// What the hosts of a pool have of one kind, by the state of the hosts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PoolResource {
    /// What is counted, and thereby the unit.
    #[serde(rename = "type")]
    pub kind: PoolResourceKind,
    /// In all.
    #[serde(default)]
    pub total: u64,
    /// On unclaimed hosts that are off.
    #[serde(default)]
    pub free: u64,
    /// On unclaimed hosts that are on.
    #[serde(default)]
    pub warm: u64,
    /// On claimed hosts that are not in service yet.
    #[serde(default)]
    pub reserved: u64,
    /// On hosts in service.
    #[serde(default)]
    pub active: u64,
    /// On hosts that are out of order.
    #[serde(default)]
    pub failed: u64,
    /// On other unusable hosts.
    #[serde(default)]
    pub unassigned: u64,
}

/// An unclaimed host that is on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IdleHost {
    /// BareMetalHost.
    pub host: String,
    /// Since when it has been seen on and unclaimed.
    pub since: Time,
}

/// State of a pool.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResourcePoolStatus {
    /// Generation of the specification that the state is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Hosts by state.
    #[serde(default)]
    pub counts: PoolCounts,
    /// What they have, by kind.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<PoolResource>,
    /// Power that they draw together, by what is known of them, in watts.
    #[serde(default)]
    pub watts: u64,
    /// Unclaimed hosts that are on, where the pool powers such hosts down after a time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub idle: Vec<IdleHost>,
    /// What is not as it should be.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Conditions: `Ready` (the warm spares and the free hosts asked for are there).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}
