//! What an orchestrator is told, as it is written. `docs/sites.md` describes it for those who read it.

use std::collections::BTreeMap;

use drystone_api::{CredentialsReference, HandOffState};
use serde::Serialize;

/// Version of the documents.
pub const API_VERSION: &str = "handoff.drystone.dev/v1";

/// Kind of the documents.
pub const KIND: &str = "SiteInventory";

/// All that an orchestrator is told of a site. A document replaces the one with the same id and a smaller generation; one of the same
/// generation says the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Document {
    /// [`API_VERSION`].
    pub api_version: &'static str,
    /// [`KIND`].
    pub kind: &'static str,
    /// Under which the orchestrator knows the site; stays the same as long as the site exists.
    pub id: String,
    /// Grows with every document that says something else.
    pub generation: i64,
    /// Whether the site is there for the orchestrator, or leaves it.
    pub state: HandOffState,
    /// The Site.
    pub site: ObjectName,
    /// The site's cluster, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<DocumentCluster>,
    /// Where the orchestrator finds what it gets at the hosts with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials_ref: Option<CredentialsReference>,
    /// The hosts: those that are there, and those that left since the orchestrator took a document last.
    pub hosts: Vec<DocumentHost>,
}

/// Namespace and name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ObjectName {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

/// The site's cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct DocumentCluster {
    /// Which Cluster it is.
    #[serde(flatten)]
    pub object: ObjectName,
    /// URL of its API server.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub endpoint: String,
}

/// A host in a document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DocumentHost {
    /// Its name, by which it is known in later documents.
    pub name: String,
    /// Whether it is there for the orchestrator.
    pub state: HandOffState,
    /// What it is; nothing is said of one that has left.
    #[serde(flatten)]
    pub details: Option<HostDetails>,
}

/// What a host is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct HostDetails {
    /// `control-plane`, `worker` or `spare`.
    pub role: String,
    /// Addresses, the one in its cluster first.
    pub addresses: Vec<String>,
    /// Labels, without those that Drystone works with itself.
    pub labels: BTreeMap<String, String>,
    /// What is known of its hardware.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hardware: Option<HardwareSummary>,
}

/// The hardware of a host in few words.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HardwareSummary {
    /// Maker.
    pub manufacturer: String,
    /// Model.
    pub product_name: String,
    /// Serial number.
    pub serial_number: String,
    /// Processor architecture: `x86_64`.
    pub architecture: String,
    /// Logical processors.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory_mebibytes: u64,
    /// Size of all disks in bytes.
    pub storage_bytes: u64,
    /// Network interfaces.
    pub nics: Vec<NicSummary>,
}

/// A network interface in few words.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NicSummary {
    /// Name.
    pub name: String,
    /// MAC address.
    pub mac: String,
    /// Speed in Gbit/s.
    pub speed_gbps: u32,
}
