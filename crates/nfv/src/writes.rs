//! Changes of objects that others may change at the same time.

use drystone_engine::harness::WatchedObject;
use kube::{Api, Resource, ResourceExt as _, api::PostParams};
use serde::{Serialize, de::DeserializeOwned};

use crate::{feed::Shown, problem::Problem};

/// How often a change that others were faster than is tried.
const ATTEMPTS: usize = 5;

/// Changes an object; `change` is asked again, about the newer object, whenever somebody else was faster.
pub(crate) async fn update<K>(
    api: &Api<K>,
    object: &K,
    mut change: impl FnMut(&mut K) -> Result<(), Problem>,
) -> Result<K, Problem>
where
    K: Shown + WatchedObject + Resource + Clone + Serialize + DeserializeOwned + std::fmt::Debug,
{
    let uid = object.uid().unwrap_or_default();
    let mut now = object.clone();
    for _ in 0..ATTEMPTS {
        change(&mut now)?;
        match api.replace(&now.name_any(), &PostParams::default(), &now).await {
            Ok(written) => return Ok(written),
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(kube::Error::Api(status)) if status.code == 404 => {
                return Err(Problem::not_found(K::WHAT, &uid));
            }
            Err(error) => return Err(error.into()),
        }
        let fresh = api.get_opt(&now.name_any()).await?;
        let fresh = fresh.filter(|fresh| fresh.uid().as_deref() == Some(uid.as_str()));
        now = fresh.ok_or_else(|| Problem::not_found(K::WHAT, &uid))?;
    }
    Err(Problem::conflict(format!("{} {uid} changes all the time; try again", K::WHAT)))
}
