//! Copies of everything that a snapshot is made from, kept current by watches.

use std::sync::{Arc, Mutex, PoisonError};

use drystone_api::{BareMetalHost, Composition, ResourceBlock, ResourcePool, Switch};
use drystone_engine::harness::{Cache, Caches};
use kube::ResourceExt as _;

use crate::{
    model::{Distances, Snapshot},
    snapshot::{Observed, assemble},
    topology::{SwitchNode, nodes_of},
};

/// The copies. Cheap to clone.
#[derive(Clone)]
pub struct Inventory {
    pub(crate) hosts: Cache<BareMetalHost>,
    pub(crate) blocks: Cache<ResourceBlock>,
    pub(crate) pools: Cache<ResourcePool>,
    pub(crate) compositions: Cache<Composition>,
    switches: Cache<Switch>,
    topology: Arc<Mutex<Topology>>,
}

/// Distances, and what they were made from.
#[derive(Default)]
struct Topology {
    /// Names and resource versions of what was read.
    versions: Vec<(String, Option<String>)>,
    nodes: Vec<SwitchNode>,
    distances: Arc<Distances>,
}

impl Inventory {
    /// Of what is known of an API.
    pub fn new(caches: &Caches) -> Self {
        Self {
            hosts: caches.of(),
            blocks: caches.of(),
            pools: caches.of(),
            compositions: caches.of(),
            switches: caches.of(),
            topology: Arc::default(),
        }
    }

    /// Completes when everything is known; `false` when shut down before.
    pub async fn ready(&self) -> bool {
        self.hosts.ready().await
            && self.blocks.ready().await
            && self.pools.ready().await
            && self.compositions.ready().await
            && self.switches.ready().await
    }

    /// What is known now.
    pub fn snapshot(&self) -> Snapshot {
        let observed = Observed {
            hosts: self.hosts.list(),
            blocks: self.blocks.list(),
            pools: self.pools.list(),
            compositions: self.compositions.list(),
        };
        assemble(&observed, self.distances())
    }

    /// Distances as the switches are now. What has been computed of them stays as long as no link changes, however often the
    /// switches are read anew.
    fn distances(&self) -> Arc<Distances> {
        let switches = self.switches.list();
        let versions: Vec<_> =
            switches.iter().map(|switch| (switch.name_any(), switch.resource_version())).collect();
        let mut known = self.topology.lock().unwrap_or_else(PoisonError::into_inner);
        if known.versions != versions {
            let nodes = nodes_of(switches.iter().map(AsRef::as_ref));
            if known.nodes != nodes {
                known.distances = Arc::new(Distances::new(nodes.clone()));
                known.nodes = nodes;
            }
            known.versions = versions;
        }
        known.distances.clone()
    }
}
