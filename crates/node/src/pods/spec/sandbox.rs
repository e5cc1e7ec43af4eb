//! The configuration of a pod's sandbox.

use std::path::PathBuf;

use k8s_openapi::api::core::v1::Pod;

use super::{NodeFacts, dns, hosts, security};
use crate::{
    cri::messages::{LinuxPodSandboxConfig, PodSandboxConfig, PodSandboxMetadata},
    pods::{
        labels,
        resources::{cgroup_parent, qos_class},
    },
};

/// Makes the configuration; the same for the same pod and attempt.
pub fn sandbox_config(pod: &Pod, node: &NodeFacts, attempt: u32) -> PodSandboxConfig {
    let spec = pod.spec.clone().unwrap_or_default();
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let uid = text(&pod.metadata.uid);
    let on_host = spec.host_network == Some(true);
    let mut labels = labels::pod_labels(pod);
    labels.extend(pod.metadata.labels.clone().unwrap_or_default());
    let sysctls = spec.security_context.as_ref().and_then(|context| context.sysctls.as_ref());
    PodSandboxConfig {
        metadata: Some(PodSandboxMetadata {
            name: text(&pod.metadata.name),
            uid: uid.clone(),
            namespace: text(&pod.metadata.namespace),
            attempt,
        }),
        // On the node's network the name is the node's, and runtimes refuse another.
        hostname: if on_host { String::new() } else { hosts::host_name(pod, &node.cluster_domain) },
        log_directory: log_directory(pod, node).to_string_lossy().into_owned(),
        dns_config: Some(dns::dns(pod, node)),
        port_mappings: Vec::new(),
        labels,
        annotations: pod.metadata.annotations.clone().unwrap_or_default().into_iter().collect(),
        linux: Some(LinuxPodSandboxConfig {
            cgroup_parent: cgroup_parent(&node.cgroup_root, qos_class(&spec), &uid),
            security_context: Some(security::sandbox(&spec)),
            sysctls: sysctls
                .into_iter()
                .flatten()
                .map(|sysctl| (sysctl.name.clone(), sysctl.value.clone()))
                .collect(),
            overhead: None,
            resources: None,
        }),
    }
}

/// Where the logs of a pod are, as Kubernetes has it.
pub fn log_directory(pod: &Pod, node: &NodeFacts) -> PathBuf {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let metadata = &pod.metadata;
    node.log_dir.join(format!(
        "{}_{}_{}",
        text(&metadata.namespace),
        text(&metadata.name),
        text(&metadata.uid)
    ))
}
