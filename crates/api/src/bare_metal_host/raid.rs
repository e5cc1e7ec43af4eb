//! RAID layouts.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::RootDeviceHints;

/// A RAID layout. Of each kind, an absent list keeps the volumes that are there, an empty one removes them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Raid {
    /// Volumes of a RAID controller.
    #[serde(rename = "hardwareRAIDVolumes", default, skip_serializing_if = "Option::is_none")]
    pub hardware_volumes: Option<Vec<HardwareRaidVolume>>,
    /// Volumes of the operating system.
    #[serde(rename = "softwareRAIDVolumes", default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2))]
    pub software_volumes: Option<Vec<SoftwareRaidVolume>>,
}

/// A volume of a RAID controller.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HardwareRaidVolume {
    /// RAID level.
    #[schemars(regex(pattern = r"^([01256]|[156]\+0)$"))]
    pub level: String,
    /// Size in GiB; all there is unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub size_gibibytes: Option<u64>,
    /// Name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub name: Option<String>,
    /// Only disks that turn, or only others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotational: Option<bool>,
    /// How many disks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub number_of_physical_disks: Option<u32>,
    /// The RAID controller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub controller: Option<String>,
    /// Names of the disks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub physical_disks: Vec<String>,
}

/// A volume of the operating system.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SoftwareRaidVolume {
    /// RAID level.
    #[schemars(regex(pattern = r"^([01]|1\+0)$"))]
    pub level: String,
    /// Whether the image goes onto it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub root_volume: bool,
    /// Size in GiB; all there is unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub size_gibibytes: Option<u64>,
    /// How to find the disks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2))]
    pub physical_disks: Option<Vec<RootDeviceHints>>,
}
