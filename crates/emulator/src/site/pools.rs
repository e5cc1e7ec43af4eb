//! Pools of devices that fabric agents attach to hosts.

use super::{
    FabricServices, FabricSpec, PoolSpec, PooledDevice, document::PoolDocument, hosts, problem::Problems,
};

/// Expands and checks all pools.
pub(super) fn resolve(
    documents: &[PoolDocument],
    fabrics: &[FabricSpec],
    problems: &mut Problems,
) -> Vec<PoolSpec> {
    let mut pools: Vec<PoolSpec> = Vec::new();
    for (index, document) in documents.iter().enumerate() {
        let path = format!("pools[{index}]");
        problems.check_name(&format!("{path}.name"), &document.name, 32);
        problems.check(
            pools.iter().all(|other| other.name != document.name),
            &format!("{path}.name"),
            || format!("another pool is called {:?} too", document.name),
        );
        let has_agent =
            |fabric: &FabricSpec| fabric.id == document.fabric && fabric.services == FabricServices::Agent;
        problems.check(fabrics.iter().any(has_agent), &format!("{path}.fabric"), || {
            format!(
                "{:?} is no fabric of the site with services: agent, and only an agent can show a pool",
                document.fabric
            )
        });
        let devices = devices(&path, document, problems);
        pools.push(PoolSpec { name: document.name.clone(), fabric: document.fabric.clone(), devices });
    }
    pools
}

fn devices(path: &str, document: &PoolDocument, problems: &mut Problems) -> Vec<PooledDevice> {
    match (&document.gpus, &document.memory, &document.drives) {
        (Some(gpus), None, None) => {
            let list = hosts::gpus(&format!("{path}.gpus"), gpus, problems);
            list.into_iter().map(PooledDevice::Gpu).collect()
        }
        (None, Some(memory), None) => {
            let mut list = Vec::new();
            for (index, module) in memory.iter().enumerate() {
                let path = format!("{path}.memory[{index}]");
                problems.check_range(&format!("{path}.sizeMiB"), module.size_mib, 1, 1 << 40);
                problems.check_range(&format!("{path}.count"), module.count, 1, 1024);
                let device = PooledDevice::Memory { size_mib: module.size_mib };
                list.extend(std::iter::repeat_n(device, module.count.min(1024) as usize));
            }
            list
        }
        (None, None, Some(drives)) => {
            let list = hosts::drives(&format!("{path}.drives"), drives, problems);
            list.into_iter().map(PooledDevice::Drive).collect()
        }
        _ => {
            problems.add(path, "a pool needs exactly one of gpus, memory and drives");
            Vec::new()
        }
    }
}
