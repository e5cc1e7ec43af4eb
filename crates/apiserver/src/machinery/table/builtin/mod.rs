//! Columns of the built-in kinds, as Kubernetes' own server has them and kubectl prints them.

mod autoscaling;
mod certificates;
mod configuration;
mod events;
mod jobs;
mod networking;
mod nodes;
mod pods;
mod rbac;
mod services;
mod storage;
mod workloads;

use serde_json::Value;

use super::column::Column;
use super::object::Object;

/// How a kind is printed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Printer {
    /// Heads of the columns.
    pub(super) columns: &'static [Column<'static>],
    /// The cells of a row, one per column.
    pub(super) cells: fn(Object<'_>) -> Vec<Value>,
    /// `conditions` of a row.
    pub(super) conditions: fn(&Value) -> Option<Value>,
}

impl Printer {
    const fn new(columns: &'static [Column<'static>], cells: fn(Object<'_>) -> Vec<Value>) -> Self {
        Self { columns, cells, conditions: |_| None }
    }
}

/// Name and time of creation, for kinds that have nothing else to show.
const CREATED: Printer =
    Printer::new(&[Column::NAME, Column::CREATED], |object| vec![object.name(), object.created()]);

/// The printer of a kind.
pub(super) fn printer(group: &str, kind: &str) -> Printer {
    match (group, kind) {
        ("", "Pod") => pods::POD,
        ("", "PodTemplate") => pods::POD_TEMPLATE,
        ("", "Node") => nodes::NODE,
        ("", "Namespace") => configuration::NAMESPACE,
        ("", "Secret") => configuration::SECRET,
        ("", "ConfigMap") => configuration::CONFIG_MAP,
        ("", "ServiceAccount") => configuration::SERVICE_ACCOUNT,
        ("", "ResourceQuota") => configuration::RESOURCE_QUOTA,
        ("", "Service") => services::SERVICE,
        ("", "Endpoints") => services::ENDPOINTS,
        ("", "PersistentVolume") => storage::PERSISTENT_VOLUME,
        ("", "PersistentVolumeClaim") => storage::PERSISTENT_VOLUME_CLAIM,
        ("", "ReplicationController") => workloads::REPLICATION_CONTROLLER,
        ("" | "events.k8s.io", "Event") => events::EVENT,
        ("apps", "ControllerRevision") => workloads::CONTROLLER_REVISION,
        ("apps", "DaemonSet") => workloads::DAEMON_SET,
        ("apps", "Deployment") => workloads::DEPLOYMENT,
        ("apps", "ReplicaSet") => workloads::REPLICA_SET,
        ("apps", "StatefulSet") => workloads::STATEFUL_SET,
        ("autoscaling", "HorizontalPodAutoscaler") => autoscaling::HORIZONTAL_POD_AUTOSCALER,
        ("batch", "CronJob") => jobs::CRON_JOB,
        ("batch", "Job") => jobs::JOB,
        ("certificates.k8s.io", "CertificateSigningRequest") => certificates::SIGNING_REQUEST,
        ("coordination.k8s.io", "Lease") => configuration::LEASE,
        ("discovery.k8s.io", "EndpointSlice") => services::ENDPOINT_SLICE,
        ("networking.k8s.io", "Ingress") => networking::INGRESS,
        ("networking.k8s.io", "IngressClass") => networking::INGRESS_CLASS,
        ("networking.k8s.io", "NetworkPolicy") => networking::NETWORK_POLICY,
        ("node.k8s.io", "RuntimeClass") => nodes::RUNTIME_CLASS,
        ("policy", "PodDisruptionBudget") => workloads::POD_DISRUPTION_BUDGET,
        ("rbac.authorization.k8s.io", "ClusterRoleBinding") => rbac::CLUSTER_ROLE_BINDING,
        ("rbac.authorization.k8s.io", "RoleBinding") => rbac::ROLE_BINDING,
        ("scheduling.k8s.io", "PriorityClass") => nodes::PRIORITY_CLASS,
        ("storage.k8s.io", "CSIDriver") => storage::CSI_DRIVER,
        ("storage.k8s.io", "CSINode") => storage::CSI_NODE,
        ("storage.k8s.io", "CSIStorageCapacity") => storage::CSI_STORAGE_CAPACITY,
        ("storage.k8s.io", "StorageClass") => storage::STORAGE_CLASS,
        ("storage.k8s.io", "VolumeAttachment") => storage::VOLUME_ATTACHMENT,
        _ => CREATED,
    }
}
