//! `ProblemDetails` (RFC 7807; SOL013, clause 6.3).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Why a request, or an operation, did not succeed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProblemDetails {
    /// URI that identifies the kind of problem.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Short summary, the same for all problems of the kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// HTTP status code.
    pub status: u16,
    /// What was wrong, where, and what to do.
    pub detail: String,
    /// URI of this occurrence of the problem.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
}
