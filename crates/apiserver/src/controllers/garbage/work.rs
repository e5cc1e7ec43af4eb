//! What is done about one object: reading it and its owners again, and then deleting, detaching or releasing it.

use bytes::Bytes;
use serde_json::{Value, json};

use crate::machinery::status::ApiError;
use crate::operations::delete::{self, FOREGROUND, ORPHAN};
use crate::operations::modify::{self, Change, OnConflict, Ownership, Part};
use crate::operations::{Target, Writer, metadata, read, system};
use crate::request::options::{DeleteOptions, Preconditions, Propagation};
use crate::server::state::State;

/// What an owner is to its dependent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// It is there and stays.
    Solid,
    /// It is being deleted, and waits for its dependents to go first.
    Waiting,
    /// It is gone.
    Gone,
}

/// The object of a key, in the preferred version of its resource.
fn target(state: &State, key: &Bytes) -> Option<Target> {
    let key = std::str::from_utf8(key).ok()?;
    let resource = state.registry.catalog().of_key(key).cloned()?;
    let rest = key.strip_prefix(resource.key_prefix.as_str())?;
    let (namespace, name) = rest.rsplit_once('/').unwrap_or(("", rest));
    Some(Target::new(&resource, namespace, name))
}

async fn find(state: &State, key: &Bytes) -> Result<Option<(Target, Value)>, ApiError> {
    let Some(target) = target(state, key) else { return Ok(None) };
    match read::find(state, &target).await? {
        Some(stored) => Ok(Some((target, read::decode(&stored)?))),
        None => Ok(None),
    }
}

/// Deletes an object whose owners are all gone or wait for it; takes those that are gone off one that has others.
pub(super) async fn dependent(state: &State, key: &Bytes, has_dependents: bool) -> Result<(), ApiError> {
    let Some((target, object)) = find(state, key).await? else { return Ok(()) };
    let references = object["metadata"]["ownerReferences"].as_array().cloned().unwrap_or_default();
    if references.is_empty() || metadata::is_deleting(&object) {
        return Ok(());
    }
    let (mut solid, mut waiting, mut gone) = (0, Vec::new(), Vec::new());
    for reference in &references {
        let uid = reference["uid"].as_str().unwrap_or_default().to_owned();
        match standing(state, &target, reference).await? {
            Standing::Solid => solid += 1,
            Standing::Waiting => waiting.push(uid),
            Standing::Gone => gone.push(uid),
        }
    }
    if solid > 0 {
        let dropped: Vec<_> = waiting.into_iter().chain(gone).collect();
        return if dropped.is_empty() { Ok(()) } else { drop_owners(state, &target, &dropped).await };
    }
    // An owner that waits wants the whole tree below it gone first.
    let policy = if !waiting.is_empty() && has_dependents {
        Propagation::Foreground
    } else if metadata::finalizers(&object).any(|finalizer| finalizer == ORPHAN) {
        Propagation::Orphan
    } else if metadata::finalizers(&object).any(|finalizer| finalizer == FOREGROUND) {
        Propagation::Foreground
    } else {
        Propagation::Background
    };
    let options = DeleteOptions {
        preconditions: Some(Preconditions {
            uid: Some(metadata::text(&object, "uid").to_owned()),
            resource_version: Some(metadata::text(&object, "resourceVersion").to_owned()),
        }),
        propagation_policy: Some(policy),
        ..DeleteOptions::default()
    };
    match delete::delete(state, &target, &options).await {
        Ok(_) | Err(ApiError::NotFound { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Reads the owner that a reference names. An owner of an unknown kind cannot be told from one that is gone, so that the
/// question stays open.
async fn standing(state: &State, dependent: &Target, reference: &Value) -> Result<Standing, ApiError> {
    let text = |field: &str| reference[field].as_str().unwrap_or_default();
    let catalog = state.registry.catalog();
    let resource = catalog.kind(text("apiVersion"), text("kind")).ok_or_else(|| {
        ApiError::ServiceUnavailable(format!("owner of unknown kind {} {}", text("apiVersion"), text("kind")))
    })?;
    // What is in a namespace cannot own what is in none.
    if resource.namespaced() && dependent.namespace.is_empty() {
        return Ok(Standing::Solid);
    }
    let target = Target::new(resource, &dependent.namespace, text("name"));
    let Some(stored) = read::find(state, &target).await? else { return Ok(Standing::Gone) };
    let owner = read::decode(&stored)?;
    if metadata::text(&owner, "uid") != text("uid") {
        return Ok(Standing::Gone);
    }
    let waits = metadata::is_deleting(&owner)
        && metadata::finalizers(&owner).any(|finalizer| finalizer == FOREGROUND);
    Ok(if waits { Standing::Waiting } else { Standing::Solid })
}

/// Serves an owner that is being deleted: lets its dependents go, or sees to it that they are deleted, and then releases it.
pub(super) async fn owner(
    state: &State,
    key: &Bytes,
    dependents: &[Bytes],
    blocking: &[Bytes],
) -> Result<(), ApiError> {
    let Some((target, object)) = find(state, key).await? else { return Ok(()) };
    if !metadata::is_deleting(&object) {
        return Ok(());
    }
    let uid = metadata::text(&object, "uid").to_owned();
    if metadata::finalizers(&object).any(|finalizer| finalizer == ORPHAN) {
        for dependent in dependents {
            if let Some((dependent, _)) = find(state, dependent).await? {
                drop_owners(state, &dependent, std::slice::from_ref(&uid)).await?;
            }
        }
        return delete::remove_finalizer(state, &target, ORPHAN).await;
    }
    if metadata::finalizers(&object).any(|finalizer| finalizer == FOREGROUND) {
        if blocking.is_empty() {
            return delete::remove_finalizer(state, &target, FOREGROUND).await;
        }
        for dependent in dependents {
            self::dependent(state, dependent, true).await?;
        }
    }
    Ok(())
}

/// Takes owners off an object.
async fn drop_owners(state: &State, target: &Target, uids: &[String]) -> Result<(), ApiError> {
    let make = |current: &Value| {
        let mut new = current.clone();
        let references = current["metadata"]["ownerReferences"].as_array().into_iter().flatten();
        let kept: Vec<_> =
            references.filter(|reference| !uids.iter().any(|uid| reference["uid"] == uid.as_str())).collect();
        new["metadata"]["ownerReferences"] = json!(kept);
        Ok((new, Ownership::Changed))
    };
    let change = Change { part: Part::Main, on_conflict: OnConflict::Retry, make: &make };
    let (user, options) = system();
    match modify::modify(state, target, &change, &mut Writer::new(&user, &options)).await {
        Ok(_) | Err(ApiError::NotFound { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}
