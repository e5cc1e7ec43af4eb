//! The fabrics as planners see them, made from the Switch objects once for every change and shared until the next.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use drystone_api::Switch;
use drystone_engine::harness::Cache;
use kube::ResourceExt as _;

use crate::model::{Fabric, merge};

/// What the fabrics were made from: the version of every Switch.
type Versions = BTreeMap<(String, String), String>;

/// The fabrics as they are now.
#[derive(Clone)]
pub(super) struct Fabrics {
    switches: Cache<Switch>,
    made: Arc<Mutex<Made>>,
}

#[derive(Default)]
struct Made {
    from: Versions,
    fabrics: Arc<Vec<Fabric>>,
}

impl Fabrics {
    pub(super) fn new(switches: Cache<Switch>) -> Self {
        Self { switches, made: Arc::default() }
    }

    /// All fabrics, in order of id.
    pub(super) fn current(&self) -> Arc<Vec<Fabric>> {
        let switches = self.switches.list();
        let version = |switch: &Arc<Switch>| {
            let key = (switch.namespace().unwrap_or_default(), switch.name_any());
            (key, switch.resource_version().unwrap_or_default())
        };
        let from: Versions = switches.iter().map(version).collect();
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if made.from != from {
            made.fabrics = Arc::new(merge(switches.iter().map(AsRef::as_ref)));
            made.from = from;
        }
        made.fabrics.clone()
    }
}
