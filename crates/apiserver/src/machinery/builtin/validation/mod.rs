//! What makes objects of the built-in kinds valid, beyond the types of their fields: the rules that kube-apiserver
//! enforces, with its paths and words.
//!
//! `metadata` is checked for all kinds alike, elsewhere.

mod access;
mod batch;
mod cluster;
mod config;
mod container;
mod definition;
mod field;
mod labels;
mod network;
mod pod;
mod pod_update;
mod quantities;
mod scheduling;
mod service;
mod storage;
mod volume;
mod warnings;
mod workload;

use serde_json::Value;

use crate::machinery::field_error::FieldError;
use field::{Errors, Field};

/// What is wrong with a new object.
pub(super) fn new(group: &str, kind: &str, object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if let Some(rules) = of_kind(group, kind) {
        (rules.object)(&Field::root(object), &mut errors);
    }
    errors
}

/// What is wrong with a changed object.
pub(super) fn update(group: &str, kind: &str, object: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = new(group, kind, object);
    if let Some(change) = of_kind(group, kind).and_then(|rules| rules.change) {
        change(&Field::root(object), &Field::root(old), &mut errors);
    }
    errors
}

/// What is accepted and yet worth a warning.
pub(super) fn warnings(group: &str, kind: &str, object: &Value) -> Vec<String> {
    warnings::warnings(group, kind, object)
}

/// The rules of a kind.
struct Rules {
    object: fn(&Field<'_>, &mut Errors),
    change: Option<fn(&Field<'_>, &Field<'_>, &mut Errors)>,
}

const fn rules(object: fn(&Field<'_>, &mut Errors)) -> Rules {
    Rules { object, change: None }
}

impl Rules {
    const fn changing(mut self, change: fn(&Field<'_>, &Field<'_>, &mut Errors)) -> Self {
        self.change = Some(change);
        self
    }
}

fn of_kind(group: &str, kind: &str) -> Option<Rules> {
    Some(match (group, kind) {
        ("", "Pod") => rules(pod::pod).changing(pod_update::pod),
        ("", "PodTemplate") => rules(pod::pod_template),
        ("", "ReplicationController") => rules(workload::replication_controller),
        ("apps", "Deployment") => rules(workload::deployment).changing(workload::deployment_change),
        ("apps", "ReplicaSet") => rules(workload::replica_set).changing(workload::selector_change),
        ("apps", "DaemonSet") => rules(workload::daemon_set).changing(workload::selector_change),
        ("apps", "StatefulSet") => rules(workload::stateful_set).changing(workload::stateful_set_change),
        ("apps", "ControllerRevision") => rules(workload::revision).changing(workload::revision_change),
        ("batch", "Job") => rules(batch::job).changing(batch::job_change),
        ("batch", "CronJob") => rules(batch::cron_job),
        ("autoscaling", "HorizontalPodAutoscaler") => rules(workload::autoscaler),
        ("policy", "PodDisruptionBudget") => rules(workload::disruption_budget),
        ("", "Service") => rules(service::service).changing(service::service_change),
        ("", "Endpoints") => rules(network::endpoints),
        ("discovery.k8s.io", "EndpointSlice") => rules(network::slice).changing(network::slice_change),
        ("networking.k8s.io", "Ingress") => rules(network::ingress),
        ("networking.k8s.io", "IngressClass") => rules(network::class).changing(network::class_change),
        ("networking.k8s.io", "NetworkPolicy") => rules(network::policy),
        ("", "ConfigMap") => rules(config::config_map).changing(config::immutable_change),
        ("", "Secret") => rules(config::secret).changing(config::secret_change),
        ("", "ServiceAccount") => rules(config::service_account),
        ("", "Namespace") => rules(cluster::namespace),
        ("", "Node") => rules(cluster::node).changing(cluster::node_change),
        ("", "Event") => rules(cluster::event),
        ("", "LimitRange") => rules(cluster::limit_range),
        ("", "ResourceQuota") => rules(cluster::resource_quota).changing(cluster::quota_change),
        ("coordination.k8s.io", "Lease") => rules(cluster::lease),
        ("scheduling.k8s.io", "PriorityClass") => rules(cluster::priority).changing(cluster::priority_change),
        ("node.k8s.io", "RuntimeClass") => rules(cluster::runtime).changing(cluster::runtime_change),
        ("certificates.k8s.io", "CertificateSigningRequest") => {
            rules(access::signing).changing(access::signing_change)
        }
        ("rbac.authorization.k8s.io", "Role") => rules(access::role),
        ("rbac.authorization.k8s.io", "ClusterRole") => rules(access::cluster_role),
        ("rbac.authorization.k8s.io", "RoleBinding") => {
            rules(access::role_binding).changing(access::binding_change)
        }
        ("rbac.authorization.k8s.io", "ClusterRoleBinding") => {
            rules(access::cluster_role_binding).changing(access::binding_change)
        }
        ("", "PersistentVolume") => rules(storage::volume).changing(storage::volume_change),
        ("", "PersistentVolumeClaim") => rules(storage::claim).changing(storage::claim_change),
        ("storage.k8s.io", "StorageClass") => rules(storage::class).changing(storage::class_change),
        ("storage.k8s.io", "VolumeAttachment") => {
            rules(storage::attachment).changing(storage::attachment_change)
        }
        ("storage.k8s.io", "CSINode") => rules(storage::csi_node),
        ("apiextensions.k8s.io", "CustomResourceDefinition") => {
            rules(definition::definition).changing(definition::definition_change)
        }
        _ => return None,
    })
}
