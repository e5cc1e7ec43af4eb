//! What every cluster has: its namespaces and its default access policy.

use drystone_identity::rbac::bootstrap::{BootstrapPolicy, bootstrap_policy};
use serde::Serialize;
use serde_json::{Value, json};

use crate::config::Profile;
use crate::machinery::status::ApiError;
use crate::operations::{Target, Writer, create, read, system};
use crate::registry::resource::split_api_version;
use crate::server::state::State;

const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];

/// Makes what is missing. What is there is left as it is.
pub(super) async fn ensure(state: &State) -> Result<(), ApiError> {
    for name in NAMESPACES {
        if name == "kube-node-lease" && state.config.profile != Profile::Cluster {
            continue;
        }
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        ensure_object(state, namespace).await?;
    }
    let BootstrapPolicy { cluster_roles, cluster_role_bindings, roles, role_bindings } = bootstrap_policy();
    for object in values(&cluster_roles)?
        .into_iter()
        .chain(values(&cluster_role_bindings)?)
        .chain(values(&roles)?)
        .chain(values(&role_bindings)?)
    {
        ensure_object(state, object).await?;
    }
    if state.config.profile == Profile::Cluster {
        for object in priority_classes() {
            ensure_object(state, object).await?;
        }
    }
    Ok(())
}

fn values<T: Serialize>(objects: &[T]) -> Result<Vec<Value>, ApiError> {
    objects
        .iter()
        .map(|object| serde_json::to_value(object).map_err(|error| ApiError::Internal(error.to_string())))
        .collect()
}

fn priority_classes() -> [Value; 2] {
    [
        ("system-node-critical", 2_000_001_000, "Used for system critical pods that must not be moved from their current node."),
        ("system-cluster-critical", 2_000_000_000, "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary."),
    ]
    .map(|(name, value, description)| {
        json!({
            "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name},
            "value": value, "description": description, "preemptionPolicy": "PreemptLowerPriority",
        })
    })
}

/// Makes an object unless it is there.
pub(super) async fn ensure_object(state: &State, object: Value) -> Result<(), ApiError> {
    let api_version = object["apiVersion"].as_str().unwrap_or_default();
    let kind = object["kind"].as_str().unwrap_or_default();
    let catalog = state.registry.catalog();
    let resource = catalog.kind(api_version, kind).ok_or_else(|| {
        let (group, version) = split_api_version(api_version);
        ApiError::Internal(format!("{kind} of {group}/{version} is not served"))
    })?;
    let metadata = &object["metadata"];
    let target = Target::new(
        resource,
        metadata["namespace"].as_str().unwrap_or_default(),
        metadata["name"].as_str().unwrap_or_default(),
    );
    if read::find(state, &target).await?.is_some() {
        return Ok(());
    }
    let (user, options) = system();
    match create::create(state, &target, object, &mut Writer::new(&user, &options)).await {
        Ok(_) | Err(ApiError::AlreadyExists { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}
