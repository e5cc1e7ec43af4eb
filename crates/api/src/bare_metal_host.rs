//! Metal3's `BareMetalHost` (`metal3.io/v1alpha1`), so that YAML written for Metal3 works unchanged.
//! Source: the baremetal-operator's API; fields that Drystone does not act on yet are kept as given.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ObjectReference;

/// A server and what it should do.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "metal3.io",
    version = "v1alpha1",
    kind = "BareMetalHost",
    plural = "baremetalhosts",
    shortname = "bmh",
    shortname = "bmhost",
    category = "drystone",
    namespaced,
    status = "BareMetalHostStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Status","type":"string","jsonPath":".status.operationalStatus","priority":1}"#,
    printcolumn = r#"{"name":"State","type":"string","jsonPath":".status.provisioning.state"}"#,
    printcolumn = r#"{"name":"Consumer","type":"string","jsonPath":".spec.consumerRef.name"}"#,
    printcolumn = r#"{"name":"BMC","type":"string","jsonPath":".spec.bmc.address","priority":1}"#,
    printcolumn = r#"{"name":"Online","type":"string","jsonPath":".spec.online"}"#,
    printcolumn = r#"{"name":"Error","type":"string","jsonPath":".status.errorType"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct BareMetalHostSpec {
    /// How to reach the baseboard management controller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bmc: Option<BmcDetails>,
    /// MAC address of the interface to boot from.
    #[serde(rename = "bootMACAddress", default, skip_serializing_if = "String::is_empty")]
    #[schemars(regex(pattern = r"^([0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5})?$"))]
    pub boot_mac_address: String,
    /// Firmware mode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_mode: Option<BootMode>,
    /// Whether it should be powered on.
    #[serde(default)]
    pub online: bool,
    /// What to boot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<HostImage>,
    /// Secret with cloud-init user data (key `userData`, else `value`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_data: Option<SecretReference>,
    /// Secret with network data (key `networkData`, else `value`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_data: Option<SecretReference>,
    /// Secret with metadata (key `metaData`, else `value`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meta_data: Option<SecretReference>,
    /// Who uses the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consumer_ref: Option<ObjectReference>,
    /// What is known of it, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Something else provisioned it; manage only power.
    #[serde(default)]
    pub externally_provisioned: bool,
    /// Never power it off.
    #[serde(default)]
    pub disable_power_off: bool,
    /// `metadata` (wipe partition tables) or `disabled`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^(metadata|disabled)$"))]
    pub automated_cleaning_mode: Option<String>,
    /// `agent`, `fast` or `disabled`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^(agent|fast|disabled)$"))]
    pub inspection_mode: Option<String>,
    /// Processor architecture: `x86_64`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub architecture: Option<String>,
    /// How to find the disk to install on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_object")]
    pub root_device_hints: Option<Value>,
    /// RAID layout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_object")]
    pub raid: Option<Value>,
    /// A deployment that no image describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_object")]
    pub custom_deploy: Option<Value>,
    /// Network data for the inspection and installation system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preprovisioning_network_data_name: Option<String>,
}

/// A baseboard management controller.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BmcDetails {
    /// `redfish-virtualmedia+http://HOST:PORT/redfish/v1/Systems/ID` and Metal3's other schemes.
    pub address: String,
    /// Secret in the host's namespace with keys `username` and `password`.
    pub credentials_name: String,
    /// Accept any server certificate.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub disable_certificate_verification: bool,
}

/// Firmware mode.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum BootMode {
    /// UEFI.
    #[default]
    UEFI,
    /// UEFI with secure boot.
    UEFISecureBoot,
    /// BIOS.
    #[serde(rename = "legacy")]
    Legacy,
}

/// An operating-system image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HostImage {
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
}

/// Format of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ImageFormat {
    /// Raw disk.
    Raw,
    /// QEMU copy-on-write.
    Qcow2,
    /// VirtualBox.
    Vdi,
    /// VMware.
    Vmdk,
    /// Booted from the medium, nothing is installed.
    #[serde(rename = "live-iso")]
    LiveIso,
}

/// Points at a Secret.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretReference {
    /// Name.
    pub name: String,
    /// Namespace; the host's own unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

/// Operational status.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OperationalStatus {
    /// Not looked at yet.
    #[default]
    #[serde(rename = "")]
    None,
    /// Working as declared.
    OK,
    /// Known, but without a management controller.
    #[serde(rename = "discovered")]
    Discovered,
    /// Something failed; see `errorType` and `errorMessage`.
    #[serde(rename = "error")]
    Error,
    /// Waits for a free place.
    #[serde(rename = "delayed")]
    Delayed,
    /// Taken out of management.
    #[serde(rename = "detached")]
    Detached,
    /// Firmware is being serviced.
    #[serde(rename = "servicing")]
    Servicing,
}

/// Where a host is in its life.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ProvisioningState {
    /// Not looked at yet.
    #[default]
    #[serde(rename = "")]
    None,
    /// No management controller given.
    #[serde(rename = "unmanaged")]
    Unmanaged,
    /// Credentials are being checked.
    #[serde(rename = "registering")]
    Registering,
    /// Hardware is being read.
    #[serde(rename = "inspecting")]
    Inspecting,
    /// Firmware and disks are being prepared.
    #[serde(rename = "preparing")]
    Preparing,
    /// Ready to be provisioned.
    #[serde(rename = "available")]
    Available,
    /// Being provisioned.
    #[serde(rename = "provisioning")]
    Provisioning,
    /// Runs its image.
    #[serde(rename = "provisioned")]
    Provisioned,
    /// Its image is being removed.
    #[serde(rename = "deprovisioning")]
    Deprovisioning,
    /// Something else provisioned it.
    #[serde(rename = "externally provisioned")]
    ExternallyProvisioned,
    /// Being switched off before it is forgotten.
    #[serde(rename = "powering off before delete")]
    PoweringOffBeforeDelete,
    /// Being forgotten.
    #[serde(rename = "deleting")]
    Deleting,
}

/// State of a host.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BareMetalHostStatus {
    /// Operational status.
    #[serde(default)]
    pub operational_status: OperationalStatus,
    /// Kind of the current error: `registration error`, `inspection error`, `provisioning error`, `power management error` …
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub error_type: String,
    /// The current error.
    #[serde(default)]
    pub error_message: String,
    /// How often it failed in a row.
    #[serde(default)]
    pub error_count: u32,
    /// Whether power is on.
    #[serde(default)]
    pub powered_on: bool,
    /// When this was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_updated: Option<Time>,
    /// What the hardware is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hardware: Option<HardwareDetails>,
    /// What is provisioned.
    #[serde(default)]
    pub provisioning: ProvisionStatus,
    /// Credentials that worked last.
    #[serde(default)]
    pub good_credentials: CredentialsStatus,
    /// Credentials that were tried last.
    #[serde(default)]
    pub tried_credentials: CredentialsStatus,
    /// Conditions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// What is provisioned.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProvisionStatus {
    /// Where the host is in its life.
    #[serde(default)]
    pub state: ProvisioningState,
    /// Identifies the host at the provisioner.
    #[serde(rename = "ID", default)]
    pub id: String,
    /// The image that runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<HostImage>,
    /// Firmware mode used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_mode: Option<BootMode>,
    /// Digest of the user data, network data and metadata that the host was booted with.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub instance_id: String,
}

/// Credentials and their version.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CredentialsStatus {
    /// The Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<SecretReference>,
    /// Its resourceVersion.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub credentials_version: String,
}

/// What the hardware is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HardwareDetails {
    /// Maker and model.
    #[serde(default)]
    pub system_vendor: SystemVendor,
    /// Firmware.
    #[serde(default)]
    pub firmware: Firmware,
    /// Memory in MiB.
    #[serde(default)]
    pub ram_mebibytes: u64,
    /// Network interfaces.
    #[serde(default)]
    pub nics: Vec<Nic>,
    /// Disks.
    #[serde(default)]
    pub storage: Vec<StorageDevice>,
    /// Processors.
    #[serde(default)]
    pub cpu: Cpu,
    /// Name the host gives itself.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hostname: String,
}

/// Maker and model.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SystemVendor {
    /// Maker.
    #[serde(default)]
    pub manufacturer: String,
    /// Model.
    #[serde(default)]
    pub product_name: String,
    /// Serial number.
    #[serde(default)]
    pub serial_number: String,
}

/// Firmware.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Firmware {
    /// BIOS.
    #[serde(default)]
    pub bios: FirmwareBios,
}

/// BIOS.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FirmwareBios {
    /// Date.
    #[serde(default)]
    pub date: String,
    /// Maker.
    #[serde(default)]
    pub vendor: String,
    /// Version.
    #[serde(default)]
    pub version: String,
}

/// A network interface.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Nic {
    /// Name.
    #[serde(default)]
    pub name: String,
    /// Model.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub model: String,
    /// MAC address.
    #[serde(default)]
    pub mac: String,
    /// Address.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub ip: String,
    /// Speed in Gbit/s.
    #[serde(default)]
    pub speed_gbps: u32,
    /// Whether it can boot.
    #[serde(default)]
    pub pxe: bool,
}

/// A disk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StorageDevice {
    /// Name.
    #[serde(default)]
    pub name: String,
    /// `HDD`, `SSD` or `NVME`.
    #[serde(rename = "type", default, skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// Size in bytes.
    #[serde(default)]
    pub size_bytes: u64,
    /// Maker.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub vendor: String,
    /// Model.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub model: String,
    /// Serial number.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub serial_number: String,
}

/// Processors.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Cpu {
    /// Architecture: `x86_64`.
    #[serde(default)]
    pub arch: String,
    /// Model.
    #[serde(default)]
    pub model: String,
    /// Clock in MHz.
    #[serde(default)]
    pub clock_megahertz: f64,
    /// Number of hardware threads.
    #[serde(default)]
    pub count: u32,
}

fn any_object(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}

/// A host that failed so often in a row is given up by whoever waits for it; its own controller goes on trying.
const HOPELESS_AFTER_ERRORS: u32 = 3;

impl BareMetalHostStatus {
    /// Whether nobody should wait for this host any more: it has failed again and again.
    pub fn is_hopeless(&self) -> bool {
        self.operational_status == OperationalStatus::Error && self.error_count >= HOPELESS_AFTER_ERRORS
    }
}
