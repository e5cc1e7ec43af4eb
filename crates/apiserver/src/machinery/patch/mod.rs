//! Patches: RFC 6902 (JSON patch), RFC 7396 (merge patch) and Kubernetes' strategic merge patch.
//!
//! All take a document and give a new one; nothing is changed when a patch does not apply. Server-side apply, the fourth
//! kind of patch, is in [`crate::machinery::apply`].

mod json;
mod strategic;
#[cfg(test)]
mod tests;

pub use json::{OPERATIONS_MAX, json_patch};
pub use strategic::strategic_merge;

use serde_json::Value;
use thiserror::Error;

use super::document;
use super::status::ApiError;

/// A patch that cannot be applied.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PatchError {
    /// The patch is not well formed.
    #[error("error decoding patch: {0}")]
    Malformed(String),
    /// The patch is well formed and does not fit the object: a failed test, a path to nowhere, a directive that
    /// contradicts the object.
    #[error("the server rejected our request due to an error in our request: {0}")]
    Inapplicable(String),
    /// The result would be larger than an object may be.
    #[error("the patch is too large: {0}")]
    TooLarge(String),
}

impl From<PatchError> for ApiError {
    fn from(error: PatchError) -> Self {
        match error {
            PatchError::Malformed(_) => Self::BadRequest(error.to_string()),
            PatchError::Inapplicable(_) => Self::Unprocessable(error.to_string()),
            PatchError::TooLarge(_) => Self::RequestEntityTooLarge(error.to_string()),
        }
    }
}

/// Applies a merge patch (RFC 7396): objects are merged, null removes, anything else replaces.
///
/// # Errors
/// [`PatchError::Malformed`] if the patch is not an object.
pub fn merge_patch(document: &Value, patch: &Value) -> Result<Value, PatchError> {
    if !patch.is_object() {
        return Err(PatchError::Malformed("a merge patch must be an object".to_owned()));
    }
    let mut result = document.clone();
    ::json_patch::merge(&mut result, patch);
    within_limits(result)
}

/// Refuses results that no request body could contain.
fn within_limits(result: Value) -> Result<Value, PatchError> {
    if document::is_too_deep(&result) {
        return Err(PatchError::TooLarge(format!(
            "the result is nested deeper than {} levels",
            document::DEPTH_MAX
        )));
    }
    Ok(result)
}
