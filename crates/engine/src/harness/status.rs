//! Writing the status of an object: only when it changed, and never over somebody else's change.

use std::fmt::Debug;

use kube::{Api, Resource, ResourceExt, api::PostParams, core::object::HasStatus};
use serde::{Serialize, de::DeserializeOwned};

use crate::reference::is_conflict;

/// How often a change is tried on top of somebody else's.
const ATTEMPTS: u32 = 8;

/// Why a status could not be written.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// The object was deleted and created anew: its status is another matter.
    #[error("{name} was deleted and created again; its status was not written")]
    Replaced {
        /// Name of the object.
        name: String,
    },
    /// The API refused.
    #[error("status of {name} not written: {}", crate::reference::describe_kube_error(.source))]
    Api {
        /// Name of the object.
        name: String,
        /// Why.
        source: kube::Error,
    },
}

/// Changes the status of `object` by `change`, which gets the current status (or a default one) and may be called again with
/// a newer one when somebody else wrote at the same time. Writes nothing when `change` changes nothing. Returns the object as
/// it is then.
///
/// # Errors
/// [`StatusError`].
pub async fn update_status<K>(
    api: &Api<K>,
    object: &K,
    change: impl Fn(&mut K::Status),
) -> Result<K, StatusError>
where
    K: Resource + HasStatus + Clone + DeserializeOwned + Serialize + Debug,
    K::Status: Default + Clone + PartialEq,
{
    let (name, uid) = (object.name_any(), object.uid());
    let failed = |source| StatusError::Api { name: name.clone(), source };
    let mut current = object.clone();
    let mut attempt = 1;
    loop {
        let mut status = current.status().cloned().unwrap_or_default();
        change(&mut status);
        if current.status() == Some(&status) || (current.status().is_none() && status == K::Status::default())
        {
            return Ok(current);
        }
        *current.status_mut() = Some(status);
        match api.replace_status(&name, &PostParams::default(), &current).await {
            Ok(written) => return Ok(written),
            Err(error) if is_conflict(&error) && attempt < ATTEMPTS => attempt += 1,
            Err(error) => return Err(failed(error)),
        }
        current = api.get(&name).await.map_err(failed)?;
        if current.uid() != uid {
            return Err(StatusError::Replaced { name });
        }
    }
}
