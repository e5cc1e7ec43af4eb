//! Metal3's `BareMetalHost` (`metal3.io/v1alpha1`), so that YAML written for Metal3 works unchanged.
//! Source: the baremetal-operator's API. What the schema cannot say of a specification is said by the host's controller.

mod hardware;
mod raid;
mod status;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use hardware::{
    Cpu, Firmware, FirmwareBios, HardwareDetails, LinkLayerNeighbour, Nic, StorageDevice, SystemVendor, Vlan,
};
pub use raid::{HardwareRaidVolume, Raid, SoftwareRaidVolume};
pub use status::{
    BareMetalHostStatus, CredentialsStatus, OperationHistory, OperationMetric, OperationalStatus,
    ProvisionStatus, ProvisioningState, RegisteredAs,
};

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
    pub root_device_hints: Option<RootDeviceHints>,
    /// RAID layout; absent keeps what is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raid: Option<Raid>,
    /// A deployment that no image describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub custom_deploy: Option<CustomDeploy>,
    /// Interfaces and the networks that they are to be attached to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub network_interfaces: Vec<HostNetworkInterface>,
    /// Deprecated by Metal3: firmware settings of some vendors. It is refused; use a HostFirmwareSettings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_object")]
    pub firmware: Option<Value>,
    /// Deprecated by Metal3; kept as given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hardware_profile: Option<String>,
    /// Deprecated by Metal3; kept as given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "any_objects")]
    pub taints: Vec<Value>,
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
    #[schemars(regex(pattern = "^(https?|ftp|gopher|oci|medium)://.+$"))]
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
    /// Secret with the credentials of the registry that an `oci://` image is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oci_auth_secret_name: Option<String>,
}

/// How to find a disk: every hint that is given must fit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RootDeviceHints {
    /// `/dev/NAME` or `/dev/disk/by-path/NAME`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^/dev/(disk/by-path/)?[^/]+$"))]
    pub device_name: Option<String>,
    /// SCSI address: `0:0:0:0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hctl: Option<String>,
    /// Part of the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Part of the maker's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vendor: Option<String>,
    /// Serial number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial_number: Option<String>,
    /// Least size in GB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub min_size_gigabytes: Option<u64>,
    /// World-wide name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wwn: Option<String>,
    /// World-wide name with the vendor's extension.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wwn_with_extension: Option<String>,
    /// The vendor's extension of the world-wide name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wwn_vendor_extension: Option<String>,
    /// Whether it turns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotational: Option<bool>,
}

/// A deployment that no image describes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CustomDeploy {
    /// Name of the deploy step that does it.
    pub method: String,
}

/// An interface of a host and the network that it is to be attached to. It is named, or found by its MAC address.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HostNetworkInterface {
    /// Name of the interface.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// MAC address of the interface.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}$"))]
    pub mac_address: Option<String>,
    /// The HostNetworkAttachment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_network_attachment: Option<HostNetworkAttachmentReference>,
    /// The port that the interface is cabled to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub switch_port: Option<HostSwitchPort>,
}

/// Points at a HostNetworkAttachment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HostNetworkAttachmentReference {
    /// Name.
    pub name: String,
    /// Namespace; the host's own unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

/// A port of a switch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HostSwitchPort {
    /// The switch.
    #[serde(rename = "switchID")]
    pub switch_id: String,
    /// The port.
    #[serde(rename = "portID")]
    pub port_id: String,
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

fn any_object(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}

fn any_objects(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "array", "items": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}
    })
}
