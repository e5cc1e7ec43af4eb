//! Labels and annotations on sandboxes and containers, by which an agent finds its pods again. The labels are those of the
//! kubelet, so that tools which list containers by pod understand them.

use std::collections::HashMap;

use k8s_openapi::api::core::v1::{Container, Pod};

/// Name of the pod.
pub const POD_NAME: &str = "io.kubernetes.pod.name";
/// Namespace of the pod.
pub const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
/// Identifier of the pod.
pub const POD_UID: &str = "io.kubernetes.pod.uid";
/// Name of the container in the pod.
pub const CONTAINER_NAME: &str = "io.kubernetes.container.name";
/// Annotation: what the container was made of. A running container whose specification has another is replaced.
pub const SPEC_HASH: &str = "drystone.dev/container-spec";

/// Labels that all sandboxes and containers of a pod have.
pub fn pod_labels(pod: &Pod) -> HashMap<String, String> {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    HashMap::from([
        (POD_NAME.to_owned(), text(&pod.metadata.name)),
        (POD_NAMESPACE.to_owned(), text(&pod.metadata.namespace)),
        (POD_UID.to_owned(), text(&pod.metadata.uid)),
    ])
}

/// Selects the sandboxes and containers of a pod.
pub fn by_uid(uid: &str) -> HashMap<String, String> {
    HashMap::from([(POD_UID.to_owned(), uid.to_owned())])
}

/// Stands for the part of a container's specification that may change while it runs: its image.
pub fn spec_hash(container: &Container) -> String {
    container.image.clone().unwrap_or_default()
}
