//! Out-of-band inspection: what a system says of its own hardware.

use std::collections::BTreeMap;

use drystone_api::{Accelerator, AcceleratorType, BlockNic, quantity::Memory};
use drystone_redfish::{
    client::{Client, RedfishError},
    types::{Chassis, ComputerSystem, Drive, EthernetInterface, Link, Memory as Dimm, Processor, Storage},
};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde::de::DeserializeOwned;

use crate::model::{Inventory, inventory::InventoryDrive};

/// Requests at one time for members of one collection.
const CONCURRENCY: usize = 16;
/// Most members of one collection that are read: no host has more parts of a kind.
const MOST_PARTS: usize = 4096;

/// Reads all members of a collection. One that is linked and not there has none.
async fn members<T: DeserializeOwned>(
    client: &Client,
    collection: Option<&Link>,
) -> Result<Vec<T>, RedfishError> {
    let Some(collection) = collection else { return Ok(Vec::new()) };
    match client.members(&collection.odata_id).await {
        Err(error) if is_absent(&error) => Ok(Vec::new()),
        uris => read_all(client, uris?).await,
    }
}

/// Whether a controller says that it has no such thing, though it links to it.
fn is_absent(error: &RedfishError) -> bool {
    matches!(error.status(), Some(404 | 405 | 501))
}

async fn read_all<T: DeserializeOwned>(client: &Client, uris: Vec<String>) -> Result<Vec<T>, RedfishError> {
    let read = |uri: String| async move { client.get_as::<T>(&uri).await.map(|fetched| fetched.value) };
    stream::iter(uris.into_iter().take(MOST_PARTS)).map(read).buffered(CONCURRENCY).try_collect().await
}

/// All drives of a system.
pub(super) async fn drives(client: &Client, system: &ComputerSystem) -> Result<Vec<Drive>, RedfishError> {
    let storage: Vec<Storage> = members(client, system.storage.as_ref()).await?;
    let links = storage.into_iter().flat_map(|storage| storage.drives);
    read_all(client, links.map(|link| link.odata_id).collect()).await
}

/// The same for an inventory: a controller that fails over its drives has an inventory without them. Who is to erase drives
/// must know them.
async fn drives_if_told(client: &Client, system: &ComputerSystem) -> Result<Vec<Drive>, RedfishError> {
    match drives(client, system).await {
        Err(error) if error.status() == Some(500) => {
            tracing::warn!(%error, "the drives of a host are left out of its inventory");
            Ok(Vec::new())
        }
        drives => drives,
    }
}

/// Reads the hardware.
pub(super) async fn read(client: &Client, system: &ComputerSystem) -> Result<Inventory, RedfishError> {
    let (processors, dimms, interfaces, drives) = futures::try_join!(
        members::<Processor>(client, system.processors.as_ref()),
        members::<Dimm>(client, system.memory.as_ref()),
        members::<EthernetInterface>(client, system.ethernet_interfaces.as_ref()),
        drives_if_told(client, system),
    )?;
    let chassis = match system.links.chassis.first() {
        Some(link) => match client.get_as::<Chassis>(&link.odata_id).await {
            Err(error) if is_absent(&error) => Chassis::default(),
            chassis => chassis?.value,
        },
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
    inventory.memory = Memory::from_mebibytes(total(dimms.iter().filter_map(|dimm| dimm.capacity_mib)));
    inventory.drives = drives.into_iter().map(drive).collect();
    add_summaries(&mut inventory, system);
    inventory.nics = interfaces.iter().filter_map(nic).collect();
    inventory.nics.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(inventory)
}

/// A sum of what a management controller says, which may be anything.
fn total(amounts: impl Iterator<Item = u64>) -> u64 {
    amounts.fold(0, u64::saturating_add)
}

/// What a system says in short, where it does not list its parts.
fn add_summaries(inventory: &mut Inventory, system: &ComputerSystem) {
    let processors = &system.processor_summary;
    if inventory.threads == 0 {
        let cores = processors.core_count.or(processors.count).unwrap_or_default();
        inventory.cores = cores;
        inventory.threads = processors.logical_processor_count.unwrap_or(cores);
        inventory.processor_model = processors.model.clone().unwrap_or_default();
    }
    if inventory.memory == Memory::default() {
        let gib = system.memory_summary.total_system_memory_gib.unwrap_or_default();
        inventory.memory = Memory::from_mebibytes(mebibytes(gib));
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bounded before")]
fn mebibytes(gib: f64) -> u64 {
    (gib.clamp(0.0, 1e9) * 1024.0) as u64
}

fn add_processors(inventory: &mut Inventory, processors: &[Processor]) {
    let mut accelerators: BTreeMap<(AcceleratorType, String, u64), u32> = BTreeMap::new();
    for processor in processors {
        let model = processor.model.clone().unwrap_or_default();
        let kind = match processor.processor_type.as_deref() {
            None | Some("CPU") => {
                let threads = processor.total_threads.or(processor.total_cores).unwrap_or_default();
                inventory.cores = inventory.cores.saturating_add(processor.total_cores.unwrap_or_default());
                inventory.threads = inventory.threads.saturating_add(threads);
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
        let memory = total(processor.processor_memory.iter().filter_map(|memory| memory.capacity_mib));
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
    use drystone_hostile::distorted;
    use drystone_redfish::types::{ProcessorMemory, from_body};
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    proptest! {
        /// Whatever a controller says of its parts, there is an inventory of it.
        #[test]
        fn any_parts_make_an_inventory(parts in prop::collection::vec(distorted(
            json!({"@odata.id": "/p", "ProcessorType": "GPU", "Model": "m", "TotalCores": 4_294_967_295_u32, "TotalThreads": 4_294_967_295_u32,
                "ProcessorMemory": [{"CapacityMiB": u64::MAX}, {"CapacityMiB": u64::MAX}], "MACAddress": "02:D5:00:00:00:01",
                "SpeedMbps": u64::MAX, "CapacityBytes": u64::MAX, "MaxPowerWatts": 1e300, "MinPowerWatts": -5.5,
                "Protocol": "NVMe", "Location": {"Placement": {"Rack": "r"}}}),
            &["ProcessorType", "TotalCores", "CapacityMiB", "Placement", "Rack", "CPU", "GPU"]), 1..6)) {
            let mut inventory = Inventory::default();
            let processors: Vec<Processor> = parts.iter().filter_map(|part| from_body(part.clone()).ok()).collect();
            add_processors(&mut inventory, &processors);
            inventory.nics = parts.iter().filter_map(|part| nic(&from_body(part.clone()).ok()?)).collect();
            inventory.drives = parts.iter().filter_map(|part| from_body(part.clone()).ok()).map(drive).collect();
            for chassis in parts.iter().filter_map(|part| from_body::<Chassis>(part.clone()).ok()) {
                let _ = place(&chassis);
                prop_assert!(watts(chassis.max_power_watts).is_none_or(|watts| watts <= 1_000_000_000));
            }
            let _ = (inventory.hardware_details("h"), inventory.block_drives(), inventory.gpu_count());
        }
    }

    #[test]
    fn summaries_stand_in_for_parts_that_are_not_listed() {
        let system: ComputerSystem =
            from_body(json!({"@odata.id": "/s", "MemorySummary": {"TotalSystemMemoryGiB": 1.5},
            "ProcessorSummary": {"Count": 2, "CoreCount": 32, "LogicalProcessorCount": 64, "Model": "EPYC"}}))
            .expect("a system");
        let mut inventory = Inventory::default();
        add_summaries(&mut inventory, &system);
        assert_eq!(
            (inventory.cores, inventory.threads, inventory.processor_model.as_str()),
            (32, 64, "EPYC")
        );
        assert_eq!(inventory.memory, Memory::from_mebibytes(1536));
        let listed = Inventory { threads: 8, memory: Memory::from_mebibytes(1), ..Inventory::default() };
        let mut inventory = listed.clone();
        add_summaries(&mut inventory, &system);
        assert_eq!(inventory, listed);
        assert_eq!((mebibytes(f64::NAN), mebibytes(-1.0)), (0, 0));
    }

    #[test]
    fn sums_that_overflow_stop_at_the_limit() {
        let much = Processor { total_cores: Some(u32::MAX), ..Default::default() };
        let mut inventory = Inventory::default();
        add_processors(&mut inventory, &[much.clone(), much]);
        assert_eq!((inventory.cores, inventory.threads), (u32::MAX, u32::MAX));
    }

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
