//! What Ironic's inspection found, in Metal3's form. Source: the inventory of ironic-python-agent.

use drystone_api::{Cpu, Firmware, FirmwareBios, HardwareDetails, Nic, StorageDevice, SystemVendor};
use serde_json::Value;

/// Reads the answer to `GET /v1/nodes/…/inventory`. What is not there, or not as expected, is left out.
pub(super) fn read(answer: &Value) -> HardwareDetails {
    let inventory = &answer["inventory"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let vendor = &inventory["system_vendor"];
    let firmware = &vendor["firmware"];
    let cpu = &inventory["cpu"];
    HardwareDetails {
        system_vendor: SystemVendor {
            manufacturer: text(&vendor["manufacturer"]),
            product_name: text(&vendor["product_name"]),
            serial_number: text(&vendor["serial_number"]),
        },
        firmware: Firmware {
            bios: FirmwareBios {
                date: text(&firmware["build_date"]),
                vendor: text(&firmware["vendor"]),
                version: text(&firmware["version"]),
            },
        },
        ram_mebibytes: inventory["memory"]["physical_mb"].as_u64().unwrap_or_default(),
        nics: inventory["interfaces"].as_array().into_iter().flatten().map(nic).collect(),
        storage: inventory["disks"].as_array().into_iter().flatten().map(disk).collect(),
        cpu: Cpu {
            arch: text(&cpu["architecture"]),
            model: text(&cpu["model_name"]),
            clock_megahertz: number(&cpu["frequency"]),
            flags: cpu["flags"].as_array().into_iter().flatten().map(text).collect(),
            count: small(&cpu["count"]),
        },
        hostname: text(&inventory["hostname"]),
    }
}

fn small(value: &Value) -> u32 {
    value.as_u64().and_then(|number| u32::try_from(number).ok()).unwrap_or_default()
}

/// Some numbers come as text.
fn number(value: &Value) -> f64 {
    value
        .as_f64()
        .or_else(|| value.as_str()?.trim().parse().ok())
        .filter(|n: &f64| n.is_finite())
        .unwrap_or_default()
}

fn nic(value: &Value) -> Nic {
    let text = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
    let address = if text("ipv4_address").is_empty() { text("ipv6_address") } else { text("ipv4_address") };
    Nic {
        name: text("name"),
        model: format!("{} {}", text("vendor"), text("product")).trim().to_owned(),
        mac: text("mac_address"),
        ip: address,
        speed_gbps: small(&value["speed_mbps"]) / 1000,
        pci_address: text("pci_address"),
        ..Default::default()
    }
}

fn disk(value: &Value) -> StorageDevice {
    let text = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
    let (name, rotational) = (text("name"), value["rotational"].as_bool().unwrap_or_default());
    let kind = match (name.starts_with("/dev/nvme"), rotational) {
        (true, _) => "NVME",
        (_, true) => "HDD",
        _ => "SSD",
    };
    let by_path = Some(text("by_path")).filter(|path| !path.is_empty());
    StorageDevice {
        alternate_names: vec![name.clone()].into_iter().chain(by_path.clone()).collect(),
        name: by_path.unwrap_or(name),
        rotational,
        kind: kind.to_owned(),
        size_bytes: value["size"].as_u64().unwrap_or_default(),
        vendor: text("vendor"),
        model: text("model"),
        serial_number: text("serial"),
        wwn: text("wwn"),
        wwn_vendor_extension: text("wwn_vendor_extension"),
        wwn_with_extension: text("wwn_with_extension"),
        hctl: text("hctl"),
    }
}

#[cfg(test)]
mod tests {
    use drystone_hostile::distorted;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn sample() -> Value {
        json!({"inventory": {
            "cpu": {"architecture": "x86_64", "model_name": "EPYC", "count": 64, "frequency": "2445.4", "flags": ["avx2"]},
            "memory": {"physical_mb": 262_144, "total": 1},
            "hostname": "node-0",
            "interfaces": [{"name": "eno1", "mac_address": "52:54:00:00:00:01", "ipv4_address": "10.0.0.7", "vendor": "0x8086",
                "product": "0x1572", "speed_mbps": 25_000, "pci_address": "0000:01:00.0"}],
            "disks": [{"name": "/dev/nvme0n1", "by_path": "/dev/disk/by-path/pci-1", "size": 1_000_000_u64, "rotational": false,
                "model": "m", "serial": "s", "wwn": "w"}, {"name": "/dev/sda", "rotational": true}],
            "system_vendor": {"manufacturer": "Contoso", "product_name": "p", "serial_number": "1",
                "firmware": {"vendor": "v", "version": "2.1", "build_date": "01/02/2026"}}},
            "plugin_data": {}})
    }

    #[test]
    fn an_inventory_becomes_hardware() {
        let read = read(&sample());
        assert_eq!((read.cpu.count, read.cpu.clock_megahertz, read.ram_mebibytes), (64, 2445.4, 262_144));
        assert_eq!((read.nics[0].speed_gbps, read.nics[0].model.as_str()), (25, "0x8086 0x1572"));
        assert_eq!((read.storage[0].kind.as_str(), read.storage[1].kind.as_str()), ("NVME", "HDD"));
        assert_eq!(read.storage[0].name, "/dev/disk/by-path/pci-1");
        assert_eq!(read.firmware.bios.version, "2.1");
    }

    proptest! {
        #[test]
        fn any_inventory_is_read(answer in distorted(sample(), &["inventory", "disks", "interfaces", "cpu", "count", "frequency"])) {
            let read = read(&answer);
            prop_assert!(read.cpu.clock_megahertz.is_finite());
        }
    }
}
