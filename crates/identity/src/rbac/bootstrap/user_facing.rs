//! The roles meant for people: cluster-admin, admin, edit, view.

use k8s_openapi::api::rbac::v1::PolicyRule;

use super::BootstrapPolicy;
use super::objects::{
    APPS, AUTHORIZATION, AUTOSCALING, BATCH, COORDINATION, CORE, DISCOVERY, NETWORKING, POLICY, READ,
    READ_WRITE, RESOURCE, WRITE, aggregated_to, aggregating, cluster_binding, cluster_role, group, paths,
    rule,
};
use crate::rbac::API_GROUP;
use crate::user::MASTERS;

pub(super) fn add(policy: &mut BootstrapPolicy) {
    let everything = vec![rule(&["*"], &["*"], &["*"]), paths(&["*"], &["*"])];
    policy.cluster_roles.extend([
        cluster_role("cluster-admin", everything),
        aggregating("admin"),
        aggregated_to(aggregating("edit"), "admin"),
        aggregated_to(aggregating("view"), "edit"),
        aggregated_to(cluster_role("system:aggregate-to-admin", admin()), "admin"),
        aggregated_to(cluster_role("system:aggregate-to-edit", edit()), "edit"),
        aggregated_to(cluster_role("system:aggregate-to-view", view()), "view"),
    ]);
    policy.cluster_role_bindings.push(cluster_binding(
        "cluster-admin",
        "cluster-admin",
        vec![group(MASTERS)],
    ));
}

fn admin() -> Vec<PolicyRule> {
    vec![
        rule(&["create"], &[AUTHORIZATION], &["localsubjectaccessreviews"]),
        rule(READ_WRITE, &[API_GROUP], &["roles", "rolebindings"]),
    ]
}

fn edit() -> Vec<PolicyRule> {
    vec![
        rule(
            READ,
            &[CORE],
            &["pods/attach", "pods/proxy", "pods/exec", "pods/portforward", "secrets", "services/proxy"],
        ),
        rule(&["impersonate"], &[CORE], &["serviceaccounts"]),
        rule(WRITE, &[CORE], &["pods", "pods/attach", "pods/proxy", "pods/exec", "pods/portforward"]),
        rule(&["create"], &[CORE], &["pods/eviction"]),
        rule(
            WRITE,
            &[CORE],
            &[
                "replicationcontrollers",
                "replicationcontrollers/scale",
                "serviceaccounts",
                "services",
                "services/proxy",
                "persistentvolumeclaims",
                "configmaps",
                "secrets",
                "events",
            ],
        ),
        rule(&["create"], &[CORE], &["serviceaccounts/token"]),
        rule(
            WRITE,
            &[APPS],
            &[
                "statefulsets",
                "statefulsets/scale",
                "daemonsets",
                "deployments",
                "deployments/scale",
                "deployments/rollback",
                "replicasets",
                "replicasets/scale",
            ],
        ),
        rule(WRITE, &[AUTOSCALING], &["horizontalpodautoscalers"]),
        rule(WRITE, &[BATCH], &["jobs", "cronjobs"]),
        rule(WRITE, &[POLICY], &["poddisruptionbudgets"]),
        rule(WRITE, &[NETWORKING], &["networkpolicies", "ingresses"]),
        rule(READ_WRITE, &[COORDINATION], &["leases"]),
        rule(WRITE, &[RESOURCE], &["resourceclaims", "resourceclaimtemplates"]),
    ]
}

fn view() -> Vec<PolicyRule> {
    vec![
        rule(
            READ,
            &[CORE],
            &[
                "pods",
                "replicationcontrollers",
                "replicationcontrollers/scale",
                "serviceaccounts",
                "services",
                "services/status",
                "endpoints",
                "persistentvolumeclaims",
                "persistentvolumeclaims/status",
                "configmaps",
            ],
        ),
        rule(
            READ,
            &[CORE],
            &[
                "limitranges",
                "resourcequotas",
                "bindings",
                "events",
                "pods/status",
                "resourcequotas/status",
                "namespaces/status",
                "replicationcontrollers/status",
                "pods/log",
            ],
        ),
        rule(READ, &[CORE], &["namespaces"]),
        rule(READ, &[DISCOVERY], &["endpointslices"]),
        rule(
            READ,
            &[APPS],
            &[
                "controllerrevisions",
                "statefulsets",
                "statefulsets/status",
                "statefulsets/scale",
                "daemonsets",
                "daemonsets/status",
                "deployments",
                "deployments/status",
                "deployments/scale",
                "replicasets",
                "replicasets/status",
                "replicasets/scale",
            ],
        ),
        rule(READ, &[AUTOSCALING], &["horizontalpodautoscalers", "horizontalpodautoscalers/status"]),
        rule(READ, &[BATCH], &["jobs", "cronjobs", "cronjobs/status", "jobs/status"]),
        rule(READ, &[POLICY], &["poddisruptionbudgets", "poddisruptionbudgets/status"]),
        rule(READ, &[NETWORKING], &["networkpolicies", "ingresses", "ingresses/status"]),
        rule(READ, &[RESOURCE], &["resourceclaims", "resourceclaims/status", "resourceclaimtemplates"]),
    ]
}
