//! `Artifact`: an image in the site's own store: what it is, how much of it has arrived, and where it is fetched.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An image that somebody uploads. Owner, cluster, type and name are its key; the namespace is the owner, and the object's name
/// follows from the key, so that the artifacts of tenants never meet.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "drystone.dev",
    version = "v1alpha1",
    kind = "Artifact",
    plural = "artifacts",
    category = "drystone",
    namespaced,
    status = "ArtifactStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Cluster","type":"string","jsonPath":".spec.cluster"}"#,
    printcolumn = r#"{"name":"Type","type":"string","jsonPath":".spec.type"}"#,
    printcolumn = r#"{"name":"Image","type":"string","jsonPath":".spec.name"}"#,
    printcolumn = r#"{"name":"Size","type":"integer","jsonPath":".spec.length"}"#,
    printcolumn = r#"{"name":"Progress","type":"string","jsonPath":".status.progress"}"#,
    printcolumn = r#"{"name":"Format","type":"string","jsonPath":".status.format"}"#,
    printcolumn = r#"{"name":"Digest","type":"string","jsonPath":".status.digest"}"#,
    printcolumn = r#"{"name":"Message","type":"string","jsonPath":".status.message","priority":1}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct ArtifactSpec {
    /// Whose it is: the namespace.
    #[schemars(length(min = 1, max = 63))]
    pub owner: String,
    /// The cluster that it is for.
    #[schemars(length(min = 1, max = 63))]
    pub cluster: String,
    /// What kind of image it is.
    #[serde(rename = "type")]
    pub kind: ArtifactType,
    /// Its name, unique among those of the same owner, cluster and type.
    #[schemars(length(min = 1, max = 200))]
    pub name: String,
    /// Bytes of the whole image.
    #[schemars(range(min = 1))]
    pub length: u64,
    /// Digest that the whole image must have, `sha256:` and 64 hexadecimal digits; anything else is refused when all has arrived.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// What the uploader says that the image contains.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub records: Vec<ArtifactRecord>,
}

/// Kind of an image.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ArtifactType {
    /// Bytes that nothing is known of: programs, packages.
    #[default]
    Binary,
    /// An archive of container images, in OCI's or Docker's layout.
    Container,
    /// An image of an operating system's disk.
    OperatingSystem,
}

/// One of the images that an artifact contains.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ArtifactRecord {
    /// Name of the record.
    #[serde(default)]
    pub name: String,
    /// Repository.
    #[serde(default)]
    pub repo: String,
    /// Tag.
    #[serde(default)]
    pub tag: String,
}

/// State of an artifact.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ArtifactStatus {
    /// Generation of the specification that the state is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Identity of the store that has the bytes: where several Drystones share one API, each has a store of its own.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub store: String,
    /// Bytes from the beginning that are safe on disk: an upload goes on from here.
    #[serde(default)]
    pub offset: u64,
    /// The offset for people, `42%`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub progress: String,
    /// Everything is there, and was found to be what it should be.
    #[serde(default)]
    pub complete: bool,
    /// `sha256:` and 64 hexadecimal digits, of what is complete.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub digest: String,
    /// What the bytes were recognised as: `qcow2`, `raw`, `iso`, `vmdk`, `vdi`, `gzip`, `xz`, `zstd`, `oci-archive`, `docker-archive`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub format: String,
    /// Bytes of the disk that an operating system's image unfolds to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub virtual_size: Option<u64>,
    /// Names of the images in an archive of container images.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<String>,
    /// Path on Drystone's HTTPS port and boot listener, for clients that know another address than those in `urls`. Nobody can guess
    /// it, and whoever knows it may read the image.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub path: String,
    /// Where the image is fetched.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    /// What is not as it should be, or what is waited for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Conditions: `Available` (complete, and the bytes are there).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}
