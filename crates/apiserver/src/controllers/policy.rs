//! Keeps the access policy as the RBAC objects in the store say.

use std::sync::Arc;

use drystone_identity::rbac::{API_GROUP, Policy, PolicyKind};
use drystone_store::StoreError;
use serde::de::DeserializeOwned;

use crate::registry::resource::key_prefix;
use crate::server::state::State;
use crate::storage::Stored;
use crate::storage::follow::{Change, Follower, Told};

/// What the keys of all policy objects start with.
fn prefix() -> String {
    let any = key_prefix(API_GROUP, "");
    any.trim_end_matches('/').to_owned() + "/"
}

/// Reads the policy for the first time.
pub(super) async fn load(state: &State) -> Result<(), StoreError> {
    let (stored, _) = state.objects.all(&prefix()).await?;
    replace(state, &stored);
    Ok(())
}

/// Follows the policy until the server stops.
pub(super) async fn run(state: Arc<State>) {
    let mut follower = Follower::new(&state.objects, prefix(), &state.stopping);
    while let Some(told) = follower.next().await {
        match told {
            Told::State(stored) => replace(&state, &stored),
            Told::Change(Change::Put { object, .. }) => upsert(&mut state.policy_mut(), &object),
            Told::Change(Change::Deleted(last)) => {
                if let Some((kind, namespace, name)) = identify(&last) {
                    state.policy_mut().remove(kind, namespace, name);
                }
            }
        }
    }
}

fn replace(state: &State, stored: &[Stored]) {
    let mut policy = Policy::new();
    for object in stored {
        upsert(&mut policy, object);
    }
    *state.policy_mut() = policy;
}

/// Kind, namespace (empty if there is none) and name, from the key.
fn identify(stored: &Stored) -> Option<(PolicyKind, &str, &str)> {
    let key = std::str::from_utf8(&stored.key).ok()?.strip_prefix("/registry/")?;
    let segments: Vec<_> = key.split('/').collect();
    match segments.as_slice() {
        [_, "clusterroles", name] => Some((PolicyKind::ClusterRole, "", name)),
        [_, "clusterrolebindings", name] => Some((PolicyKind::ClusterRoleBinding, "", name)),
        [_, "roles", namespace, name] => Some((PolicyKind::Role, namespace, name)),
        [_, "rolebindings", namespace, name] => Some((PolicyKind::RoleBinding, namespace, name)),
        _ => None,
    }
}

/// Takes an object over. One that cannot be read grants nothing.
fn upsert(policy: &mut Policy, stored: &Stored) {
    fn read<T: DeserializeOwned>(stored: &Stored) -> Option<T> {
        let read = serde_json::from_slice(&stored.bytes);
        read.inspect_err(|error| tracing::error!(key = ?stored.key, %error, "a policy object is damaged"))
            .ok()
    }
    let Some((kind, namespace, name)) = identify(stored) else { return };
    let known = match kind {
        PolicyKind::Role => read(stored).map(|role| policy.upsert_role(&role)),
        PolicyKind::ClusterRole => read(stored).map(|role| policy.upsert_cluster_role(&role)),
        PolicyKind::RoleBinding => read(stored).map(|binding| policy.upsert_role_binding(&binding)),
        PolicyKind::ClusterRoleBinding => {
            read(stored).map(|binding| policy.upsert_cluster_role_binding(&binding))
        }
    };
    if known.is_none() {
        policy.remove(kind, namespace, name);
    }
}
