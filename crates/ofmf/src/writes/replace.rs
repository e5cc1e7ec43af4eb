//! Writing an object that a request has changed, and bringing it back where that cannot be carried out.

use std::time::Duration;

use drystone_engine::reference::{is_conflict, is_not_found};
use drystone_redfish::{error::ServiceError, message};
use http::StatusCode;
use kube::{
    Api, Resource, ResourceExt as _,
    api::{ObjectMeta, PostParams},
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::Instant;

use super::refused;

/// How long a write is tried that statuses of a controller come before: on a slow machine every one may take as long as the write itself.
const PATIENCE: Duration = Duration::from_secs(10);

/// How much longer each pause between two tries is, and how long the longest.
const PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

/// The pause before another try; `false` when there have been enough.
async fn again(since: Instant, attempt: u32) -> bool {
    tokio::time::sleep((PAUSE * attempt).min(LONGEST_PAUSE)).await;
    attempt == 0 || since.elapsed() < PATIENCE
}

/// What a write has replaced, and what it made of it.
pub(super) struct Replaced<K> {
    pub(super) before: K,
    pub(super) written: K,
}

/// Writes `changed`, which was made of an object as it was `known`. Clients do not see a status as a state of its own: one that was written
/// since is no reason to refuse. `check` is asked about the object as it is right before.
///
/// # Errors
/// 404 if the object is gone, 412 if anything but its status was written since, and what `check` says.
pub(super) async fn replace<K>(
    api: &Api<K>,
    uri: &str,
    known: &K,
    mut changed: K,
    check: impl Fn(&K) -> Result<(), ServiceError>,
) -> Result<Replaced<K>, ServiceError>
where
    K: Resource + Clone + std::fmt::Debug + Serialize + DeserializeOwned,
{
    let name = known.name_any();
    let overtaken = || ServiceError::new(StatusCode::PRECONDITION_FAILED, message::precondition_failed());
    let (begun, mut attempt) = (Instant::now(), 0);
    while again(begun, attempt).await {
        attempt += 1;
        let before = match api.get(&name).await {
            Ok(before) => before,
            Err(error) if is_not_found(&error) => return Err(ServiceError::not_found(uri)),
            Err(error) => return Err(refused(&error)),
        };
        check(&before)?;
        if !is_same_but_for_status(known.meta(), before.meta()) {
            return Err(overtaken());
        }
        changed.meta_mut().resource_version.clone_from(&before.meta().resource_version);
        match api.replace(&name, &PostParams::default(), &changed).await {
            Ok(written) => return Ok(Replaced { before, written }),
            Err(error) if is_conflict(&error) => {}
            Err(error) if is_not_found(&error) => return Err(ServiceError::not_found(uri)),
            Err(error) => return Err(refused(&error)),
        }
    }
    Err(overtaken())
}

/// Whether nothing but the status of an object has been written between two looks at it.
fn is_same_but_for_status(known: &ObjectMeta, now: &ObjectMeta) -> bool {
    known.uid == now.uid
        && known.generation == now.generation
        && known.annotations == now.annotations
        && known.labels == now.labels
        && known.finalizers == now.finalizers
        && known.owner_references == now.owner_references
        && known.deletion_timestamp == now.deletion_timestamp
}

/// Brings an object back to what it was before it was `written`, for what that meant could not be carried out. The object as it is then, if it
/// was brought back: what is gone, or what somebody else has changed since, is left alone.
///
/// # Errors
/// Where the API refuses, or always somebody else writes in between.
pub(super) async fn take_back<K>(
    api: &Api<K>,
    written: &K,
    restore: impl Fn(&mut K),
) -> Result<Option<K>, ServiceError>
where
    K: Resource + Clone + std::fmt::Debug + Serialize + DeserializeOwned,
{
    let name = written.name_any();
    let (begun, mut attempt) = (Instant::now(), 0);
    while again(begun, attempt).await {
        attempt += 1;
        let mut current = match api.get(&name).await {
            Ok(current) => current,
            Err(error) if is_not_found(&error) => return Ok(None),
            Err(error) => return Err(refused(&error)),
        };
        let (now, then) = (current.meta(), written.meta());
        if now.uid != then.uid || now.generation != then.generation {
            return Ok(None);
        }
        restore(&mut current);
        match api.replace(&name, &PostParams::default(), &current).await {
            Ok(restored) => return Ok(Some(restored)),
            Err(error) if is_conflict(&error) => {}
            Err(error) if is_not_found(&error) => return Ok(None),
            Err(error) => return Err(refused(&error)),
        }
    }
    Err(ServiceError::internal(&format!("{name} could not be brought back to what it was")))
}
