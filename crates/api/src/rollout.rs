//! `Rollout`: brings the content of SoftwareSets to the hosts that need it, in waves.

use std::collections::BTreeMap;

use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    apimachinery::pkg::util::intstr::IntOrString,
};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    ContainerImage, HostImage, HostSelector, OperatingSystemImage, SoftwareAccess, SoftwareFile,
    SoftwarePackage, SoftwareTrust,
};

/// What to bring to the hosts, and how.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "drystone.dev",
    version = "v1alpha1",
    kind = "Rollout",
    plural = "rollouts",
    category = "drystone",
    namespaced,
    status = "RolloutStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Phase","type":"string","jsonPath":".status.phase"}"#,
    printcolumn = r#"{"name":"Wave","type":"string","jsonPath":".status.currentWave"}"#,
    printcolumn = r#"{"name":"Hosts","type":"integer","jsonPath":".status.counts.hosts"}"#,
    printcolumn = r#"{"name":"Updated","type":"integer","jsonPath":".status.counts.updated"}"#,
    printcolumn = r#"{"name":"Failed","type":"integer","jsonPath":".status.counts.failed"}"#,
    printcolumn = r#"{"name":"Remaining","type":"integer","jsonPath":".status.remainingSeconds","priority":1}"#,
    printcolumn = r#"{"name":"Message","type":"string","jsonPath":".status.message","priority":1}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct RolloutSpec {
    /// SoftwareSets of the same namespace; their content when the rollout begins is what it brings.
    #[schemars(length(min = 1))]
    pub sets: Vec<String>,
    /// How it goes about it; as the first of the sets says, unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strategy: Option<RolloutStrategy>,
    /// Nothing is begun before this is true.
    #[serde(default = "yes")]
    pub approved: bool,
    /// Waves with `pause` that may begin.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub approved_waves: Vec<String>,
    /// Begin with no further host; those that are under way are brought to an end.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
    /// End it; what was updated stays.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cancel: bool,
    /// End it and return every host that it has updated to what was there before.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub roll_back: bool,
}

impl RolloutSpec {
    /// Of these sets, approved.
    pub fn of(sets: Vec<String>) -> Self {
        Self { sets, approved: true, ..Self::default() }
    }
}

const fn yes() -> bool {
    true
}

/// How a rollout goes about it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutStrategy {
    /// Waves; hosts that are in none of them form a last one. Without any, the first host is the canary, then come the rest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waves: Vec<RolloutWave>,
    /// Most hosts that may be out of service at a time, in all: a number, or percent of the hosts selected; 25% unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_unavailable: Option<IntOrString>,
    /// The same for each site: 1 unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_unavailable_per_site: Option<IntOrString>,
    /// Sites in the order in which their hosts come; the rest follows by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub site_order: Vec<String>,
    /// What must be true of a host before the next one takes its place.
    #[serde(default)]
    pub health: HealthGate,
    /// What happens when hosts fail.
    #[serde(default)]
    pub roll_back: RollBack,
    /// Whether pods are moved away first.
    #[serde(default)]
    pub drain: DrainPolicy,
    /// How long pods may take to go, in seconds; 600 unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain_timeout_seconds: Option<u32>,
    /// Whether hosts may be rebooted.
    #[serde(default)]
    pub reboot: RebootPolicy,
}

/// A wave: hosts that are updated before others.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutWave {
    /// Name, unique in the rollout.
    #[schemars(regex(pattern = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"))]
    pub name: String,
    /// Waves that must be done before; the one that stands before this, unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Vec<String>>,
    /// How many of the hosts that match: a number or percent (rounded up); all that are left, unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hosts: Option<IntOrString>,
    /// Only hosts that this selects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<HostSelector>,
    /// How long to watch after the wave is done, before the waves after it begin, in seconds.
    #[serde(default)]
    pub soak_seconds: u32,
    /// Do not begin before `spec.approvedWaves` of the Rollout names this wave.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pause: bool,
}

/// What must be true of a host before the next one takes its place.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HealthGate {
    /// How long its Node must be ready without interruption, in seconds; only for hosts that are nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_ready_seconds: Option<u32>,
    /// Command that must succeed on the host.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub command: String,
    /// How long it may take until all is true, in seconds; 600 unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<u32>,
}

/// What happens when hosts fail.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RollBack {
    /// Which hosts are returned to what was there before.
    #[serde(default)]
    pub scope: RollBackScope,
    /// How many hosts may fail before the rollout stops: a number, or percent of its hosts; 0 unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tolerated_failures: Option<IntOrString>,
}

/// Which hosts are returned to what was there before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RollBackScope {
    /// None: a host that fails stays as it is, for somebody to look at.
    None,
    /// Each host that fails.
    #[default]
    FailedHosts,
    /// Each host that fails, and, when more fail than are tolerated, every host that the rollout has updated.
    Everything,
}

/// Whether pods are moved away first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DrainPolicy {
    /// When the host is rebooted or what runs containers is changed.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// Whether hosts may be rebooted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RebootPolicy {
    /// When what was changed needs it, or the host says that it does.
    #[default]
    Auto,
    /// Never: the status tells which hosts still need one.
    Never,
}

/// Where a rollout is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RolloutPhase {
    /// Not looked at yet.
    #[default]
    Pending,
    /// Makes no sense as it stands; the message says why.
    Invalid,
    /// Waits for `spec.approved`.
    AwaitingApproval,
    /// Hosts are being updated.
    Running,
    /// `spec.paused`, or a wave waits for approval.
    Paused,
    /// All is done but for hosts that cannot be reached.
    AwaitingHosts,
    /// Updated hosts are being returned to what was there before.
    RollingBack,
    /// Every host that needs it has it.
    Succeeded,
    /// Too many hosts failed; what was updated stays.
    Failed,
    /// Too many hosts failed, or it was asked for: every updated host is as it was.
    RolledBack,
    /// Ended before it was done.
    Cancelled,
}

impl RolloutPhase {
    /// Whether nothing more will happen.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Invalid | Self::Succeeded | Self::Failed | Self::RolledBack | Self::Cancelled)
    }
}

/// Where a host is in a rollout.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum HostRolloutPhase {
    /// Its turn has not come.
    #[default]
    Pending,
    /// Its turn would have come, but it cannot be reached; it is done when it can.
    Deferred,
    /// Under way.
    Running,
    /// Done.
    Updated,
    /// Failed, and stays as it is.
    Failed,
    /// Failed, and is as it was.
    FailedRolledBack,
    /// Updated before, and being returned to what was there.
    RollingBack,
    /// Returned to what was there before.
    RolledBack,
    /// Left out: it was deleted, or needs nothing any more.
    Skipped,
}

impl HostRolloutPhase {
    /// Whether the host is, or may be, out of service because of the rollout.
    pub const fn is_under_way(self) -> bool {
        matches!(self, Self::Running | Self::RollingBack)
    }

    /// Whether the host failed.
    pub const fn is_failure(self) -> bool {
        matches!(self, Self::Failed | Self::FailedRolledBack)
    }
}

/// A SoftwareSet as it was when the rollout began, with all artifacts resolved.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PinnedSet {
    /// Name.
    pub name: String,
    /// Stands for the content.
    pub revision: String,
    /// Which hosts.
    pub selector: HostSelector,
    /// Packages.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub packages: Vec<SoftwarePackage>,
    /// Container images.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub container_images: Vec<ContainerImage>,
    /// Operating-system image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub os_image: Option<OperatingSystemImage>,
    /// Files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<SoftwareFile>,
    /// How hosts are reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<SoftwareAccess>,
    /// Whose signatures count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust: Option<SoftwareTrust>,
    /// Whether packages may become older.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_downgrade: bool,
}

/// A host in a rollout.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HostRollout {
    /// The host.
    pub host: String,
    /// Its site.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub site: String,
    /// Its cluster, `NAMESPACE/NAME`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cluster: String,
    /// Whether it runs its cluster's control plane.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub control_plane: bool,
    /// Its wave.
    pub wave: String,
    /// Where it is.
    #[serde(default)]
    pub phase: HostRolloutPhase,
    /// What is changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<String>,
    /// Whether the operating system's image is changed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub changes_image: bool,
    /// Whether anything else is changed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub changes_software: bool,
    /// Whether pods are moved away first.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub drain: bool,
    /// Whether it is known beforehand that the host is rebooted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reboot: bool,
    /// How long it is expected to take, in seconds.
    #[serde(default)]
    pub estimate_seconds: u32,
    /// The Operation that does it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub operation: String,
    /// How often it was begun.
    #[serde(default)]
    pub attempts: u32,
    /// When it was begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
    /// What was there before, by which it can be returned to that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub former: Option<FormerSoftware>,
    /// What it waits for, is doing, or why it failed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// What was on a host before it was changed, of that which is changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FormerSoftware {
    /// Versions of packages; an empty one for a package that was not there.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub packages: BTreeMap<String, String>,
    /// Those of the packages that were held.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub held: Vec<String>,
    /// Files, and the digests that they had; an empty one for a file that was not there.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, String>,
    /// Where on the host the files were copied to.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub backup: String,
    /// Operating-system image, if that is changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub os_image: Option<HostImage>,
}

/// A wave in a rollout.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WaveStatus {
    /// Name.
    pub name: String,
    /// Waves that come before it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<String>,
    /// How long it is watched when it is done, in seconds.
    #[serde(default)]
    pub soak_seconds: u32,
    /// Whether it must be let go.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pause: bool,
    /// How many hosts it has.
    #[serde(default)]
    pub hosts: u32,
    /// How many are updated.
    #[serde(default)]
    pub updated: u32,
    /// How many failed.
    #[serde(default)]
    pub failed: u32,
    /// How many cannot be reached.
    #[serde(default)]
    pub deferred: u32,
    /// When its last host was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
}

/// Numbers of hosts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutCounts {
    /// Hosts that need it.
    #[serde(default)]
    pub hosts: u32,
    /// Done.
    #[serde(default)]
    pub updated: u32,
    /// Under way.
    #[serde(default)]
    pub running: u32,
    /// Failed.
    #[serde(default)]
    pub failed: u32,
    /// Cannot be reached.
    #[serde(default)]
    pub deferred: u32,
    /// Returned to what was there before.
    #[serde(default)]
    pub rolled_back: u32,
    /// Selected, but need nothing.
    #[serde(default)]
    pub not_needed: u32,
}

/// What became of a rollout.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutStatus {
    /// Where it is.
    #[serde(default)]
    pub phase: RolloutPhase,
    /// Generation of the specification that this is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// What is brought to the hosts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sets: Vec<PinnedSet>,
    /// How it goes about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strategy: Option<RolloutStrategy>,
    /// Most hosts that may be out of service at a time, in all.
    #[serde(default)]
    pub max_unavailable: u32,
    /// The same for each site.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub max_unavailable_per_site: BTreeMap<String, u32>,
    /// How many hosts may fail before it stops.
    #[serde(default)]
    pub tolerated_failures: u32,
    /// The wave that is under way.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub current_wave: String,
    /// Numbers of hosts.
    #[serde(default)]
    pub counts: RolloutCounts,
    /// The waves, in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waves: Vec<WaveStatus>,
    /// The hosts, in the order of waves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<HostRollout>,
    /// Hosts that are selected but need nothing, and why: the first hundred.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub not_needed: BTreeMap<String, String>,
    /// The hosts whose times add up to the whole's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub critical_path: Vec<String>,
    /// How long it is expected to take, in seconds, from its beginning.
    #[serde(default)]
    pub estimate_seconds: u32,
    /// How much longer it is expected to take, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remaining_seconds: Option<u32>,
    /// When it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
    /// What is going on, or why it ended.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Conditions: `Planned`, `Progressing`, `Complete`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}
