//! What Linux says of the machine.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{
    medium,
    protocol::{DiskDetails, Interface, Inventory},
};

/// Device names that are no disks.
const NO_DISKS: [&str; 6] = ["loop", "ram", "zram", "fd", "dm-", "md"];

/// Reads everything; what Linux does not say stays empty.
pub(super) fn read(sys: &Path, proc: &Path, dev: &Path) -> Inventory {
    let dmi = |name: &str| text(&sys.join("class/dmi/id").join(name));
    let cpu_info = fs::read_to_string(proc.join("cpuinfo")).unwrap_or_default();
    let processor = |key: &str| {
        let line =
            cpu_info.lines().find(|line| line.split(':').next().is_some_and(|name| name.trim() == key));
        line.and_then(|line| line.split_once(':'))
            .map(|(_, value)| value.trim().to_owned())
            .unwrap_or_default()
    };
    let processors = cpu_info.lines().filter(|line| line.starts_with("processor")).count();
    let memory = fs::read_to_string(proc.join("meminfo")).unwrap_or_default();
    let kilobytes: u64 = memory
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse().ok())
        .unwrap_or(0);
    Inventory {
        architecture: std::env::consts::ARCH.to_owned(),
        processor_model: processor("model name"),
        processor_count: u32::try_from(processors).unwrap_or(u32::MAX),
        processor_megahertz: processor("cpu MHz").parse().unwrap_or(0.0),
        memory_mebibytes: kilobytes / 1024,
        manufacturer: dmi("sys_vendor"),
        product_name: dmi("product_name"),
        serial_number: dmi("product_serial"),
        uefi: sys.join("firmware/efi").exists(),
        interfaces: interfaces(sys),
        disks: disks(sys, dev),
    }
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default()
}

fn names_in(directory: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

/// Names of the block devices that have a medium.
pub(super) fn block_devices(sys: &Path) -> Vec<String> {
    let block = sys.join("block");
    let mut names = names_in(&block);
    names.retain(|name| {
        !NO_DISKS.iter().any(|other| name.starts_with(other)) && sectors(&block.join(name)) > 0
    });
    names
}

/// Sectors of 512 bytes, whatever the device's own are.
fn sectors(device: &Path) -> u64 {
    text(&device.join("size")).parse().unwrap_or(0)
}

fn disks(sys: &Path, dev: &Path) -> Vec<DiskDetails> {
    let by_path = links(&dev.join("disk/by-path"));
    let names = block_devices(sys).into_iter().filter(|name| !name.starts_with("sr"));
    names
        .filter(|name| {
            let medium = fs::File::open(dev.join(name)).map(|mut file| medium::read(&mut file).is_ok());
            !medium.unwrap_or(false) && text(&sys.join("block").join(name).join("ro")) != "1"
        })
        .map(|name| disk(sys, &name, &by_path))
        .collect()
}

fn disk(sys: &Path, name: &str, by_path: &[(String, PathBuf)]) -> DiskDetails {
    let block = sys.join("block").join(name);
    let device = block.join("device");
    let first = |paths: &[PathBuf]| {
        paths.iter().map(|path| text(path)).find(|text| !text.is_empty()).unwrap_or_default()
    };
    // SCSI knows the serial number as a page in binary: a header of four bytes, then text.
    let page = fs::read(device.join("vpd_pg80")).unwrap_or_default();
    let serial =
        String::from_utf8_lossy(page.get(4..).unwrap_or_default()).trim().trim_matches('\0').to_owned();
    let serial =
        if serial.is_empty() { first(&[block.join("serial"), device.join("serial")]) } else { serial };
    let wwn = first(&[block.join("wwid"), device.join("wwid")]);
    let wwn = wwn.strip_prefix("naa.").map_or(wwn.clone(), |number| format!("0x{number}"));
    let short = if wwn.starts_with("0x") && wwn.len() > 18 { wwn[..18].to_owned() } else { wwn.clone() };
    let extension = wwn.strip_prefix(&short).filter(|rest| !rest.is_empty()).map(|rest| format!("0x{rest}"));
    let hctl = fs::read_link(&device).ok().and_then(|link| Some(link.file_name()?.to_str()?.to_owned()));
    DiskDetails {
        name: format!("/dev/{name}"),
        alternate_names: by_path
            .iter()
            .filter(|(_, target)| target.file_name().is_some_and(|target| target == name))
            .map(|(link, _)| format!("/dev/disk/by-path/{link}"))
            .collect(),
        size_bytes: sectors(&block) * 512,
        rotational: text(&block.join("queue/rotational")) == "1",
        vendor: text(&device.join("vendor")),
        model: text(&device.join("model")),
        serial_number: serial,
        wwn: short,
        wwn_with_extension: wwn,
        wwn_vendor_extension: extension.unwrap_or_default(),
        hctl: hctl.filter(|name| name.split(':').count() == 4).unwrap_or_default(),
    }
}

fn links(directory: &Path) -> Vec<(String, PathBuf)> {
    let names = names_in(directory);
    names
        .into_iter()
        .filter_map(|name| Some((name.clone(), fs::read_link(directory.join(name)).ok()?)))
        .collect()
}

fn interfaces(sys: &Path) -> Vec<Interface> {
    let class = sys.join("class/net");
    let addresses = addresses();
    let names = names_in(&class).into_iter().filter(|name| class.join(name).join("device").exists());
    names
        .map(|name| {
            let nic = class.join(&name);
            let own = addresses.iter().filter(|(interface, _)| *interface == name);
            Interface {
                mac: text(&nic.join("address")).to_lowercase(),
                addresses: own.map(|(_, address)| address.clone()).collect(),
                // A card without a link says -1.
                speed_megabits: text(&nic.join("speed")).parse().unwrap_or(0),
                carrier: text(&nic.join("carrier")) == "1",
                name,
            }
        })
        .collect()
}

/// Addresses of this machine's interfaces.
fn addresses() -> Vec<(String, String)> {
    let Ok(interfaces) = nix::ifaddrs::getifaddrs() else { return Vec::new() };
    interfaces
        .filter_map(|interface| {
            let address = interface.address?;
            let address = match (address.as_sockaddr_in(), address.as_sockaddr_in6()) {
                (Some(v4), _) => v4.ip().to_string(),
                (_, Some(v6)) => v6.ip().to_string(),
                _ => return None,
            };
            Some((interface.interface_name, address))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, path: &str, content: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    #[test]
    fn a_machine() {
        let root = tempfile::tempdir().unwrap();
        let at = root.path();
        write(
            at,
            "proc/cpuinfo",
            "processor\t: 0\nmodel name\t: Fast\ncpu MHz\t\t: 2400.5\nprocessor\t: 1\n",
        );
        write(at, "proc/meminfo", "MemTotal:       2048000 kB\nMemFree: 1 kB\n");
        write(at, "sys/class/dmi/id/sys_vendor", "Acme\n");
        write(at, "sys/block/sda/size", "2048\n");
        write(at, "sys/block/sda/queue/rotational", "1\n");
        write(at, "sys/block/sda/device/model", "Disk 1\n");
        write(at, "sys/block/sda/device/wwid", "naa.5000c500a1b2c3d4ffff\n");
        write(at, "sys/block/sda/device/vpd_pg80", "\0\u{1}\0\u{2}S1\n");
        write(at, "sys/block/sr0/size", "100\n");
        write(at, "sys/block/loop0/size", "100\n");
        write(at, "sys/block/sdb/size", "0\n");
        write(at, "sys/block/sdc/size", "64\n");
        write(at, "sys/class/net/eth0/address", "02:D5:00:00:00:01\n");
        write(at, "sys/class/net/eth0/device/x", "");
        write(at, "sys/class/net/lo/address", "00:00:00:00:00:00\n");
        write(at, "dev/sda", "");
        fs::create_dir_all(at.join("dev/disk/by-path")).unwrap();
        std::os::unix::fs::symlink("../../sda", at.join("dev/disk/by-path/pci-1")).unwrap();
        let medium = medium::bare(&medium::AgentConfig::default()).unwrap();
        fs::write(at.join("dev/sdc"), medium).unwrap();
        let found = read(&at.join("sys"), &at.join("proc"), &at.join("dev"));
        assert_eq!((found.processor_count, found.processor_model.as_str()), (2, "Fast"));
        assert_eq!((found.memory_mebibytes, found.manufacturer.as_str()), (2000, "Acme"));
        assert_eq!(found.interfaces[0].mac, "02:d5:00:00:00:01");
        let [disk] = found.disks.as_slice() else { panic!("the medium is no disk: {:?}", found.disks) };
        assert_eq!((disk.size_bytes, disk.rotational, disk.serial_number.as_str()), (1 << 20, true, "S1"));
        assert_eq!((disk.wwn.as_str(), disk.wwn_vendor_extension.as_str()), ("0x5000c500a1b2c3d4", "0xffff"));
        assert_eq!(disk.alternate_names, ["/dev/disk/by-path/pci-1"]);
    }
}
