//! `StorageServer`: a host with a drive that gives a cluster PersistentVolumes by NFS.

use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{HostAccess, ObjectReference};

/// An NFS server for the nodes of a cluster. Its drives keep their file systems: what is on a drive is never formatted, so a host may
/// be replaced as long as the drive is kept.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "drystone.dev",
    version = "v1alpha1",
    kind = "StorageServer",
    plural = "storageservers",
    category = "drystone",
    namespaced,
    status = "StorageServerStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Cluster","type":"string","jsonPath":".spec.cluster"}"#,
    printcolumn = r#"{"name":"Host","type":"string","jsonPath":".status.host"}"#,
    printcolumn = r#"{"name":"Address","type":"string","jsonPath":".status.address"}"#,
    printcolumn = r#"{"name":"Phase","type":"string","jsonPath":".status.phase"}"#,
    printcolumn = r#"{"name":"Message","type":"string","jsonPath":".status.message","priority":1}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct StorageServerSpec {
    /// Name of the Cluster, in the same namespace.
    pub cluster: String,
    /// The host.
    pub host: StorageHost,
    /// Drives, and where they are mounted.
    #[schemars(length(min = 1, max = 64))]
    pub volumes: Vec<StorageVolume>,
    /// PersistentVolumes: each is a directory on one of the volumes, exported and registered in the cluster.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub persistent_volumes: Vec<StoragePersistentVolume>,
    /// Who may mount: networks of the nodes. The address of each node of the cluster by default.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<String>", length(max = 64))]
    pub clients: Vec<IpNet>,
}

/// The host of a storage server: either one that the cluster has composed, or one that is there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StorageHost {
    /// Pool of the cluster's `workers` whose only host it is: composed out of the free hosts, in the cluster's zone, replaced when it is
    /// lost. For clusters that are installed over SSH, whose hosts can be reached. Taint the pool if nothing else is to run there.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub pool: String,
    /// Its name, for hosts that are there.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(regex(pattern = r"^([a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?)?$"))]
    pub name: String,
    /// Its address, as seen from Drystone or from the site's gateway, and from the nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub address: Option<IpAddr>,
    /// Its host keys: fingerprints (`SHA256:...`) or public keys.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub host_keys: Vec<String>,
    /// How it is reached over SSH; as the cluster's hosts are by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<HostAccess>,
    /// Name of the Site through whose gateway it is reached; the cluster's by default.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub site: String,
}

/// A drive.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StorageVolume {
    /// The block device, `/dev/vdb`. At least one of `device` and `serial` must be given; a serial number counts more than a name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 200))]
    pub device: String,
    /// Serial number of the drive.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 200))]
    pub serial: String,
    /// Where it is mounted: an absolute path that the system has no other use for, `/volume`.
    #[schemars(length(min = 2, max = 1024))]
    pub mount_to: String,
}

/// A PersistentVolume of a storage server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StoragePersistentVolume {
    /// Name in the cluster.
    #[schemars(regex(pattern = r"^[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?$"))]
    pub name: String,
    /// Directory on one of the volumes; made if it is missing.
    #[schemars(length(min = 2, max = 1024))]
    pub directory: String,
    /// Size, a Kubernetes quantity. NFS does not enforce it.
    #[schemars(length(min = 1, max = 64))]
    pub capacity: String,
    /// Access modes; `ReadWriteMany` by default.
    #[serde(default = "read_write_many")]
    #[schemars(length(min = 1, max = 4))]
    pub access_modes: Vec<String>,
    /// Storage class; none by default.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub storage_class: String,
    /// Labels, which claims may select by.
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub labels: std::collections::BTreeMap<String, String>,
    /// Mount options of the nodes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub mount_options: Vec<String>,
}

fn read_write_many() -> Vec<String> {
    vec!["ReadWriteMany".to_owned()]
}

/// State of a storage server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum StorageServerPhase {
    /// Waiting for its cluster or its host.
    #[default]
    Pending,
    /// Being set up, or moved to another host.
    Preparing,
    /// Its PersistentVolumes can be claimed.
    Ready,
    /// Not as it should be, because somebody uses what would have to be taken away.
    Blocked,
    /// Cannot be carried out as it stands; the message tells why.
    Failed,
    /// Being taken apart.
    Deleting,
}

/// What became of a storage server.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct StorageServerStatus {
    /// State.
    pub phase: StorageServerPhase,
    /// Generation of the specification that was carried out last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The host that has it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub host: String,
    /// Address by which nodes mount; it is in the PersistentVolumes.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub address: String,
    /// File systems of the volumes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<StorageVolumeStatus>,
    /// Names of the PersistentVolumes that are registered.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub persistent_volumes: Vec<String>,
    /// Where volumes are mounted on the host, those of an earlier specification included.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<String>,
    /// Who may mount, and on which hosts the NFS client was installed: what the nodes were when it was carried out last.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub clients: Vec<String>,
    /// The operation at work.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation: Option<ObjectReference>,
    /// How many operations there have been.
    pub attempts: u32,
    /// Why it is in this state.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Conditions: `Ready`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// A volume that is mounted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct StorageVolumeStatus {
    /// Where.
    pub mount_to: String,
    /// Its device.
    pub device: String,
    /// UUID of its file system; the same as long as the drive is kept.
    pub uuid: String,
    /// Whether the file system was made here; otherwise it was there, and was kept with what is in it.
    pub formatted: bool,
}
