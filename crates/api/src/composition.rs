//! `Composition`: a request for hosts, the choice that was made, and why.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{HostRequirement, MemberRole, ObjectReference};

/// What a composition is for; stands for a set of [`Weights`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Purpose {
    /// A bit of everything.
    #[default]
    General,
    /// Machine learning: short paths, bandwidth and accelerators before watts.
    MLOps,
    /// Tightly coupled computing: short paths before everything.
    HighPerformance,
    /// Least power.
    LowPower,
    /// Soonest ready: hosts that are already on.
    FastStart,
}

/// How much each attribute of a candidate counts. All are at least 0; only their ratios matter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Weights {
    /// Few switches between members.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1000.0))]
    pub hops: f64,
    /// Fast ports.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1000.0))]
    pub bandwidth: f64,
    /// Little power.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1000.0))]
    pub power: f64,
    /// Soon ready.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1000.0))]
    pub time_to_ready: f64,
    /// Little more hardware than asked for, so that large requests still find room.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1000.0))]
    pub fragmentation: f64,
    /// Members of a group in different chassis.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1000.0))]
    pub spread: f64,
}

impl Purpose {
    /// The weights a purpose stands for.
    pub const fn weights(self) -> Weights {
        let (hops, bandwidth, power, time_to_ready, fragmentation, spread) = match self {
            Self::General => (1.0, 1.0, 1.0, 1.0, 2.0, 1.0),
            Self::MLOps => (4.0, 4.0, 1.0, 1.0, 2.0, 0.0),
            Self::HighPerformance => (6.0, 3.0, 0.0, 1.0, 1.0, 0.0),
            Self::LowPower => (1.0, 0.0, 6.0, 0.0, 2.0, 0.0),
            Self::FastStart => (1.0, 0.0, 0.0, 6.0, 1.0, 0.0),
        };
        Weights { hops, bandwidth, power, time_to_ready, fragmentation, spread }
    }
}

/// A request for groups of hosts, granted all or not at all. Groups may grow and shrink later.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "drystone.dev",
    version = "v1alpha1",
    kind = "Composition",
    plural = "compositions",
    category = "drystone",
    namespaced,
    status = "CompositionStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Phase","type":"string","jsonPath":".status.phase"}"#,
    printcolumn = r#"{"name":"Hosts","type":"integer","jsonPath":".status.hosts"}"#,
    printcolumn = r#"{"name":"Choice","type":"string","jsonPath":".status.explanation.summary","priority":1}"#,
    printcolumn = r#"{"name":"Message","type":"string","jsonPath":".status.message"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct CompositionSpec {
    /// What it is for.
    #[serde(default)]
    pub purpose: Purpose,
    /// Weights instead of the purpose's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<Weights>,
    /// Where hosts come from; any site unless given. All hosts of a composition come from one site.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site: Option<String>,
    /// The groups. Names are unique.
    #[schemars(length(min = 1, max = 64))]
    pub groups: Vec<CompositionGroup>,
    /// Hosts that must not be chosen (they failed before, say); members among them are replaced.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude_hosts: Vec<String>,
    /// Members to give up first when a group shrinks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub release_first: Vec<String>,
}

/// Hosts that are alike.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CompositionGroup {
    /// Name, unique in the composition.
    pub name: String,
    /// Role of the hosts.
    #[serde(default)]
    pub role: MemberRole,
    /// How many.
    pub count: u32,
    /// What each must have.
    #[serde(default)]
    pub host: HostRequirement,
}

/// State of a composition.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum CompositionPhase {
    /// Not looked at yet.
    #[default]
    Pending,
    /// Hosts are being claimed.
    Reserving,
    /// All hosts are claimed.
    Reserved,
    /// Cannot be granted at the moment; the explanation says why. Tried again when hosts become free.
    Infeasible,
    /// Hosts are being given back.
    Releasing,
}

/// A host that was chosen.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CompositionMember {
    /// Group.
    pub group: String,
    /// BareMetalHost.
    pub host: String,
    /// Namespace of the BareMetalHost.
    pub host_namespace: String,
}

/// The choice and its reasons.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CompositionStatus {
    /// State.
    #[serde(default)]
    pub phase: CompositionPhase,
    /// Generation of the specification that the state is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The hosts claimed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<CompositionMember>,
    /// Number of hosts claimed.
    #[serde(default)]
    pub hosts: u32,
    /// Why these, and why not others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub explanation: Option<Explanation>,
    /// Why the composition is in this state.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// What is being claimed or given back at this moment; journaled before the first claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<ObjectReference>,
    /// Conditions: `Reserved`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// How a choice came about.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// One paragraph for people.
    pub summary: String,
    /// What each constraint removed, group by group, in the order applied.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub funnel: Vec<FunnelStage>,
    /// The candidates, best first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub candidates: Vec<CandidateReport>,
    /// For an infeasible request: the smallest change that would make it feasible, if one was found.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub relaxation: String,
}

/// One constraint of one group and the hosts it removed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FunnelStage {
    /// Group.
    pub group: String,
    /// Constraint in words: `cores >= 16`.
    pub constraint: String,
    /// Hosts left after it.
    pub remaining: u32,
    /// Hosts that it removed, with what they have instead: `rack-03: 8 cores`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removed: Vec<String>,
}

/// A candidate and how it scored.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CandidateReport {
    /// Strategy that crafted it: `closest`, `least-power` …
    pub strategy: String,
    /// The hosts.
    pub hosts: Vec<String>,
    /// Total score, higher is better, between 0 and 1.
    pub score: f64,
    /// Attributes in words: `hops 1.3, 200 Gbit/s, 840 W, ready in 90 s`.
    pub attributes: String,
    /// Whether it was chosen.
    #[serde(default)]
    pub chosen: bool,
    /// Why it lost, if it did.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub lost_because: String,
}
