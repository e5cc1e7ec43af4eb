//! Life-cycle operations, deployment intent groups, logical clouds and clusters as objects of the API.

mod clouds;
mod connections;
mod finalizers;
mod operations;
mod prepare;
mod registry;
#[cfg(test)]
mod tests;

pub use registry::{BuiltIn, RegisteredControllers, is_own_place};

use std::time::Duration;

use drystone_api::{
    Operation,
    emco::{Cluster, DeploymentIntentGroup, LifecycleOperation, LogicalCloud},
};
use drystone_appcontext::AppContextError;
use drystone_engine::{
    harness::{Cache, Caches, Controller, ControllerConfig, StatusError},
    operations::{StartError, prune},
    reference::{ObjectKey, describe_kube_error},
};
use futures::StreamExt as _;
use kube::Client;
use tokio_util::sync::CancellationToken;

use crate::{
    clusters::{ClusterAccess, Onboarding, Reachability},
    library::Library,
    steps::StepDependencies,
};

/// How often it is looked which operations have ended long ago.
const PRUNE_INTERVAL: Duration = Duration::from_secs(300);

/// Finalizer of what has contexts: they go with it.
pub const FINALIZER: &str = "emco.drystone.dev/contexts";

/// What the controllers work with.
#[derive(Clone)]
pub struct LifecycleConfig {
    /// What steps work with, too.
    pub dependencies: StepDependencies,
    /// Ways to clusters.
    pub access: ClusterAccess,
    /// Registered controllers, whose connections are kept; none where somebody else keeps them.
    pub registry: Option<RegisteredControllers>,
    /// Authority of controllers that are spoken to over TLS and name none, PEM.
    pub authority_pem: String,
    /// How the harness works.
    pub controller: ControllerConfig,
}

/// Why a reconciliation did not succeed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("{}", describe_kube_error(.0))]
    Api(#[from] kube::Error),
    #[error(transparent)]
    Status(#[from] StatusError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Context(#[from] AppContextError),
    #[error("{0}")]
    Other(String),
}

/// Runs the controllers until `shutdown`. To be run by one process at a time, as the engine is.
pub async fn run(client: Client, caches: &Caches, config: LifecycleConfig, shutdown: CancellationToken) {
    let library = config.dependencies.library.clone();
    let engine: Cache<Operation> = caches.of();
    if !library.ready().await || !engine.ready().await {
        return;
    }
    let shared = config.controller.clone();
    let (client_of_connections, library_of_connections) = (client.clone(), library.clone());
    let pruning = shutdown.run_until_cancelled(prune_operations(client.clone(), library.clone()));
    let operations = operations::Operations {
        client: client.clone(),
        dependencies: config.dependencies.clone(),
        engine: engine.clone(),
    };
    let held = |holder: Option<&String>| -> Vec<ObjectKey> {
        holder.map(|name| ObjectKey::new(drystone_api::SYSTEM_NAMESPACE, name)).into_iter().collect()
    };
    let operations = Controller::new(client.clone(), operations, shared.clone())
        .watches_cache(&engine, |operation: &Operation, _| {
            let subject = &operation.spec.subject;
            let ours = subject.kind == "LifecycleOperation";
            ours.then(|| ObjectKey::from(subject)).into_iter().collect()
        })
        .watches_cache(&library.groups, move |group: &DeploymentIntentGroup, _| {
            held(group.status.as_ref().and_then(|status| status.operation.as_ref()))
        })
        .watches_cache(&library.clouds, move |cloud: &LogicalCloud, _| {
            held(cloud.status.as_ref().and_then(|status| status.operation.as_ref()))
        })
        .watches_cache(&library.clusters, move |cluster: &Cluster, _| {
            held(cluster.status.as_ref().and_then(|status| status.operation.as_ref()))
        });
    let groups = finalizers::Groups(finalizers::Ends {
        client: client.clone(),
        dependencies: config.dependencies.clone(),
    });
    let groups = Controller::new(client.clone(), groups, shared.clone());
    let networks = finalizers::Networks(finalizers::Ends {
        client: client.clone(),
        dependencies: config.dependencies.clone(),
    });
    let networks = Controller::new(client.clone(), networks, shared.clone());
    let clouds = clouds::Clouds {
        ends: finalizers::Ends { client: client.clone(), dependencies: config.dependencies.clone() },
        access: config.access.clone(),
    };
    let clouds = Controller::new(client.clone(), clouds, shared.clone());
    let reachability = Reachability { client: client.clone(), access: config.access.clone() };
    let reachability = Controller::new(client.clone(), reachability, shared.clone());
    let onboarding = Onboarding { client: client.clone(), library };
    let onboarding = Controller::new(client, onboarding, shared);
    let (client, library) = (&client_of_connections, &library_of_connections);
    let connections = keep_connections(client, library, &config, shutdown.clone());
    tokio::join!(
        pruning,
        connections,
        operations.run(shutdown.clone()),
        groups.run(shutdown.clone()),
        networks.run(shutdown.clone()),
        clouds.run(shutdown.clone()),
        reachability.run(shutdown.clone()),
        onboarding.run(shutdown.clone()),
    );
}

/// Deletes operations that have ended long ago.
async fn prune_operations(client: Client, library: Library) {
    let ended = |operation: &LifecycleOperation| operations::ended(operation, &library);
    let all = library.operations.clone();
    prune::keep_pruned(client, all, ended, operations::RETENTION, PRUNE_INTERVAL).await;
}

/// Keeps connections to registered controllers.
async fn keep_connections(
    client: &Client,
    library: &Library,
    config: &LifecycleConfig,
    shutdown: CancellationToken,
) {
    let Some(registry) = &config.registry else { return };
    let connections = connections::Connections {
        client: client.clone(),
        pool: registry.pool().clone(),
        registry: registry.clone(),
        authority_pem: config.authority_pem.clone(),
    };
    let connections = Controller::new(client.clone(), connections, config.controller.clone());
    let forgetting = async {
        let mut changes = std::pin::pin!(library.controllers.changes());
        while changes.next().await.is_some() {
            registry.forget_strangers();
        }
    };
    tokio::join!(connections.run(shutdown.clone()), shutdown.run_until_cancelled(forgetting));
}
