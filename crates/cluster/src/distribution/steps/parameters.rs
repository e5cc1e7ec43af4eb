//! What steps on hosts are told.

use drystone_api::MemberRole;
use serde::{Deserialize, Serialize};

/// A host and what is to be done about it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InstallParameters {
    /// The host.
    pub host: String,
    /// Its role.
    pub role: MemberRole,
    /// A control plane that works, which others join by, or which forgets those that are gone.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub via: String,
    /// Whether the host may be gone for good.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dead: bool,
    /// Whether the host is switched off and wiped afterwards anyway, so that nothing depends on this.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub expendable: bool,
}
