//! What an agent found, laid over what the management controller says: the agent sees disks as the operating system will.

use drystone_agent::protocol::{DiskDetails, Interface, Inventory};
use drystone_api::{HardwareDetails, Nic, StorageDevice};

/// Lays what an agent found over details. What it does not know stays.
pub fn lay_over(details: &mut HardwareDetails, found: &Inventory) {
    let vendor = &mut details.system_vendor;
    for (known, found) in [
        (&mut vendor.manufacturer, &found.manufacturer),
        (&mut vendor.product_name, &found.product_name),
        (&mut vendor.serial_number, &found.serial_number),
        (&mut details.cpu.arch, &found.architecture),
        (&mut details.cpu.model, &found.processor_model),
    ] {
        if !found.is_empty() {
            known.clone_from(found);
        }
    }
    if found.processor_count > 0 {
        details.cpu.count = found.processor_count;
    }
    if found.processor_megahertz > 0.0 {
        details.cpu.clock_megahertz = found.processor_megahertz;
    }
    if found.memory_mebibytes > 0 {
        details.ram_mebibytes = found.memory_mebibytes;
    }
    if !found.disks.is_empty() {
        details.storage = found.disks.iter().map(storage).collect();
    }
    for interface in &found.interfaces {
        match details.nics.iter_mut().find(|nic| nic.mac.eq_ignore_ascii_case(&interface.mac)) {
            Some(known) => lay_over_nic(known, interface),
            None => {
                let mut nic = Nic { mac: interface.mac.clone(), ..Nic::default() };
                lay_over_nic(&mut nic, interface);
                details.nics.push(nic);
            }
        }
    }
}

fn lay_over_nic(nic: &mut Nic, found: &Interface) {
    nic.name.clone_from(&found.name);
    if let Some(address) = found.addresses.first() {
        nic.ip.clone_from(address);
    }
    if found.speed_megabits > 0 {
        nic.speed_gbps = found.speed_megabits / 1000;
    }
}

fn storage(disk: &DiskDetails) -> StorageDevice {
    let kind = match disk {
        disk if disk.rotational => "HDD",
        disk if disk.name.starts_with("/dev/nvme") => "NVME",
        _ => "SSD",
    };
    StorageDevice {
        name: disk.name.clone(),
        alternate_names: disk.alternate_names.clone(),
        rotational: disk.rotational,
        kind: kind.to_owned(),
        size_bytes: disk.size_bytes,
        vendor: disk.vendor.clone(),
        model: disk.model.clone(),
        serial_number: disk.serial_number.clone(),
        wwn: disk.wwn.clone(),
        wwn_vendor_extension: disk.wwn_vendor_extension.clone(),
        wwn_with_extension: disk.wwn_with_extension.clone(),
        hctl: disk.hctl.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_agent_knows_counts() {
        let mut details = HardwareDetails::default();
        details.system_vendor.manufacturer = "Acme".to_owned();
        details.cpu.count = 4;
        let known = Nic { mac: "02:D5:00:00:00:01".to_owned(), speed_gbps: 25, ..Nic::default() };
        details.nics = vec![known];
        let interface = |mac: &str, megabits| Interface {
            name: "eth0".to_owned(),
            mac: mac.to_owned(),
            addresses: vec!["10.0.0.1".to_owned()],
            speed_megabits: megabits,
            carrier: true,
        };
        let disk = DiskDetails { name: "/dev/nvme0n1".to_owned(), size_bytes: 5, ..DiskDetails::default() };
        let found = Inventory {
            processor_count: 8,
            interfaces: vec![interface("02:d5:00:00:00:01", 0), interface("02:d5:00:00:00:02", 10_000)],
            disks: vec![disk],
            ..Inventory::default()
        };
        lay_over(&mut details, &found);
        assert_eq!((details.system_vendor.manufacturer.as_str(), details.cpu.count), ("Acme", 8));
        assert_eq!((details.nics[0].name.as_str(), details.nics[0].speed_gbps), ("eth0", 25));
        assert_eq!((details.nics.len(), details.nics[1].speed_gbps), (2, 10));
        assert_eq!((details.storage[0].kind.as_str(), details.storage[0].size_bytes), ("NVME", 5));
    }
}
