//! Finalizers: an object that is deleted stays until what was done for it has been undone.

use std::fmt::Debug;

use kube::{
    Api, Resource, ResourceExt,
    api::{Patch, PatchParams},
};
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::reference::{is_conflict, is_not_found};

/// How often a change is tried on top of somebody else's.
const ATTEMPTS: u32 = 8;

/// Whether the object carries the finalizer.
pub fn has_finalizer<K: Resource>(object: &K, finalizer: &str) -> bool {
    object.finalizers().iter().any(|present| present == finalizer)
}

/// Whether the object is being deleted.
pub fn is_deleted<K: Resource>(object: &K) -> bool {
    object.meta().deletion_timestamp.is_some()
}

/// Adds a finalizer, durably, unless it is there or the object is being deleted. Returns the object as it is then.
///
/// # Errors
/// When the API refuses, or somebody else keeps changing the object.
pub async fn add_finalizer<K>(api: &Api<K>, object: &K, finalizer: &str) -> Result<K, kube::Error>
where
    K: Resource + Clone + DeserializeOwned + Debug,
{
    change(api, object, |object| {
        if has_finalizer(object, finalizer) || is_deleted(object) {
            return None;
        }
        let mut all = object.finalizers().to_vec();
        all.push(finalizer.to_owned());
        Some(all)
    })
    .await
}

/// Removes a finalizer. If it was the last one of an object that is being deleted, the object is gone when this returns.
///
/// # Errors
/// When the API refuses, or somebody else keeps changing the object. That the object is gone is no error.
pub async fn remove_finalizer<K>(api: &Api<K>, object: &K, finalizer: &str) -> Result<(), kube::Error>
where
    K: Resource + Clone + DeserializeOwned + Debug,
{
    let removed = change(api, object, |object| {
        has_finalizer(object, finalizer)
            .then(|| object.finalizers().iter().filter(|present| *present != finalizer).cloned().collect())
    });
    match removed.await {
        Err(error) if is_not_found(&error) => Ok(()),
        result => result.map(drop),
    }
}

/// Sets the finalizers to what `wanted` says, under the object's resource version, reading it again after a conflict.
async fn change<K>(
    api: &Api<K>,
    object: &K,
    wanted: impl Fn(&K) -> Option<Vec<String>>,
) -> Result<K, kube::Error>
where
    K: Resource + Clone + DeserializeOwned + Debug,
{
    let (name, uid) = (object.name_any(), object.uid());
    let mut current = object.clone();
    let mut attempt = 1;
    loop {
        let Some(finalizers) = wanted(&current) else { return Ok(current) };
        let patch = json!({"metadata": {
            "uid": uid,
            "resourceVersion": current.resource_version(),
            "finalizers": finalizers,
        }});
        match api.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await {
            Err(error) if is_conflict(&error) && attempt < ATTEMPTS => attempt += 1,
            result => return result,
        }
        let read = api.get(&name).await?;
        if read.uid() != uid {
            // Another object under the same name; it has nothing to do with this one.
            return Ok(current);
        }
        current = read;
    }
}
