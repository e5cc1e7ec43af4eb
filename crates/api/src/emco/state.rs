//! What several kinds have: states that were entered, and files.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A state that was entered. Lists of these only grow; the last one is the present state.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StateEntry {
    /// `Created`, `Approved`, `Instantiated` …, as EMCO names them.
    pub state: String,
    /// The AppContext that the state is about, a decimal number; empty if there is none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub context_id: String,
    /// When it was entered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<MicroTime>,
    /// Revision of the deployment; 0 where nothing is deployed.
    #[serde(default)]
    pub revision: i64,
}

/// A file that belongs to a document. Its bytes are kept beside the resources, by digest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FileReference {
    /// SHA-256 of the bytes, 64 hexadecimal digits.
    #[schemars(regex(pattern = r"^[0-9a-f]{64}$"))]
    pub sha256: String,
    /// How many bytes.
    pub length: u64,
    /// The name that it was sent under.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
}
