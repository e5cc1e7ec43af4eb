//! `metadata.managedFields`: who wrote which field.

use std::borrow::Cow;

use jiff::Timestamp;
use serde_json::Value;

use super::rules;
use crate::machinery::apply::{self, BadFields, Writer};
use crate::machinery::status::ApiError;
use crate::registry::ResourceInfo;
use crate::request::options::WriteOptions;

/// Notes, in the new form of an object, that the writer owns what it added or changed.
///
/// # Errors
/// [`ApiError::Internal`] if the entries of the stored object cannot be read.
pub(crate) fn track(
    resource: &ResourceInfo,
    old: Option<&Value>,
    new: &mut Value,
    options: &WriteOptions,
    subresource: Option<&str>,
    now: Timestamp,
) -> Result<(), ApiError> {
    let schema = rules::schema(resource);
    let root = schema.as_ref().map(|schema| schema.root());
    apply::track(root, old, new, writer(resource, options, subresource, now)).map_err(|error| damaged(&error))
}

/// The object after server-side apply of `config`; `current` is `None` to create one.
///
/// # Errors
/// [`ApiError::ApplyConflict`] if others own fields of it.
pub(crate) fn apply(
    resource: &ResourceInfo,
    current: Option<&Value>,
    config: &Value,
    options: &WriteOptions,
    subresource: Option<&str>,
    now: Timestamp,
) -> Result<Value, ApiError> {
    let schema = rules::schema(resource);
    let root = schema.as_ref().map(|schema| schema.root());
    let writer = writer(resource, options, subresource, now);
    Ok(apply::apply(
        root,
        current,
        &without_other_parts(resource, config, subresource),
        writer,
        options.force,
    )?)
}

/// The configuration without `status` where that has a subresource of its own: nobody comes to own what is not written.
fn without_other_parts<'a>(
    resource: &ResourceInfo,
    config: &'a Value,
    subresource: Option<&str>,
) -> Cow<'a, Value> {
    if subresource.is_some() || !resource.behaviour.status || config.get("status").is_none() {
        return Cow::Borrowed(config);
    }
    let mut config = config.clone();
    if let Some(fields) = config.as_object_mut() {
        fields.remove("status");
    }
    Cow::Owned(config)
}

fn writer<'a>(
    resource: &'a ResourceInfo,
    options: &'a WriteOptions,
    subresource: Option<&'a str>,
    now: Timestamp,
) -> Writer<'a> {
    Writer { manager: &options.field_manager, api_version: &resource.api_version, subresource, now }
}

fn damaged(error: &BadFields) -> ApiError {
    ApiError::Internal(format!("metadata.managedFields: {error}"))
}
