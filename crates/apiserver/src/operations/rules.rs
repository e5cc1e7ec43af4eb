//! The rules of a kind, from its schema: unknown fields, defaults, pruning, validation, patches.

use std::collections::HashSet;

use serde_json::Value;

use super::{Writer, metadata};
use crate::machinery::builtin::BuiltinKind;
use crate::machinery::field_error::FieldError;
use crate::machinery::schema::Schema;
use crate::machinery::status::ApiError;
use crate::registry::{ResourceInfo, Source};
use crate::request::options::FieldValidation;

/// The built-in kind of a resource, if it is one.
fn builtin(resource: &ResourceInfo) -> Option<&'static BuiltinKind> {
    match resource.source {
        Source::Custom(_) => None,
        _ => BuiltinKind::find(&resource.group, &resource.version, &resource.kind),
    }
}

/// The schema of a kind.
pub(crate) fn schema(resource: &ResourceInfo) -> Option<Schema> {
    match &resource.source {
        Source::Custom(custom) => Some(Schema::clone(&custom.schema)),
        _ => builtin(resource).map(BuiltinKind::schema),
    }
}

/// Reads what a client sent as the resource's kind: refuses wrong types, drops the fields that the kind does not have, and
/// says so as the request wants it.
///
/// # Errors
/// [`ApiError::BadRequest`] if a field has the wrong type, or is unknown and the client wants strictness.
pub(crate) fn check_fields(
    resource: &ResourceInfo,
    object: &mut Value,
    duplicates: &[String],
    writer: &mut Writer<'_>,
) -> Result<(), ApiError> {
    if let Some(kind) = builtin(resource) {
        kind.decode(object)?;
        writer.warnings.extend(kind.warnings(object));
    }
    let Some(schema) = schema(resource) else { return Ok(()) };
    let validation = writer.options.field_validation;
    if validation != FieldValidation::Ignore {
        let unknown = schema.unknown_fields(object);
        let unknown = unknown.iter().map(|path| format!("unknown field {path:?}"));
        let twice = duplicates.iter().map(|path| format!("duplicate field {path:?}"));
        let problems: Vec<String> = unknown.chain(twice).collect();
        if validation == FieldValidation::Strict && !problems.is_empty() {
            return Err(ApiError::bad_request(format!("strict decoding error: {}", problems.join(", "))));
        }
        writer.warnings.extend(problems);
    }
    schema.prune(object);
    Ok(())
}

/// Fills in defaults.
pub(crate) fn default(resource: &ResourceInfo, object: &mut Value) {
    match &resource.source {
        Source::Custom(custom) => custom.schema.default(object),
        _ => {
            if let Some(kind) = builtin(resource) {
                kind.default(object);
            }
        }
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
    let errors = match &resource.source {
        Source::Custom(custom) => custom.schema.validate(object),
        _ => builtin(resource).map(|kind| kind.validate(object)).unwrap_or_default(),
    };
    refuse(resource, object, errors)
}

/// Checks a changed object.
///
/// # Errors
/// [`ApiError::Invalid`] with all that is wrong.
pub(crate) fn validate_change(resource: &ResourceInfo, new: &Value, old: &Value) -> Result<(), ApiError> {
    let mut errors = immutable_metadata(new, old);
    errors.extend(match &resource.source {
        Source::Custom(custom) => custom.schema.validate_update(new, old),
        _ => builtin(resource).map(|kind| kind.validate_update(new, old)).unwrap_or_default(),
    });
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
