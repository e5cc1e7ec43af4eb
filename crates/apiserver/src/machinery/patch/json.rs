//! JSON patch, RFC 6902.

use ::json_patch::{Patch, PatchErrorKind, PatchOperation, jsonptr};
use serde_json::Value;

use super::{PatchError, within_limits};

/// Most operations of one patch, as in Kubernetes.
pub const OPERATIONS_MAX: usize = 10_000;
/// Most bytes that all `copy` operations of one patch may copy together: copies of copies grow exponentially.
const COPIED_MAX: usize = 3 << 20;

/// Applies a JSON patch.
///
/// # Errors
/// [`PatchError::Malformed`] if `patch` is no list of operations, [`PatchError::Inapplicable`] if a path leads nowhere or
/// a test fails, [`PatchError::TooLarge`] beyond [`OPERATIONS_MAX`] or if copies grow too large.
pub fn json_patch(document: &Value, patch: &Value) -> Result<Value, PatchError> {
    let count = patch.as_array().map_or(0, Vec::len);
    if count > OPERATIONS_MAX {
        return Err(PatchError::TooLarge(format!(
            "the allowed maximum operations in a JSON patch is {OPERATIONS_MAX}, got {count}"
        )));
    }
    let Patch(operations) =
        serde_json::from_value(patch.clone()).map_err(|error| PatchError::Malformed(error.to_string()))?;
    let mut result = document.clone();
    let mut copied = 0;
    for operation in operations {
        if let PatchOperation::Copy(copy) = &operation {
            copied += size_at(&result, &copy.from);
            if copied > COPIED_MAX {
                return Err(PatchError::TooLarge(format!("copies exceed {COPIED_MAX} bytes")));
            }
        }
        ::json_patch::patch(&mut result, std::slice::from_ref(&operation))
            .map_err(|error| inapplicable(&operation, &error.kind))?;
    }
    within_limits(result)
}

fn size_at(document: &Value, from: &jsonptr::PointerBuf) -> usize {
    from.resolve(document).map_or(0, |value| value.to_string().len())
}

fn inapplicable(operation: &PatchOperation, reason: &PatchErrorKind) -> PatchError {
    PatchError::Inapplicable(format!("{reason}: {operation}"))
}
