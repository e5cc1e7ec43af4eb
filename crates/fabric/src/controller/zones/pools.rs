//! The address pools of zones: that they exist, and that zones which are isolated from each other draw from different ones.

use drystone_api::{AddressPool, AddressPoolPurpose, NumberRange, Zone, ZoneType};
use drystone_engine::{harness::is_deleted, reference::ObjectKey};
use kube::ResourceExt as _;

use super::{
    Watched,
    reason::{Problem, Reason},
    resolve::zone_id,
};
use crate::plan::pools::{self, PoolFacts, Span, ZonePools};

/// Checks the pools of a zone.
pub(super) fn check(zone: &Zone, watched: &Watched) -> Result<(), Problem> {
    if zone.spec.address_pools.is_empty() {
        return Ok(());
    }
    let namespace = zone.namespace().unwrap_or_default();
    for (index, name) in zone.spec.address_pools.iter().enumerate() {
        if watched.pools.get(&ObjectKey::new(&namespace, name)).is_none() {
            let path = format!("spec.addressPools[{index}]");
            let what = format!("AddressPool {name} does not exist");
            return Err(Problem::waiting(Reason::Waiting, &path, &what));
        }
    }
    let own = facts(zone, watched);
    if own.pools.is_empty() {
        return Ok(());
    }
    let accepted = |other: &Zone| {
        !other.spec.address_pools.is_empty()
            && !is_deleted(other)
            && other.status.as_ref().is_some_and(|status| status.phase == drystone_api::ZonePhase::Ready)
    };
    let others: Vec<ZonePools> =
        watched.zones.list_where(accepted).iter().map(|other| facts(other, watched)).collect();
    pools::check(&own, &others).map_err(|overlap| {
        // The position counts among the pools that belong to fabrics; the user counts all.
        let position = zone.spec.address_pools.iter().position(|name| *name == overlap.pool);
        let path = format!("spec.addressPools[{}]", position.unwrap_or(overlap.index));
        Problem::waiting(Reason::PoolOverlap, &path, &overlap.to_string())
    })
}

/// The pools of a zone and of what contains it. Pools of hosts, pods and Services have no say: their networks are other ones.
fn facts(zone: &Zone, watched: &Watched) -> ZonePools {
    let namespace = zone.namespace().unwrap_or_default();
    let containers = zone.spec.contained_by.iter().filter_map(|name| {
        let container = watched.zones.get(&ObjectKey::new(&namespace, name))?;
        (container.spec.kind == ZoneType::ZoneOfZones).then_some(container)
    });
    let containers: Vec<_> = containers.collect();
    let inherited = containers.iter().flat_map(|container| container.spec.address_pools.iter().cloned());
    let mut names: Vec<String> = zone.spec.address_pools.clone();
    names.extend(inherited.filter(|name| !zone.spec.address_pools.contains(name)));
    let pools = names.iter().filter_map(|name| watched.pools.get(&ObjectKey::new(&namespace, name)));
    ZonePools {
        zone: zone_id(zone),
        joined_by: containers
            .iter()
            .filter(|container| container.spec.default_routing)
            .map(|container| zone_id(container))
            .collect(),
        pools: pools
            .filter(|pool| pool.spec.purpose == AddressPoolPurpose::Fabric)
            .map(|pool| pool_facts(&pool))
            .collect(),
    }
}

fn pool_facts(pool: &AddressPool) -> PoolFacts {
    let span = |range: &Option<NumberRange>| {
        range.map(|range| Span { lower: range.lower.into(), upper: range.upper.into() }).into_iter().collect()
    };
    PoolFacts {
        id: pool.name_any(),
        ranges: pool.spec.ranges.clone(),
        vlans: span(&pool.spec.vlans),
        vnis: span(&pool.spec.vnis),
        ..PoolFacts::default()
    }
}
