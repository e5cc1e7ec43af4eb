//! `Site`: where hardware is and how it is reached.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    ClusterNetwork, ClusterPhase, Distribution, HostImage, KubeadmSettings, ScriptSettings, SiteHandOff,
    SiteHandOffStatus, quantity::TimeSpan,
};

/// A place with servers and fabrics.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "drystone.dev",
    version = "v1alpha1",
    kind = "Site",
    plural = "sites",
    category = "drystone",
    namespaced,
    status = "SiteStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Hosts","type":"integer","jsonPath":".status.hosts"}"#,
    printcolumn = r#"{"name":"Inspected","type":"integer","jsonPath":".status.inspectedHosts"}"#,
    printcolumn = r#"{"name":"Fabrics","type":"integer","jsonPath":".status.fabricServices"}"#,
    printcolumn = r#"{"name":"Cluster","type":"string","jsonPath":".status.cluster.phase"}"#,
    printcolumn = r#"{"name":"Nodes","type":"integer","jsonPath":".status.cluster.readyNodes"}"#,
    printcolumn = r#"{"name":"HandedOff","type":"string","jsonPath":".status.conditions[?(@.type==\"HandedOff\")].status","priority":1}"#,
    printcolumn = r#"{"name":"Connection","type":"string","jsonPath":".status.connection.state"}"#,
    printcolumn = r#"{"name":"Pending","type":"integer","jsonPath":".status.synchronization.pending","priority":1}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct SiteSpec {
    /// The servers, by their baseboard management controllers.
    #[serde(default)]
    pub bmcs: Vec<SiteBmc>,
    /// Redfish services of switches and fabric agents.
    #[serde(default)]
    pub fabric_services: Vec<SiteFabricService>,
    /// How the site's inside and Drystone reach each other; absent where they are on one network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<SiteGateway>,
    /// The network that hosts get their addresses from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_network: Option<NodeNetwork>,
    /// Pools of addresses that Services may show to the world outside.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub external_pools: Vec<ExternalPool>,
    /// What hosts of this site are provisioned with when a cluster takes them and does not say itself: real servers boot no medium without an
    /// operating system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<HostImage>,
    /// Whether this site is emulated; shown to users, decides nothing.
    #[serde(default)]
    pub emulated: bool,
    /// The cluster that is made out of the hosts of the list, and follows it; without it, hosts wait for compositions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<SiteCluster>,
    /// The orchestrator of workloads that hosts of the list are handed to, once they have their operating system and, if the site has a
    /// cluster, are nodes of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hand_off: Option<SiteHandOff>,
    /// The local controller that does the work at the site. Without it, the Drystone that the object is in does the work itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub controller: Option<SiteController>,
}

/// What a host of the list is for, if the site has a cluster.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum SiteHostRole {
    /// Runs the control plane. One host of the list has this role, or three.
    ControlPlane,
    /// Runs pods.
    #[default]
    Worker,
    /// Is inspected and waits; takes the place of a host that fails while it is installed.
    Spare,
}

impl SiteHostRole {
    /// As in the label `drystone.dev/site-role`: `control-plane`, `worker`, `spare`.
    pub const fn label(self) -> &'static str {
        match self {
            Self::ControlPlane => "control-plane",
            Self::Worker => "worker",
            Self::Spare => "spare",
        }
    }
}

/// The cluster that is made out of a site's hosts. Which host is what says the list.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SiteCluster {
    /// Name of the Cluster; the site's unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?$"))]
    pub name: Option<String>,
    /// Namespace of the Cluster; made if it is not there.
    #[serde(default = "default_namespace")]
    #[schemars(regex(pattern = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"))]
    pub namespace: String,
    /// Which Kubernetes is brought up.
    #[serde(default)]
    pub distribution: Distribution,
    /// What the hosts are provisioned with. Without it they boot a medium with the cluster's user data and nothing else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<HostImage>,
    /// For distribution `Kubeadm`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubeadm: Option<KubeadmSettings>,
    /// For distribution `Script`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub script: Option<ScriptSettings>,
    /// Addresses.
    #[serde(default)]
    pub network: ClusterNetwork,
    /// SoftwareSets of the site's namespace that are delivered to the site.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub software: Vec<String>,
}

fn default_namespace() -> String {
    "default".to_owned()
}

/// How the local controller of a site is reached, and who decides when the two do not agree.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SiteController {
    /// Secret in the site's namespace whose key `value` is a kubeconfig of the local controller.
    pub kubeconfig_secret_name: String,
    /// What happens to a field that somebody has changed at the site.
    #[serde(default)]
    pub conflict_policy: ConflictPolicy,
    /// Time between two looks whether the local controller still answers; 10 s unless given. Changes are told at once all the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub poll_interval: Option<TimeSpan>,
    /// Take the site over, if another global controller has it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub take_over: bool,
}

/// Who decides about a field that is declared globally and was changed at the site.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConflictPolicy {
    /// What is declared globally is written again.
    #[default]
    GlobalWins,
    /// What the site says stays; what else is declared of the object is delivered.
    SiteWins,
}

/// A server's baseboard management controller.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SiteBmc {
    /// Name the host gets.
    pub name: String,
    /// Address in Metal3's form: `redfish-virtualmedia+http://127.0.0.1:8401/redfish/v1/Systems/1`.
    pub address: String,
    /// Secret in the site's namespace with keys `username` and `password`.
    pub credentials_name: String,
    /// What the host is for, if the site has a cluster.
    #[serde(default)]
    pub role: SiteHostRole,
    /// Labels that the host gets, beside those by which Drystone finds it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// A Redfish service of a switch or a fabric agent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SiteFabricService {
    /// Name the FabricAgent gets.
    pub name: String,
    /// Base URL.
    pub address: String,
    /// Secret in the site's namespace with keys `username` and `password`.
    pub credentials_name: String,
}

/// How a site is reached.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SiteGateway {
    /// HTTP CONNECT proxy that dials from inside the site: `http://127.0.0.1:8400`.
    #[serde(rename = "proxyURL", default, skip_serializing_if = "String::is_empty")]
    pub proxy_url: String,
    /// Secret in the site's namespace with keys `username` and `password` for the proxy.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub proxy_credentials_name: String,
    /// What hosts of the site use to reach Drystone's HTTPS port: `10.20.0.1:6443`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub controller_address: String,
}

/// The network of the hosts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeNetwork {
    /// Its range: `10.20.0.0/16`.
    #[schemars(with = "String")]
    pub cidr: IpNet,
    /// Default gateway of the hosts.
    #[schemars(with = "String")]
    pub gateway: IpAddr,
    /// Part of the range that hosts get addresses from; all of it unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub allocation: Option<IpNet>,
}

/// A pool of external addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExternalPool {
    /// Name that clusters use in `network.externalPool`; becomes an AddressPool.
    pub name: String,
    /// The ranges.
    #[schemars(with = "Vec<String>", length(min = 1))]
    pub ranges: Vec<IpNet>,
    /// Prefix length of the block that one cluster gets; 28 unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 8, max = 128))]
    pub block_prefix_length: Option<u8>,
}

/// What has been found, and how far the site is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SiteStatus {
    /// Hosts declared.
    #[serde(default)]
    pub hosts: u32,
    /// Hosts inspected.
    #[serde(default)]
    pub inspected_hosts: u32,
    /// Fabric services declared.
    #[serde(default)]
    pub fabric_services: u32,
    /// Number of hosts by the state of their BareMetalHost: `available`, `provisioned`, … and `error` for those with an error.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub hosts_by_state: BTreeMap<String, u32>,
    /// The cluster made out of the list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<SiteClusterStatus>,
    /// What the orchestrator of workloads has been told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hand_off: Option<SiteHandOffStatus>,
    /// Roll-outs at the site.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rollouts: Vec<SiteRolloutStatus>,
    /// At the global controller: whether the local one is reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<SiteConnection>,
    /// At the global controller: how much of what is declared has arrived.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub synchronization: Option<SiteSynchronization>,
    /// At the global controller: the last fields that were changed at the site, and how it was decided; the newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conflicts: Vec<SiteConflict>,
    /// Conditions: `Ready` once every host is inspected; `ClusterReady`; `HandedOff`; at the global controller also `Connected` and `Synchronized`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// State of a site's cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SiteClusterStatus {
    /// Namespace of the Cluster.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Where it is in its life.
    #[serde(default)]
    pub phase: ClusterPhase,
    /// Hosts that it has.
    #[serde(default)]
    pub hosts: u32,
    /// Nodes that are ready.
    #[serde(default)]
    pub ready_nodes: u32,
    /// Hosts that failed and were replaced.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed_hosts: Vec<String>,
    /// Why it is in this state.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// State of a roll-out at a site.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SiteRolloutStatus {
    /// Its name.
    pub name: String,
    /// Its phase, as the Rollout says.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub phase: String,
    /// Its message.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// Whether a local controller is reached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConnectionState {
    /// Not tried yet.
    #[default]
    Connecting,
    /// It answers.
    Connected,
    /// It does not answer. It goes on by itself; what changes meanwhile is delivered when it is back.
    Disconnected,
    /// It answers, but is not to be had: another global controller has it, or the credentials are not good.
    Refused,
}

/// The connection to a local controller.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SiteConnection {
    /// State.
    #[serde(default)]
    pub state: ConnectionState,
    /// Since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// Tries in a row that failed.
    #[serde(default)]
    pub failures: u32,
    /// Why it is not connected.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// How much of what is declared globally has arrived at a site.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SiteSynchronization {
    /// Generation of the global Site that has arrived, with all that belongs to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
    /// Objects that are declared for the site.
    #[serde(default)]
    pub objects: u32,
    /// Objects that have yet to be written or deleted there.
    #[serde(default)]
    pub pending: u32,
    /// Since when something is pending; the site lags by the time from then to now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behind_since: Option<Time>,
    /// Objects that the site refused, with its words; the first ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<String>,
}

/// Fields that were declared globally and changed at the site.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SiteConflict {
    /// The object: `SoftwareSet drystone-system/base`.
    pub object: String,
    /// The fields, as the site's API names them.
    pub fields: Vec<String>,
    /// Who has changed them there.
    pub manager: String,
    /// What was done.
    pub decided: ConflictPolicy,
    /// When.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Time>,
}
