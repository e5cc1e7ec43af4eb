//! From resources to what the planner works on. Pure.

use std::{collections::HashMap, sync::Arc};

use drystone_api::{
    BareMetalHost, BlockPool, Composition, CompositionMode, RACK_LABEL, ResourceBlock, ResourceBlockStatus,
    ResourcePool, SITE_LABEL, SITE_ROLE_LABEL, quantity::Memory,
};
use drystone_engine::reference::reference_to;
use kube::ResourceExt as _;

use crate::{
    model::{Distances, Host, Quota, Snapshot, Tenant},
    pool::membership::Memberships,
};

/// The resources that a snapshot is made from.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// Hosts.
    pub hosts: Vec<Arc<BareMetalHost>>,
    /// Their hardware.
    pub blocks: Vec<Arc<ResourceBlock>>,
    /// What looks after them.
    pub pools: Vec<Arc<ResourcePool>>,
    /// Who uses them.
    pub compositions: Vec<Arc<Composition>>,
}

/// Assembles a snapshot. Hosts without a ResourceBlock are known by name only and not eligible yet.
pub fn assemble(observed: &Observed, distances: Arc<Distances>) -> Snapshot {
    let by_host: HashMap<(String, String), &Arc<ResourceBlock>> = observed
        .blocks
        .iter()
        .filter_map(|block| {
            let host = block.spec.host.clone()?;
            Some(((block.namespace().unwrap_or_default(), host), block))
        })
        .collect();
    let memberships = Memberships::new(&observed.pools);
    let hosts = observed.hosts.iter().map(|host| {
        let key = (host.namespace().unwrap_or_default(), host.name_any());
        let block = by_host.get(&key).map(AsRef::as_ref);
        let quota = memberships.pool_of(host, block.and_then(|block| block.status.as_ref()));
        Host { quota, ..host_of(host, block, &distances) }
    });
    let hosts = hosts.collect();
    let quotas = memberships.pools().iter().map(|pool| Quota {
        pool: format!("{}/{}", pool.namespace().unwrap_or_default(), pool.name_any()),
        min_free: pool.spec.min_free,
        chassis_watts: pool.spec.chassis_power_budget_watts,
    });
    let quotas = quotas.collect();
    let tenants = observed.compositions.iter().filter_map(|composition| tenant_of(composition)).collect();
    Snapshot::new(hosts, distances).with_quotas(quotas).with_tenants(tenants)
}

/// What others need to know of a composition: nothing, of most.
fn tenant_of(composition: &Composition) -> Option<Tenant> {
    let reservation = composition.status.as_ref().and_then(|status| status.reservation.as_ref());
    let until = reservation
        .filter(|_| composition.spec.mode == CompositionMode::Reserve)
        .and_then(|reservation| reservation.expires.as_ref())
        .map(|expires| expires.0);
    let isolated_by = composition.spec.isolated_by;
    (until.is_some() || isolated_by.is_some()).then(|| Tenant {
        owner: reference_to(composition),
        isolated_by,
        until,
    })
}

fn host_of(host: &BareMetalHost, block: Option<&ResourceBlock>, distances: &Distances) -> Host {
    let hardware: ResourceBlockStatus = block.and_then(|block| block.status.clone()).unwrap_or_default();
    let mut switches: Vec<u32> =
        hardware.nics.iter().flat_map(|nic| distances.attached(&nic.mac)).copied().collect();
    switches.sort_unstable();
    switches.dedup();
    let storage = hardware.drives.iter().map(|drive| drive.capacity.0).fold(0, u64::saturating_add);
    let rack = host.labels().get(RACK_LABEL).cloned();
    Host {
        name: host.name_any(),
        namespace: host.namespace().unwrap_or_default(),
        site: host.labels().get(SITE_LABEL).cloned().unwrap_or_default(),
        pool: if block.is_some() { hardware.pool } else { BlockPool::Unassigned },
        maintenance: block.is_some_and(|block| block.spec.maintenance),
        dedicated: host.labels().contains_key(SITE_ROLE_LABEL),
        // The claim itself is on the host; the block's copy of it may be a moment old.
        consumer: host.spec.consumer_ref.clone(),
        cores: hardware.cores,
        memory: hardware.memory,
        accelerators: hardware.accelerators,
        storage: Memory(storage),
        drives: hardware.drives,
        bandwidth_gbps: hardware.nics.iter().map(|nic| nic.speed_gbps).max().unwrap_or_default(),
        // Inspection reports the rack in place of the chassis where the hardware tells it.
        rack: rack.unwrap_or_else(|| hardware.chassis.clone()),
        chassis: hardware.chassis,
        watts: hardware.busy_watts.or(hardware.idle_watts).unwrap_or_default(),
        idle_watts: hardware.idle_watts.unwrap_or_default(),
        powered_on: host.status.as_ref().is_some_and(|status| status.powered_on),
        switches,
        message: hardware.message,
        quota: None,
    }
}

#[cfg(test)]
mod tests {
    use drystone_api::{
        BareMetalHostSpec, BlockNic, ResourceBlockSpec, Switch, SwitchEndpoint, SwitchSpec, SwitchStatus,
    };

    use super::*;
    use crate::topology::nodes_of;

    #[test]
    fn hosts_find_their_switches_by_mac() {
        let mut host = BareMetalHost::new("a", BareMetalHostSpec::default());
        host.metadata.namespace = Some("ns".into());
        let spec = ResourceBlockSpec { host: Some("a".into()), ..Default::default() };
        let mut block = ResourceBlock::new("a", spec);
        block.metadata.namespace = Some("ns".into());
        let nic = BlockNic { name: "eth0".into(), mac: "02:AA".into(), speed_gbps: 25 };
        block.status = Some(ResourceBlockStatus {
            pool: BlockPool::Free,
            cores: 8,
            nics: vec![nic],
            ..Default::default()
        });
        let spec = SwitchSpec { id: "s1".into(), fabric: "F".into(), ..Default::default() };
        let mut switch = Switch::new("s1", spec);
        let endpoint = SwitchEndpoint { mac: "02:aa".into(), ..Default::default() };
        switch.status = Some(SwitchStatus { endpoints: vec![endpoint], ..Default::default() });
        let observed =
            Observed { hosts: vec![host.into()], blocks: vec![block.into()], ..Default::default() };
        let snapshot = assemble(&observed, Distances::new(nodes_of([&switch])).into());
        assert_eq!(snapshot.hosts[0].switches, [0]);
        assert_eq!((snapshot.hosts[0].bandwidth_gbps, snapshot.hosts[0].cores), (25, 8));
    }
}
