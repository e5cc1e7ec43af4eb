//! What agent and Drystone say to each other, over HTTPS below `/agent/v1`. The agent always begins.
//!
//! | request | body | answer |
//! |---|---|---|
//! | `GET orders` | | 200 [`Orders`] |
//! | `PUT inventory` | [`Inventory`] | 204 |
//! | `POST progress` | [`Progress`] | 204; 409 if the order is not the present one |
//! | `POST result` | [`Report`] | 204; 409 likewise |
//!
//! Every request carries `Authorization: Bearer HOST.SECRET`: the host's UID and a secret that is good for one host and one
//! provisioning of it. Without a good one the answer is 401. Errors have a body `{"error": "…"}`. Everything is
//! idempotent: whoever has no answer asks again.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::hints::RootDeviceHints;

/// Path below which the protocol is served.
pub const BASE: &str = "/agent/v1";

/// What an agent has to do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Orders {
    /// Names the order: what is reported names it too. Another attempt is another order.
    pub id: String,
    /// The order.
    #[serde(flatten)]
    pub order: Order,
}

/// An order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "camelCase")]
pub enum Order {
    /// Nothing to do; ask again after a while.
    Wait,
    /// Tell what the host is made of.
    Inspect,
    /// Write an image to a disk.
    Deploy(Box<Deployment>),
    /// Remove the partition tables of all disks.
    Clean,
}

/// An image to be written, and what belongs to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Deployment {
    /// The image.
    pub image: Image,
    /// Which disk.
    #[serde(default)]
    pub root_device_hints: RootDeviceHints,
    /// What the operating system finds when it starts for the first time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_drive: Option<ConfigDrive>,
}

/// An image of a disk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Image {
    /// Where it is: `http` or `https`.
    pub url: String,
    /// Hexadecimal digest of the file at the URL, or the URL of a file with digests (as `sha256sum` writes it).
    pub checksum: String,
    /// How the digest was made.
    #[serde(default)]
    pub checksum_type: ChecksumType,
    /// What the file is.
    #[serde(default)]
    pub format: ImageFormat,
}

/// Kinds of digests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChecksumType {
    /// Told by its length.
    #[default]
    Auto,
    /// MD5: finds damage, no forgery.
    Md5,
    /// SHA-256.
    Sha256,
    /// SHA-512.
    Sha512,
}

/// Formats of images that agents write.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageFormat {
    /// The bytes of the disk, perhaps compressed by gzip.
    #[default]
    Raw,
    /// QEMU's copy-on-write format, versions 2 and 3.
    Qcow2,
}

/// What the operating system finds at its first start; see [`crate::config_drive`]. `Debug` shows sizes only: user data
/// hold keys.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfigDrive {
    /// `meta_data.json`: at least `uuid`, the identity of the instance.
    pub meta_data: Value,
    /// `user_data`, in base64.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub user_data: String,
    /// Network data, in OpenStack's form or cloud-init's version 2, as text.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub network_data: String,
}

impl std::fmt::Debug for ConfigDrive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConfigDrive").field("user_data_bytes", &self.user_data.len()).finish_non_exhaustive()
    }
}

/// What a host is made of.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Inventory {
    /// Architecture as `uname -m` says: `x86_64`.
    #[serde(default)]
    pub architecture: String,
    /// Model of the processors.
    #[serde(default)]
    pub processor_model: String,
    /// Hardware threads.
    #[serde(default)]
    pub processor_count: u32,
    /// Clock in MHz.
    #[serde(default)]
    pub processor_megahertz: f64,
    /// Memory in MiB.
    #[serde(default)]
    pub memory_mebibytes: u64,
    /// Maker of the system.
    #[serde(default)]
    pub manufacturer: String,
    /// Model of the system.
    #[serde(default)]
    pub product_name: String,
    /// Serial number of the system.
    #[serde(default)]
    pub serial_number: String,
    /// Whether it started by UEFI.
    #[serde(default)]
    pub uefi: bool,
    /// Network interfaces.
    #[serde(default)]
    pub interfaces: Vec<Interface>,
    /// Disks, without the medium that the agent was started from.
    #[serde(default)]
    pub disks: Vec<DiskDetails>,
}

/// A network interface.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Interface {
    /// Name: `eth0`.
    pub name: String,
    /// MAC address, lower case.
    pub mac: String,
    /// Addresses that it has.
    #[serde(default)]
    pub addresses: Vec<String>,
    /// Speed in Mbit/s; 0 if unknown.
    #[serde(default)]
    pub speed_megabits: u32,
    /// Whether there is a carrier.
    #[serde(default)]
    pub carrier: bool,
}

/// A disk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DiskDetails {
    /// Its device: `/dev/nvme0n1`.
    pub name: String,
    /// Other names: `/dev/disk/by-path/…`.
    #[serde(default)]
    pub alternate_names: Vec<String>,
    /// Size in bytes.
    pub size_bytes: u64,
    /// Whether it rotates.
    #[serde(default)]
    pub rotational: bool,
    /// Maker.
    #[serde(default)]
    pub vendor: String,
    /// Model.
    #[serde(default)]
    pub model: String,
    /// Serial number.
    #[serde(default)]
    pub serial_number: String,
    /// World-wide name.
    #[serde(default)]
    pub wwn: String,
    /// World-wide name with the vendor's extension.
    #[serde(default)]
    pub wwn_with_extension: String,
    /// The vendor's extension of the world-wide name.
    #[serde(default)]
    pub wwn_vendor_extension: String,
    /// SCSI address `host:channel:target:lun`.
    #[serde(default)]
    pub hctl: String,
}

/// How far an order has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Progress {
    /// The order.
    pub order: String,
    /// What is being done.
    pub stage: Stage,
    /// Bytes that are done, in stages that have bytes.
    #[serde(default)]
    pub done: u64,
    /// All bytes, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
}

/// Stages of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Stage {
    /// The order was taken.
    Taken,
    /// The image is being fetched and written.
    Writing,
    /// What was written is being brought onto the disk for good.
    Flushing,
    /// The configuration drive is being written.
    ConfigDrive,
    /// Disks are being wiped.
    Cleaning,
}

impl Stage {
    /// In words.
    pub const fn describe(self) -> &'static str {
        match self {
            Self::Taken => "the agent is at work",
            Self::Writing => "writing the image",
            Self::Flushing => "flushing the disk",
            Self::ConfigDrive => "writing the configuration drive",
            Self::Cleaning => "wiping partition tables",
        }
    }
}

/// The end of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Report {
    /// The order.
    pub order: String,
    /// Why it failed; absent if it was carried out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The disk that was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<DiskDetails>,
    /// Bytes of the image as fetched.
    #[serde(default)]
    pub bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_on_the_wire() {
        let wait = serde_json::json!({"id": "1", "order": "wait"});
        assert_eq!(
            serde_json::from_value::<Orders>(wait).unwrap(),
            Orders { id: "1".into(), order: Order::Wait }
        );
        let deploy = serde_json::json!({"id": "2", "order": "deploy",
            "image": {"url": "http://a/b", "checksum": "00", "checksumType": "sha256", "format": "qcow2"},
            "rootDeviceHints": {"deviceName": "/dev/vda"}});
        let orders: Orders = serde_json::from_value(deploy).unwrap();
        let Order::Deploy(deployment) = &orders.order else { panic!("{orders:?}") };
        assert_eq!(deployment.image.format, ImageFormat::Qcow2);
        assert_eq!(serde_json::from_value::<Orders>(serde_json::to_value(&orders).unwrap()).unwrap(), orders);
    }

    #[test]
    fn user_data_are_not_shown() {
        let drive = ConfigDrive { user_data: "c2VjcmV0".into(), ..ConfigDrive::default() };
        assert!(!format!("{drive:?}").contains("c2Vj"));
    }
}
