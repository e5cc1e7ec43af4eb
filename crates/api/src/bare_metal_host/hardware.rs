//! What the hardware of a host is, as Metal3 tells it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
    /// VLAN that it is in without a tag.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub vlan_id: u32,
    /// VLANs that it is in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vlans: Vec<Vlan>,
    /// What the switch says of itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lldp: Option<LinkLayerNeighbour>,
    /// Its place on the PCI bus.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub pci_address: String,
}

/// A VLAN.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Vlan {
    /// Number.
    #[serde(default)]
    pub id: u32,
    /// Name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
}

/// What LLDP tells of the port at the other end of a cable.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LinkLayerNeighbour {
    /// The switch.
    #[serde(rename = "switchID", default, skip_serializing_if = "String::is_empty")]
    pub switch_id: String,
    /// The port.
    #[serde(rename = "portID", default, skip_serializing_if = "String::is_empty")]
    pub port_id: String,
    /// The name that the switch has.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub switch_system_name: String,
}

/// A disk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StorageDevice {
    /// Name.
    #[serde(default)]
    pub name: String,
    /// Other names of it: `/dev/sda`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alternate_names: Vec<String>,
    /// Whether it turns.
    #[serde(default)]
    pub rotational: bool,
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
    /// World-wide name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub wwn: String,
    /// The vendor's extension of the world-wide name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub wwn_vendor_extension: String,
    /// World-wide name with the vendor's extension.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub wwn_with_extension: String,
    /// SCSI address: `0:0:0:0`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hctl: String,
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
    /// Instruction set extensions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<String>,
    /// Number of hardware threads.
    #[serde(default)]
    pub count: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}
