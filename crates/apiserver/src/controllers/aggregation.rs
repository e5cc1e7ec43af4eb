//! Cluster roles that are made of others: their rules are those of all roles that their selectors match.

use std::sync::Arc;

use drystone_identity::rbac::{API_GROUP, aggregate};
use k8s_openapi::api::rbac::v1::ClusterRole;
use serde_json::Value;

use crate::machinery::status::ApiError;
use crate::operations::modify::{self, Change as Modification, OnConflict, Ownership, Part};
use crate::operations::{Target, Writer, system};
use crate::registry::resource::key_prefix;
use crate::server::state::{State, store_failure};
use crate::storage::follow::Follower;

/// Follows cluster roles until the server stops.
pub(super) async fn run(state: Arc<State>) {
    let prefix = key_prefix(API_GROUP, "clusterroles");
    let mut follower = Follower::new(&state.objects, prefix.clone(), &state.stopping);
    // Whatever changed: the rules of all aggregated roles follow from all roles. There are few.
    while follower.next().await.is_some() {
        if let Err(error) = aggregate_all(&state, &prefix).await {
            tracing::warn!(%error, "aggregated cluster roles cannot be brought up to date");
        }
    }
}

async fn aggregate_all(state: &State, prefix: &str) -> Result<(), ApiError> {
    let (stored, _) = state.objects.all(prefix).await.map_err(store_failure)?;
    let roles: Vec<ClusterRole> =
        stored.iter().filter_map(|stored| serde_json::from_slice(&stored.bytes).ok()).collect();
    for role in &roles {
        let Some(rules) = aggregate(role, &roles).filter(|rules| role.rules.as_ref() != Some(rules)) else {
            continue;
        };
        let rules = serde_json::to_value(&rules).map_err(|error| ApiError::Internal(error.to_string()))?;
        match write_rules(state, role.metadata.name.as_deref().unwrap_or_default(), &rules).await {
            Ok(()) | Err(ApiError::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

async fn write_rules(state: &State, name: &str, rules: &Value) -> Result<(), ApiError> {
    let catalog = state.registry.catalog();
    let resource = catalog.resource(API_GROUP, "v1", "clusterroles").ok_or(ApiError::NoSuchResource)?;
    let make = |current: &Value| {
        let mut new = current.clone();
        new["rules"] = rules.clone();
        Ok((new, Ownership::Changed))
    };
    let change = Modification { part: Part::Main, on_conflict: OnConflict::Retry, make: &make };
    let (user, options) = system();
    let target = Target::new(resource, "", name);
    modify::modify(state, &target, &change, &mut Writer::new(&user, &options)).await.map(|_| ())
}
