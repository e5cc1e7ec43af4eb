//! The objects that the service shows, each kind watched once.

use drystone_api::{
    AddressPool, BareMetalHost, Composition, Connection, EndpointGroup, FabricAgent, Operation,
    ResourceBlock, Switch, Zone,
};
use drystone_engine::harness::{Cache, WatchedObject};
use kube::{Api, Client, runtime::watcher};
use tokio_util::sync::CancellationToken;

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
    /// Starts to watch, until `shutdown`. Must be called inside a Tokio runtime.
    pub fn start(client: &Client, shutdown: &CancellationToken) -> Self {
        Self {
            hosts: watch(client, shutdown),
            blocks: watch(client, shutdown),
            switches: watch(client, shutdown),
            agents: watch(client, shutdown),
            zones: watch(client, shutdown),
            connections: watch(client, shutdown),
            groups: watch(client, shutdown),
            pools: watch(client, shutdown),
            compositions: watch(client, shutdown),
            operations: watch(client, shutdown),
        }
    }
}

fn watch<K: WatchedObject>(client: &Client, shutdown: &CancellationToken) -> Cache<K> {
    Cache::start(Api::all(client.clone()), watcher::Config::default(), shutdown.clone())
}
