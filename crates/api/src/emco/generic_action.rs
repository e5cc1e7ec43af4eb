//! Generic actions: objects that are added to applications, or changed, for all clusters or for some.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{FileReference, any_value, document::document};

document! {
    /// What is added to the applications of a deployment intent group, or changed.
    GenericK8sIntent("GenericK8sIntent", "generick8sintents", "gk8sintent"), GenericK8sIntentSpec, "GenericK8sIntent",
    "projects/{project}/composite-apps/{compositeApp}/{compositeAppVersion}/deployment-intent-groups/{deploymentIntentGroup}/generic-k8s-intents/{genericK8sIntent}",
    []
    {}
}

document! {
    /// An object that is added to an application, or changed.
    K8sResource("K8sResource", "k8sresources", "gk8sresource"), K8sResourceSpec, "Resource",
    "projects/{project}/composite-apps/{compositeApp}/{compositeAppVersion}/deployment-intent-groups/{deploymentIntentGroup}/generic-k8s-intents/{genericK8sIntent}/resources/{genericResource}",
    [printcolumn = r#"{"name":"App","type":"string","jsonPath":".spec.app"}"#]
    {
        /// The application.
        #[schemars(length(min = 1, max = 128))]
        pub app: String,
        /// Whether it is added: `true` or `false`.
        #[schemars(regex(pattern = r"^(true|false)$"))]
        pub new_object: String,
        /// Which object.
        #[serde(default, rename = "resourceGVK")]
        pub resource_gvk: ResourceGvk,
        /// The object, YAML or JSON; for a new one that is no ConfigMap and no Secret.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub file: Option<FileReference>,
    }
}

/// An object's kind and name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResourceGvk {
    /// API group and version: `v1`, `apps/v1`.
    #[serde(default)]
    #[schemars(length(max = 317))]
    pub api_version: String,
    /// Kind.
    #[serde(default)]
    #[schemars(length(max = 128))]
    pub kind: String,
    /// Name.
    #[serde(default)]
    #[schemars(length(max = 253))]
    pub name: String,
}

document! {
    /// How an object is added or changed, and on which clusters.
    Customization("Customization", "customizations", "gk8scustom"), CustomizationSpec, "Customization",
    "projects/{project}/composite-apps/{compositeApp}/{compositeAppVersion}/deployment-intent-groups/{deploymentIntentGroup}/generic-k8s-intents/{genericK8sIntent}/resources/{genericResource}/customizations/{customization}",
    []
    {
        /// Whether it is for some clusters only: `true` or `false`.
        #[schemars(regex(pattern = r"^(true|false)$"))]
        pub cluster_specific: String,
        /// For which.
        #[serde(default)]
        pub cluster_info: ClusterInformation,
        /// How it is changed: `json` (RFC 6902) or `merge` (strategic merge); empty for an object that is added as it is.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        #[schemars(regex(pattern = r"^(json|merge)?$"))]
        pub patch_type: String,
        /// The change, with `json`.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        #[schemars(length(max = 10_000))]
        pub patch_json: Vec<JsonPatchOperation>,
        /// What becomes of files in a ConfigMap.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub config_map_options: Option<DataOptions>,
        /// What becomes of files in a Secret.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub secret_options: Option<DataOptions>,
        /// Data of a ConfigMap or Secret, or changes with `merge`.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        #[schemars(length(max = 1024))]
        pub files: Vec<FileReference>,
    }
}

/// Which clusters a customization is for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterInformation {
    /// How they are found: by `label` or `name`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(regex(pattern = r"^(label|name)?$"))]
    pub scope: String,
    /// Provider.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 128))]
    pub cluster_provider: String,
    /// The cluster, with scope `name`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 128))]
    pub cluster: String,
    /// The label, with scope `label`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 128))]
    pub cluster_label: String,
    /// `allow`, or `deny`, with which it is for none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(regex(pattern = r"^(allow|deny)?$"))]
    pub mode: String,
}

/// A change of RFC 6902.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JsonPatchOperation {
    /// `add`, `remove`, `replace`, `move`, `copy` or `test`.
    #[schemars(length(min = 1, max = 16))]
    pub op: String,
    /// Where, as a JSON pointer.
    #[serde(default)]
    #[schemars(length(max = 4096))]
    pub path: String,
    /// Whence, with `move` and `copy`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The value.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    #[schemars(schema_with = "any_value")]
    pub value: Value,
}

/// What becomes of files in a ConfigMap or Secret.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DataOptions {
    /// For each file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024))]
    pub data_key_options: Vec<DataKeyOption>,
}

/// What becomes of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DataKeyOption {
    /// The file.
    #[serde(default)]
    #[schemars(length(max = 253))]
    pub file_name: String,
    /// Key in the data; the file's name if empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 253))]
    pub key_name: String,
    /// Whether it is merged with what is there: `true` or `false`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 5))]
    pub merge_patch: String,
}
