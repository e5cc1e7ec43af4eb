//! How Kubernetes gets onto hosts, and how hosts are reached that are there already.

use std::{collections::BTreeMap, net::IpAddr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::MemberRole;

/// Which Kubernetes is brought up on the hosts, and by whom.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Distribution {
    /// Drystone's own control plane and node agent on containerd.
    #[default]
    Embedded,
    /// An existing cluster, by its kubeconfig: watched, nothing is composed or changed. Needs `external`.
    External,
    /// kubeadm, over SSH. See `kubeadm`, `hosts`, `access`.
    Kubeadm,
    /// A program of the user's own, over SSH. Needs `script`.
    Script,
}

impl Distribution {
    /// Whether it is installed over SSH.
    pub const fn is_installed(self) -> bool {
        matches!(self, Self::Kubeadm | Self::Script)
    }
}

/// A host that is there already and is reached over SSH.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterHost {
    /// Name of host and node, unique in the cluster.
    #[schemars(regex(pattern = r"^[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?$"))]
    pub name: String,
    /// Its address, as seen from Drystone or from the site's gateway.
    #[schemars(with = "String")]
    pub address: IpAddr,
    /// Role.
    #[serde(default)]
    pub role: MemberRole,
    /// Pool of `workers` whose labels and taints its node gets; none by default.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub pool: String,
    /// Port of its SSH server; that of `access` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<u16>,
    /// Its host keys: fingerprints (`SHA256:...`) or public keys (`ssh-ed25519 AAAA...`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub host_keys: Vec<String>,
}

/// How hosts are reached over SSH.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HostAccess {
    /// User to log in as; another one than root must be able to use sudo.
    #[serde(default = "root")]
    pub user: String,
    /// Port of the SSH servers.
    #[serde(default = "ssh_port")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    /// Secret in the cluster's namespace with `ssh-privatekey` (and `passphrase` if it is encrypted), or with `password`. If sudo asks
    /// for a password, it gets `sudo-password` or `password`.
    pub credentials_name: String,
    /// Whether the key that a host shows first is taken for its key from then on. Otherwise `hostKeys` must say it.
    #[serde(default)]
    pub trust_on_first_use: bool,
}

fn root() -> String {
    "root".to_owned()
}

const fn ssh_port() -> u16 {
    22
}

/// The existing cluster of distribution `External`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExternalCluster {
    /// Secret in the cluster's namespace with the kubeconfig, under the key `value` or `kubeconfig`.
    pub kubeconfig_secret: String,
}

/// What kubeadm is told.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KubeadmSettings {
    /// Version of Kubernetes, `v1.36.3`; that of the kubeadm on the first host by default. kubeadm, kubelet and a container runtime
    /// must be on the hosts (a SoftwareSet or the image brings them).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(regex(pattern = r"^(v1\.[0-9]{1,3}\.[0-9]{1,3}(-[a-z0-9.]{1,20})?)?$"))]
    pub version: String,
    /// Socket of the container runtime; found by kubeadm by default.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cri_socket: String,
    /// Merged into kubeadm's ClusterConfiguration (`kubeadm.k8s.io/v1beta4`): extra arguments, image repository and so on.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    #[schemars(schema_with = "any_object")]
    pub cluster_configuration: Value,
    /// Checks of kubeadm whose failure is borne, such as `Swap`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ignore_preflight_errors: Vec<String>,
    /// ConfigMap in the cluster's namespace with manifests that are applied once the API answers: the network plugin, for without one
    /// no node becomes ready. Applied in the order of its keys.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub addons_config_map: String,
}

/// A program that sets Kubernetes up. Its contract is in `docs/distributions.md`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScriptSettings {
    /// ConfigMap in the cluster's namespace with the program, under `key`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub config_map: String,
    /// Secret in the cluster's namespace with the program, under `key`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub secret: String,
    /// Key of the program in `configMap` or `secret`.
    #[serde(default = "installer", skip_serializing_if = "String::is_empty")]
    pub key: String,
    /// Where hosts get the program from instead, by HTTP or HTTPS. Needs `sha256`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub url: String,
    /// Digest of what is at `url`: 64 hexadecimal digits.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(regex(pattern = "^([0-9a-f]{64})?$"))]
    pub sha256: String,
    /// Where it runs.
    #[serde(default)]
    pub runs: ScriptRuns,
    /// Environment variables for it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
    /// Secret in the cluster's namespace whose keys and values are environment variables for it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub environment_secret: String,
    /// Where it leaves the administrator's kubeconfig on the first control plane; `/etc/kubernetes/admin.conf` by default.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub admin_conf: String,
    /// How long one run may take, in seconds; 1800 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 10, max = 86400))]
    pub timeout_seconds: Option<u32>,
}

fn installer() -> String {
    "install".to_owned()
}

/// Where a program that sets Kubernetes up runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ScriptRuns {
    /// On every host: first on the first control plane, then on the other control planes one after the other, and on all workers at
    /// the same time.
    #[default]
    PerHost,
    /// On the first control plane only, for all hosts: it gets the inventory and reaches the others itself.
    Once,
}

fn any_object(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}
