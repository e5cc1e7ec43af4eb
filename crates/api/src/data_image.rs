//! Metal3's `DataImage`: a medium that the BareMetalHost of the same name has in its drive beside its image.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The medium; attached when the host is powered on next.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "metal3.io",
    version = "v1alpha1",
    kind = "DataImage",
    plural = "dataimages",
    category = "drystone",
    namespaced,
    status = "DataImageStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"URL","type":"string","jsonPath":".spec.url"}"#,
    printcolumn = r#"{"name":"Attached","type":"string","jsonPath":".status.attachedImage.url"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct DataImageSpec {
    /// Where it is.
    #[schemars(regex(pattern = "^(https?|ftp|gopher|oci)://.+$"))]
    pub url: String,
}

/// What is attached.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DataImageStatus {
    /// When it was looked at last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_reconciled: Option<Time>,
    /// What is attached.
    #[serde(default)]
    pub attached_image: AttachedImage,
    /// The current error.
    #[serde(default)]
    pub error: DataImageError,
}

/// What is attached.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AttachedImage {
    /// Where it is; empty when nothing is attached.
    #[serde(default)]
    pub url: String,
}

/// An error with a DataImage.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DataImageError {
    /// How often in a row.
    #[serde(default)]
    pub count: u32,
    /// What went wrong.
    #[serde(default)]
    pub message: String,
}
