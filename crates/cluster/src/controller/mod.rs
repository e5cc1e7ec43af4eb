//! The Cluster controller: sees to it that what is declared comes about, by operations.
//!
//! Level-triggered: each pass looks at the Cluster, its Composition and its operation, does the next thing, and writes what
//! it saw into the status. Nothing is remembered between passes.

mod deletion;
mod external;
mod growth;
mod installed;
mod losses;
mod new_nodes;
mod reconcile;
mod situation;

use std::sync::Arc;

use drystone_api::{Cluster, Composition, Operation};
use drystone_engine::{
    events::EventSink,
    harness::{Controller, ControllerConfig},
    reference::ObjectKey,
};
use kube::{Client, ResourceExt as _, runtime::watcher};
use tokio_util::sync::CancellationToken;

use crate::{plan::Timing, steps::StepDependencies};

/// Finalizer on every Cluster.
pub const FINALIZER: &str = "drystone.dev/cluster";

/// What the controller is given.
#[derive(Clone)]
pub struct ClusterConfig {
    /// What the steps need; the same as for [`crate::steps::register`].
    pub dependencies: StepDependencies,
    /// Expected times.
    pub timing: Timing,
    /// Where events go.
    pub events: Arc<dyn EventSink>,
}

/// Runs the controllers of clusters and of their storage, and the growth of all clusters, until `shutdown`.
pub async fn run(client: Client, config: ClusterConfig, shutdown: CancellationToken) {
    let reconciler = reconcile::ClusterReconciler { client: client.clone(), config: config.clone() };
    let settings = ControllerConfig { events: config.events.clone(), ..ControllerConfig::default() };
    let controller = Controller::new(client.clone(), reconciler, settings)
        .owns::<Composition>()
        .watches::<Operation>(watcher::Config::default(), |operation: &Operation, _| {
            let subject = &operation.spec.subject;
            let ours = subject.kind == "Cluster";
            ours.then(|| ObjectKey::new(subject.namespace.clone(), subject.name.clone()))
                .into_iter()
                .collect()
        });
    let clusters = controller.objects();
    let list = move || clusters.list();
    let storage = crate::storage::run(client.clone(), config.events.clone(), shutdown.clone());
    tokio::join!(
        controller.run(shutdown.clone()),
        growth::run(client, config.events, list, shutdown),
        storage
    );
}

/// `namespace/name` of a cluster, for messages.
fn key(cluster: &Cluster) -> String {
    format!("{}/{}", cluster.namespace().unwrap_or_default(), cluster.name_any())
}
