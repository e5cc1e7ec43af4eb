//! Defaults of the built-in kinds, as kube-apiserver sets them when it reads an object.
//!
//! Strings that are empty count as missing, and so do numbers that are zero where the Kubernetes API cannot tell the
//! difference. Every function is idempotent.
//!
//! Source: the documented defaults of the Kubernetes API types, v1.35.

mod cluster;
mod container;
mod fields;
mod network;
mod pod;
mod storage;
mod workload;

use serde_json::Value;

use fields::Fields;

/// Fills in the defaults of a built-in kind.
pub(super) fn apply(group: &str, kind: &str, object: &mut Value) {
    let Value::Object(object) = object else { return };
    if let Some(default) = of_kind(group, kind) {
        default(object);
    }
}

type Default = fn(&mut Fields);

fn of_kind(group: &str, kind: &str) -> Option<Default> {
    Some(match (group, kind) {
        ("", "Pod") => pod::pod,
        ("", "PodTemplate") => pod::pod_template,
        ("", "ReplicationController") => workload::replication_controller,
        ("apps", "Deployment") => workload::deployment,
        ("apps", "ReplicaSet") => workload::replica_set,
        ("apps", "StatefulSet") => workload::stateful_set,
        ("apps", "DaemonSet") => workload::daemon_set,
        ("batch", "Job") => workload::job,
        ("batch", "CronJob") => workload::cron_job,
        ("autoscaling", "HorizontalPodAutoscaler") => workload::horizontal_pod_autoscaler,
        ("", "Service") => network::service,
        ("", "Endpoints") => network::endpoints,
        ("discovery.k8s.io", "EndpointSlice") => network::endpoint_slice,
        ("networking.k8s.io", "NetworkPolicy") => network::network_policy,
        ("networking.k8s.io", "IngressClass") => network::ingress_class,
        ("", "PersistentVolume") => storage::persistent_volume,
        ("", "PersistentVolumeClaim") => storage::persistent_volume_claim,
        ("storage.k8s.io", "StorageClass") => storage::storage_class,
        ("storage.k8s.io", "CSIDriver") => storage::csi_driver,
        ("", "Secret") => cluster::secret,
        ("", "Namespace") => cluster::namespace,
        ("", "Node") => cluster::node,
        ("", "LimitRange") => cluster::limit_range,
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding") => cluster::role_binding,
        ("scheduling.k8s.io", "PriorityClass") => cluster::priority_class,
        ("apiextensions.k8s.io", "CustomResourceDefinition") => cluster::custom_resource_definition,
        _ => return None,
    })
}
