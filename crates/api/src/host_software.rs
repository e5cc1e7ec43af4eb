//! `HostSoftware`: what is on a host. Its name is that of the BareMetalHost.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::HostImage;

/// How one host is reached, where it differs from what the SoftwareSets say.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "drystone.dev",
    version = "v1alpha1",
    kind = "HostSoftware",
    plural = "hostsoftwares",
    shortname = "hsw",
    category = "drystone",
    namespaced,
    status = "HostSoftwareStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"OS","type":"string","jsonPath":".status.operatingSystem"}"#,
    printcolumn = r#"{"name":"Kernel","type":"string","jsonPath":".status.kernel","priority":1}"#,
    printcolumn = r#"{"name":"Packages","type":"integer","jsonPath":".status.packageCount"}"#,
    printcolumn = r#"{"name":"Current","type":"string","jsonPath":".status.conditions[?(@.type==\"Current\")].status"}"#,
    printcolumn = r#"{"name":"Reachable","type":"string","jsonPath":".status.conditions[?(@.type==\"Reachable\")].status"}"#,
    printcolumn = r#"{"name":"Reboot","type":"boolean","jsonPath":".status.rebootRequired","priority":1}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct HostSoftwareSpec {
    /// Address to reach the host at: `10.20.0.7`; unless given, that of its Node, or of its first network interface.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub address: String,
    /// Change it to have the inventory read anew: any text.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub refresh: String,
}

/// What manages a host's packages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PackageManager {
    /// None that is known.
    #[default]
    None,
    /// dpkg and apt.
    Debian,
    /// rpm and dnf.
    Rpm,
}

/// What is on the host.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HostSoftwareStatus {
    /// `PRETTY_NAME` of `os-release`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub operating_system: String,
    /// Kernel release.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub kernel: String,
    /// Architecture as the kernel names it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub architecture: String,
    /// What manages its packages.
    #[serde(default)]
    pub package_manager: PackageManager,
    /// How many packages are installed.
    #[serde(default)]
    pub package_count: u32,
    /// Version of each installed package; those of a foreign architecture as `NAME:ARCH`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub packages: BTreeMap<String, String>,
    /// Packages that are half installed or not configured, and their state in the package manager's words.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub broken_packages: BTreeMap<String, String>,
    /// Packages that are held at their version.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub held_packages: Vec<String>,
    /// Container images that lie ready, and their digests.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub container_images: BTreeMap<String, String>,
    /// Digests of the files that SoftwareSets name; those that are absent are not in it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, String>,
    /// The operating system's image, as the BareMetalHost says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub os_image: Option<HostImage>,
    /// Whether the host says that it wants a reboot.
    #[serde(default)]
    pub reboot_required: bool,
    /// Public keys by which the host is known, in OpenSSH's form: `ssh-ed25519 AAAA…`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub host_keys: Vec<String>,
    /// In which ways the host differs from the SoftwareSets that select it: `SET: hello 1.0 → 1.1`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drift: Vec<String>,
    /// When the inventory was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_at: Option<Time>,
    /// When it was last tried to read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tried_at: Option<Time>,
    /// `spec.refresh` at that time.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub refreshed: String,
    /// Conditions: `Reachable`, `Current` (nothing differs).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}
