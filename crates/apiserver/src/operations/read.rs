//! Getting objects.

use serde_json::Value;

use super::Target;
use crate::machinery::status::ApiError;
use crate::server::state::{State, store_failure};
use crate::storage::Stored;

/// The object, if it exists.
pub(crate) async fn find(state: &State, target: &Target) -> Result<Option<Stored>, ApiError> {
    state.objects.get(&target.key()).await.map_err(store_failure)
}

/// The object.
///
/// # Errors
/// [`ApiError::NotFound`] if it does not exist.
pub(crate) async fn get(state: &State, target: &Target) -> Result<Stored, ApiError> {
    find(state, target).await?.ok_or_else(|| target.not_found())
}

/// The object, decoded.
///
/// # Errors
/// As [`get`].
pub(crate) async fn get_value(state: &State, target: &Target) -> Result<Value, ApiError> {
    decode(&get(state, target).await?)
}

/// Decodes a stored object.
///
/// # Errors
/// [`ApiError::Internal`] if it is damaged.
pub(crate) fn decode(stored: &Stored) -> Result<Value, ApiError> {
    stored.decode().map_err(|error| ApiError::Internal(error.to_string()))
}
