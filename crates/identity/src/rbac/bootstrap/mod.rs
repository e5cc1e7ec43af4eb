//! The default policy, which every cluster starts with: the names and contents are those of Kubernetes, so that
//! `kubectl`, charts and people find what they expect.
//!
//! Left out are the roles of the built-in controllers (`system:controller:…`), which here share one identity.

mod nodes;
mod objects;
mod system;
mod user_facing;

use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};

use super::aggregation::aggregate;

/// The objects of the default policy.
#[derive(Debug, Clone, Default)]
pub struct BootstrapPolicy {
    /// Cluster roles; the aggregated ones have their rules filled in.
    pub cluster_roles: Vec<ClusterRole>,
    /// Cluster role bindings.
    pub cluster_role_bindings: Vec<ClusterRoleBinding>,
    /// Roles, of `kube-system` and `kube-public`.
    pub roles: Vec<Role>,
    /// Role bindings, of `kube-system` and `kube-public`.
    pub role_bindings: Vec<RoleBinding>,
}

/// The default policy. The same every time.
pub fn bootstrap_policy() -> BootstrapPolicy {
    let mut policy = BootstrapPolicy::default();
    user_facing::add(&mut policy);
    system::add(&mut policy);
    nodes::add(&mut policy);
    fill_aggregated(&mut policy.cluster_roles);
    policy
}

/// Roles that aggregate aggregated roles settle after as many rounds as they are nested.
fn fill_aggregated(roles: &mut [ClusterRole]) {
    loop {
        let mut changed = false;
        for index in 0..roles.len() {
            let rules = aggregate(&roles[index], roles.iter());
            if rules.is_some() && rules != roles[index].rules {
                roles[index].rules = rules;
                changed = true;
            }
        }
        if !changed {
            return;
        }
    }
}
