//! `Cluster`: a Kubernetes cluster, composed out of free hardware.

use std::collections::BTreeMap;

use ipnet::IpNet;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    ClusterHost, Distribution, ExternalCluster, HostAccess, HostImage, HostRequirement, KubeadmSettings,
    ObjectReference, Purpose, ScriptSettings, Weights,
};

/// What the cluster should be. Everything but `workers` has a default that works.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "drystone.dev",
    version = "v1alpha1",
    kind = "Cluster",
    plural = "clusters",
    category = "drystone",
    namespaced,
    status = "ClusterStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Phase","type":"string","jsonPath":".status.phase"}"#,
    printcolumn = r#"{"name":"Nodes","type":"integer","jsonPath":".status.readyNodes"}"#,
    printcolumn = r#"{"name":"Hosts","type":"integer","jsonPath":".status.hosts"}"#,
    printcolumn = r#"{"name":"Endpoint","type":"string","jsonPath":".status.endpoint"}"#,
    printcolumn = r#"{"name":"Message","type":"string","jsonPath":".status.message","priority":1}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct ClusterSpec {
    /// What it is for; sets the weights by which the composer chooses hosts.
    #[serde(default)]
    pub purpose: Purpose,
    /// Weights of your own instead of the purpose's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<Weights>,
    /// Where hosts come from; any site unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site: Option<String>,
    /// The control plane.
    #[serde(default)]
    pub control_plane: ControlPlane,
    /// Pools of workers. Names are unique.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub workers: Vec<WorkerPool>,
    /// Addresses.
    #[serde(default)]
    pub network: ClusterNetwork,
    /// Isolation.
    #[serde(default)]
    pub zone: ClusterZone,
    /// Which Kubernetes is brought up.
    #[serde(default)]
    pub distribution: Distribution,
    /// What composed hosts are provisioned with, unless the control plane or the worker pool says. Without it, what their Site says; without
    /// that, they boot a medium with the cluster's user data and nothing else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<HostImage>,
    /// Hosts that are there already, for distributions that are installed over SSH. Without any, hosts are composed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000))]
    pub hosts: Vec<ClusterHost>,
    /// How `hosts` are reached. Composed hosts get an SSH server and keys of the cluster's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<HostAccess>,
    /// For distribution `External`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external: Option<ExternalCluster>,
    /// For distribution `Kubeadm`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubeadm: Option<KubeadmSettings>,
    /// For distribution `Script`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub script: Option<ScriptSettings>,
}

impl ClusterSpec {
    /// What a composed host is provisioned with, by its role and, for a worker, the name of its pool; nothing if the cluster leaves that to
    /// the host's Site.
    pub fn image_for(&self, role: MemberRole, pool: &str) -> Option<&HostImage> {
        let own = match role {
            MemberRole::ControlPlane => self.control_plane.image.as_ref(),
            MemberRole::Worker => {
                self.workers.iter().find(|known| known.name == pool).and_then(|known| known.image.as_ref())
            }
        };
        own.or(self.image.as_ref())
    }
}

/// The control plane.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ControlPlane {
    /// Number of hosts: 1, which keeps its state in the embedded store, or 3, each with a member of etcd: of these, any one may be
    /// lost.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 3))]
    pub replicas: u32,
    /// What each host must have.
    #[serde(default)]
    pub host: HostRequirement,
    /// For distributions that are installed over SSH: `host:port` by which the API is reached, of a load balancer or a virtual
    /// address; needed with several control planes, the first one's address by default.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(regex(pattern = r"^([a-z0-9.-]{1,253}:[0-9]{1,5})?$"))]
    pub endpoint: String,
    /// Names of the hosts that it is chosen from; any unless given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10000))]
    pub only_hosts: Vec<String>,
    /// What its hosts are provisioned with, instead of the cluster's `image`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<HostImage>,
}

impl Default for ControlPlane {
    fn default() -> Self {
        Self {
            replicas: 1,
            image: None,
            host: HostRequirement::default(),
            endpoint: String::new(),
            only_hosts: Vec::new(),
        }
    }
}

const fn one() -> u32 {
    1
}

/// A pool of alike workers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkerPool {
    /// Name, unique in the cluster.
    #[schemars(regex(pattern = r"^[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?$"))]
    pub name: String,
    /// Number of hosts.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 10000))]
    pub replicas: u32,
    /// Largest number of hosts that growth may reach when pods do not fit; `replicas` unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10000))]
    pub max_replicas: Option<u32>,
    /// What each host must have.
    #[serde(default)]
    pub host: HostRequirement,
    /// Names of the hosts that it is chosen from; any unless given. A host that is taken out leaves the cluster.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10000))]
    pub only_hosts: Vec<String>,
    /// What its hosts are provisioned with, instead of the cluster's `image`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<HostImage>,
    /// Labels of the nodes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Taints of the nodes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub taints: Vec<Taint>,
}

/// A node taint.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Taint {
    /// Key.
    pub key: String,
    /// Value.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub value: String,
    /// Effect.
    #[schemars(regex(pattern = "^(NoSchedule|PreferNoSchedule|NoExecute)$"))]
    pub effect: String,
}

/// Addresses of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterNetwork {
    /// Addresses of pods.
    #[serde(rename = "podCIDR", default = "default_pod_cidr")]
    #[schemars(with = "String")]
    pub pod_cidr: IpNet,
    /// Addresses of Services inside the cluster.
    #[serde(rename = "serviceCIDR", default = "default_service_cidr")]
    #[schemars(with = "String")]
    pub service_cidr: IpNet,
    /// AddressPool that external addresses of Services come from; without it, LoadBalancer Services stay pending.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_pool: Option<String>,
}

fn default_pod_cidr() -> IpNet {
    IpNet::V4(ipnet::Ipv4Net::new_assert(std::net::Ipv4Addr::new(10, 42, 0, 0), 16))
}

fn default_service_cidr() -> IpNet {
    IpNet::V4(ipnet::Ipv4Net::new_assert(std::net::Ipv4Addr::new(10, 43, 0, 0), 16))
}

impl Default for ClusterNetwork {
    fn default() -> Self {
        Self { pod_cidr: default_pod_cidr(), service_cidr: default_service_cidr(), external_pool: None }
    }
}

/// How a cluster is walled in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterZone {
    /// Isolation of the cluster's zone.
    #[serde(default)]
    pub isolation: Isolation,
}

/// Whether an endpoint may be in several zones (no Redfish schema settles it; see ADR 0009).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Isolation {
    /// Members are in this zone only; the fabric's gateways, which join by `gateways`, excepted.
    #[default]
    Exclusive,
    /// Members that only offer a service (role `Target`) may be in other `ServiceOnly` and `Shared` zones too.
    ServiceOnly,
    /// Members may be in other `Shared` zones too.
    Shared,
}

/// Where a cluster is in its life.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ClusterPhase {
    /// Not looked at yet.
    #[default]
    Pending,
    /// Being composed, zoned, provisioned or bootstrapped.
    Creating,
    /// Up.
    Ready,
    /// A pool is growing or shrinking.
    Resizing,
    /// Up, but something is missing; the message says what.
    Degraded,
    /// Could not be created; everything was given back.
    Failed,
    /// Being taken apart.
    Deleting,
}

/// Role of a member.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum MemberRole {
    /// Runs the control plane.
    ControlPlane,
    /// Runs pods.
    #[default]
    Worker,
}

/// A host that is part of a cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterMember {
    /// The host, which is also the node's name.
    pub host: String,
    /// Role.
    pub role: MemberRole,
    /// Worker pool; empty for the control plane.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub pool: String,
    /// Address of the host on the node network, once leased.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub address: String,
    /// Whether its node is ready.
    #[serde(default)]
    pub ready: bool,
}

/// State of a cluster.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterStatus {
    /// Where it is in its life.
    #[serde(default)]
    pub phase: ClusterPhase,
    /// Generation of the specification that the state is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Its hosts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<ClusterMember>,
    /// Number of hosts.
    #[serde(default)]
    pub hosts: u32,
    /// Number of nodes that are ready.
    #[serde(default)]
    pub ready_nodes: u32,
    /// Wanted size of each worker pool where growth has changed it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pool_sizes: BTreeMap<String, u32>,
    /// Hosts that the control plane was begun with, if it is one of several: the first members of etcd.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub first_control_planes: Vec<String>,
    /// How many operations have changed the cluster's hosts.
    #[serde(default)]
    pub changes: u32,
    /// When an operation that failed, without a host being to blame, is made again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<Time>,
    /// Hosts that failed and were replaced.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub excluded_hosts: Vec<String>,
    /// Public host keys of hosts reached over SSH, by host, that were learnt when they were reached first.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub host_keys: BTreeMap<String, String>,
    /// How often taking it apart was started.
    #[serde(default)]
    pub deletion_attempts: u32,
    /// URL of the API server.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub endpoint: String,
    /// Secret in the cluster's namespace with the administrator's kubeconfig (key `value`).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub kubeconfig_secret: String,
    /// The operation at work, or the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<ObjectReference>,
    /// What was chosen and why, in one paragraph.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub choice: String,
    /// Why the cluster is in this state.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// When it became ready first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_at: Option<Time>,
    /// Conditions: `Composed`, `Isolated`, `Provisioned`, `ControlPlaneReady`, `Ready`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}
