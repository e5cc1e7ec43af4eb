//! The roles of everybody, and of the components of a control plane.

use k8s_openapi::api::rbac::v1::PolicyRule;

use super::BootstrapPolicy;
use super::objects::{
    APPS, AUTHENTICATION, AUTHORIZATION, CERTIFICATES, COORDINATION, CORE, DISCOVERY, POLICY, READ, RESOURCE,
    STORAGE, binding, cluster_binding, cluster_role, events, group, named, paths, role, rule,
    service_account, user,
};
use crate::user::{AUTHENTICATED, SERVICE_ACCOUNTS, UNAUTHENTICATED};

const SCHEDULER: &str = "system:kube-scheduler";
const CONTROLLER_MANAGER: &str = "system:kube-controller-manager";

pub(super) fn add(policy: &mut BootstrapPolicy) {
    everybody(policy);
    components(policy);
    approvers(policy);
    leader_locks(policy);
}

fn everybody(policy: &mut BootstrapPolicy) {
    let health = ["/healthz", "/livez", "/readyz"];
    let version = ["/version", "/version/"];
    let apis = ["/api", "/api/*", "/apis", "/apis/*", "/openapi", "/openapi/*"];
    let metrics = ["/metrics", "/metrics/slis", "/healthz/*", "/livez/*", "/readyz/*"];
    let issuer = [
        "/.well-known/openid-configuration",
        "/.well-known/openid-configuration/",
        "/openid/v1/jwks",
        "/openid/v1/jwks/",
    ];
    policy.cluster_roles.extend([
        cluster_role(
            "system:basic-user",
            vec![
                rule(&["create"], &[AUTHORIZATION], &["selfsubjectaccessreviews", "selfsubjectrulesreviews"]),
                rule(&["create"], &[AUTHENTICATION], &["selfsubjectreviews"]),
            ],
        ),
        cluster_role("system:discovery", vec![paths(&["get"], &[&apis[..], &health, &version].concat())]),
        cluster_role("system:public-info-viewer", vec![paths(&["get"], &[&health[..], &version].concat())]),
        cluster_role("system:monitoring", vec![paths(&["get"], &[&metrics[..], &health].concat())]),
        cluster_role("system:service-account-issuer-discovery", vec![paths(&["get"], &issuer)]),
    ]);
    policy.cluster_role_bindings.extend([
        cluster_binding("system:basic-user", "system:basic-user", vec![group(AUTHENTICATED)]),
        cluster_binding("system:discovery", "system:discovery", vec![group(AUTHENTICATED)]),
        cluster_binding(
            "system:public-info-viewer",
            "system:public-info-viewer",
            vec![group(AUTHENTICATED), group(UNAUTHENTICATED)],
        ),
        cluster_binding("system:monitoring", "system:monitoring", vec![group("system:monitoring")]),
        cluster_binding(
            "system:service-account-issuer-discovery",
            "system:service-account-issuer-discovery",
            vec![group(SERVICE_ACCOUNTS)],
        ),
    ]);
}

fn components(policy: &mut BootstrapPolicy) {
    let delegated = || {
        vec![
            rule(&["create"], &[AUTHENTICATION], &["tokenreviews"]),
            rule(&["create"], &[AUTHORIZATION], &["subjectaccessreviews"]),
        ]
    };
    policy.cluster_roles.extend([
        cluster_role(SCHEDULER, [scheduler(), delegated()].concat()),
        cluster_role(CONTROLLER_MANAGER, [controller_manager(), delegated()].concat()),
        cluster_role("system:auth-delegator", delegated()),
        cluster_role("system:kube-aggregator", vec![rule(READ, &[CORE], &["endpoints", "services"])]),
        cluster_role("system:kube-dns", vec![rule(&["list", "watch"], &[CORE], &["endpoints", "services"])]),
        cluster_role("system:volume-scheduler", volume_scheduler()),
        cluster_role("system:persistent-volume-provisioner", volume_provisioner()),
    ]);
    policy.cluster_role_bindings.extend([
        cluster_binding(SCHEDULER, SCHEDULER, vec![user(SCHEDULER)]),
        cluster_binding(CONTROLLER_MANAGER, CONTROLLER_MANAGER, vec![user(CONTROLLER_MANAGER)]),
        cluster_binding("system:volume-scheduler", "system:volume-scheduler", vec![user(SCHEDULER)]),
        cluster_binding(
            "system:kube-dns",
            "system:kube-dns",
            vec![service_account("kube-system", "kube-dns")],
        ),
    ]);
}

fn scheduler() -> Vec<PolicyRule> {
    vec![
        events(),
        rule(&["create"], &[COORDINATION], &["leases"]),
        named(&["get", "update"], COORDINATION, "leases", &["kube-scheduler"]),
        rule(READ, &[CORE], &["nodes"]),
        rule(&["get", "list", "watch", "delete"], &[CORE], &["pods"]),
        rule(&["create"], &[CORE], &["bindings", "pods/binding"]),
        rule(&["patch", "update"], &[CORE], &["pods/status"]),
        rule(READ, &[CORE], &["namespaces", "replicationcontrollers", "services"]),
        rule(READ, &[CORE], &["persistentvolumeclaims", "persistentvolumes"]),
        rule(READ, &[APPS], &["replicasets", "statefulsets"]),
        rule(READ, &[POLICY], &["poddisruptionbudgets"]),
        rule(READ, &[STORAGE], &["csidrivers", "csinodes", "csistoragecapacities", "volumeattachments"]),
        rule(READ, &[RESOURCE], &["deviceclasses", "resourceclaims", "resourceslices"]),
        rule(&["patch", "update"], &[RESOURCE], &["resourceclaims", "resourceclaims/status"]),
    ]
}

fn controller_manager() -> Vec<PolicyRule> {
    vec![
        events(),
        rule(&["create"], &[COORDINATION], &["leases"]),
        named(&["get", "update"], COORDINATION, "leases", &["kube-controller-manager"]),
        rule(&["create"], &[CORE], &["secrets", "serviceaccounts"]),
        rule(&["delete"], &[CORE], &["secrets"]),
        rule(&["get"], &[CORE], &["configmaps", "namespaces", "secrets", "serviceaccounts"]),
        rule(&["update"], &[CORE], &["secrets", "serviceaccounts"]),
        rule(&["create"], &[CORE], &["serviceaccounts/token"]),
        rule(&["list", "watch"], &["*"], &["*"]),
    ]
}

fn volume_scheduler() -> Vec<PolicyRule> {
    vec![
        rule(&["get", "list", "patch", "update", "watch"], &[CORE], &["persistentvolumes"]),
        rule(READ, &[STORAGE], &["storageclasses"]),
        rule(&["get", "list", "patch", "update", "watch"], &[CORE], &["persistentvolumeclaims"]),
    ]
}

fn volume_provisioner() -> Vec<PolicyRule> {
    vec![
        rule(&["get", "list", "watch", "create", "delete"], &[CORE], &["persistentvolumes"]),
        rule(&["get", "list", "watch", "update"], &[CORE], &["persistentvolumeclaims"]),
        rule(READ, &[STORAGE], &["storageclasses"]),
        rule(&["watch"], &[CORE], &["events"]),
        events(),
    ]
}

/// Approving certificate signing requests, one role for each signer.
fn approvers(policy: &mut BootstrapPolicy) {
    for signer in [
        "kube-apiserver-client-approver",
        "kube-apiserver-client-kubelet-approver",
        "kubelet-serving-approver",
        "legacy-unknown-approver",
    ] {
        let name = format!("kubernetes.io/{}", signer.trim_end_matches("-approver"));
        policy.cluster_roles.push(cluster_role(
            &format!("system:certificates.k8s.io:{signer}"),
            vec![named(&["approve"], CERTIFICATES, "signers", &[&name])],
        ));
    }
}

/// What the components of the control plane elect their leaders with.
fn leader_locks(policy: &mut BootstrapPolicy) {
    let system = "kube-system";
    for (component, subject) in
        [("kube-controller-manager", CONTROLLER_MANAGER), ("kube-scheduler", SCHEDULER)]
    {
        let name = format!("system::leader-locking-{component}");
        policy.roles.push(role(
            system,
            &name,
            vec![
                rule(&["watch"], &[CORE], &["configmaps"]),
                named(&["get", "update"], CORE, "configmaps", &[component]),
                rule(READ, &[DISCOVERY], &["endpointslices"]),
            ],
        ));
        let subjects = vec![user(subject), service_account(system, component)];
        policy.role_bindings.push(binding(system, &name, &name, subjects));
    }
    let reader = "extension-apiserver-authentication-reader";
    policy.roles.push(role(
        system,
        reader,
        vec![named(READ, CORE, "configmaps", &["extension-apiserver-authentication"])],
    ));
    let readers = vec![user(CONTROLLER_MANAGER), user(SCHEDULER)];
    policy.role_bindings.push(binding(
        system,
        "system::extension-apiserver-authentication-reader",
        reader,
        readers,
    ));
}
