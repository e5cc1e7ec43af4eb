//! State of a host, as Metal3 tells it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{BootMode, CustomDeploy, HardwareDetails, HostImage, Raid, RootDeviceHints, SecretReference};

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
    /// Kind of the current error: `registration error`, `inspection error`, `preparation error`, `provisioning error`, `power
    /// management error`, `detach error` …
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub error_type: String,
    /// The current error.
    #[serde(default)]
    pub error_message: String,
    /// How often it failed in a row.
    #[serde(default)]
    pub error_count: u32,
    /// How often an image could not be provisioned; begins anew with another image.
    #[serde(default)]
    pub provisioning_fail_count: u32,
    /// The image that was tried last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_attempted_image: Option<HostImage>,
    /// Deprecated by Metal3: `unknown`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hardware_profile: String,
    /// When each kind of work began and ended last.
    #[serde(default)]
    pub operation_history: OperationHistory,
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
    /// RAID layout that was set up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raid: Option<Raid>,
    /// The hints that hold for the root disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_device_hints: Option<RootDeviceHints>,
    /// The deployment that was made without an image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub custom_deploy: Option<CustomDeploy>,
    /// BMC address and boot MAC address that the host was registered with (Drystone's own: they may not change under it).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registered: Option<RegisteredAs>,
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

/// When each kind of work began and ended last.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OperationHistory {
    /// Registration.
    #[serde(default)]
    pub register: OperationMetric,
    /// Inspection.
    #[serde(default)]
    pub inspect: OperationMetric,
    /// Provisioning.
    #[serde(default)]
    pub provision: OperationMetric,
    /// Deprovisioning.
    #[serde(default)]
    pub deprovision: OperationMetric,
}

/// When something began and ended. What goes on has no end yet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OperationMetric {
    /// When it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<Time>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<Time>,
}

/// What a host was registered with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RegisteredAs {
    /// `spec.bmc.address`.
    #[serde(default)]
    pub bmc_address: String,
    /// `spec.bootMACAddress`.
    #[serde(rename = "bootMACAddress", default, skip_serializing_if = "String::is_empty")]
    pub boot_mac_address: String,
}

/// A host that failed so often in a row is given up by whoever waits for it; its own controller goes on trying.
const HOPELESS_AFTER_ERRORS: u32 = 3;

impl BareMetalHostStatus {
    /// Whether nobody should wait for this host any more: it has failed again and again.
    pub fn is_hopeless(&self) -> bool {
        let failures = self.error_count.max(self.provisioning_fail_count);
        self.operational_status == OperationalStatus::Error && failures >= HOPELESS_AFTER_ERRORS
    }
}
