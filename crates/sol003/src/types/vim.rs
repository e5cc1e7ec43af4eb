//! `VimConnectionInfo` (SOL003, clause 4.4.1.6).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{KeyValuePairs, any_object};

/// How a VIM is reached.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VimConnectionInfo {
    /// The VIM's identifier: the uid of a `Vim`. With it, everything else may be left to that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vim_id: Option<String>,
    /// What kind of VIM: `ETSINFV.OPENSTACK_KEYSTONE.V_3`, `ETSINFV.KUBERNETES.V_1`, `ETSINFV.HELM.V_3`; `openstack` and `kubernetes` in
    /// version 1.
    pub vim_type: String,
    /// Where it is: `endpoint`, `skipCertificateVerification`, `ssl_ca_cert`.
    #[serde(default, skip_serializing_if = "KeyValuePairs::is_empty")]
    #[schemars(schema_with = "any_object")]
    pub interface_info: KeyValuePairs,
    /// As whom: `username`, `region`, `project`, `projectDomain`, `userDomain`. Passwords and tokens are never kept here.
    #[serde(default, skip_serializing_if = "KeyValuePairs::is_empty")]
    #[schemars(schema_with = "any_object")]
    pub access_info: KeyValuePairs,
    /// What else is of use for that kind of VIM.
    #[serde(default, skip_serializing_if = "KeyValuePairs::is_empty")]
    #[schemars(schema_with = "any_object")]
    pub extra: KeyValuePairs,
}
