//! `metadata.managedFields`: who wrote which field.

use jiff::Timestamp;
use serde_json::Value;

use crate::machinery::status::ApiError;
use crate::registry::ResourceInfo;
use crate::request::options::WriteOptions;

/// Notes, in the new form of an object, that the writer owns what it added or changed.
///
/// # Errors
/// [`ApiError`] if the object's entries cannot be read.
pub(crate) fn track(
    _resource: &ResourceInfo,
    _old: Option<&Value>,
    _new: &mut Value,
    _options: &WriteOptions,
    _subresource: Option<&str>,
    _now: Timestamp,
) -> Result<(), ApiError> {
    Ok(())
}

/// The object after server-side apply of `config`.
///
/// # Errors
/// [`ApiError::ApplyConflict`] if others own fields of it.
pub(crate) fn apply(
    _resource: &ResourceInfo,
    _current: Option<&Value>,
    _config: &Value,
    _options: &WriteOptions,
    _subresource: Option<&str>,
    _now: Timestamp,
) -> Result<Value, ApiError> {
    Err(ApiError::UnsupportedMediaType("server-side apply is not available yet".into()))
}
