//! The roles of nodes: joining, and what a node agent does.
//!
//! Kubernetes leaves `system:node` unbound and has an authorizer of its own that looks at which pods a node runs.
//! Here the role is bound to the nodes' group, and admission confines a node's writes to itself and its pods.

use k8s_openapi::api::rbac::v1::PolicyRule;

use super::BootstrapPolicy;
use super::objects::{
    AUTHENTICATION, AUTHORIZATION, CERTIFICATES, COORDINATION, CORE, DISCOVERY, NETWORKING, NODE, READ,
    RESOURCE, STORAGE, cluster_binding, cluster_role, events, group, rule, user,
};
use crate::user::{BOOTSTRAPPERS, NODES};

const PROXIER: &str = "system:node-proxier";
const BOOTSTRAPPER: &str = "system:node-bootstrapper";
const NEW_NODE: &str = "system:certificates.k8s.io:certificatesigningrequests:nodeclient";
const RENEWAL: &str = "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient";

pub(super) fn add(policy: &mut BootstrapPolicy) {
    let requests = "certificatesigningrequests";
    policy.cluster_roles.extend([
        cluster_role("system:node", node()),
        cluster_role(PROXIER, proxier()),
        cluster_role(
            BOOTSTRAPPER,
            vec![rule(&["create", "get", "list", "watch"], &[CERTIFICATES], &[requests])],
        ),
        cluster_role(
            NEW_NODE,
            vec![rule(&["create"], &[CERTIFICATES], &["certificatesigningrequests/nodeclient"])],
        ),
        cluster_role(
            RENEWAL,
            vec![rule(&["create"], &[CERTIFICATES], &["certificatesigningrequests/selfnodeclient"])],
        ),
        cluster_role("system:kubelet-api-admin", kubelet_api_admin()),
        cluster_role(
            "system:node-problem-detector",
            vec![rule(&["get"], &[CORE], &["nodes"]), rule(&["patch"], &[CORE], &["nodes/status"]), events()],
        ),
    ]);
    policy.cluster_role_bindings.extend([
        cluster_binding("system:node", "system:node", vec![group(NODES)]),
        cluster_binding(PROXIER, PROXIER, vec![user("system:kube-proxy"), group(NODES)]),
        cluster_binding("drystone:node-bootstrapper", BOOTSTRAPPER, vec![group(BOOTSTRAPPERS)]),
        cluster_binding("drystone:node-autoapprove-bootstrap", NEW_NODE, vec![group(BOOTSTRAPPERS)]),
        cluster_binding("drystone:node-autoapprove-certificate-rotation", RENEWAL, vec![group(NODES)]),
    ]);
}

fn node() -> Vec<PolicyRule> {
    vec![
        rule(&["create"], &[AUTHENTICATION], &["tokenreviews"]),
        rule(&["create"], &[AUTHORIZATION], &["localsubjectaccessreviews", "subjectaccessreviews"]),
        rule(READ, &[CORE], &["services"]),
        rule(&["create", "get", "list", "watch"], &[CORE], &["nodes"]),
        rule(&["patch", "update"], &[CORE], &["nodes/status"]),
        rule(&["patch", "update"], &[CORE], &["nodes"]),
        events(),
        rule(READ, &[CORE], &["pods"]),
        rule(&["create", "delete"], &[CORE], &["pods"]),
        rule(&["patch", "update"], &[CORE], &["pods/status"]),
        rule(&["create"], &[CORE], &["pods/eviction"]),
        rule(READ, &[CORE], &["configmaps", "secrets"]),
        rule(&["get"], &[CORE], &["persistentvolumeclaims", "persistentvolumes"]),
        rule(&["get", "patch", "update"], &[CORE], &["persistentvolumeclaims/status"]),
        rule(&["get"], &[CORE], &["endpoints"]),
        rule(&["create", "get", "list", "watch"], &[CERTIFICATES], &["certificatesigningrequests"]),
        rule(&["create", "delete", "get", "patch", "update"], &[COORDINATION], &["leases"]),
        rule(&["get"], &[STORAGE], &["volumeattachments"]),
        rule(&["get"], &[CORE], &["serviceaccounts"]),
        rule(&["create"], &[CORE], &["serviceaccounts/token"]),
        rule(READ, &[STORAGE], &["csidrivers"]),
        rule(&["create", "delete", "get", "list", "patch", "update", "watch"], &[STORAGE], &["csinodes"]),
        rule(READ, &[NODE], &["runtimeclasses"]),
        rule(&["get"], &[RESOURCE], &["resourceclaims"]),
        rule(&["deletecollection"], &[RESOURCE], &["resourceslices"]),
        rule(
            &["create", "delete", "get", "list", "patch", "update", "watch"],
            &[RESOURCE],
            &["resourceslices"],
        ),
    ]
}

/// What a service data plane reads; the node agent has it built in.
fn proxier() -> Vec<PolicyRule> {
    vec![
        rule(&["list", "watch"], &[CORE], &["endpoints", "services"]),
        rule(READ, &[CORE], &["nodes"]),
        events(),
        rule(&["list", "watch"], &[DISCOVERY], &["endpointslices"]),
        rule(&["list", "watch"], &[NETWORKING], &["servicecidrs"]),
    ]
}

fn kubelet_api_admin() -> Vec<PolicyRule> {
    vec![
        rule(READ, &[CORE], &["nodes"]),
        rule(&["proxy"], &[CORE], &["nodes"]),
        rule(
            &["*"],
            &[CORE],
            &["nodes/log", "nodes/metrics", "nodes/proxy", "nodes/stats", "nodes/healthz", "nodes/pods"],
        ),
    ]
}
