//! `VnfPackage`: a VNF package (SOL004) that instances are made of.

use drystone_sol003::types::{
    Checksum, KeyValuePairs, PackageArtifactInfo, PackageOnboardingState, PackageOperationalState,
    PackageUsageState, ProblemDetails, SoftwareImageInfo,
};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::any_object;

/// A VNF package. Its content lies in the package library of the Drystone that took it in, under the object's uid.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "nfv.drystone.dev",
    version = "v1alpha1",
    kind = "VnfPackage",
    plural = "vnfpackages",
    shortname = "vnfpkg",
    category = "drystone",
    namespaced,
    status = "VnfPackageStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Product","type":"string","jsonPath":".status.vnfProductName"}"#,
    printcolumn = r#"{"name":"Version","type":"string","jsonPath":".status.vnfSoftwareVersion"}"#,
    printcolumn = r#"{"name":"Onboarding","type":"string","jsonPath":".status.onboardingState"}"#,
    printcolumn = r#"{"name":"Operational","type":"string","jsonPath":".spec.operationalState"}"#,
    printcolumn = r#"{"name":"Usage","type":"string","jsonPath":".status.usageState"}"#,
    printcolumn = r#"{"name":"VNFD","type":"string","jsonPath":".status.vnfdId","priority":1}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct VnfPackageSpec {
    /// What the user says of it.
    #[serde(default, skip_serializing_if = "KeyValuePairs::is_empty")]
    #[schemars(schema_with = "any_object")]
    pub user_defined_data: KeyValuePairs,
    /// Whether new instances may be made of it; by default they may as soon as it is onboarded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operational_state: Option<PackageOperationalState>,
    /// Where the content is fetched from, where it is not uploaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<VnfPackageSource>,
    /// Content that has been put into the library and is to be taken in. A second content, after the first was refused, has another number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<PackageContent>,
}

/// Content of a package, in the library.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PackageContent {
    /// Which upload it was, from 1.
    pub upload: u32,
    /// SHA-256 of the bytes, hexadecimal.
    pub sha256: String,
    /// How many bytes.
    pub length: u64,
}

/// A place from which content is fetched.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VnfPackageSource {
    /// `http` or `https` URL.
    pub url: String,
    /// Name of a Secret with `username` and `password`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<String>,
}

/// What is known of a package.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VnfPackageStatus {
    /// How far it has been taken in.
    #[serde(default)]
    pub onboarding_state: PackageOnboardingState,
    /// Whether instances of it exist.
    #[serde(default)]
    pub usage_state: PackageUsageState,
    /// Identifier of its VNFD.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vnfd_id: Option<String>,
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
    /// Digest of the content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksum: Option<Checksum>,
    /// Images that it names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub software_images: Vec<SoftwareImageInfo>,
    /// Its other files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub additional_artifacts: Vec<PackageArtifactInfo>,
    /// Why the content was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub onboarding_failure: Option<ProblemDetails>,
    /// Which upload this is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_upload: Option<u32>,
    /// Generation that this is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}
