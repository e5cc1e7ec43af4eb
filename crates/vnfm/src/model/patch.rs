//! What a step wants kept in the VnfInstance.

use std::collections::BTreeMap;

use drystone_api::nfv::VnfNode;
use drystone_sol003::types::VimConnectionInfo;
use serde::{Deserialize, Serialize};

/// The member of a step's output with its [`InstancePatch`].
pub const STEP_PATCH_KEY: &str = "vnfInstance";

/// What a step wants kept in the status of the VnfInstance when the operation is completed: the member [`STEP_PATCH_KEY`] of its
/// output. Patches are applied in the order of the plan's steps.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct InstancePatch {
    /// VIM connections that are added, or replaced: a cluster that was registered as VIM. Without secrets.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub vim_connection_info: BTreeMap<String, VimConnectionInfo>,
    /// Keys of VIM connections that are taken away.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub forget_vim_connections: Vec<String>,
    /// Nodes that are added, or replaced, by name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<VnfNode>,
    /// Names of nodes that are gone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub forget_nodes: Vec<String>,
}
