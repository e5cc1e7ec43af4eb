//! Services of type LoadBalancer: external addresses out of configured pools, announced by one of the nodes.
//!
//! All Services are decided together by one worker ([`assign`]), so an address has one owner at any time. What was
//! written but is not visible yet is remembered; everything else is read from the API.

pub mod announce;
pub mod assign;
pub mod pool;

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use k8s_openapi::api::core::v1::{LoadBalancerIngress, LoadBalancerStatus, Service, ServiceStatus};
use tokio::task::JoinSet;

use self::{
    announce::ANNOUNCED_BY,
    assign::{Wish, held},
    pool::Pools,
};
use crate::{
    caches::{BY_SERVICE, Caches},
    context::Context,
    error::{ConfigError, ReconcileError},
    harness::{self, Next, Reconcile},
    kind::{self, ObjectKey, annotation},
    node::taint::Readiness,
    queue::WorkQueue,
};

/// The controller.
pub struct LoadBalancerController {
    context: Context,
    pools: Pools,
    memory: Mutex<Memory>,
}

#[derive(Default)]
struct Memory {
    /// Addresses written to a Service (by UID) that the cache may not show yet.
    written: HashMap<String, Vec<IpAddr>>,
    /// What a Service was last told about why it has no address.
    refused: HashMap<String, String>,
}

/// Starts the controller.
///
/// # Errors
/// If the configured pools are wrong.
pub fn start(context: &Context, tasks: &mut JoinSet<()>) -> Result<(), ConfigError> {
    let pools = Pools::parse(&context.config.external_pools)?;
    let queue = WorkQueue::default();
    follow(&context.caches, &queue);
    let controller = Arc::new(LoadBalancerController {
        context: context.named(LoadBalancerController::NAME),
        pools,
        memory: Mutex::new(Memory::default()),
    });
    harness::spawn(tasks, &controller, &queue, 1, context);
    Ok(())
}

/// Every change wakes the one item of work there is: looking at all Services.
fn everything() -> ObjectKey {
    ObjectKey::default()
}

fn follow(caches: &Caches, queue: &WorkQueue<ObjectKey>) {
    let waking = queue.clone();
    caches.services.subscribe(move |change| {
        let concerns =
            |service: &Service| assign::is_wanted(service) || annotation(service, ANNOUNCED_BY).is_some();
        if concerns(change.newest()) || change.previous().is_some_and(|previous| concerns(previous)) {
            waking.add(everything());
        }
    });
    let waking = queue.clone();
    caches.nodes.subscribe(move |change| {
        let newest = change.newest();
        let same = |previous: &k8s_openapi::api::core::v1::Node| {
            Readiness::of(previous) == Readiness::of(newest)
                && previous.metadata.labels == newest.metadata.labels
                && kind::is_deleting(previous) == kind::is_deleting(newest.as_ref())
        };
        let gone = matches!(change, crate::cache::Change::Deleted(_));
        if gone || !change.previous().is_some_and(|previous| same(previous)) {
            waking.add(everything());
        }
    });
    let (services, waking) = (caches.services.clone(), queue.clone());
    caches.endpoint_slices.subscribe(move |change| {
        let slice = change.newest().as_ref();
        let service = kind::label(slice, crate::endpoints::slices::SERVICE_LABEL);
        let service = service.and_then(|name| services.get(&ObjectKey::new(kind::namespace(slice), name)));
        let policy =
            |service: &Service| service.spec.as_ref().and_then(|spec| spec.external_traffic_policy.clone());
        if service.is_some_and(|s| assign::is_wanted(&s) && policy(&s).as_deref() == Some("Local")) {
            waking.add(everything());
        }
    });
}

impl Reconcile for LoadBalancerController {
    const NAME: &'static str = "service-controller";

    async fn reconcile(&self, _: &ObjectKey) -> Result<Next, ReconcileError> {
        let services = self.context.caches.services.list();
        let wishes = self.wishes(&services);
        let assignments = assign::assign(&wishes, &self.pools);
        let mut outcome = Ok(Next::Await);
        for service in &services {
            let result = match assignments.get(kind::uid(service.as_ref())) {
                Some(Ok(addresses)) => self.serve(service, addresses).await,
                Some(Err(problem)) => self.refuse(service, problem).await,
                None => self.release(service).await,
            };
            // One Service's trouble must not keep the others waiting.
            if let Err(error) = result
                && !error.is_not_found()
                && outcome.is_ok()
            {
                outcome = Err(error);
            }
        }
        outcome
    }
}

impl LoadBalancerController {
    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the Services want, with what was written to them a moment ago counted as held.
    fn wishes(&self, services: &[Arc<Service>]) -> Vec<Wish> {
        let mut memory = self.memory();
        let exists = |uid: &String| services.iter().any(|service| kind::uid(service.as_ref()) == uid);
        memory.written.retain(|uid, _| exists(uid));
        memory.refused.retain(|uid, _| exists(uid));
        let mut wishes: Vec<Wish> = services.iter().filter_map(|service| Wish::of(service)).collect();
        for wish in &mut wishes {
            if wish.held.is_empty() {
                wish.held = memory.written.get(&wish.uid).cloned().unwrap_or_default();
            } else {
                memory.written.remove(&wish.uid);
            }
        }
        wishes
    }

    /// Shows the addresses in the status and has a node announce them.
    async fn serve(&self, service: &Arc<Service>, addresses: &[IpAddr]) -> Result<(), ReconcileError> {
        if kind::is_deleting(service.as_ref()) {
            return Ok(());
        }
        let uid = kind::uid(service.as_ref());
        self.memory().refused.remove(uid);
        let mut service = service.clone();
        if held(&service) != addresses {
            let recorder = &self.context.recorder;
            recorder.normal(service.as_ref(), "EnsuringLoadBalancer", "Ensuring load balancer");
            let written = self.show(&service, addresses).await?;
            self.memory().written.insert(uid.to_owned(), addresses.to_vec());
            let list: Vec<String> = addresses.iter().map(ToString::to_string).collect();
            recorder.normal(&written, "EnsuredLoadBalancer", "Ensured load balancer");
            recorder.normal(
                &written,
                "AddressAssigned",
                format!("Assigned external address {}", list.join(", ")),
            );
            service = Arc::new(written);
        }
        self.announce(&service).await
    }

    async fn announce(&self, service: &Arc<Service>) -> Result<(), ReconcileError> {
        let caches = &self.context.caches;
        let nodes = caches.nodes.list();
        let slices = caches.endpoint_slices.indexed(BY_SERVICE, &ObjectKey::of(service.as_ref()).to_string());
        let present = annotation(service.as_ref(), ANNOUNCED_BY);
        let chosen = announce::announcer(service, &nodes, &slices, present);
        if chosen.as_deref() == present {
            return Ok(());
        }
        let recorder = &self.context.recorder;
        match (&chosen, present) {
            (Some(node), None) => {
                recorder.normal(
                    service.as_ref(),
                    "Announced",
                    format!("Node {node} announces the external address"),
                );
            }
            (Some(node), Some(before)) => {
                let message = format!("Node {node} announces the external address instead of {before}");
                recorder.normal(service.as_ref(), "UpdatedLoadBalancer", message);
            }
            (None, _) => {
                let message = "No ready node can announce the external address";
                recorder.warning(service.as_ref(), "UnAvailableLoadBalancer", message);
            }
        }
        self.set_announcer(service, chosen).await.map(|_| ())
    }

    async fn refuse(&self, service: &Arc<Service>, problem: &str) -> Result<(), ReconcileError> {
        let uid = kind::uid(service.as_ref()).to_owned();
        let news = self.memory().refused.insert(uid, problem.to_owned()).as_deref() != Some(problem);
        if news {
            let message = format!("Error syncing load balancer: {problem}");
            self.context.recorder.warning(service.as_ref(), "SyncLoadBalancerFailed", message);
        }
        self.clear(service).await
    }

    /// The Service is no longer one that has external addresses; only what came from here is taken away.
    async fn release(&self, service: &Arc<Service>) -> Result<(), ReconcileError> {
        if annotation(service.as_ref(), ANNOUNCED_BY).is_none() {
            return Ok(());
        }
        let recorder = &self.context.recorder;
        recorder.normal(service.as_ref(), "DeletingLoadBalancer", "Deleting load balancer");
        self.clear(service).await?;
        recorder.normal(service.as_ref(), "DeletedLoadBalancer", "Deleted load balancer");
        Ok(())
    }

    /// Ends the announcement first, so that an address is never announced that the status does not show.
    async fn clear(&self, service: &Arc<Service>) -> Result<(), ReconcileError> {
        self.memory().written.remove(kind::uid(service.as_ref()));
        let mut service = service.clone();
        if annotation(service.as_ref(), ANNOUNCED_BY).is_some() {
            service = self.set_announcer(&service, None).await?;
        }
        if !held(&service).is_empty() {
            self.show(&service, &[]).await?;
        }
        Ok(())
    }

    async fn set_announcer(
        &self,
        service: &Arc<Service>,
        node: Option<String>,
    ) -> Result<Arc<Service>, ReconcileError> {
        let mut changed = service.as_ref().clone();
        let annotations = changed.metadata.annotations.get_or_insert_default();
        match node {
            Some(node) => annotations.insert(ANNOUNCED_BY.into(), node),
            None => annotations.remove(ANNOUNCED_BY),
        };
        let written = self.context.writer.update(service.as_ref(), &changed).await?;
        Ok(written.map_or_else(|| service.clone(), Arc::new))
    }

    async fn show(&self, service: &Arc<Service>, addresses: &[IpAddr]) -> Result<Service, ReconcileError> {
        let previous = service.status.clone().unwrap_or_default();
        let ingress: Vec<LoadBalancerIngress> = addresses
            .iter()
            .map(|address| LoadBalancerIngress {
                ip: Some(address.to_string()),
                ip_mode: Some("VIP".into()),
                ..Default::default()
            })
            .collect();
        let balancer = LoadBalancerStatus { ingress: Some(ingress).filter(|list| !list.is_empty()) };
        let status = ServiceStatus { load_balancer: Some(balancer), ..previous.clone() };
        let written = self.context.writer.update_status(service.as_ref(), &previous, &status).await?;
        Ok(written.unwrap_or_else(|| service.as_ref().clone()))
    }
}
