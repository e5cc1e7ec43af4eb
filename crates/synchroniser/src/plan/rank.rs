//! Which kinds go before which.
//!
//! Helm and EMCO apply about thirty ranks one after another, one object after another. What really needs what is less than that: an API
//! server refuses a pod without its service account or priority class, a binding without its role, a custom resource
//! without its definition, and anything without its namespace. All else finds its other half whenever that appears.

/// When an object is made, in relation to others of its part. What is greater comes later, and goes earlier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rank {
    /// What others are made in, or of: namespaces and definitions of kinds.
    Ground,
    /// What is only referred to: accounts, configuration, limits, roles, classes, volumes.
    Referred,
    /// What binds these, and the names by which workloads are found: bindings, claims, Services.
    Binding,
    /// What runs.
    Workload,
    /// What watches over workloads, or is answered by them: custom resources, autoscalers, Ingresses.
    Dependent,
    /// What gets in the way of every later write if its server does not run yet.
    Interceptor,
}

/// The rank of a kind.
pub fn rank(api_version: &str, kind: &str) -> Rank {
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    match (group, kind) {
        ("", "Namespace") | ("apiextensions.k8s.io", "CustomResourceDefinition") => Rank::Ground,
        (
            "",
            "ServiceAccount" | "Secret" | "ConfigMap" | "ResourceQuota" | "LimitRange" | "PersistentVolume",
        )
        | ("rbac.authorization.k8s.io", "Role" | "ClusterRole")
        | ("scheduling.k8s.io", "PriorityClass")
        | ("storage.k8s.io", "StorageClass" | "CSIDriver")
        | ("node.k8s.io", "RuntimeClass")
        | ("networking.k8s.io", "NetworkPolicy" | "IngressClass")
        | ("policy", "PodDisruptionBudget" | "PodSecurityPolicy")
        | ("certificates.k8s.io", "CertificateSigningRequest") => Rank::Referred,
        ("", "PersistentVolumeClaim" | "Service" | "Endpoints")
        | ("discovery.k8s.io", "EndpointSlice")
        | ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding") => Rank::Binding,
        ("", "Pod" | "ReplicationController")
        | ("apps", "Deployment" | "DaemonSet" | "StatefulSet" | "ReplicaSet")
        | ("batch", "Job" | "CronJob") => Rank::Workload,
        ("apiregistration.k8s.io", "APIService") | ("admissionregistration.k8s.io", _) => Rank::Interceptor,
        _ => Rank::Dependent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_needed_comes_first() {
        let order = [
            ("v1", "Namespace"),
            ("v1", "ServiceAccount"),
            ("rbac.authorization.k8s.io/v1", "RoleBinding"),
            ("apps/v1", "Deployment"),
            ("monitoring.coreos.com/v1", "ServiceMonitor"),
            ("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration"),
        ];
        let ranks: Vec<Rank> = order.iter().map(|(api_version, kind)| rank(api_version, kind)).collect();
        assert!(ranks.is_sorted() && ranks.windows(2).all(|pair| pair[0] != pair[1]), "{ranks:?}");
    }

    #[test]
    fn a_kind_of_the_same_name_in_another_group_is_another_kind() {
        assert_eq!(rank("serving.knative.dev/v1", "Service"), Rank::Dependent);
        assert_eq!(rank("v1", "Service"), Rank::Binding);
        assert_eq!(rank("monitoring.coreos.com/v1", "Namespace"), Rank::Dependent);
    }
}
