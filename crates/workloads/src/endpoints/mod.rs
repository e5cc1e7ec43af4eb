//! Endpoints of Services: EndpointSlices, and the older Endpoints objects.

pub mod desired;
pub mod legacy;
pub mod slices;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use k8s_openapi::api::{
    core::v1::{Endpoints, Pod, Service},
    discovery::v1::EndpointSlice,
};
use tokio::task::JoinSet;

use self::{
    desired::Groups,
    slices::{Action, FOR_MIRRORS, FOR_PODS, MANAGED_BY_LABEL, SERVICE_LABEL},
};
use crate::{
    cache::Change,
    caches::{BY_SERVICE, Caches},
    context::Context,
    dependents::follow_owners,
    error::ReconcileError,
    harness::{self, Next, Reconcile},
    kind::{self, ObjectKey, label},
    loadbalancer::pool::Family,
    queue::WorkQueue,
};

/// Label by which an Endpoints object says that it is not to be mirrored.
const SKIP_MIRROR_LABEL: &str = "endpointslice.kubernetes.io/skip-mirror";
/// Label for the zone of a node.
const ZONE_LABEL: &str = "topology.kubernetes.io/zone";

/// The controller.
pub struct EndpointsController {
    context: Context,
}

/// Starts the controller.
pub fn start(context: &Context, tasks: &mut JoinSet<()>) {
    let queue = WorkQueue::default();
    let caches = &context.caches;
    follow_owners(&caches.services, &queue);
    follow_owners(&caches.endpoints, &queue);
    follow_pods(caches, &queue);
    follow_slices(caches, &queue);
    let controller = Arc::new(EndpointsController { context: context.named(EndpointsController::NAME) });
    harness::spawn(tasks, &controller, &queue, context.config.concurrency.workers, context);
}

/// Wakes the Services that select, or selected, a pod whose endpoint changed.
fn follow_pods(caches: &Caches, queue: &WorkQueue<ObjectKey>) {
    let (services, queue) = (caches.services.clone(), queue.clone());
    caches.pods.subscribe(move |change| {
        let newest = change.newest().as_ref();
        let previous = change.previous().map(AsRef::as_ref);
        if previous.is_some_and(|previous| !matters(previous, newest)) {
            return;
        }
        for service in services.in_namespace(kind::namespace(newest)) {
            if desired::selects(&service, newest)
                || previous.is_some_and(|old| desired::selects(&service, old))
            {
                queue.add(ObjectKey::of(service.as_ref()));
            }
        }
    });
}

/// Wakes the Service of a slice that somebody else changed or deleted.
fn follow_slices(caches: &Caches, queue: &WorkQueue<ObjectKey>) {
    let queue = queue.clone();
    caches.endpoint_slices.subscribe(move |change: &Change<EndpointSlice>| {
        let slice = change.newest().as_ref();
        if let Some(service) = label(slice, SERVICE_LABEL) {
            queue.add(ObjectKey::new(kind::namespace(slice), service));
        }
    });
}

/// Whether a pod's change can change its endpoint.
fn matters(old: &Pod, new: &Pod) -> bool {
    let addresses =
        |pod: &Pod| pod.status.as_ref().map(|status| (status.pod_ip.clone(), status.pod_ips.clone()));
    let view = |pod: &Pod| {
        (
            crate::pod::is_ready(pod),
            crate::pod::is_finished(pod),
            kind::is_deleting(pod),
            crate::pod::node_name(pod).map(str::to_owned),
        )
    };
    old.metadata.labels != new.metadata.labels || view(old) != view(new) || addresses(old) != addresses(new)
}

impl Reconcile for EndpointsController {
    const NAME: &'static str = "endpoint-slice-controller";

    async fn reconcile(&self, key: &ObjectKey) -> Result<Next, ReconcileError> {
        let caches = &self.context.caches;
        let existing = caches.endpoint_slices.indexed(BY_SERVICE, &key.to_string());
        let service = caches.services.get(key).filter(|service| !kind::is_deleting(service.as_ref()));
        let Some(service) = service else {
            // Garbage collection would do the same; but traffic should stop now.
            for slice in existing.iter().filter(|slice| is_ours(slice)) {
                self.context.writer.delete(slice.as_ref(), None).await?;
            }
            return self.remove_endpoints(key).await;
        };
        let outcome = if desired::selector(&service).is_some() {
            let groups = self.groups(&service);
            let primary = groups.first().map(|(_, groups)| groups.clone()).unwrap_or_default();
            let slices = self.write_slices(&service, &existing, &groups, FOR_PODS).await;
            slices.and(self.write_endpoints(&service, &primary).await)
        } else {
            self.mirror(&service, key, &existing).await
        };
        outcome.map(|()| Next::Await).or_else(|error| self.explain(&service, error))
    }
}

impl EndpointsController {
    /// The targets of the Service by family, the primary one first.
    fn groups(&self, service: &Service) -> Vec<(Family, Groups)> {
        let caches = &self.context.caches;
        let pods: Vec<Arc<Pod>> = caches
            .pods
            .in_namespace(kind::namespace(service))
            .into_iter()
            .filter(|pod| desired::selects(service, pod))
            .collect();
        let zone_of = |node: &str| {
            let node = caches.nodes.get(&ObjectKey::cluster(node))?;
            label(node.as_ref(), ZONE_LABEL).map(str::to_owned)
        };
        let families = desired::families(service);
        families
            .into_iter()
            .map(|family| (family, desired::groups(service, &pods, family, &zone_of)))
            .collect()
    }

    /// Copies endpoints written by hand into slices.
    async fn mirror(
        &self,
        service: &Service,
        key: &ObjectKey,
        existing: &[Arc<EndpointSlice>],
    ) -> Result<(), ReconcileError> {
        let by_hand = self.context.caches.endpoints.get(key).filter(|endpoints| {
            label(endpoints.as_ref(), SKIP_MIRROR_LABEL) != Some("true")
                && label(endpoints.as_ref(), legacy::MANAGED_BY_LABEL).is_none()
        });
        let Some(by_hand) = by_hand else {
            for slice in existing.iter().filter(|slice| is_ours(slice)) {
                self.context.writer.delete(slice.as_ref(), None).await?;
            }
            return Ok(());
        };
        let families = desired::families(service).into_iter();
        let groups: Vec<_> =
            families.map(|family| (family, desired::groups_by_hand(&by_hand, family))).collect();
        self.write_slices(service, existing, &groups, FOR_MIRRORS).await
    }

    async fn write_slices(
        &self,
        service: &Service,
        existing: &[Arc<EndpointSlice>],
        groups: &[(Family, Groups)],
        managed_by: &str,
    ) -> Result<(), ReconcileError> {
        let writer = &self.context.writer;
        for action in slices::plan(service, existing, groups, managed_by) {
            match action {
                Action::Create(slice) => writer.create(slice.as_ref()).await.map(|_| ())?,
                Action::Update { old, new } => writer.update(old.as_ref(), new.as_ref()).await.map(|_| ())?,
                Action::Delete(slice) => writer.delete(slice.as_ref(), None).await?,
            }
        }
        Ok(())
    }

    async fn write_endpoints(&self, service: &Service, groups: &Groups) -> Result<(), ReconcileError> {
        let existing = self.context.caches.endpoints.get(&ObjectKey::of(service));
        let wanted = legacy::endpoints(service, existing.as_deref(), groups);
        match existing {
            None => self.context.writer.create(&wanted).await.map(|_| ()),
            Some(existing) => self.context.writer.update(existing.as_ref(), &wanted).await.map(|_| ()),
        }
    }

    /// Only those this controller made; what users wrote by hand is theirs.
    async fn remove_endpoints(&self, key: &ObjectKey) -> Result<Next, ReconcileError> {
        let endpoints: Option<Arc<Endpoints>> = self.context.caches.endpoints.get(key);
        if let Some(endpoints) = endpoints.filter(|e| label(e.as_ref(), legacy::MANAGED_BY_LABEL).is_some()) {
            self.context.writer.delete(endpoints.as_ref(), None).await?;
        }
        Ok(Next::Await)
    }

    fn explain(&self, service: &Service, error: ReconcileError) -> Result<Next, ReconcileError> {
        if error.is_namespace_terminating() {
            return Ok(Next::Await);
        }
        if error.is_already_exists() {
            return Err(ReconcileError::Stale("endpoints created a moment ago are not visible yet".into()));
        }
        if !error.is_expected() && !error.is_not_found() {
            let message = format!(
                "Error updating Endpoint Slices for Service {}: {}",
                ObjectKey::of(service),
                error.user_message()
            );
            self.context.recorder.warning(service, "FailedToUpdateEndpointSlices", message);
        }
        Err(error)
    }
}

fn is_ours(slice: &EndpointSlice) -> bool {
    matches!(label(slice, MANAGED_BY_LABEL), Some(FOR_PODS | FOR_MIRRORS))
}
