//! Out-of-band inspection: what a system says of its own hardware.

use std::collections::BTreeMap;

use drystone_api::{Accelerator, AcceleratorType, BlockNic, quantity::Memory};
use drystone_redfish::{
    client::{Client, RedfishError},
    types::{Chassis, ComputerSystem, Drive, EthernetInterface, Link, Memory as Dimm, Processor, Storage},
};
use futures::future::try_join_all;
use serde::de::DeserializeOwned;

use crate::model::{Inventory, inventory::InventoryDrive};

/// Reads all members of a collection.
async fn members<T: DeserializeOwned>(
    client: &Client,
    collection: Option<&Link>,
) -> Result<Vec<T>, RedfishError> {
    let Some(collection) = collection else { return Ok(Vec::new()) };
    let uris = client.members(&collection.odata_id).await?;
    let all = try_join_all(uris.iter().map(|uri| client.get_as::<T>(uri))).await?;
    Ok(all.into_iter().map(|fetched| fetched.value).collect())
}

/// All drives of a system.
pub(super) async fn drives(client: &Client, system: &ComputerSystem) -> Result<Vec<Drive>, RedfishError> {
    let storage: Vec<Storage> = members(client, system.storage.as_ref()).await?;
    let links = storage.iter().flat_map(|storage| &storage.drives);
    let all = try_join_all(links.map(|link| client.get_as::<Drive>(&link.odata_id))).await?;
    Ok(all.into_iter().map(|fetched| fetched.value).collect())
}

/// Reads the hardware.
pub(super) async fn read(client: &Client, system: &ComputerSystem) -> Result<Inventory, RedfishError> {
    let (processors, dimms, interfaces, drives) = futures::try_join!(
        members::<Processor>(client, system.processors.as_ref()),
        members::<Dimm>(client, system.memory.as_ref()),
        members::<EthernetInterface>(client, system.ethernet_interfaces.as_ref()),
        drives(client, system),
    )?;
    let chassis = match system.links.chassis.first() {
        Some(link) => client.get_as::<Chassis>(&link.odata_id).await?.value,
        None => Chassis::default(),
    };
    let mut inventory = Inventory {
        manufacturer: system.manufacturer.clone().unwrap_or_default(),
        model: system.model.clone().unwrap_or_default(),
        serial_number: system.serial_number.clone().unwrap_or_default(),
        bios_version: system.bios_version.clone().unwrap_or_default(),
        chassis: place(&chassis),
        idle_watts: watts(chassis.min_power_watts),
        busy_watts: watts(chassis.max_power_watts),
        ..Inventory::default()
    };
    add_processors(&mut inventory, &processors);
    let mebibytes: u64 = dimms.iter().filter_map(|dimm| dimm.capacity_mib).sum();
    inventory.memory = Memory::from_mebibytes(mebibytes);
    inventory.drives = drives.into_iter().map(drive).collect();
    inventory.nics = interfaces.iter().filter_map(nic).collect();
    inventory.nics.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(inventory)
}

fn add_processors(inventory: &mut Inventory, processors: &[Processor]) {
    let mut accelerators: BTreeMap<(AcceleratorType, String, u64), u32> = BTreeMap::new();
    for processor in processors {
        let model = processor.model.clone().unwrap_or_default();
        let kind = match processor.processor_type.as_deref() {
            None | Some("CPU") => {
                inventory.cores += processor.total_cores.unwrap_or_default();
                inventory.threads += processor.total_threads.or(processor.total_cores).unwrap_or_default();
                inventory.processor_model = model;
                inventory.clock_megahertz = processor.max_speed_mhz.unwrap_or_default();
                inventory.architecture = architecture(processor);
                continue;
            }
            Some("GPU") => AcceleratorType::GPU,
            Some("FPGA") => AcceleratorType::FPGA,
            Some("DSP") => AcceleratorType::DSP,
            Some(_) => AcceleratorType::Accelerator,
        };
        let memory = processor.processor_memory.iter().filter_map(|memory| memory.capacity_mib).sum();
        *accelerators.entry((kind, model, memory)).or_default() += 1;
    }
    inventory.accelerators = accelerators
        .into_iter()
        .map(|((kind, model, memory), count)| Accelerator {
            kind,
            model,
            memory: (memory > 0).then(|| Memory::from_mebibytes(memory)),
            count,
        })
        .collect();
}

/// In Linux's words.
fn architecture(processor: &Processor) -> String {
    match processor.instruction_set.as_deref().or(processor.processor_architecture.as_deref()) {
        Some("x86-64" | "x86") => "x86_64".to_owned(),
        Some("ARM-A64" | "ARM") => "aarch64".to_owned(),
        Some(other) => other.to_ascii_lowercase(),
        None => String::new(),
    }
}

/// The rack if it is known: what shares a fate is what matters; else the chassis itself.
fn place(chassis: &Chassis) -> String {
    chassis
        .location
        .placement
        .rack
        .clone()
        .filter(|rack| !rack.is_empty())
        .unwrap_or_else(|| chassis.id.clone())
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "watts are small and positive")]
fn watts(value: Option<f64>) -> Option<u32> {
    value.map(|watts| watts.clamp(0.0, 1e9) as u32)
}

fn drive(drive: Drive) -> InventoryDrive {
    let nvme = drive.protocol.as_deref() == Some("NVMe");
    InventoryDrive {
        name: drive.name,
        capacity_bytes: drive.capacity_bytes.unwrap_or_default(),
        media: if nvme { "NVMe".to_owned() } else { drive.media_type.unwrap_or_default() },
        model: drive.model.unwrap_or_default(),
        serial_number: drive.serial_number.unwrap_or_default(),
    }
}

fn nic(interface: &EthernetInterface) -> Option<BlockNic> {
    let mac = interface.mac_address.as_ref().or(interface.permanent_mac_address.as_ref())?;
    let gigabits = interface.speed_mbps.unwrap_or_default() / 1000;
    Some(BlockNic {
        name: interface.id.clone(),
        mac: mac.to_ascii_lowercase(),
        speed_gbps: u32::try_from(gigabits).unwrap_or(u32::MAX),
    })
}

#[cfg(test)]
mod tests {
    use drystone_redfish::types::ProcessorMemory;

    use super::*;

    #[test]
    fn processors_are_told_from_accelerators() {
        let cpu = Processor {
            processor_type: Some("CPU".into()),
            total_cores: Some(16),
            total_threads: Some(32),
            instruction_set: Some("x86-64".into()),
            ..Default::default()
        };
        let gpu = Processor {
            processor_type: Some("GPU".into()),
            model: Some("A100".into()),
            processor_memory: vec![ProcessorMemory { capacity_mib: Some(81_920), ..Default::default() }],
            ..Default::default()
        };
        let mut inventory = Inventory::default();
        add_processors(&mut inventory, &[cpu.clone(), cpu, gpu.clone(), gpu]);
        assert_eq!((inventory.cores, inventory.threads, inventory.gpu_count()), (32, 64, 2));
        assert_eq!(inventory.accelerators[0].memory, Some(Memory::from_mebibytes(81_920)));
        assert_eq!(inventory.architecture, "x86_64");
    }
}
