//! Deleting everything below a prefix, as the end of a namespace and of a CustomResourceDefinition want it.

use futures::StreamExt;

use crate::machinery::status::ApiError;
use crate::operations::delete;
use crate::operations::{Target, metadata, read};
use crate::registry::ResourceInfo;
use crate::request::options::{DeleteOptions, Propagation};
use crate::server::state::{State, store_failure};
use std::sync::Arc;

/// Objects that are deleted at the same time.
const AT_ONCE: usize = 32;

/// What is left of a resource after everything was told to go.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Left {
    /// How many objects there are still.
    pub(super) count: usize,
    /// Finalizers that they wait for, with the number of objects that do.
    pub(super) finalizers: std::collections::BTreeMap<String, usize>,
}

/// Deletes all objects of a resource, in one namespace or, if that is empty, in all; says what is left.
pub(super) async fn delete_all(
    state: &State,
    resource: &Arc<ResourceInfo>,
    namespace: &str,
) -> Result<Left, ApiError> {
    let prefix = resource.namespace_prefix(namespace);
    let (objects, _) = state.objects.all(&prefix).await.map_err(store_failure)?;
    let options =
        DeleteOptions { propagation_policy: Some(Propagation::Background), ..DeleteOptions::default() };
    let targets: Vec<Target> =
        objects.iter().map(|stored| Target::new(resource, stored.namespace(), stored.name())).collect();
    let outcomes: Vec<_> = futures::stream::iter(targets)
        .map(|target| delete_one(state, target, &options))
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    let mut left = Left::default();
    for outcome in outcomes {
        let Some(finalizers) = outcome? else { continue };
        left.count += 1;
        for finalizer in finalizers {
            *left.finalizers.entry(finalizer).or_default() += 1;
        }
    }
    Ok(left)
}

/// Deletes an object; the finalizers that it waits for if it is not gone at once.
async fn delete_one(
    state: &State,
    target: Target,
    options: &DeleteOptions,
) -> Result<Option<Vec<String>>, ApiError> {
    match delete::delete(state, &target, options).await {
        Ok(delete::Deleted::Gone(_)) | Err(ApiError::NotFound { .. }) => Ok(None),
        Ok(delete::Deleted::Marked(stored)) => {
            let object = read::decode(&stored)?;
            Ok(Some(metadata::finalizers(&object).map(str::to_owned).collect()))
        }
        // It changes all the time; there is a next round.
        Err(ApiError::Conflict { .. }) => Ok(Some(Vec::new())),
        Err(error) => Err(error),
    }
}
