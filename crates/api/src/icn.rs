//! Resources of Akraino ICN's bare-metal provisioning agent (`bpa.akraino.org/v1alpha1`), so that what was written for it works
//! unchanged. What they lacked, they have here: a status. Source: ICN's custom resource definitions, release v0.4.0.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Servers that become a cluster. Labels `cluster` and `owner` say which and whose.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "bpa.akraino.org",
    version = "v1alpha1",
    kind = "Provisioning",
    root = "IcnProvisioning",
    plural = "provisionings",
    shortname = "bpa",
    category = "drystone",
    namespaced,
    status = "IcnProvisioningStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Cluster","type":"string","jsonPath":".status.cluster"}"#,
    printcolumn = r#"{"name":"Hosts","type":"integer","jsonPath":".status.hostCount"}"#,
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].status"}"#,
    printcolumn = r#"{"name":"Message","type":"string","jsonPath":".status.message"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct IcnProvisioningSpec {
    /// Hosts of the control plane: maps of one label each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub masters: Vec<BTreeMap<String, IcnMachine>>,
    /// Hosts that run pods.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub workers: Vec<BTreeMap<String, IcnMachine>>,
    /// Plugins of the Kubernetes deployer; kept, and named in the status as not installed.
    #[serde(rename = "KUDPlugins", default, skip_serializing_if = "Vec::is_empty")]
    pub kud_plugins: Vec<String>,
    /// Addresses of pods.
    #[serde(rename = "PodSubnet", default, skip_serializing_if = "String::is_empty")]
    pub pod_subnet: String,
}

/// A server, by a MAC address that it has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct IcnMachine {
    /// MAC address of one of its interfaces.
    #[serde(rename = "mac-address", default)]
    pub mac_address: String,
    /// Processors that it should have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<i32>,
    /// Memory that it should have, such as `16Gi`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub memory: String,
    /// Whether its network interfaces should be divided.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sriov: bool,
    /// Whether it should have QuickAssist.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub qat: bool,
}

/// What became of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IcnProvisioningStatus {
    /// Generation of the specification that this is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The Cluster that was declared for it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cluster: String,
    /// Number of its hosts.
    #[serde(default)]
    pub host_count: u32,
    /// BareMetalHost of each label.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub hosts: BTreeMap<String, String>,
    /// Address of each label, as far as it is known.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub addresses: BTreeMap<String, String>,
    /// What is asked for and not done.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Why it is in this state.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Conditions: `Valid`, `Ready`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// Packages on the hosts of a cluster. Labels `cluster` and `owner` say which and whose.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "bpa.akraino.org",
    version = "v1alpha1",
    kind = "Software",
    root = "IcnSoftware",
    plural = "softwares",
    shortname = "sw",
    category = "drystone",
    namespaced,
    status = "IcnSoftwareStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Hosts","type":"integer","jsonPath":".status.hosts"}"#,
    printcolumn = r#"{"name":"Current","type":"integer","jsonPath":".status.currentHosts"}"#,
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].status"}"#,
    printcolumn = r#"{"name":"Message","type":"string","jsonPath":".status.message"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct IcnSoftwareSpec {
    /// Packages of the control plane's hosts: `NAME`, or `{NAME: {version: VERSION}}`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "anything")]
    pub master_software: Vec<Value>,
    /// Packages of the hosts that run pods.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "anything")]
    pub worker_software: Vec<Value>,
}

/// What became of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IcnSoftwareStatus {
    /// Generation of the specification that this is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The SoftwareSets that were declared for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sets: Vec<String>,
    /// Hosts that it is for.
    #[serde(default)]
    pub hosts: u32,
    /// Hosts that have all of it.
    #[serde(default)]
    pub current_hosts: u32,
    /// Why it is in this state.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Conditions: `Valid`, `Ready`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// A list whose items are texts or objects, which no structural schema can say.
fn anything(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({"x-kubernetes-preserve-unknown-fields": true})
}
