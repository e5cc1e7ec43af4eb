//! Everything that changes an existing object: `PUT`, `PATCH`, and writes of subresources.

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::Value;

use super::{Target, Writer, Written, delete, managed, metadata, read, rules, strategy};
use crate::machinery::field_error::FieldError;
use crate::machinery::status::ApiError;
use crate::server::state::State;
use crate::storage::{Encoded, Stored, WriteError};

/// The part of an object that a write may change; the rest stays as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// Everything but what has a subresource of its own.
    Main,
    /// `status`.
    Status,
    /// The conditions of a certificate signing request that approve or deny it.
    Approval,
    /// `spec.finalizers` of a namespace.
    Finalize,
    /// The node of a pod, with the condition that tells of it.
    Binding,
    /// The number of replicas.
    Scale,
}

impl Part {
    /// The name of the subresource; `None` for the object itself.
    pub(crate) fn subresource(self) -> Option<&'static str> {
        match self {
            Self::Main => None,
            Self::Status => Some("status"),
            Self::Approval => Some("approval"),
            Self::Finalize => Some("finalize"),
            Self::Binding => Some("binding"),
            Self::Scale => Some("scale"),
        }
    }
}

/// What to do when another request changed the object in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnConflict {
    /// Tell the client, whose new form of the object names the version that it replaces.
    Fail,
    /// The client replaces whatever is there.
    Overwrite,
    /// Make the change again, out of the object as it is now.
    Retry,
}

/// How fields are to be owned afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ownership {
    /// The writer owns what it changed.
    Changed,
    /// The new form of the object already says it, as after server-side apply.
    Settled,
}

/// Makes the new form of an object out of the present one.
pub(crate) type Make<'a> = dyn Fn(&Value) -> Result<(Value, Ownership), ApiError> + Send + Sync + 'a;

/// The change that a client wants.
pub(crate) struct Change<'a> {
    pub(crate) part: Part,
    pub(crate) on_conflict: OnConflict,
    /// Makes the new form out of the present one. A `metadata.resourceVersion` in it other than the present one is a
    /// condition that does not hold.
    pub(crate) make: &'a Make<'a>,
}

/// How often a change is tried again.
const ATTEMPTS: usize = 20;

/// Changes an object.
///
/// # Errors
/// [`ApiError`] if it does not exist, the change is not valid or not allowed, or somebody else was faster.
pub(crate) async fn modify(
    state: &State,
    target: &Target,
    change: &Change<'_>,
    writer: &mut Writer<'_>,
) -> Result<Written, ApiError> {
    let mut current = read::get(state, target).await?;
    let warnings = writer.warnings.len();
    for _ in 0..ATTEMPTS {
        writer.warnings.truncate(warnings);
        let old = in_version(read::decode(&current)?, target);
        let (new, ownership) = (change.make)(&old)?;
        check_version(&new, &old, target, change)?;
        let new = prepare(state, target, change.part, &old, new, ownership, writer).await?;
        match store(state, target, &current, &old, new, writer).await {
            Ok(object) => return Ok(Written { object, created: false }),
            Err(WriteError::Conflict(Some(now))) if change.on_conflict != OnConflict::Fail => {
                current = now;
            }
            Err(WriteError::ClaimTaken(_)) => {}
            Err(error) => return Err(target.write_failure(error)),
        }
    }
    Err(target.stale())
}

/// The stored object in the version of the request.
pub(crate) fn in_version(mut object: Value, target: &Target) -> Value {
    if object["apiVersion"] != target.resource.api_version.as_str() {
        object["apiVersion"] = target.resource.api_version.as_str().into();
    }
    rules::default_stored(&target.resource, &mut object);
    object
}

/// Checks the resourceVersion that the new form of the object names.
fn check_version(new: &Value, old: &Value, target: &Target, change: &Change<'_>) -> Result<(), ApiError> {
    let given = metadata::text(new, "resourceVersion");
    if given.is_empty() && change.on_conflict == OnConflict::Fail {
        let message = "must be specified for an update";
        let errors = vec![FieldError::invalid("metadata.resourceVersion", 0, message)];
        return Err(ApiError::invalid(target.resource.group_kind(), target.name.as_str(), errors));
    }
    if given.is_empty() || given == metadata::text(old, "resourceVersion") {
        Ok(())
    } else {
        Err(target.stale())
    }
}

async fn prepare(
    state: &State,
    target: &Target,
    part: Part,
    old: &Value,
    mut new: Value,
    ownership: Ownership,
    writer: &mut Writer<'_>,
) -> Result<(Value, crate::storage::Claims), ApiError> {
    let resource = &target.resource;
    metadata::check_type(&mut new, &resource.api_version, &resource.kind)?;
    metadata::adopt_path(&mut new, resource, &target.namespace, &target.name)?;
    confine(part, &mut new, old, target);
    metadata::carry_over(&mut new, old, resource)?;
    rules::default(resource, &mut new);
    strategy::revise(resource, part, &mut new, old)?;
    let claims = state.admission.admit_update(state, target, part, old, &mut new, writer).await?;
    metadata::validate(&new, resource)?;
    // A binding is the server's own doing: to everybody else a pod's node is what it is.
    if part != Part::Binding {
        rules::validate_change(resource, &new, old)?;
    }
    metadata::count_generation(&mut new, old, resource);
    if ownership == Ownership::Changed {
        managed::track(resource, Some(old), &mut new, writer.options, part.subresource(), Timestamp::now())?;
    }
    super::create::set_storage_version(&mut new, target);
    Ok((new, claims))
}

/// Keeps everything that the part does not cover.
fn confine(part: Part, new: &mut Value, old: &Value, target: &Target) {
    match part {
        Part::Main | Part::Scale if target.resource.behaviour.status => keep(new, old, "status"),
        // A binding is made by the server itself.
        Part::Main | Part::Binding | Part::Scale => {}
        Part::Status | Part::Approval => {
            // Of the metadata, a status write changes nothing but who wrote it.
            let version = new["metadata"]["resourceVersion"].take();
            let uid = new["metadata"]["uid"].take();
            let managed = new["metadata"]["managedFields"].take();
            let status = new.get_mut("status").map(Value::take);
            let mut confined = old.clone();
            for (field, value) in [("resourceVersion", version), ("uid", uid), ("managedFields", managed)] {
                if !value.is_null() {
                    confined["metadata"][field] = value;
                }
            }
            match (status, confined.as_object_mut()) {
                (Some(status), Some(fields)) if !status.is_null() => fields.insert("status".into(), status),
                (_, Some(fields)) => fields.remove("status"),
                _ => None,
            };
            *new = confined;
        }
        Part::Finalize => {
            let finalizers = new["spec"]["finalizers"].take();
            let version = new["metadata"]["resourceVersion"].take();
            *new = old.clone();
            new["spec"]["finalizers"] = finalizers;
            if !version.is_null() {
                new["metadata"]["resourceVersion"] = version;
            }
        }
    }
}

fn keep(new: &mut Value, old: &Value, field: &str) {
    let Some(fields) = new.as_object_mut() else { return };
    match old.get(field) {
        Some(value) => fields.insert(field.to_owned(), value.clone()),
        None => fields.remove(field),
    };
}

async fn store(
    state: &State,
    target: &Target,
    current: &Stored,
    old: &Value,
    (new, claims): (Value, crate::storage::Claims),
    writer: &Writer<'_>,
) -> Result<Stored, WriteError> {
    let encoded =
        Encoded::new(&new).map_err(|error| drystone_store::StoreError::InvalidRequest(error.to_string()))?;
    if *encoded.bytes() == current.bytes {
        return Ok(current.clone());
    }
    let key = target.key();
    let ends = delete::is_finished(&new) && metadata::is_deleting(old);
    if writer.options.dry_run {
        return Ok(Stored { key: Bytes::from(key), bytes: encoded.into_bytes(), revision: current.revision });
    }
    if ends {
        let revision = delete::remove(state, target, &new, current.revision).await?;
        return Ok(Stored { key: Bytes::from(key), bytes: encoded.into_bytes(), revision });
    }
    let lease = state.lease_for(&target.resource).await?;
    state.objects.update(&key, encoded, current.revision, &claims, lease).await
}
