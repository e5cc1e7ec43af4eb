//! Shorthand for policy objects.

use std::collections::BTreeMap;

use k8s_openapi::api::rbac::v1::{
    AggregationRule, ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};

use crate::rbac::API_GROUP;

pub(super) const READ: &[&str] = &["get", "list", "watch"];
pub(super) const WRITE: &[&str] = &["create", "update", "patch", "delete", "deletecollection"];
pub(super) const READ_WRITE: &[&str] =
    &["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"];

pub(super) const CORE: &str = "";
pub(super) const APPS: &str = "apps";
pub(super) const AUTHENTICATION: &str = "authentication.k8s.io";
pub(super) const AUTHORIZATION: &str = "authorization.k8s.io";
pub(super) const AUTOSCALING: &str = "autoscaling";
pub(super) const BATCH: &str = "batch";
pub(super) const CERTIFICATES: &str = "certificates.k8s.io";
pub(super) const COORDINATION: &str = "coordination.k8s.io";
pub(super) const DISCOVERY: &str = "discovery.k8s.io";
pub(super) const EVENTS: &str = "events.k8s.io";
pub(super) const NETWORKING: &str = "networking.k8s.io";
pub(super) const NODE: &str = "node.k8s.io";
pub(super) const POLICY: &str = "policy";
pub(super) const RESOURCE: &str = "resource.k8s.io";
pub(super) const STORAGE: &str = "storage.k8s.io";

fn strings(items: &[&str]) -> Vec<String> {
    items.iter().map(|item| (*item).to_owned()).collect()
}

/// Verbs on resources of some groups.
pub(super) fn rule(verbs: &[&str], groups: &[&str], resources: &[&str]) -> PolicyRule {
    PolicyRule {
        verbs: strings(verbs),
        api_groups: Some(strings(groups)),
        resources: Some(strings(resources)),
        ..PolicyRule::default()
    }
}

/// Verbs on named resources of a group.
pub(super) fn named(verbs: &[&str], group: &str, resource: &str, names: &[&str]) -> PolicyRule {
    PolicyRule { resource_names: Some(strings(names)), ..rule(verbs, &[group], &[resource]) }
}

/// Verbs on paths.
pub(super) fn paths(verbs: &[&str], urls: &[&str]) -> PolicyRule {
    PolicyRule { verbs: strings(verbs), non_resource_urls: Some(strings(urls)), ..PolicyRule::default() }
}

/// Writing events, in both of their groups.
pub(super) fn events() -> PolicyRule {
    rule(&["create", "patch", "update"], &[CORE, EVENTS], &["events"])
}

fn metadata(name: &str, namespace: Option<&str>) -> ObjectMeta {
    let map = |key: &str, value: &str| Some(BTreeMap::from([(key.to_owned(), value.to_owned())]));
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: namespace.map(str::to_owned),
        labels: map("kubernetes.io/bootstrapping", "rbac-defaults"),
        annotations: map("rbac.authorization.kubernetes.io/autoupdate", "true"),
        ..ObjectMeta::default()
    }
}

pub(super) fn cluster_role(name: &str, rules: Vec<PolicyRule>) -> ClusterRole {
    ClusterRole { aggregation_rule: None, metadata: metadata(name, None), rules: Some(rules) }
}

/// Has a cluster role take part in those that aggregate `to`.
pub(super) fn aggregated_to(mut role: ClusterRole, to: &str) -> ClusterRole {
    let label = (format!("rbac.authorization.k8s.io/aggregate-to-{to}"), "true".to_owned());
    role.metadata.labels.get_or_insert_default().extend([label]);
    role
}

/// A cluster role made of those aggregated to it.
pub(super) fn aggregating(name: &str) -> ClusterRole {
    let label = (format!("rbac.authorization.k8s.io/aggregate-to-{name}"), "true".to_owned());
    let selector = LabelSelector { match_labels: Some([label].into()), match_expressions: None };
    let aggregation_rule = AggregationRule { cluster_role_selectors: Some(vec![selector]) };
    ClusterRole { aggregation_rule: Some(aggregation_rule), ..cluster_role(name, Vec::new()) }
}

pub(super) fn role(namespace: &str, name: &str, rules: Vec<PolicyRule>) -> Role {
    Role { metadata: metadata(name, Some(namespace)), rules: Some(rules) }
}

pub(super) fn user(name: &str) -> Subject {
    Subject {
        api_group: Some(API_GROUP.to_owned()),
        kind: "User".into(),
        name: name.to_owned(),
        namespace: None,
    }
}

pub(super) fn group(name: &str) -> Subject {
    Subject { kind: "Group".into(), ..user(name) }
}

pub(super) fn service_account(namespace: &str, name: &str) -> Subject {
    Subject {
        api_group: None,
        kind: "ServiceAccount".into(),
        name: name.to_owned(),
        namespace: Some(namespace.to_owned()),
    }
}

fn role_ref(kind: &str, name: &str) -> RoleRef {
    RoleRef { api_group: API_GROUP.to_owned(), kind: kind.to_owned(), name: name.to_owned() }
}

pub(super) fn cluster_binding(name: &str, role: &str, subjects: Vec<Subject>) -> ClusterRoleBinding {
    ClusterRoleBinding {
        metadata: metadata(name, None),
        role_ref: role_ref("ClusterRole", role),
        subjects: Some(subjects),
    }
}

pub(super) fn binding(namespace: &str, name: &str, role: &str, subjects: Vec<Subject>) -> RoleBinding {
    RoleBinding {
        metadata: metadata(name, Some(namespace)),
        role_ref: role_ref("Role", role),
        subjects: Some(subjects),
    }
}
