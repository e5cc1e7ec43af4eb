//! `Vim`: a virtualised infrastructure that VNFs run on: an OpenStack, or a Kubernetes for container network functions.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::any_object;

/// How a VIM is reached. Its credentials are in a Secret.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "nfv.drystone.dev",
    version = "v1alpha1",
    kind = "Vim",
    plural = "vims",
    category = "drystone",
    namespaced,
    status = "VimStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Type","type":"string","jsonPath":".spec.type"}"#,
    printcolumn = r#"{"name":"URL","type":"string","jsonPath":".spec.authUrl"}"#,
    printcolumn = r#"{"name":"Default","type":"boolean","jsonPath":".spec.isDefault"}"#,
    printcolumn = r#"{"name":"State","type":"string","jsonPath":".status.state"}"#,
    printcolumn = r#"{"name":"Message","type":"string","jsonPath":".status.message","priority":1}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct VimSpec {
    /// Its name among VIMs, unique in the namespace; the object's name if empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// One line for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// What it is.
    #[serde(rename = "type")]
    pub kind: VimType,
    /// Keystone's URL (`http://…/v3`), or that of the Kubernetes API.
    #[schemars(length(min = 1))]
    pub auth_url: String,
    /// Whose resources: an OpenStack project, or a namespace.
    #[serde(default)]
    pub project: VimProject,
    /// Region of an OpenStack whose catalog has several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Whether it is used where a request names none. One at most in a namespace.
    #[serde(default)]
    pub is_default: bool,
    /// Certificate authority of the API, PEM; that of the machine if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_authority: Option<String>,
    /// Takes any certificate.
    #[serde(default)]
    pub skip_certificate_verification: bool,
    /// Name of the Secret with the credentials. OpenStack: `username`, `password`, `userDomainName`; Kubernetes: `bearer_token`, or
    /// `username` and `password`, or those with `oidc_token_url`, `client_id`, `client_secret`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub credentials: String,
    /// Site through whose gateway the servers of this VIM are reached; directly if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
    /// What else is of use: `use_helm`, `helm_info`, `area`.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    #[schemars(schema_with = "any_object")]
    pub extra: Value,
    /// The VnfInstance that made it, if one did: its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made_by: Option<String>,
}

/// Kinds of VIM.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum VimType {
    /// OpenStack: Keystone and Heat.
    #[default]
    OpenStack,
    /// Kubernetes.
    Kubernetes,
}

/// Whose resources are used.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VimProject {
    /// OpenStack project, or namespace.
    #[serde(default)]
    pub name: String,
    /// Domain of the project: `Default` if empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub domain_name: String,
}

/// Whether a VIM answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum VimState {
    /// Not tried yet.
    #[default]
    Pending,
    /// It answers, and lets us in.
    Active,
    /// It does not.
    Unreachable,
}

/// What is known of a VIM.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VimStatus {
    /// Whether it answers.
    #[serde(default)]
    pub state: VimState,
    /// Its regions, or namespaces.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub regions: Vec<String>,
    /// Identifier of the project.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant_id: Option<String>,
    /// What is wrong.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// When it last changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated_at: Option<Time>,
    /// Generation that this is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Conditions: `Ready`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}
