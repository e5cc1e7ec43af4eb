//! Metal3's `HostFirmwareSettings` and `FirmwareSchema`: what the firmware of a host is set to, and what it can be set to.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::{
    apis::meta::v1::{Condition, Time},
    util::intstr::IntOrString,
};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Wanted firmware settings of the BareMetalHost of the same name. They are applied while the host is being prepared.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "metal3.io",
    version = "v1alpha1",
    kind = "HostFirmwareSettings",
    plural = "hostfirmwaresettings",
    singular = "hostfirmwaresettings",
    shortname = "hfs",
    category = "drystone",
    namespaced,
    status = "HostFirmwareSettingsStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Changed","type":"string","jsonPath":".status.conditions[?(@.type==\"ChangeDetected\")].status"}"#,
    printcolumn = r#"{"name":"Valid","type":"string","jsonPath":".status.conditions[?(@.type==\"Valid\")].status"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct HostFirmwareSettingsSpec {
    /// Settings by name; what is not named stays as it is.
    #[serde(default)]
    #[schemars(schema_with = "settings")]
    pub settings: BTreeMap<String, IntOrString>,
}

fn settings(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "object", "additionalProperties": {"x-kubernetes-int-or-string": true}
    })
}

/// What the firmware is set to.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HostFirmwareSettingsStatus {
    /// The FirmwareSchema that says what can be set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<FirmwareSchemaReference>,
    /// Every setting by name.
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
    /// When this was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_updated: Option<Time>,
    /// `ChangeDetected` and `Valid`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// Points at a FirmwareSchema.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FirmwareSchemaReference {
    /// Namespace.
    #[serde(default)]
    pub namespace: String,
    /// Name.
    #[serde(default)]
    pub name: String,
}

/// What the firmware of one model of hosts can be set to.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "metal3.io",
    version = "v1alpha1",
    kind = "FirmwareSchema",
    plural = "firmwareschemas",
    category = "drystone",
    namespaced,
    derive = "PartialEq",
    printcolumn = r#"{"name":"Vendor","type":"string","jsonPath":".spec.hardwareVendor"}"#,
    printcolumn = r#"{"name":"Model","type":"string","jsonPath":".spec.hardwareModel"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct FirmwareSchemaSpec {
    /// Maker.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hardware_vendor: String,
    /// Model.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hardware_model: String,
    /// Limits by name of the setting.
    #[serde(default)]
    pub schema: BTreeMap<String, SettingSchema>,
}

/// Limits of one setting.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SettingSchema {
    /// `Enumeration`, `String`, `Integer`, `Boolean` or `Password`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub attribute_type: String,
    /// Values of an enumeration.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowable_values: Vec<String>,
    /// Least integer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lower_bound: Option<i64>,
    /// Greatest integer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upper_bound: Option<i64>,
    /// Least length of a string.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_length: Option<i64>,
    /// Greatest length of a string.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_length: Option<i64>,
    /// Whether it cannot be set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_only: Option<bool>,
    /// Whether each host has another value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unique: Option<bool>,
}
