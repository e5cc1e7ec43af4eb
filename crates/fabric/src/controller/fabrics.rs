//! The fabrics as planners see them, made from the Switch objects once for every change and shared until the next.

use std::sync::{Arc, Mutex, PoisonError};

use drystone_api::Switch;
use drystone_engine::harness::Cache;

use crate::model::{Fabric, merge};

/// The fabrics as they are now.
#[derive(Clone)]
pub(super) struct Fabrics {
    switches: Cache<Switch>,
    made: Arc<Mutex<Made>>,
}

#[derive(Default)]
struct Made {
    from: Option<u64>,
    fabrics: Arc<Vec<Fabric>>,
}

impl Fabrics {
    pub(super) fn new(switches: Cache<Switch>) -> Self {
        Self { switches, made: Arc::default() }
    }

    /// All fabrics, in order of id.
    pub(super) fn current(&self) -> Arc<Vec<Fabric>> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let version = self.switches.version();
        if made.from != Some(version) {
            let switches = self.switches.list();
            made.fabrics = Arc::new(merge(switches.iter().map(AsRef::as_ref)));
            made.from = Some(version);
        }
        made.fabrics.clone()
    }
}
