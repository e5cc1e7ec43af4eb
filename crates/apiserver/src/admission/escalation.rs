//! Nobody grants rights that he does not hold: roles, and bindings to them.

use drystone_identity::UserInfo;
use drystone_identity::rbac::{self, Attributes, ResourceAttributes};
use drystone_identity::user::MASTERS;
use k8s_openapi::api::rbac::v1::PolicyRule;
use serde_json::Value;

use crate::machinery::status::ApiError;
use crate::operations::Target;
use crate::server::state::State;

/// Checks a role or binding that `user` wants to write.
pub(super) fn check(
    state: &State,
    target: &Target,
    new: &Value,
    old: Option<&Value>,
    user: &UserInfo,
) -> Result<(), ApiError> {
    if user.is_in(MASTERS) {
        return Ok(());
    }
    match target.resource.kind.as_str() {
        "Role" | "ClusterRole" => {
            let same = |field: &str| old.is_some_and(|old| old[field] == new[field]);
            if same("rules") && same("aggregationRule") || may(state, target, user, "escalate", &target.name)
            {
                return Ok(());
            }
            let mut wanted = rules(target, &new["rules"])?;
            // Whatever is aggregated later is granted unseen, so it takes all rights to write.
            if new["aggregationRule"].is_object() {
                wanted.extend(everything());
            }
            covers(state, target, user, &wanted)
        }
        "RoleBinding" | "ClusterRoleBinding" => {
            let same = |field: &str| old.is_some_and(|old| old[field] == new[field]);
            if same("subjects") && same("roleRef") {
                return Ok(());
            }
            check_binding(state, target, new, user)
        }
        _ => Ok(()),
    }
}

fn check_binding(state: &State, target: &Target, new: &Value, user: &UserInfo) -> Result<(), ApiError> {
    let role = new["roleRef"]["name"].as_str().unwrap_or_default();
    let of_cluster = new["roleRef"]["kind"] == "ClusterRole";
    let plural = if of_cluster { "clusterroles" } else { "roles" };
    let bind = Attributes::resource(
        user,
        "bind",
        ResourceAttributes {
            group: rbac::API_GROUP,
            version: "v1",
            resource: plural,
            subresource: "",
            namespace: &target.namespace,
            name: role,
        },
    );
    if state.authorize(&bind).allowed {
        return Ok(());
    }
    let namespace = if of_cluster { "" } else { target.namespace.as_str() };
    let wanted = state.policy().role_rules(namespace, role).map(<[PolicyRule]>::to_vec);
    match wanted {
        Some(wanted) => covers(state, target, user, &wanted),
        None => Err(ApiError::not_found(crate::machinery::GroupResource::new(rbac::API_GROUP, plural), role)),
    }
}

fn may(state: &State, target: &Target, user: &UserInfo, verb: &str, name: &str) -> bool {
    let attributes = ResourceAttributes {
        group: rbac::API_GROUP,
        version: "v1",
        resource: &target.resource.plural,
        subresource: "",
        namespace: &target.namespace,
        name,
    };
    state.authorize(&Attributes::resource(user, verb, attributes)).allowed
}

fn covers(state: &State, target: &Target, user: &UserInfo, wanted: &[PolicyRule]) -> Result<(), ApiError> {
    let held = state.policy().rules_for(user, &target.namespace);
    rbac::covers(&held, wanted).map_err(|missing| {
        target.forbidden(format!(
            "user {:?} (groups={:?}) is attempting to grant RBAC permissions {missing}",
            user.name, user.groups
        ))
    })
}

fn rules(target: &Target, value: &Value) -> Result<Vec<PolicyRule>, ApiError> {
    if value.is_null() {
        return Ok(Vec::new());
    }
    serde_json::from_value(value.clone())
        .map_err(|error| ApiError::bad_request(format!("{}: rules: {error}", target.name)))
}

fn everything() -> Vec<PolicyRule> {
    let all = || vec!["*".to_owned()];
    vec![
        PolicyRule { verbs: all(), api_groups: Some(all()), resources: Some(all()), ..PolicyRule::default() },
        PolicyRule { verbs: all(), non_resource_urls: Some(all()), ..PolicyRule::default() },
    ]
}
