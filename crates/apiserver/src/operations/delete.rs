//! Deletion: at once, or, where finalizers or a grace period stand in the way, marked and finished later.

use drystone_store::Revision;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{Target, create, metadata, modify, read};
use crate::machinery::status::ApiError;
use crate::request::options::{DeleteOptions, Propagation};
use crate::server::state::State;
use crate::storage::{Claims, Encoded, Stored, WriteError};

/// Finalizer of an object whose dependents are to lose their owner first.
pub(crate) const ORPHAN: &str = "orphan";
/// Finalizer of an object whose dependents are to be deleted first.
pub(crate) const FOREGROUND: &str = "foregroundDeletion";

/// Finalizer of a CustomResourceDefinition whose objects are to be deleted first.
pub(crate) const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";

/// What became of a deletion.
#[derive(Debug)]
pub(crate) enum Deleted {
    /// The object is gone; this is what it was.
    Gone(Value),
    /// It is marked, and goes when nothing stands in the way.
    Marked(Stored),
}

/// How often a deletion is tried again when the object changes meanwhile.
const ATTEMPTS: usize = 20;

/// Deletes an object.
///
/// # Errors
/// [`ApiError`] if it does not exist, or is not as the preconditions say.
pub(crate) async fn delete(
    state: &State,
    target: &Target,
    options: &DeleteOptions,
) -> Result<Deleted, ApiError> {
    for _ in 0..ATTEMPTS {
        let current = read::get(state, target).await?;
        let object = read::decode(&current)?;
        check_preconditions(target, &object, options)?;
        match delete_once(state, target, &current, object, options).await {
            Err(WriteError::Conflict(Some(_))) => {}
            Err(error) => return Err(target.write_failure(error)),
            Ok(deleted) => return Ok(deleted),
        }
    }
    Err(target.stale())
}

fn check_preconditions(target: &Target, object: &Value, options: &DeleteOptions) -> Result<(), ApiError> {
    let Some(wanted) = &options.preconditions else { return Ok(()) };
    for (field, what, wanted) in
        [("uid", "UID", &wanted.uid), ("resourceVersion", "ResourceVersion", &wanted.resource_version)]
    {
        let has = metadata::text(object, field);
        if let Some(wanted) = wanted.as_deref().filter(|wanted| !wanted.is_empty() && *wanted != has) {
            return Err(target.conflict(format!(
                "Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {has}"
            )));
        }
    }
    Ok(())
}

async fn delete_once(
    state: &State,
    target: &Target,
    current: &Stored,
    object: Value,
    options: &DeleteOptions,
) -> Result<Deleted, WriteError> {
    let mut marked = object.clone();
    set_propagation(&mut marked, options.propagation());
    let grace = grace_seconds(target, &object, options);
    mark(&mut marked, grace, target);
    if is_finished(&marked) {
        if !options.is_dry_run() {
            remove(state, target, &object, current.revision).await?;
        }
        return Ok(Deleted::Gone(object));
    }
    create::set_storage_version(&mut marked, target);
    let encoded = Encoded::new(&marked)
        .map_err(|error| drystone_store::StoreError::InvalidRequest(error.to_string()))?;
    if *encoded.bytes() == current.bytes || options.is_dry_run() {
        return Ok(Deleted::Marked(Stored { bytes: encoded.into_bytes(), ..current.clone() }));
    }
    let key = target.key();
    let lease = state.lease_for(&target.resource).await?;
    let marked = state.objects.update(&key, encoded, current.revision, &Claims::default(), lease).await?;
    Ok(Deleted::Marked(marked))
}

/// Adds or removes the finalizers by which dependents are dealt with first.
fn set_propagation(object: &mut Value, policy: Option<Propagation>) {
    let Some(policy) = policy else { return };
    let mut finalizers: Vec<String> = metadata::finalizers(object)
        .filter(|finalizer| !matches!(*finalizer, ORPHAN | FOREGROUND))
        .map(str::to_owned)
        .collect();
    match policy {
        Propagation::Orphan => finalizers.push(ORPHAN.into()),
        Propagation::Foreground => finalizers.push(FOREGROUND.into()),
        Propagation::Background => {}
    }
    if finalizers.is_empty() {
        if let Some(fields) = object["metadata"].as_object_mut() {
            fields.remove("finalizers");
        }
    } else {
        object["metadata"]["finalizers"] = json!(finalizers);
    }
}

/// How long the object may take to end: pods that run somewhere get the time they ask for, everything else none.
fn grace_seconds(target: &Target, object: &Value, options: &DeleteOptions) -> i64 {
    if target.resource.kind != "Pod" || !target.resource.group.is_empty() {
        return 0;
    }
    let assigned = object["spec"]["nodeName"].as_str().is_some_and(|node| !node.is_empty());
    let ended = matches!(object["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
    if !assigned || ended {
        return 0;
    }
    let asked =
        options.grace_period_seconds.or_else(|| object["spec"]["terminationGracePeriodSeconds"].as_i64());
    asked.unwrap_or(30).max(0)
}

/// Notes that deletion has begun. A grace period once given can only become shorter.
fn mark(object: &mut Value, grace: i64, target: &Target) {
    let now = Timestamp::now();
    let deadline =
        |grace: i64| metadata::timestamp(now.checked_add(SignedDuration::from_secs(grace)).unwrap_or(now));
    let pending = object["metadata"]["deletionGracePeriodSeconds"].as_i64();
    let deleting = metadata::is_deleting(object);
    match pending.filter(|_| deleting) {
        Some(pending) if grace >= pending => {}
        Some(_) => {
            object["metadata"]["deletionGracePeriodSeconds"] = grace.into();
            object["metadata"]["deletionTimestamp"] = deadline(grace).into();
        }
        None => {
            object["metadata"]["deletionTimestamp"] = deadline(grace).into();
            object["metadata"]["deletionGracePeriodSeconds"] = grace.into();
            if target.resource.behaviour.generation {
                metadata::bump_generation(object);
            }
        }
    }
    if is_namespace(object) {
        object["status"]["phase"] = "Terminating".into();
    }
    // Once the objects are gone the finalizer is taken off, and does not come back.
    if !deleting && target.resource.group == "apiextensions.k8s.io" {
        let finalizers = metadata::finalizers(object).chain([CLEANUP]);
        object["metadata"]["finalizers"] = finalizers.collect();
    }
}

fn is_namespace(object: &Value) -> bool {
    object["kind"] == "Namespace" && object["apiVersion"] == "v1"
}

/// Whether nothing stands in the way of an object's end: no finalizer, no grace, and, for a namespace, nothing in it.
pub(super) fn is_finished(object: &Value) -> bool {
    let finalizers = metadata::finalizers(object).next().is_some();
    let grace = object["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(0) > 0;
    let occupied = is_namespace(object)
        && object["spec"]["finalizers"].as_array().is_some_and(|finalizers| !finalizers.is_empty());
    metadata::is_deleting(object) && !finalizers && !grace && !occupied
}

/// Removes an object from the store, and gives back what it held.
pub(super) async fn remove(
    state: &State,
    target: &Target,
    object: &Value,
    revision: Revision,
) -> Result<Revision, WriteError> {
    let release = state.admission.claims_of(target, object);
    state.objects.delete(&target.key(), revision, &Claims { take: Vec::new(), release }).await
}

/// Changes the finalizers of an object that is being deleted, which may thereby end.
///
/// # Errors
/// [`ApiError`] if the store fails; that the object is gone is no error.
pub(crate) async fn remove_finalizer(
    state: &State,
    target: &Target,
    finalizer: &str,
) -> Result<(), ApiError> {
    let change = modify::Change {
        part: modify::Part::Main,
        on_conflict: modify::OnConflict::Retry,
        make: &|current| {
            let mut new = current.clone();
            let left: Vec<_> = metadata::finalizers(current).filter(|own| *own != finalizer).collect();
            new["metadata"]["finalizers"] = json!(left);
            Ok((new, modify::Ownership::Changed))
        },
    };
    let (user, options) = super::system();
    match modify::modify(state, target, &change, &mut super::Writer::new(&user, &options)).await {
        Ok(_) | Err(ApiError::NotFound { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}
