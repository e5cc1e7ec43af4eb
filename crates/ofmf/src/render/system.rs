//! Hosts: a system, a chassis and a manager each; and their racks.

use drystone_api::{
    AcceleratorType, BareMetalHost, BareMetalHostStatus, OperationalStatus, ProvisioningState, ResourceBlock,
    ResourceBlockStatus,
};
use drystone_engine::reference::ObjectKey;
use drystone_redfish::tree::Item;
use kube::ResourceExt as _;
use serde_json::{Value, json};

use super::{link, links, number, resource, status, text};
use crate::names::{CHASSIS, COMPOSITION, MANAGERS, SYSTEMS, id_of, segment};

/// Resets that a system takes. What they do is carried out by the host's own controller.
pub const RESET_TYPES: [&str; 8] = [
    "On",
    "ForceOn",
    "ForceOff",
    "GracefulShutdown",
    "ForceRestart",
    "GracefulRestart",
    "PowerCycle",
    "FullPowerCycle",
];

/// A network interface of a host: its MAC address, and where it is shown.
pub fn interfaces(host: &BareMetalHost) -> Vec<(String, String)> {
    let system = format!("{SYSTEMS}/{}", id_of(&ObjectKey::of(host)));
    let hardware = host.status.as_ref().and_then(|status| status.hardware.as_ref());
    let nics = hardware.map(|hardware| hardware.nics.as_slice()).unwrap_or_default();
    nics.iter()
        .map(|nic| (nic.mac.to_lowercase(), format!("{system}/EthernetInterfaces/{}", segment(&nic.name))))
        .collect()
}

/// URI of the rack that a block is in.
pub fn rack_uri(rack: &str) -> String {
    format!("{CHASSIS}/Rack-{}", segment(rack))
}

/// A rack.
pub fn rack(rack: &str) -> Item {
    resource(
        &rack_uri(rack),
        "#Chassis.v1_28_0.Chassis",
        &format!("Rack {rack}"),
        json!({"ChassisType": "Rack", "Location": {"Placement": {"Rack": rack}}, "Status": {"State": "Enabled"}}),
    )
}

/// Everything that a host shows. `block` is what was found in it.
pub fn host(host: &BareMetalHost, block: Option<&ResourceBlock>) -> Vec<Item> {
    let id = id_of(&ObjectKey::of(host));
    let uri = format!("{SYSTEMS}/{id}");
    let empty = BareMetalHostStatus::default();
    let state = host.status.as_ref().unwrap_or(&empty);
    let none = ResourceBlockStatus::default();
    let found = block.and_then(|block| block.status.as_ref()).unwrap_or(&none);
    let mut items = vec![system(host, state, block, found, &id, &uri)];
    items.extend(processors(state, found, &uri));
    items.extend(memory(state, &uri));
    items.extend(network(host, state, &uri));
    items.extend(storage(state, &uri, &format!("{CHASSIS}/{id}")));
    items.extend(around(state, found, &id, &uri));
    items
}

/// Redfish's state and health of a host.
fn host_status(state: &BareMetalHostStatus) -> Value {
    let health = match state.operational_status {
        OperationalStatus::Error => "Critical",
        OperationalStatus::Delayed | OperationalStatus::Detached => "Warning",
        _ => "OK",
    };
    let enabled = match state.provisioning.state {
        ProvisioningState::None | ProvisioningState::Registering | ProvisioningState::Inspecting => {
            "Starting"
        }
        ProvisioningState::Deleting | ProvisioningState::PoweringOffBeforeDelete => "Disabled",
        _ if state.operational_status == OperationalStatus::Error => "UnavailableOffline",
        _ if state.powered_on => "Enabled",
        _ => "StandbyOffline",
    };
    let mut value = status(enabled, health);
    value["HealthRollup"] = health.into();
    value
}

fn power_state(state: &BareMetalHostStatus) -> &'static str {
    if state.powered_on { "On" } else { "Off" }
}

fn system(
    host: &BareMetalHost,
    state: &BareMetalHostStatus,
    block: Option<&ResourceBlock>,
    found: &ResourceBlockStatus,
    id: &str,
    uri: &str,
) -> Item {
    let hardware = state.hardware.clone().unwrap_or_default();
    let vendor = &hardware.system_vendor;
    #[allow(clippy::cast_precision_loss)] // Exact far beyond any memory that there is.
    let memory = (hardware.ram_mebibytes > 0).then(|| hardware.ram_mebibytes as f64 / 1024.0);
    let reset = format!("{uri}/Actions/ComputerSystem.Reset");
    let mode = match state.provisioning.boot_mode {
        Some(drystone_api::BootMode::Legacy) => "Legacy",
        _ => "UEFI",
    };
    let blocks = block.map(|block| format!("{COMPOSITION}/ResourceBlocks/{}", id_of(&ObjectKey::of(block))));
    let running = state.powered_on && state.provisioning.state == ProvisioningState::Provisioned;
    resource(
        uri,
        "#ComputerSystem.v1_27_0.ComputerSystem",
        &host.name_any(),
        json!({
            "SystemType": "Physical", "UUID": host.uid(), "Description": text(&host.spec.description),
            "Manufacturer": text(&vendor.manufacturer), "Model": text(&vendor.product_name),
            "SerialNumber": text(&vendor.serial_number), "BiosVersion": text(&hardware.firmware.bios.version),
            "HostName": text(&hardware.hostname), "PowerState": power_state(state), "Status": host_status(state),
            "ProcessorSummary": {
                "Count": 1, "CoreCount": number(found.cores), "LogicalProcessorCount": number(hardware.cpu.count),
                "Model": text(&hardware.cpu.model), "ThreadingEnabled": hardware.cpu.count > found.cores},
            "MemorySummary": {"TotalSystemMemoryGiB": memory},
            "Boot": {
                "BootSourceOverrideEnabled": "Disabled", "BootSourceOverrideTarget": "None",
                "BootSourceOverrideMode": mode},
            "BootProgress": {"LastState": if running { "OSRunning" } else { "None" }},
            "Processors": link(format!("{uri}/Processors")), "Memory": link(format!("{uri}/Memory")),
            "EthernetInterfaces": link(format!("{uri}/EthernetInterfaces")),
            "Storage": link(format!("{uri}/Storage")),
            "Links": {
                "Chassis": links([format!("{CHASSIS}/{id}")]), "ManagedBy": links([format!("{MANAGERS}/{id}")]),
                "ResourceBlocks": links(blocks)},
            "Actions": {"#ComputerSystem.Reset": {"target": reset, "ResetType@Redfish.AllowableValues": RESET_TYPES}},
        }),
    )
}

fn processors(state: &BareMetalHostStatus, found: &ResourceBlockStatus, system: &str) -> Vec<Item> {
    let collection = format!("{system}/Processors");
    let mut items = vec![Item::collection(&collection, "Processor")];
    let cpu = state.hardware.clone().unwrap_or_default().cpu;
    if cpu.count > 0 {
        let architecture = match cpu.arch.as_str() {
            "x86_64" => "x86",
            "aarch64" => "ARM",
            _ => "",
        };
        let instructions = match architecture {
            "x86" => "x86-64",
            "ARM" => "ARM-A64",
            _ => "",
        };
        // A clock is a positive number of MHz, far below 2^32.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let clock = cpu.clock_megahertz.max(0.0) as u32;
        items.push(resource(
            &format!("{collection}/CPU"),
            "#Processor.v1_22_0.Processor",
            "Processors",
            json!({
                "ProcessorType": "CPU", "Model": text(&cpu.model), "TotalCores": number(found.cores),
                "TotalThreads": cpu.count, "MaxSpeedMHz": number(clock), "Status": status("Enabled", "OK"),
                "ProcessorArchitecture": text(architecture), "InstructionSet": text(instructions)}),
        ));
    }
    let mut number_of = std::collections::BTreeMap::<&str, u32>::new();
    for accelerator in &found.accelerators {
        let kind = match accelerator.kind {
            AcceleratorType::GPU => "GPU",
            AcceleratorType::FPGA => "FPGA",
            AcceleratorType::DSP => "DSP",
            AcceleratorType::Accelerator => "Accelerator",
        };
        for _ in 0..accelerator.count {
            let count = number_of.entry(kind).or_default();
            *count += 1;
            let memory = accelerator
                .memory
                .as_ref()
                .map(|memory| json!([{"CapacityMiB": memory.mebibytes(), "IntegratedMemory": true}]));
            items.push(resource(
                &format!("{collection}/{kind}{count}"),
                "#Processor.v1_22_0.Processor",
                &format!("{kind} {count}"),
                json!({
                    "ProcessorType": kind, "Model": text(&accelerator.model), "ProcessorMemory": memory,
                    "Status": status("Enabled", "OK")}),
            ));
        }
    }
    items
}

fn memory(state: &BareMetalHostStatus, system: &str) -> Vec<Item> {
    let collection = format!("{system}/Memory");
    let mut items = vec![Item::collection(&collection, "Memory")];
    let size = state.hardware.as_ref().map_or(0, |hardware| hardware.ram_mebibytes);
    if size > 0 {
        items.push(resource(
            &format!("{collection}/Memory"),
            "#Memory.v1_23_0.Memory",
            "All memory modules",
            json!({"MemoryType": "DRAM", "CapacityMiB": size, "Status": status("Enabled", "OK")}),
        ));
    }
    items
}

fn network(host: &BareMetalHost, state: &BareMetalHostStatus, system: &str) -> Vec<Item> {
    let mut items = vec![Item::collection(format!("{system}/EthernetInterfaces"), "EthernetInterface")];
    let hardware = state.hardware.clone().unwrap_or_default();
    for (nic, (mac, uri)) in hardware.nics.iter().zip(interfaces(host)) {
        items.push(resource(
            &uri,
            "#EthernetInterface.v1_12_4.EthernetInterface",
            &nic.name,
            json!({
                "MACAddress": text(&mac), "PermanentMACAddress": text(&mac),
                "SpeedMbps": number(u64::from(nic.speed_gbps) * 1000), "InterfaceEnabled": true,
                "Status": status("Enabled", "OK"), "Links": {"Chassis": Value::Null}}),
        ));
    }
    items
}

fn storage(state: &BareMetalHostStatus, system: &str, chassis: &str) -> Vec<Item> {
    let collection = format!("{system}/Storage");
    let mut items = vec![
        Item::collection(&collection, "Storage"),
        Item::collection(format!("{chassis}/Drives"), "Drive"),
    ];
    let hardware = state.hardware.clone().unwrap_or_default();
    if hardware.storage.is_empty() {
        return items;
    }
    let storage = format!("{collection}/Local");
    let mut drives = Vec::new();
    for device in &hardware.storage {
        let uri = format!("{chassis}/Drives/{}", segment(&device.name));
        let (media, protocol) = match device.kind.to_uppercase().as_str() {
            "NVME" => ("SSD", "NVMe"),
            "HDD" => ("HDD", ""),
            "SSD" => ("SSD", ""),
            _ => ("", ""),
        };
        items.push(resource(
            &uri,
            "#Drive.v1_20_0.Drive",
            &device.name,
            json!({
                "CapacityBytes": number(device.size_bytes), "MediaType": text(media), "Protocol": text(protocol),
                "Manufacturer": text(&device.vendor), "Model": text(&device.model),
                "SerialNumber": text(&device.serial_number), "Status": status("Enabled", "OK"),
                "Links": {"Chassis": link(chassis), "Storage": link(&storage)}}),
        ));
        drives.push(uri);
    }
    items.push(resource(
        &storage,
        "#Storage.v1_21_0.Storage",
        "Local storage",
        json!({"Drives": links(drives), "Status": status("Enabled", "OK")}),
    ));
    items
}

/// The case that a host is in, and its management controller.
fn around(state: &BareMetalHostStatus, found: &ResourceBlockStatus, id: &str, system: &str) -> Vec<Item> {
    let (chassis, manager) = (format!("{CHASSIS}/{id}"), format!("{MANAGERS}/{id}"));
    let vendor = state.hardware.clone().unwrap_or_default().system_vendor;
    let rack = (!found.chassis.is_empty()).then(|| rack_uri(&found.chassis));
    let mut items = vec![
        resource(
            &chassis,
            "#Chassis.v1_28_0.Chassis",
            &format!("Case of {id}"),
            json!({
                "ChassisType": "RackMount", "Manufacturer": text(&vendor.manufacturer),
                "Model": text(&vendor.product_name), "SerialNumber": text(&vendor.serial_number),
                "PowerState": power_state(state), "Status": host_status(state),
                "MinPowerWatts": found.idle_watts, "MaxPowerWatts": found.busy_watts,
                "Location": {"Placement": {"Rack": text(&found.chassis)}}, "Drives": link(format!("{chassis}/Drives")),
                "Links": {
                    "ComputerSystems": links([system.to_owned()]), "ManagedBy": links([manager.clone()]),
                    "ContainedBy": rack.clone().map(link)}}),
        ),
        resource(
            &manager,
            "#Manager.v1_24_0.Manager",
            &format!("Management controller of {id}"),
            json!({
                "ManagerType": "BMC", "Status": status("Enabled", "OK"), "PowerState": "On",
                "Links": {
                    "ManagerForServers": links([system.to_owned()]),
                    "ManagerForChassis": links([chassis.clone()])}}),
        ),
    ];
    items.extend(rack.map(|rack| Item::link(rack, "Links/Contains", chassis)));
    items
}
