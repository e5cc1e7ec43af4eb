//! Logical clouds (facts, section 9): a namespace over several clusters, with a user, permissions and quotas of its own.

mod credentials;
mod objects;

pub use credentials::{KEY, user_config, user_key};
pub use objects::{CloudObjects, objects};

use std::sync::Arc;

use drystone_api::emco::Document as _;
use drystone_appcontext::{
    App, AppContext, ClusterName, ContextId, Meta, Part, State as Phase,
    model::{LOGICAL_CLOUD_APP, SyncState},
};
use drystone_engine::action::StepError;
use kube::Client;

use crate::{
    library::Library,
    model::{CloudPath, Refusal},
};

/// Namespace of clouds that do not name one.
pub const DEFAULT_NAMESPACE: &str = "default";

/// Whether a logical cloud can be made as it is declared.
///
/// # Errors
/// No clusters; quotas or a namespace of its own at level 0; no permission on its own namespace at level 1 (all 400).
pub fn check(library: &Library, path: &CloudPath) -> Result<(), Refusal> {
    let cloud = library.cloud(path)?;
    let name = &path.name;
    if library.references_of(path).is_empty() {
        return Err(Refusal::bad(format!("logical cloud {name} has no cluster references; add one")));
    }
    if cloud.spec.level == "0" {
        if !library.quotas_of(path).is_empty() {
            return Err(Refusal::bad(format!(
                "logical cloud {name} has level 0, which has no cluster quotas"
            )));
        }
        return Ok(());
    }
    let namespace = &cloud.spec.namespace;
    if namespace.is_empty() {
        return Err(Refusal::bad(format!("logical cloud {name} has level 1 and needs a namespace")));
    }
    if cloud.spec.user.user_name.is_empty() {
        return Err(Refusal::bad(format!("logical cloud {name} has level 1 and needs a user")));
    }
    if !library.permissions_of(path).iter().any(|permission| permission.spec.namespace == *namespace) {
        return Err(Refusal::bad(format!(
            "logical cloud {name} needs a user permission on its own namespace {namespace}"
        )));
    }
    Ok(())
}

/// The context of a logical cloud.
///
/// # Errors
/// It is not there any more, or its user's key cannot be read or made.
pub(crate) async fn context(
    client: &Client,
    library: &Library,
    path: &CloudPath,
    id: ContextId,
    status: Option<ContextId>,
) -> Result<AppContext, StepError> {
    let refused = |refusal: Refusal| StepError::permanent(format!("[{}] {}", refusal.code, refusal.message));
    check(library, path).map_err(refused)?;
    let cloud = library.cloud(path).map_err(refused)?;
    let level_zero = cloud.spec.level == "0";
    let namespace = if level_zero { DEFAULT_NAMESPACE } else { &cloud.spec.namespace };
    let part = if level_zero {
        Part::default()
    } else {
        let key = user_key(client, path).await?;
        let (permissions, quotas) = (library.permissions_of(path), library.quotas_of(path));
        let all = CloudObjects {
            cloud: &path.name,
            namespace,
            labels: &cloud.spec.labels,
            user: &cloud.spec.user.user_name,
            permissions: &permissions,
            quotas: &quotas,
        };
        objects(&all, &key).map_err(|error| StepError::permanent(format!("[500] {error}")))?
    };
    let meta = Meta {
        project: path.project.clone(),
        namespace: namespace.to_owned(),
        // The clusters' administrator makes it.
        level: "0".to_owned(),
        logical_cloud: cloud.document_name().to_owned(),
        logical_cloud_namespace: namespace.to_owned(),
        logical_cloud_level: cloud.spec.level.clone(),
        ..Meta::default()
    };
    let mut context = AppContext::new(id, meta);
    context.sync = SyncState {
        status: Some(Phase::Created),
        status_context: Some(status.unwrap_or(id)),
        ..SyncState::default()
    };
    let clusters = library
        .references_of(path)
        .iter()
        .map(|reference: &Arc<_>| {
            let name = ClusterName::new(&reference.spec.cluster_provider, &reference.spec.cluster);
            (name, part.clone())
        })
        .collect();
    context.app_order.push(LOGICAL_CLOUD_APP.to_owned());
    context.apps.insert(LOGICAL_CLOUD_APP.to_owned(), App { clusters, dependencies: Vec::new() });
    Ok(context)
}
