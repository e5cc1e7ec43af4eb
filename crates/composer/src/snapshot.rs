//! From resources to what the planner works on. Pure.

use std::{collections::HashMap, sync::Arc};

use drystone_api::{
    BareMetalHost, BlockPool, ResourceBlock, ResourceBlockStatus, SITE_LABEL, Switch, quantity::Memory,
};
use kube::ResourceExt as _;

use crate::model::{Distances, Host, Snapshot};

/// Assembles a snapshot. Hosts without a ResourceBlock are known by name only and not eligible yet.
pub fn assemble(
    hosts: &[Arc<BareMetalHost>],
    blocks: &[Arc<ResourceBlock>],
    switches: &[Arc<Switch>],
) -> Snapshot {
    let distances = Distances::new(switches.iter().map(AsRef::as_ref));
    let mut attachments: HashMap<String, Vec<usize>> = HashMap::new();
    for switch in switches {
        let Some(position) = distances.switch(&switch.spec.fabric, &switch.spec.id) else { continue };
        for endpoint in switch.status.iter().flat_map(|status| &status.endpoints) {
            attachments.entry(endpoint.mac.to_ascii_lowercase()).or_default().push(position);
        }
    }
    let by_host: HashMap<(String, String), &Arc<ResourceBlock>> = blocks
        .iter()
        .filter_map(|block| {
            let host = block.spec.host.clone()?;
            Some(((block.namespace().unwrap_or_default(), host), block))
        })
        .collect();
    let hosts = hosts.iter().map(|host| {
        let key = (host.namespace().unwrap_or_default(), host.name_any());
        host_of(host, by_host.get(&key).map(AsRef::as_ref), &attachments)
    });
    Snapshot::new(hosts.collect(), distances)
}

fn host_of(
    host: &BareMetalHost,
    block: Option<&ResourceBlock>,
    attachments: &HashMap<String, Vec<usize>>,
) -> Host {
    let hardware: ResourceBlockStatus = block.and_then(|block| block.status.clone()).unwrap_or_default();
    let mut switches: Vec<usize> = hardware
        .nics
        .iter()
        .flat_map(|nic| attachments.get(&nic.mac.to_ascii_lowercase()).cloned().unwrap_or_default())
        .collect();
    switches.sort_unstable();
    switches.dedup();
    let storage = hardware.drives.iter().map(|drive| drive.capacity.0).fold(0, u64::saturating_add);
    Host {
        name: host.name_any(),
        namespace: host.namespace().unwrap_or_default(),
        site: host.labels().get(SITE_LABEL).cloned().unwrap_or_default(),
        pool: if block.is_some() { hardware.pool } else { BlockPool::Unassigned },
        maintenance: block.is_some_and(|block| block.spec.maintenance),
        // The claim itself is on the host; the block's copy of it may be a moment old.
        consumer: host.spec.consumer_ref.clone(),
        cores: hardware.cores,
        memory: hardware.memory,
        accelerators: hardware.accelerators,
        storage: Memory(storage),
        bandwidth_gbps: hardware.nics.iter().map(|nic| nic.speed_gbps).max().unwrap_or_default(),
        chassis: hardware.chassis,
        watts: hardware.busy_watts.or(hardware.idle_watts).unwrap_or_default(),
        powered_on: host.status.as_ref().is_some_and(|status| status.powered_on),
        switches,
        message: hardware.message,
    }
}

#[cfg(test)]
mod tests {
    use drystone_api::{
        BareMetalHostSpec, BlockNic, ResourceBlockSpec, SwitchEndpoint, SwitchSpec, SwitchStatus,
    };

    use super::*;

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
        let snapshot = assemble(&[host.into()], &[block.into()], &[switch.into()]);
        assert_eq!(snapshot.hosts[0].switches, [0]);
        assert_eq!((snapshot.hosts[0].bandwidth_gbps, snapshot.hosts[0].cores), (25, 8));
    }
}
