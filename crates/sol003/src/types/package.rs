//! VNF packages: states and what is told of their contents (SOL003, clause 10.5; SOL005, clause 9.5).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{KeyValuePairs, any_object};

/// How far a package has been taken in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum PackageOnboardingState {
    /// There is no content.
    #[default]
    Created,
    /// Content is coming in.
    Uploading,
    /// Content is being checked.
    Processing,
    /// It may be used.
    Onboarded,
}

/// Whether new instances may be made of a package.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum PackageOperationalState {
    /// They may.
    Enabled,
    /// They may not.
    #[default]
    Disabled,
}

/// Whether instances of a package exist.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum PackageUsageState {
    /// Some do.
    InUse,
    /// None does.
    #[default]
    NotInUse,
}

/// A digest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Checksum {
    /// `SHA-256`, or as the package says.
    pub algorithm: String,
    /// Hexadecimal.
    pub hash: String,
}

/// An image of software that a package names.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SoftwareImageInfo {
    /// The node of the VNFD that it belongs to.
    pub id: String,
    /// Name.
    pub name: String,
    /// Provider.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub provider: String,
    /// Version.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// Digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksum: Option<Checksum>,
    /// `BARE`, `DOCKER`, …
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub container_format: String,
    /// `QCOW2`, `RAW`, …
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub disk_format: String,
    /// Least disk, in bytes.
    #[serde(default)]
    pub min_disk: u64,
    /// Least memory, in bytes.
    #[serde(default)]
    pub min_ram: u64,
    /// Its own size, in bytes.
    #[serde(default)]
    pub size: u64,
    /// Where it is: a path in the package, or a URL.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub image_path: String,
    /// What else the provider says.
    #[serde(default, skip_serializing_if = "KeyValuePairs::is_empty")]
    #[schemars(schema_with = "any_object")]
    pub user_metadata: KeyValuePairs,
}

/// A file of a package that is neither VNFD nor image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PackageArtifactInfo {
    /// Path in the package.
    pub artifact_path: String,
    /// Digest.
    pub checksum: Checksum,
}
