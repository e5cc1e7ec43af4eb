//! New objects.

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::Value;
use uuid::Uuid;

use super::modify::Ownership;
use super::{Target, Writer, Written, managed, metadata, rules, strategy};
use crate::machinery::names;
use crate::machinery::status::ApiError;
use crate::server::state::{State, store_failure};
use crate::storage::{Encoded, Stored, WriteError};

/// How often another generated name, or another free address, is tried.
const ATTEMPTS: usize = 8;

/// Stores a new object.
///
/// # Errors
/// [`ApiError`] if it is not valid, not allowed, or exists.
pub(crate) async fn create(
    state: &State,
    target: &Target,
    object: Value,
    writer: &mut Writer<'_>,
) -> Result<Written, ApiError> {
    create_owned(state, target, object, Ownership::Changed, writer).await
}

/// Stores a new object out of a server-side apply.
///
/// # Errors
/// As [`create`].
pub(crate) async fn apply(
    state: &State,
    target: &Target,
    config: Value,
    writer: &mut Writer<'_>,
) -> Result<Written, ApiError> {
    create_owned(state, target, config, Ownership::Settled, writer).await
}

async fn create_owned(
    state: &State,
    target: &Target,
    mut object: Value,
    ownership: Ownership,
    writer: &mut Writer<'_>,
) -> Result<Written, ApiError> {
    let now = Timestamp::now();
    if ownership == Ownership::Settled {
        object = managed::apply(&target.resource, None, &object, writer.options, None, now)?;
    }
    prepare(target, &mut object, now)?;
    let generated = metadata::text(&object, "name").is_empty();
    let prefix = metadata::text(&object, "generateName").to_owned();
    let mut attempt = 0;
    loop {
        attempt += 1;
        let mut candidate = if attempt == ATTEMPTS { std::mem::take(&mut object) } else { object.clone() };
        if generated && !prefix.is_empty() {
            candidate["metadata"]["name"] = names::generate_name(&prefix, &mut rand::rng()).into();
        }
        let target = Target { name: metadata::text(&candidate, "name").to_owned(), ..target.clone() };
        match store(state, &target, candidate, ownership, writer, now).await {
            Err(ApiError::AlreadyExists { .. }) if generated && !prefix.is_empty() && attempt < ATTEMPTS => {}
            Err(ApiError::Conflict { .. }) if attempt < ATTEMPTS => {}
            done => return done.map(|object| Written { object, created: true }),
        }
        writer.warnings.clear();
    }
}

/// Brings the object into the shape in which it is judged.
fn prepare(target: &Target, object: &mut Value, now: Timestamp) -> Result<(), ApiError> {
    let resource = &target.resource;
    metadata::check_type(object, &resource.api_version, &resource.kind)?;
    metadata::adopt_path(object, resource, &target.namespace, &target.name)?;
    metadata::begin(object, resource, Uuid::new_v4().to_string(), now)?;
    if resource.behaviour.status
        && resource.custom().is_some()
        && let Some(fields) = object.as_object_mut()
    {
        fields.remove("status");
    }
    Ok(())
}

async fn store(
    state: &State,
    target: &Target,
    mut object: Value,
    ownership: Ownership,
    writer: &mut Writer<'_>,
    now: Timestamp,
) -> Result<Stored, ApiError> {
    let resource = &target.resource;
    if resource.custom().is_some_and(|custom| custom.terminating) {
        let message = "create not allowed while custom resource definition is terminating";
        return Err(ApiError::MethodNotAllowed(message.into()));
    }
    state.admission.check_namespace(state, target).await?;
    rules::default(resource, &mut object);
    strategy::begin(resource, &mut object, writer.user)?;
    let claims = state.admission.admit_create(state, target, &mut object, writer).await?;
    metadata::validate(&object, resource)?;
    rules::validate_new(resource, &object)?;
    if ownership == Ownership::Changed {
        managed::track(resource, None, &mut object, writer.options, None, now)?;
    }
    set_storage_version(&mut object, target);
    let encoded = Encoded::new(&object).map_err(|error| ApiError::Internal(error.to_string()))?;
    let key = target.key();
    if writer.options.dry_run {
        if state.objects.exists(&key).await.map_err(store_failure)? {
            return Err(already_exists(target));
        }
        return Ok(Stored { key: Bytes::from(key), bytes: encoded.into_bytes(), revision: 0 });
    }
    let lease = state.lease_for(resource).await.map_err(store_failure)?;
    state.objects.create(&key, encoded, &claims, lease).await.map_err(|error| match error {
        WriteError::Conflict(_) => already_exists(target),
        other => target.write_failure(other),
    })
}

fn already_exists(target: &Target) -> ApiError {
    ApiError::AlreadyExists { resource: target.resource.group_resource(), name: target.name.clone() }
}

/// Objects are stored in one version, whatever version they are written in.
pub(super) fn set_storage_version(object: &mut Value, target: &Target) {
    object["apiVersion"] = target.resource.storage_api_version.as_str().into();
}
