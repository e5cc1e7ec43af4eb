//! Operation occurrences, instances and VIMs as objects of the API.

mod finish;
mod instances;
mod occurrences;
mod prepare;
#[cfg(test)]
mod tests;
mod vims;

use std::{sync::Arc, time::Duration};

use drystone_api::{
    Operation,
    nfv::{Vim, VnfInstance, VnfLcmOperation, VnfPackage},
};
use drystone_engine::{
    harness::{Cache, Caches, Controller, ControllerConfig, StatusError},
    operations::{FollowError, StartError, prune},
    reference::{ObjectKey, describe_kube_error},
};
use drystone_sol003::types::ProblemDetails;
use instances::Instances;
use kube::Client;
use occurrences::Occurrences;
use tokio_util::sync::CancellationToken;
use vims::Vims;

use crate::{
    mgmt::Drivers,
    plan::infrastructure::InfrastructurePlanner,
    steps::{Blueprints, VimDriver},
};

/// How often it is looked which occurrences have ended long ago.
const PRUNE_INTERVAL: Duration = Duration::from_secs(300);

/// What the controllers of the life cycle work with.
#[derive(Clone)]
pub struct LifecycleConfig {
    /// Packages.
    pub blueprints: Arc<dyn Blueprints>,
    /// OpenStacks.
    pub vims: Arc<dyn VimDriver>,
    /// Drivers of hooks.
    pub drivers: Drivers,
    /// Who plans what happens on VIMs of type Kubernetes; none if they are not supported.
    pub containers: Option<Arc<dyn InfrastructurePlanner>>,
    /// How the harness works.
    pub controller: ControllerConfig,
}

/// Copies of the objects that the controllers look at.
#[derive(Debug, Clone)]
struct World {
    instances: Cache<VnfInstance>,
    occurrences: Cache<VnfLcmOperation>,
    packages: Cache<VnfPackage>,
    vims: Cache<Vim>,
    operations: Cache<Operation>,
}

impl World {
    fn of(caches: &Caches) -> Self {
        Self {
            instances: caches.of(),
            occurrences: caches.of(),
            packages: caches.of(),
            vims: caches.of(),
            operations: caches.of(),
        }
    }

    async fn ready(&self) -> bool {
        self.instances.ready().await
            && self.occurrences.ready().await
            && self.packages.ready().await
            && self.vims.ready().await
            && self.operations.ready().await
    }

    /// The onboarded package with that VNFD.
    fn package(&self, namespace: &str, vnfd_id: &str) -> Option<Arc<VnfPackage>> {
        let has = |package: &VnfPackage| {
            let here = package.metadata.namespace.as_deref() == Some(namespace);
            here && package.status.as_ref().is_some_and(|status| status.vnfd_id.as_deref() == Some(vnfd_id))
        };
        self.packages.list_where(has).into_iter().next()
    }

    /// The VIMs of a namespace.
    fn vims_in(&self, namespace: &str) -> Vec<Arc<Vim>> {
        self.vims.list_where(|vim| vim.metadata.namespace.as_deref() == Some(namespace))
    }
}

/// Why a reconciliation did not succeed.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{}", describe_kube_error(.0))]
    Api(#[from] kube::Error),
    #[error(transparent)]
    Status(#[from] StatusError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Order(#[from] FollowError),
}

/// What the controllers would make of an operation that is not written down yet. Cheap to clone.
#[derive(Clone)]
pub struct Foresight(Arc<Occurrences>);

impl std::fmt::Debug for Foresight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Foresight").finish_non_exhaustive()
    }
}

impl Foresight {
    /// By the same packages, drivers and VIMs as the controllers. Must be called inside a Tokio runtime.
    pub fn new(client: Client, caches: &Caches, config: LifecycleConfig) -> Self {
        Self(Arc::new(Occurrences { client, world: World::of(caches), config }))
    }

    /// Plans an operation, and does nothing.
    ///
    /// # Errors
    /// What is wrong with it, as an occurrence of it would say.
    pub fn check(
        &self,
        instance: Arc<VnfInstance>,
        operation: &VnfLcmOperation,
    ) -> Result<(), ProblemDetails> {
        self.0.plan(operation, instance).map(drop).map_err(|problem| problem.details())
    }
}

/// Runs the controllers of the life cycle until `shutdown`. To be run by one process at a time, as the engine is.
pub async fn run(client: Client, caches: &Caches, config: LifecycleConfig, shutdown: CancellationToken) {
    let world = World::of(caches);
    if !world.ready().await {
        return;
    }
    let (shared, of_pruning) = (config.controller.clone(), world.instances.clone());
    let occurrences = Occurrences { client: client.clone(), world: world.clone(), config: config.clone() };
    let occurrences = Controller::new(client.clone(), occurrences, shared.clone())
        .watches_cache(&world.operations, |operation: &Operation, _| {
            let subject = &operation.spec.subject;
            let ours = subject.kind == occurrences::KIND;
            ours.then(|| ObjectKey::from(subject)).into_iter().collect()
        })
        .watches_cache(&world.instances, |instance: &VnfInstance, _| {
            let holder = instance.status.as_ref().and_then(|status| status.operation.as_ref());
            let namespace = instance.metadata.namespace.clone().unwrap_or_default();
            holder.map(|name| ObjectKey::new(namespace, name)).into_iter().collect()
        });
    let pruning = prune::keep_pruned(
        client.clone(),
        world.occurrences.clone(),
        |occurrence| occurrences::ended(occurrence, &of_pruning),
        occurrences::RETENTION,
        PRUNE_INTERVAL,
    );
    let pruning = shutdown.run_until_cancelled(pruning);
    let instances = Instances { client: client.clone(), world: world.clone() };
    let instances = Controller::new(client.clone(), instances, shared.clone());
    let vims = Vims { client: client.clone(), world, driver: config.vims };
    let vims = Controller::new(client, vims, shared);
    tokio::join!(
        pruning,
        occurrences.run(shutdown.clone()),
        instances.run(shutdown.clone()),
        vims.run(shutdown.clone())
    );
}
