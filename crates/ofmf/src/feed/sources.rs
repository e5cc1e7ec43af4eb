//! The objects that the service shows, each kind watched once.

use drystone_api::{
    AddressPool, BareMetalHost, Composition, Connection, EndpointGroup, FabricAgent, Operation,
    ResourceBlock, Switch, Zone,
};
use drystone_engine::harness::{Cache, Caches};

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
}

impl Sources {
    /// Of what is known of an API. Must be called inside a Tokio runtime.
    pub fn new(caches: &Caches) -> Self {
        Self {
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
