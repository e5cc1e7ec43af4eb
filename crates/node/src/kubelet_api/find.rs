//! Finding pods, and what the runtime has of them.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

use super::{Shared, refusal::Refusal};
use crate::pods::observed::{Observed, Run, observe};

/// The pod of that name on this node.
pub(super) fn pod(shared: &Shared, namespace: &str, name: &str) -> Result<Arc<Pod>, Refusal> {
    shared.pods.pod(namespace, name).ok_or_else(|| {
        Refusal::not_found(format!("pod {name:?} in namespace {namespace:?} is not on this node"))
    })
}

/// What the runtime has of a pod.
pub(super) async fn observed(shared: &Shared, pod: &Pod) -> Result<Observed, Refusal> {
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    // Without an identifier, every container would match.
    if uid.is_empty() {
        return Ok(Observed::default());
    }
    observe(&shared.runtime, uid, &Observed::default())
        .await
        .map_err(|error| Refusal::internal(format!("the container runtime does not answer: {error}")))
}

/// Whether a pod has a container of that name, of any kind.
pub(super) fn declares(pod: &Pod, container: &str) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let plain = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let ephemeral = spec.ephemeral_containers.iter().flatten();
    plain
        .map(|container| &container.name)
        .chain(ephemeral.map(|container| &container.name))
        .any(|name| name == container)
}

/// The status of a container that the pod reports.
pub(super) fn status<'a>(pod: &'a Pod, container: &str) -> Option<&'a ContainerStatus> {
    let status = pod.status.as_ref()?;
    let lists =
        [&status.container_statuses, &status.init_container_statuses, &status.ephemeral_container_statuses];
    lists.into_iter().flatten().flatten().find(|status| status.name == container)
}

/// The run of a container that can be spoken to.
pub(super) fn running<'a>(observed: &'a Observed, container: &str) -> Result<&'a Run, Refusal> {
    observed
        .latest(container)
        .filter(|run| run.is_running())
        .ok_or_else(|| Refusal::not_found(format!("container not found ({container:?})")))
}
