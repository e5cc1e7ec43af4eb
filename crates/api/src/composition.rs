//! `Composition`: a request for hosts, the choice that was made, and why.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    HostRequirement, MemberRole, ObjectReference,
    quantity::{Bandwidth, TimeSpan},
};

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

impl Purpose {
    /// The priority that a purpose stands for when a request does not give one.
    pub const fn priority(self) -> i32 {
        match self {
            Self::MLOps => 100,
            Self::HighPerformance => 50,
            Self::General | Self::LowPower | Self::FastStart => 0,
        }
    }
}

/// How far a composition goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum CompositionMode {
    /// Hosts are claimed until the composition is deleted.
    #[default]
    Apply,
    /// Hosts are claimed for a limited time; changed to `Apply` before it ends, the same hosts are kept.
    Reserve,
    /// Nothing is claimed; the choice and its reasons are shown and kept fresh.
    Preview,
}

/// What the hosts of a domain share, so that they fail, or are seen, together.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum FailureDomain {
    /// An enclosure.
    #[default]
    Chassis,
    /// A rack.
    Rack,
    /// A switch of any fabric that the host is cabled to.
    Switch,
}

impl std::fmt::Display for FailureDomain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Chassis => "chassis",
            Self::Rack => "rack",
            Self::Switch => "switch",
        })
    }
}

/// How many hosts of a group may share a fate. Hosts whose domain is not known are not eligible.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SpreadRequirement {
    /// What counts as a domain.
    pub by: FailureDomain,
    /// Most hosts of the group in one domain.
    #[schemars(range(min = 1, max = 65536))]
    pub max_per_domain: u32,
}

/// Most switches on the way between any host of one group and any of another.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HopLimit {
    /// One group.
    pub from: String,
    /// The other.
    pub to: String,
    /// Most switches on the way, both ends counted.
    #[schemars(range(min = 1, max = 64))]
    pub max_hops: u32,
}

/// What is acceptable of a composition as a whole. A candidate outside is improved until it is inside, or not granted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// Most switches between any two hosts that need the network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 64))]
    pub max_hops: Option<u32>,
    /// Most switches between two such hosts on average.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1.0, max = 64.0))]
    pub max_mean_hops: Option<f64>,
    /// Most power under load of all hosts together, in watts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_watts: Option<u32>,
    /// Longest time until the last host runs its operating system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_time_to_ready: Option<TimeSpan>,
    /// Least speed of the fastest port of each host that needs the network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_bandwidth: Option<Bandwidth>,
    /// Most hardware beyond what was asked for, in percent, on average.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_fragmentation_percent: Option<u32>,
    /// Least share of hosts with a chassis of their own, in percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub min_spread_percent: Option<u32>,
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
    printcolumn = r#"{"name":"Mode","type":"string","jsonPath":".spec.mode","priority":1}"#,
    printcolumn = r#"{"name":"Phase","type":"string","jsonPath":".status.phase"}"#,
    printcolumn = r#"{"name":"Hosts","type":"integer","jsonPath":".status.hosts"}"#,
    printcolumn = r#"{"name":"Expires","type":"string","jsonPath":".status.reservation.expires","priority":1}"#,
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
    /// How far it goes.
    #[serde(default)]
    pub mode: CompositionMode,
    /// Which of several waiting requests is served first: the higher one, then the older one. The purpose's unless given:
    /// 100 for `MLOps`, 50 for `HighPerformance`, else 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = -1_000_000, max = 1_000_000))]
    pub priority: Option<i32>,
    /// How long hosts stay claimed in mode `Reserve`, from the moment the last one is claimed; 10 minutes unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reservation_duration: Option<TimeSpan>,
    /// When a reservation ends at the latest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Time>,
    /// What is acceptable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
    /// Distances between groups.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub hop_limits: Vec<HopLimit>,
    /// No host shares such a domain with a host of anybody else, now and as long as the composition lasts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isolated_by: Option<FailureDomain>,
}

impl CompositionSpec {
    /// The priority: the given one, or the purpose's.
    pub fn effective_priority(&self) -> i32 {
        self.priority.unwrap_or_else(|| self.purpose.priority())
    }
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
    /// Names of the hosts that it is chosen from; any unless given. A member that is not among them is given back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10000))]
    pub only_hosts: Vec<String>,
    /// How they are spread over failure domains.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spread: Option<SpreadRequirement>,
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
    /// Mode `Preview`: it could be granted now, as the proposal says.
    Previewed,
    /// Mode `Reserve`: the time is over, and the hosts were given back. A change of the specification asks anew.
    Expired,
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
    /// While hosts are being claimed: the members there were before, to which an attempt that fails goes back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub previous: Vec<CompositionMember>,
    /// Number of hosts claimed.
    #[serde(default)]
    pub hosts: u32,
    /// Mode `Preview`: the hosts that would be claimed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub proposal: Vec<CompositionMember>,
    /// The claims, if there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reservation: Option<Reservation>,
    /// The greatest fencing token under which this composition claimed or released hosts.
    #[serde(default)]
    pub fencing_token: u64,
    /// Since when it has waited for hosts, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_since: Option<Time>,
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

/// Claims on hosts: whose, since when, until when.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Reservation {
    /// Fencing token of the last claims; also on each host (annotation `drystone.dev/fencing-token`).
    pub token: u64,
    /// Whose the hosts are, as their `consumerRef` says.
    pub holder: ObjectReference,
    /// When the last host was claimed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// When they are given back; never if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Time>,
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
    /// What was not acceptable, if anything: the limit, and the best that was seen.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<LimitReport>,
    /// For an infeasible request whose groups have enough hosts each: how far the strategies came, and what stopped them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<String>,
    /// Number of assignments that were looked at.
    #[serde(default)]
    pub evaluated: u32,
}

/// A limit that no candidate kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LimitReport {
    /// The limit as given: `maxWatts 4000`.
    pub limit: String,
    /// What the best candidate has: `5200 W`.
    pub has: String,
    /// By how much it misses the limit: `30 %`.
    pub by: String,
    /// The best value of all that was looked at, whatever its other attributes: `4400 W`.
    pub best_seen: String,
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
    /// Number of hosts that it removed.
    #[serde(default)]
    pub removed_count: u32,
    /// The first of them, with what they have instead: `rack-03: 8 cores`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removed: Vec<String>,
    /// What the removed ones have instead, the most frequent first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<FunnelReason>,
}

/// What hosts have instead of what was wanted, and how many of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FunnelReason {
    /// What they have: `8 cores`.
    pub instead: String,
    /// How many.
    pub hosts: u32,
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
