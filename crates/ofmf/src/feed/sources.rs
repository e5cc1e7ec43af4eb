//! The objects that the service shows, each kind watched once.

use drystone_api::{
    AddressPool, BareMetalHost, Composition, Connection, EndpointGroup, FabricAgent, Operation,
    ResourceBlock, SYSTEM_NAMESPACE, Switch, Zone,
};
use drystone_engine::harness::{Cache, Caches};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client, runtime::watcher};
use tokio_util::sync::CancellationToken;

use crate::render::aggregation::AGGREGATE_LABEL;

/// Copies of all objects that the service shows.
#[derive(Debug, Clone)]
pub struct Sources {
    /// Hosts.
    pub hosts: Cache<BareMetalHost>,
    /// What is in them.
    pub blocks: Cache<ResourceBlock>,
    /// Switches of fabrics.
    pub switches: Cache<Switch>,
    /// Services of fabrics.
    pub agents: Cache<FabricAgent>,
    /// Zones.
    pub zones: Cache<Zone>,
    /// Connections.
    pub connections: Cache<Connection>,
    /// Endpoint groups.
    pub groups: Cache<EndpointGroup>,
    /// Address pools.
    pub pools: Cache<AddressPool>,
    /// Compositions.
    pub compositions: Cache<Composition>,
    /// Operations.
    pub operations: Cache<Operation>,
    /// Aggregates.
    pub aggregates: Cache<ConfigMap>,
}

impl Sources {
    /// Of what is known of an API. Must be called inside a Tokio runtime.
    pub fn new(caches: &Caches, client: &Client, shutdown: &CancellationToken) -> Self {
        let (label, value) = AGGREGATE_LABEL;
        let aggregates = watcher::Config::default().labels(&format!("{label}={value}"));
        let own = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
        Self {
            aggregates: Cache::start(own, aggregates, shutdown.clone()),
            hosts: caches.of(),
            blocks: caches.of(),
            switches: caches.of(),
            agents: caches.of(),
            zones: caches.of(),
            connections: caches.of(),
            groups: caches.of(),
            pools: caches.of(),
            compositions: caches.of(),
            operations: caches.of(),
        }
    }
}
