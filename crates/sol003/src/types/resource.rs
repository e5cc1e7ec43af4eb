//! `ResourceHandle` (SOL003, clause 4.4.1.7).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A resource in a virtualised infrastructure.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResourceHandle {
    /// Which VIM connection manages it: a key of `vimConnectionInfo`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vim_connection_id: Option<String>,
    /// Who provides it, where that is not the VIM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_provider_id: Option<String>,
    /// Its identifier in the VIM.
    pub resource_id: String,
    /// What it is in the VIM: `OS::Nova::Server`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vim_level_resource_type: Option<String>,
}
