//! `VnfInstance`: a VNF (SOL003, clause 5.5.2.2).

use std::collections::BTreeMap;

use drystone_sol003::types::{InstantiatedVnfInfo, InstantiationState, KeyValuePairs, VimConnectionInfo};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::any_object;

/// A VNF. What is done with it are `VnfLcmOperation`s.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "nfv.drystone.dev",
    version = "v1alpha1",
    kind = "VnfInstance",
    plural = "vnfinstances",
    shortname = "vnf",
    category = "drystone",
    namespaced,
    status = "VnfInstanceStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"VNF","type":"string","jsonPath":".spec.vnfInstanceName"}"#,
    printcolumn = r#"{"name":"Product","type":"string","jsonPath":".status.vnfProductName"}"#,
    printcolumn = r#"{"name":"State","type":"string","jsonPath":".status.instantiationState"}"#,
    printcolumn = r#"{"name":"Flavour","type":"string","jsonPath":".status.instantiatedVnfInfo.flavourId"}"#,
    printcolumn = r#"{"name":"Operation","type":"string","jsonPath":".status.operation"}"#,
    printcolumn = r#"{"name":"VNFD","type":"string","jsonPath":".spec.vnfdId","priority":1}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct VnfInstanceSpec {
    /// The VNFD that it is made of.
    #[schemars(length(min = 1))]
    pub vnfd_id: String,
    /// Its name, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vnf_instance_name: Option<String>,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vnf_instance_description: Option<String>,
    /// What the client keeps of it.
    #[serde(default, skip_serializing_if = "KeyValuePairs::is_empty")]
    #[schemars(schema_with = "any_object")]
    pub metadata: KeyValuePairs,
    /// What the VNFD lets be extended.
    #[serde(default, skip_serializing_if = "KeyValuePairs::is_empty")]
    #[schemars(schema_with = "any_object")]
    pub extensions: KeyValuePairs,
    /// What the VNFD lets be configured.
    #[serde(default, skip_serializing_if = "KeyValuePairs::is_empty")]
    #[schemars(schema_with = "any_object")]
    pub vnf_configurable_properties: KeyValuePairs,
}

/// What is known of a VNF. Written by the VNF manager; the front end only takes `operation`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VnfInstanceStatus {
    /// Whether it has resources.
    #[serde(default)]
    pub instantiation_state: InstantiationState,
    /// Name of the VnfLcmOperation that holds the instance: no other may begin before it is final.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
    /// Name of the VnfPackage that it is made of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub package: Option<String>,
    /// Provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vnf_provider: Option<String>,
    /// Product.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vnf_product_name: Option<String>,
    /// Version of the software.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vnf_software_version: Option<String>,
    /// Version of the VNFD.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vnfd_version: Option<String>,
    /// The VIMs that it uses, by the client's keys; without what is secret.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub vim_connection_info: BTreeMap<String, VimConnectionInfo>,
    /// Name of the Secret with what is secret of it: keys `parameters.json` (additional parameters of the instantiation) and
    /// `vim-connection-info.json`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<String>,
    /// Additional parameters of the instantiation, without what is secret; healing uses them again.
    #[serde(default, skip_serializing_if = "KeyValuePairs::is_empty")]
    #[schemars(schema_with = "any_object")]
    pub additional_parameters: KeyValuePairs,
    /// What it consists of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instantiated_vnf_info: Option<InstantiatedVnfInfo>,
    /// Nodes of the Kubernetes cluster that it is, if it is one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<VnfNode>,
}

/// A server of a VNF that the manager logs in to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VnfNode {
    /// The component: `vnfcResourceInfo.id`.
    pub vnfc: String,
    /// The VDU in the VNFD.
    pub vdu_id: String,
    /// Host name, and name of the Kubernetes node.
    pub name: String,
    /// Address at which it is logged in to.
    pub address: String,
    /// Address by which other nodes know it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub node_address: String,
    /// Keys of its SSH server, `ALGORITHM BASE64`; learnt at the first login, and insisted on afterwards.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub host_keys: Vec<String>,
    /// `control-plane`, `worker` or `storage`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub role: String,
}
