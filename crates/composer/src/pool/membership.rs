//! Which ResourcePool looks after a host. A host has at most one: the oldest that selects it, so that no two of them switch it
//! on and off by turns.

use std::sync::Arc;

use drystone_api::{BareMetalHost, PoolResourceKind, ResourceBlockStatus, ResourcePool, SITE_LABEL};
use kube::{
    ResourceExt as _,
    core::{Selector, SelectorExt as _},
};

/// Pools in the order in which they choose.
#[derive(Debug, Clone, Default)]
pub struct Memberships {
    pools: Vec<Arc<ResourcePool>>,
    selectors: Vec<Option<Selector>>,
}

impl Memberships {
    /// From all pools; those being deleted look after nothing any more.
    pub fn new(pools: &[Arc<ResourcePool>]) -> Self {
        let mut pools: Vec<Arc<ResourcePool>> =
            pools.iter().filter(|pool| pool.metadata.deletion_timestamp.is_none()).cloned().collect();
        pools.sort_by_cached_key(|pool| {
            let created = pool.metadata.creation_timestamp.as_ref().map(|time| time.0);
            (created, pool.namespace(), pool.name_any())
        });
        let selectors = pools.iter().map(|pool| selector(pool).ok()).collect();
        Self { pools, selectors }
    }

    /// The pools, in their order.
    pub fn pools(&self) -> &[Arc<ResourcePool>] {
        &self.pools
    }

    /// Position of the pool that looks after a host.
    pub fn pool_of(&self, host: &BareMetalHost, hardware: Option<&ResourceBlockStatus>) -> Option<usize> {
        self.pools.iter().zip(&self.selectors).position(|(pool, selector)| {
            let labels_fit = selector.as_ref().is_some_and(|selector| selector.matches(host.labels()));
            let site = host.labels().get(SITE_LABEL);
            labels_fit
                && pool.namespace() == host.namespace()
                && pool.spec.site.as_ref().is_none_or(|wanted| Some(wanted) == site)
                && pool.spec.kind.is_none_or(|kind| hardware.is_some_and(|has| amount(has, kind) > 0))
        })
    }
}

/// The selector of a pool; everything if it has none.
///
/// # Errors
/// What is wrong with it.
pub fn selector(pool: &ResourcePool) -> Result<Selector, String> {
    let wanted = pool.spec.selector.clone().unwrap_or_default();
    Selector::try_from(wanted).map_err(|error| format!("spec.selector: {error}"))
}

/// What a host has of a kind, in the kind's unit.
pub fn amount(hardware: &ResourceBlockStatus, kind: PoolResourceKind) -> u64 {
    match kind {
        PoolResourceKind::Compute => u64::from(hardware.cores),
        PoolResourceKind::Memory => hardware.memory.0 >> 30,
        PoolResourceKind::Accelerators => hardware.accelerators.iter().map(|has| u64::from(has.count)).sum(),
        PoolResourceKind::Storage => hardware.drives.iter().map(|drive| drive.capacity.0 >> 30).sum(),
        PoolResourceKind::Network => hardware.nics.iter().map(|nic| u64::from(nic.speed_gbps)).sum(),
    }
}
