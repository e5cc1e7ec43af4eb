//! `SoftwareSet`: what should be on hosts: packages, container images, the operating system, files.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{HostImage, ImageFormat, MemberRole, RolloutStrategy};

/// What should be on the hosts that are selected, of those in the set's own namespace. A change is brought to them by a
/// Rollout.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "drystone.dev",
    version = "v1alpha1",
    kind = "SoftwareSet",
    plural = "softwaresets",
    shortname = "sws",
    category = "drystone",
    namespaced,
    status = "SoftwareSetStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Hosts","type":"integer","jsonPath":".status.hosts"}"#,
    printcolumn = r#"{"name":"Current","type":"integer","jsonPath":".status.currentHosts"}"#,
    printcolumn = r#"{"name":"Rollout","type":"string","jsonPath":".status.rollout"}"#,
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].status"}"#,
    printcolumn = r#"{"name":"Message","type":"string","jsonPath":".status.message","priority":1}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct SoftwareSetSpec {
    /// Which hosts.
    pub selector: HostSelector,
    /// Packages of the hosts' package manager.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub packages: Vec<SoftwarePackage>,
    /// Container images that lie ready on the hosts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub container_images: Vec<ContainerImage>,
    /// The operating system's image; changed by provisioning the host anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub os_image: Option<OperatingSystemImage>,
    /// Files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<SoftwareFile>,
    /// How hosts are reached; needed for everything but `osImage`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<SoftwareAccess>,
    /// Whose signature everything that is downloaded must bear; without it, digests alone decide.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust: Option<SoftwareTrust>,
    /// Whether a package may be replaced by an older version.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_downgrade: bool,
    /// Whether a rollout begins by itself.
    #[serde(default)]
    pub approval: RolloutApproval,
    /// How rollouts of this set go about it.
    #[serde(default)]
    pub strategy: RolloutStrategy,
}

/// Selects hosts: all that is given must hold. Nothing given selects nothing and is refused; see `all`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HostSelector {
    /// Every host of the namespace.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub all: bool,
    /// Hosts of these names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    /// Hosts of these Sites.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sites: Vec<String>,
    /// Hosts of this cluster: `NAMESPACE/NAME`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cluster: String,
    /// Hosts that have this role in their cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<MemberRole>,
    /// Hosts (BareMetalHosts) with these labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub match_labels: BTreeMap<String, String>,
}

/// A package.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SoftwarePackage {
    /// Its name, such as `openssl`.
    pub name: String,
    /// An exact version (`3.0.11-1~deb12u2`), or conditions that all must hold (`>= 3.0.11, < 3.1`); empty for any.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// Whether it should be there.
    #[serde(default, skip_serializing_if = "is_default")]
    pub state: PackageState,
    /// Where it comes from, if not from the repositories that the host is configured with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact: Option<PackageArtifact>,
    /// Whether its installation needs a reboot, where that does not show (kernels and what writes `reboot-required` need not
    /// say so).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reboot: bool,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Whether a package should be there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PackageState {
    /// Installed.
    #[default]
    Present,
    /// Installed, and kept at its version by the package manager.
    Held,
    /// Not installed.
    Absent,
}

/// A package file (`.deb`, `.rpm`) that was uploaded. Give either `name`, or `url` and `digest`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PackageArtifact {
    /// File name of an Artifact, in the form `NAME_VERSION_ARCH.deb` or `NAME-VERSION-RELEASE.ARCH.rpm`.
    /// `*` stands for anything: of all that match and satisfy the package's `version`, the newest complete one is taken,
    /// so that an upload brings a new version to the hosts.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Namespace of the Artifact; the set's own unless given. Only sets of Drystone's own namespace may name another.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Where the file is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub url: String,
    /// Its digest: `sha256:` and 64 hexadecimal digits.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub digest: String,
    /// Ed25519 signature (base64) of the digest's text, by a key of `trust.publicKeys`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub signature: String,
}

/// A container image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ContainerImage {
    /// Complete reference: `registry.example.org/app:1.2`.
    pub image: String,
    /// Digest that the reference must have (`sha256:…`); any, unless given.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub digest: String,
}

/// An operating-system image, as in `spec.image` of a BareMetalHost.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OperatingSystemImage {
    /// Where it is.
    pub url: String,
    /// Checksum, or the URL of one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub checksum: String,
    /// `md5`, `sha256`, `sha512` or `auto`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^(md5|sha256|sha512|auto)$"))]
    pub checksum_type: Option<String>,
    /// Format.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<ImageFormat>,
    /// Ed25519 signature (base64) of the checksum's text, by a key of `trust.publicKeys`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub signature: String,
}

impl OperatingSystemImage {
    /// In the form that a BareMetalHost has it.
    pub fn host_image(&self) -> HostImage {
        let mut image = HostImage { url: self.url.clone(), ..HostImage::default() };
        image.checksum.clone_from(&self.checksum);
        image.checksum_type.clone_from(&self.checksum_type);
        image.format = self.format;
        image
    }
}

/// A file. Give either `content`, or `url` and `digest`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SoftwareFile {
    /// Absolute path on the host.
    pub path: String,
    /// What is in it, if it is short text and no secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// Where its content is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub url: String,
    /// Digest of the content: `sha256:…`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub digest: String,
    /// Ed25519 signature (base64) of the digest's text, by a key of `trust.publicKeys`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub signature: String,
    /// Permissions in octal: `0644` unless given.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(regex(pattern = "^([0-7]{3,4})?$"))]
    pub permissions: String,
    /// Command that is run on the host after the file was changed: `systemctl reload chrony`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub after_change: String,
}

/// How hosts are reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SoftwareAccess {
    /// User to log in as; must be root, or be allowed `sudo -n`.
    #[serde(default = "root")]
    pub user: String,
    /// Port.
    #[serde(default = "ssh_port")]
    #[schemars(range(min = 1))]
    pub port: u16,
    /// Secret in the set's namespace with the private key (`ssh-privatekey`, in OpenSSH's form) or the `password`, and, unless
    /// `trustOnFirstUse` is set, the hosts' public keys (`known-hosts`: one line `HOST TYPE KEY` each; `*` for every host).
    pub key_secret: String,
    /// Accept whatever host key is shown at the first connection, and only that one later.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub trust_on_first_use: bool,
}

impl Default for SoftwareAccess {
    fn default() -> Self {
        Self { user: root(), port: ssh_port(), key_secret: String::new(), trust_on_first_use: false }
    }
}

fn root() -> String {
    "root".to_owned()
}

const fn ssh_port() -> u16 {
    22
}

/// Whose signatures count.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SoftwareTrust {
    /// Ed25519 public keys: 32 bytes in base64.
    #[schemars(length(min = 1))]
    pub public_keys: Vec<String>,
}

/// Whether a rollout begins by itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RolloutApproval {
    /// As soon as a host differs from the set.
    #[default]
    Automatic,
    /// When somebody sets `spec.approved` of the Rollout.
    Manual,
}

/// What became of a set.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SoftwareSetStatus {
    /// Generation of the specification that this is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Stands for the content with all artifacts resolved; another content has another one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub revision: String,
    /// Hosts that are selected.
    #[serde(default)]
    pub hosts: u32,
    /// Hosts that have all of it.
    #[serde(default)]
    pub current_hosts: u32,
    /// Hosts that need it, and what they need: the first hundred.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub needed_by: BTreeMap<String, String>,
    /// The Rollout that brings the revision to the hosts.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub rollout: String,
    /// Artifacts that were chosen for packages, by package.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub artifacts: BTreeMap<String, String>,
    /// Why it is in this state.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Conditions: `Valid`, `Ready` (every selected host has it).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}
