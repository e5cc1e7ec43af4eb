//! The rules of a kind, from its schema: unknown fields, defaults, pruning, validation, patches.

use std::collections::HashSet;

use serde_json::Value;

use super::modify::Part;
use super::{Writer, metadata};
use crate::machinery::field_error::FieldError;
use crate::machinery::schema::Schema;
use crate::machinery::status::ApiError;
use crate::registry::ResourceInfo;
use crate::request::options::FieldValidation;

/// The schema of a kind.
pub(crate) fn schema(resource: &ResourceInfo) -> Option<Schema> {
    resource.custom().map(|custom| Schema::clone(&custom.schema))
}

/// Drops the fields that the kind does not have, and says so as the request wants it.
///
/// # Errors
/// [`ApiError::BadRequest`] if a field has the wrong type, or is unknown and the client wants strictness.
pub(crate) fn check_fields(
    resource: &ResourceInfo,
    object: &mut Value,
    raw: Option<&[u8]>,
    writer: &mut Writer<'_>,
) -> Result<(), ApiError> {
    let Some(schema) = schema(resource) else { return Ok(()) };
    let mut problems: Vec<String> = Vec::new();
    let validation = writer.options.field_validation;
    if validation != FieldValidation::Ignore {
        let unknown = schema.unknown_fields(object);
        problems.extend(unknown.iter().map(|path| format!("unknown field {path:?}")));
        let _ = raw;
    }
    match validation {
        FieldValidation::Strict if !problems.is_empty() => {
            return Err(ApiError::bad_request(format!("strict decoding error: {}", problems.join(", "))));
        }
        FieldValidation::Warn => writer.warnings.extend(problems),
        _ => {}
    }
    schema.prune(object);
    Ok(())
}

/// Fills in defaults.
pub(crate) fn default(resource: &ResourceInfo, object: &mut Value) {
    if let Some(schema) = schema(resource) {
        schema.default(object);
    }
}

/// Brings an object that was stored under an older schema up to the present one.
pub(crate) fn default_stored(resource: &ResourceInfo, object: &mut Value) {
    if let Some(custom) = resource.custom().filter(|custom| custom.changed) {
        custom.schema.prune(object);
        custom.schema.default(object);
    }
}

/// Checks a new object.
///
/// # Errors
/// [`ApiError::Invalid`] with all that is wrong.
pub(crate) fn validate_new(resource: &ResourceInfo, object: &Value) -> Result<(), ApiError> {
    let errors = schema(resource).map(|schema| schema.validate(object)).unwrap_or_default();
    refuse(resource, object, errors)
}

/// Checks a changed object.
///
/// # Errors
/// [`ApiError::Invalid`] with all that is wrong.
pub(crate) fn validate_change(
    resource: &ResourceInfo,
    part: Part,
    new: &Value,
    old: &Value,
) -> Result<(), ApiError> {
    let _ = part;
    let mut errors = immutable_metadata(new, old);
    if let Some(schema) = schema(resource) {
        errors.extend(schema.validate_update(new, old));
    }
    refuse(resource, new, errors)
}

fn immutable_metadata(new: &Value, old: &Value) -> Vec<FieldError> {
    let changed = |field: &&str| metadata::text(new, field) != metadata::text(old, field);
    let fields = ["name", "namespace"].into_iter().filter(changed);
    fields
        .map(|field| {
            let path = format!("metadata.{field}");
            FieldError::invalid(path, new["metadata"][field].clone(), "field is immutable")
        })
        .collect()
}

fn refuse(resource: &ResourceInfo, object: &Value, errors: Vec<FieldError>) -> Result<(), ApiError> {
    // The same finding may come from the schema and from a rule of its own.
    let mut seen = HashSet::new();
    let errors: Vec<_> = errors
        .into_iter()
        .filter(|error| seen.insert((error.path.clone(), error.kind, error.message.clone())))
        .collect();
    if errors.is_empty() {
        return Ok(());
    }
    Err(ApiError::invalid(resource.group_kind(), metadata::text(object, "name"), errors))
}

/// The most operations in a JSON patch.
const MOST_OPERATIONS: usize = 10_000;

/// Applies an RFC 6902 patch.
///
/// # Errors
/// [`ApiError`] if it is malformed or does not fit.
pub(crate) fn json_patch(resource: &ResourceInfo, object: Value, patch: &Value) -> Result<Value, ApiError> {
    let patch: json_patch::Patch = serde_json::from_value(patch.clone())
        .map_err(|error| ApiError::bad_request(format!("error decoding patch: {error}")))?;
    if patch.0.len() > MOST_OPERATIONS {
        return Err(ApiError::RequestEntityTooLarge(format!(
            "The allowed maximum operations in a JSON patch is {MOST_OPERATIONS}, got {}",
            patch.0.len()
        )));
    }
    let mut patched = object;
    json_patch::patch(&mut patched, &patch).map_err(|error| {
        let errors = vec![FieldError::invalid("patch", error.path.to_string(), error.kind.to_string())];
        ApiError::invalid(resource.group_kind(), metadata::text(&patched, "name"), errors)
    })?;
    Ok(patched)
}

/// Applies an RFC 7386 patch.
pub(crate) fn merge_patch(mut object: Value, patch: &Value) -> Value {
    json_patch::merge(&mut object, patch);
    object
}

/// Applies a strategic merge patch.
///
/// # Errors
/// [`ApiError`] if it is malformed.
pub(crate) fn strategic_patch(
    resource: &ResourceInfo,
    object: Value,
    patch: &Value,
) -> Result<Value, ApiError> {
    let _ = resource;
    Ok(merge_patch(object, patch))
}
