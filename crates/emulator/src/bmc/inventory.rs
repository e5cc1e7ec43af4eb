//! What a host is made of: processors and accelerators, memory modules, drives, network interfaces.

use drystone_redfish::{
    error::ServiceError,
    types::{
        Drive, EthernetInterface, Identifier, Link, Memory, Processor, ProcessorMemory, Status, Storage,
    },
};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{SYSTEM, body, collection};
use crate::site::{AcceleratorSpec, DriveMedia, DriveSpec, HostSpec};

/// Size of the largest memory module.
const MODULE_MIB: u64 = 65_536;

/// Reads a resource below the system, given by the parts of its path there. `None` if there is none.
pub(super) fn read(host: &HostSpec, on: bool, path: &[&str]) -> Option<Result<Value, ServiceError>> {
    let uri = |room: &str| format!("{SYSTEM}/{room}");
    Some(match path {
        ["Processors"] => collection("Processor", &uri("Processors"), processor_ids(host)),
        ["Processors", id] => processor(host, id)?,
        ["Memory"] => collection(
            "Memory",
            &uri("Memory"),
            (1..=module_count(host)).map(|number| format!("DIMM{number}")),
        ),
        ["Memory", id] => memory(host, id)?,
        ["Storage"] => collection("Storage", &uri("Storage"), ["1"]),
        ["Storage", "1"] => storage(host),
        ["Storage", "1", "Drives", id] => {
            let drive = host.drives.iter().find(|drive| drive.name == *id)?;
            self::drive(&format!("{SYSTEM}/Storage/1/Drives/{id}"), drive, &serial(host.uuid, id))
        }
        ["EthernetInterfaces"] => collection(
            "EthernetInterface",
            &uri("EthernetInterfaces"),
            host.nics.iter().map(|nic| nic.name.as_str()),
        ),
        ["EthernetInterfaces", id] => interface(host, on, id)?,
        _ => return None,
    })
}

/// A serial number that is always the same for the same thing.
pub(super) fn serial(of: Uuid, part: &str) -> String {
    let digits = Uuid::new_v5(&of, part.as_bytes()).simple().to_string();
    digits.chars().take(12).collect::<String>().to_uppercase()
}

fn processor_ids(host: &HostSpec) -> impl Iterator<Item = String> {
    let processors = (1..=host.processor.sockets).map(|number| format!("CPU{number}"));
    processors.chain((1..=host.gpus.len()).map(|number| format!("GPU{number}")))
}

fn number(id: &str, prefix: &str, most: usize) -> Option<usize> {
    let digits = id.strip_prefix(prefix).filter(|digits| !digits.starts_with(['0', '+']))?;
    let number: usize = digits.parse().ok()?;
    (1..=most).contains(&number).then_some(number)
}

fn processor(host: &HostSpec, id: &str) -> Option<Result<Value, ServiceError>> {
    let uri = format!("{SYSTEM}/Processors/{id}");
    if let Some(number) = number(id, "GPU", host.gpus.len()) {
        let uuid = Uuid::new_v5(&host.uuid, id.as_bytes());
        return Some(body(&gpu(&uri, &host.gpus[number - 1], uuid)));
    }
    let spec = &host.processor;
    number(id, "CPU", spec.sockets as usize)?;
    let mut processor = Processor::at(&uri, &format!("Processor {id}"));
    processor.processor_type = Some("CPU".to_owned());
    processor.processor_architecture = Some("x86".to_owned());
    processor.instruction_set = Some("x86-64".to_owned());
    processor.model = Some(spec.model.clone());
    processor.socket = Some(id.to_owned());
    processor.total_cores = Some(spec.cores / spec.sockets);
    processor.total_threads = Some(spec.threads / spec.sockets);
    processor.max_speed_mhz = Some(spec.max_speed_mhz);
    processor.status = Status::healthy("Enabled");
    Some(body(&processor))
}

/// A GPU, in a host or in a pool.
pub(crate) fn gpu(uri: &str, spec: &AcceleratorSpec, uuid: Uuid) -> Processor {
    let mut processor = Processor::at(uri, &spec.model);
    processor.processor_type = Some("GPU".to_owned());
    processor.model = Some(spec.model.clone());
    processor.uuid = Some(uuid.to_string());
    processor.processor_memory = vec![ProcessorMemory {
        capacity_mib: Some(spec.memory_mib),
        memory_type: None,
        integrated_memory: Some(true),
    }];
    processor.status = Status::healthy("Enabled");
    processor
}

fn module_count(host: &HostSpec) -> u64 {
    host.memory_mib.div_ceil(MODULE_MIB).max(1)
}

fn memory(host: &HostSpec, id: &str) -> Option<Result<Value, ServiceError>> {
    let count = module_count(host);
    let number = number(id, "DIMM", usize::try_from(count).ok()?)?;
    // The first modules take what does not divide.
    let extra = u64::from((number as u64) <= host.memory_mib % count);
    Some(body(&module(&format!("{SYSTEM}/Memory/{id}"), host.memory_mib / count + extra)))
}

/// A memory module, in a host or in a pool.
pub(crate) fn module(uri: &str, size_mib: u64) -> Memory {
    let mut memory = Memory::at(uri, "Memory module");
    memory.memory_type = Some("DRAM".to_owned());
    memory.memory_device_type = Some("DDR5".to_owned());
    memory.capacity_mib = Some(size_mib);
    memory.operating_speed_mhz = Some(4800);
    memory.device_locator = uri.rsplit('/').next().map(str::to_owned);
    memory.status = Status::healthy("Enabled");
    memory
}

fn storage(host: &HostSpec) -> Result<Value, ServiceError> {
    let mut storage = Storage::at(&format!("{SYSTEM}/Storage/1"), "Local storage");
    storage.drives = host
        .drives
        .iter()
        .map(|drive| Link::to(format!("{SYSTEM}/Storage/1/Drives/{}", drive.name)))
        .collect();
    storage.status = Status::healthy("Enabled");
    let mut shown = body(&storage)?;
    if let Value::Object(map) = &mut shown {
        map.insert("Drives@odata.count".to_owned(), json!(host.drives.len()));
    }
    Ok(shown)
}

/// A drive, in a host or in a pool.
pub(crate) fn drive(uri: &str, spec: &DriveSpec, serial: &str) -> Result<Value, ServiceError> {
    let mut drive = Drive::at(uri, &spec.name);
    let (media, protocol) = match spec.media {
        DriveMedia::NVMe => ("SSD", "NVMe"),
        DriveMedia::Ssd => ("SSD", "SATA"),
        DriveMedia::Hdd => ("HDD", "SATA"),
    };
    drive.capacity_bytes = Some(spec.capacity_gib << 30);
    drive.media_type = Some(media.to_owned());
    drive.protocol = Some(protocol.to_owned());
    drive.manufacturer = Some("Drystone".to_owned());
    drive.model = Some(format!("Emulated {protocol} {} GiB", spec.capacity_gib));
    drive.serial_number = Some(serial.to_owned());
    drive.identifiers = vec![Identifier {
        durable_name: Some(format!("nqn.2026-01.dev.drystone:{serial}")),
        durable_name_format: Some("NQN".to_owned()),
    }];
    drive.status = Status::healthy("Enabled");
    if uri.starts_with(SYSTEM) {
        let erase = json!({"target": format!("{uri}/Actions/Drive.SecureErase"),
            "SanitizationType@Redfish.AllowableValues": super::system::SANITIZATIONS});
        drive.actions.insert("#Drive.SecureErase".to_owned(), erase);
    }
    body(&drive)
}

fn interface(host: &HostSpec, on: bool, id: &str) -> Option<Result<Value, ServiceError>> {
    let nic = host.nics.iter().find(|nic| nic.name == id)?;
    let mut interface = EthernetInterface::at(&format!("{SYSTEM}/EthernetInterfaces/{id}"), id);
    interface.mac_address = Some(nic.mac.to_string());
    interface.permanent_mac_address = Some(nic.mac.to_string());
    interface.speed_mbps = Some(u64::from(nic.speed_gbps) * 1000);
    interface.link_status = Some(if on { "LinkUp" } else { "LinkDown" }.to_owned());
    interface.interface_enabled = Some(true);
    interface.status = Status::healthy(if on { "Enabled" } else { "StandbyOffline" });
    Some(body(&interface))
}
