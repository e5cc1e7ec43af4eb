//! The one set of caches that all controllers of the process share.

use std::sync::Arc;

use k8s_openapi::api::{
    apps::v1::{ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet},
    batch::v1::{CronJob, Job},
    coordination::v1::Lease,
    core::v1::{Endpoints, Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod, Service},
    discovery::v1::EndpointSlice,
    policy::v1::PodDisruptionBudget,
    storage::v1::StorageClass,
};
use kube::{Api, Client, Resource, runtime::watcher};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{
    cache::{Cache, Index},
    informer,
    kind::{self, Kind},
    owner::controller_of,
    pod,
};

/// Index of pods by the node they are bound to.
pub const BY_NODE: &str = "node";
/// Index by the UID of the controller; objects without one are filed under [`orphans`].
pub const BY_CONTROLLER: &str = "controller";
/// Index of pods by the claims they use, as `namespace/claim`.
pub const BY_CLAIM: &str = "claim";
/// Index of endpoints slices by their Service, as `namespace/service`.
pub const BY_SERVICE: &str = "service";

/// Namespace of the nodes' heartbeat leases.
pub const NODE_LEASE_NAMESPACE: &str = "kube-node-lease";

/// Value of [`BY_CONTROLLER`] under which a namespace's objects without a controller are filed.
pub fn orphans(namespace: &str) -> String {
    format!("orphans/{namespace}")
}

macro_rules! caches {
    ($($(#[$doc:meta])* $field:ident: $kind:ty = $indexes:expr),* $(,)?) => {
        /// One cache per kind.
        pub struct Caches {
            $($(#[$doc])* pub $field: Arc<Cache<$kind>>,)*
        }

        impl Caches {
            /// Empty caches.
            pub fn new() -> Self {
                Self { $($field: Arc::new(Cache::new($indexes)),)* }
            }

            /// Starts feeding all caches from the API.
            pub fn spawn_feeds(&self, client: &Client, tasks: &mut JoinSet<()>, shutdown: &CancellationToken) {
                $(feed(&self.$field, client, tasks, shutdown);)*
            }

            /// Waits until all caches have been filled once.
            pub async fn synced(&self) {
                $(self.$field.synced().await;)*
            }
        }
    };
}

caches! {
    /// Pods of all namespaces.
    pods: Pod = pod_indexes(),
    /// Nodes.
    nodes: Node = vec![],
    /// Heartbeat leases of nodes.
    node_leases: Lease = vec![],
    /// Namespaces (their labels select pods in affinity terms).
    namespaces: Namespace = vec![],
    /// Deployments.
    deployments: Deployment = vec![],
    /// Replica sets.
    replica_sets: ReplicaSet = vec![by_controller()],
    /// Stateful sets.
    stateful_sets: StatefulSet = vec![],
    /// Daemon sets.
    daemon_sets: DaemonSet = vec![],
    /// Revisions of stateful and daemon sets.
    revisions: ControllerRevision = vec![by_controller()],
    /// Jobs.
    jobs: Job = vec![by_controller()],
    /// Cron jobs.
    cron_jobs: CronJob = vec![],
    /// Services.
    services: Service = vec![],
    /// Endpoints of services, in the older form.
    endpoints: Endpoints = vec![],
    /// Endpoints of services.
    endpoint_slices: EndpointSlice = vec![Index { name: BY_SERVICE, values: slice_service }],
    /// Volumes.
    volumes: PersistentVolume = vec![],
    /// Claims.
    claims: PersistentVolumeClaim = vec![],
    /// Storage classes.
    storage_classes: StorageClass = vec![],
    /// Disruption budgets.
    disruption_budgets: PodDisruptionBudget = vec![],
}

impl Default for Caches {
    fn default() -> Self {
        Self::new()
    }
}

impl Caches {
    /// The pods an owner may control: its own, and those of its namespace that have no controller.
    pub fn candidate_pods(&self, owner_uid: &str, namespace: &str) -> Vec<Arc<Pod>> {
        let mut pods = self.pods.indexed(BY_CONTROLLER, owner_uid);
        pods.extend(self.pods.indexed(BY_CONTROLLER, &orphans(namespace)));
        pods
    }
}

fn feed<K: Kind>(
    cache: &Arc<Cache<K>>,
    client: &Client,
    tasks: &mut JoinSet<()>,
    shutdown: &CancellationToken,
) {
    // Of all leases only the heartbeats of nodes concern the controllers.
    let api = if K::kind(&()) == Lease::kind(&()) {
        K::api(client.clone(), NODE_LEASE_NAMESPACE)
    } else {
        Api::all(client.clone())
    };
    tasks.spawn(informer::feed(cache.clone(), api, watcher::Config::default(), shutdown.clone()));
}

fn controller_values<K: Resource>(object: &K) -> Vec<String> {
    vec![
        controller_of(object)
            .map_or_else(|| orphans(kind::namespace(object)), |reference| reference.uid.clone()),
    ]
}

fn by_controller<K: Resource>() -> Index<K> {
    Index { name: BY_CONTROLLER, values: controller_values }
}

fn pod_indexes() -> Vec<Index<Pod>> {
    vec![
        by_controller(),
        Index { name: BY_NODE, values: |pod| pod::node_name(pod).map(str::to_owned).into_iter().collect() },
        Index { name: BY_CLAIM, values: claim_keys },
    ]
}

/// The claims a pod uses, as `namespace/claim`.
fn claim_keys(pod: &Pod) -> Vec<String> {
    let namespace = kind::namespace(pod);
    pod::claim_names(pod).into_iter().map(|claim| format!("{namespace}/{claim}")).collect()
}

fn slice_service(slice: &EndpointSlice) -> Vec<String> {
    let service = kind::label(slice, "kubernetes.io/service-name");
    service.map(|service| format!("{}/{service}", kind::namespace(slice))).into_iter().collect()
}
