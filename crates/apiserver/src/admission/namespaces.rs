//! The life of namespaces: nothing is made in one that is missing or going away.

use memchr::memmem;

use crate::machinery::group::GroupResource;
use crate::machinery::status::ApiError;
use crate::operations::{Target, read};
use crate::registry::resource::key_prefix;
use crate::server::state::{State, store_failure};

/// Namespaces that every cluster has.
pub(crate) const PERMANENT: [&str; 3] = ["default", "kube-system", "kube-public"];

pub(super) async fn check(state: &State, target: &Target) -> Result<(), ApiError> {
    if !target.resource.namespaced() {
        return Ok(());
    }
    let key = format!("{}{}", key_prefix("", "namespaces"), target.namespace);
    let namespace = state.objects.get(&key).await.map_err(store_failure)?;
    let Some(namespace) = namespace else {
        return Err(ApiError::not_found(GroupResource::new("", "namespaces"), target.namespace.as_str()));
    };
    // Only a namespace with this text in it is worth decoding.
    if memmem::find(&namespace.bytes, b"\"deletionTimestamp\"").is_none() {
        return Ok(());
    }
    if crate::operations::metadata::is_deleting(&read::decode(&namespace)?) {
        return Err(ApiError::NamespaceTerminating {
            resource: target.resource.group_resource(),
            name: target.name.clone(),
            namespace: target.namespace.clone(),
        });
    }
    Ok(())
}

pub(super) fn check_delete(target: &Target) -> Result<(), ApiError> {
    let namespace = target.resource.group.is_empty() && target.resource.kind == "Namespace";
    if namespace && PERMANENT.contains(&target.name.as_str()) {
        return Err(target.forbidden("this namespace may not be deleted"));
    }
    Ok(())
}
