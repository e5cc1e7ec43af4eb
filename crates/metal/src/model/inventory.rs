//! What a host is made of, as its management controller tells.

use drystone_api::{
    Accelerator, BlockNic, Cpu, Drive, Firmware, FirmwareBios, HardwareDetails, Nic, StorageDevice,
    SystemVendor, quantity::Memory,
};

/// Everything that inspection reads.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Inventory {
    /// Maker.
    pub manufacturer: String,
    /// Model.
    pub model: String,
    /// Serial number.
    pub serial_number: String,
    /// BIOS version.
    pub bios_version: String,
    /// Processor architecture: `x86_64`.
    pub architecture: String,
    /// Processor model.
    pub processor_model: String,
    /// Clock in MHz.
    pub clock_megahertz: u32,
    /// Cores of all processors.
    pub cores: u32,
    /// Hardware threads of all processors.
    pub threads: u32,
    /// Memory.
    pub memory: Memory,
    /// Accelerators, by model.
    pub accelerators: Vec<Accelerator>,
    /// Drives.
    pub drives: Vec<InventoryDrive>,
    /// Network interfaces in order of name.
    pub nics: Vec<BlockNic>,
    /// Chassis.
    pub chassis: String,
    /// Power drawn when idle, in watts.
    pub idle_watts: Option<u32>,
    /// Power drawn under load, in watts.
    pub busy_watts: Option<u32>,
}

/// A drive.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InventoryDrive {
    /// Name.
    pub name: String,
    /// Capacity in bytes.
    pub capacity_bytes: u64,
    /// `SSD`, `HDD` or `NVMe`.
    pub media: String,
    /// Model.
    pub model: String,
    /// Serial number.
    pub serial_number: String,
}

impl Inventory {
    /// From Metal3's form, which says less.
    pub fn from_details(details: &HardwareDetails) -> Self {
        let nic = |nic: &Nic| BlockNic {
            name: nic.name.clone(),
            mac: nic.mac.to_ascii_lowercase(),
            speed_gbps: nic.speed_gbps,
        };
        let drive = |disk: &StorageDevice| InventoryDrive {
            name: disk.name.clone(),
            capacity_bytes: disk.size_bytes,
            media: if disk.kind == "NVME" { "NVMe".to_owned() } else { disk.kind.clone() },
            model: disk.model.clone(),
            serial_number: disk.serial_number.clone(),
        };
        Self {
            manufacturer: details.system_vendor.manufacturer.clone(),
            model: details.system_vendor.product_name.clone(),
            serial_number: details.system_vendor.serial_number.clone(),
            bios_version: details.firmware.bios.version.clone(),
            architecture: details.cpu.arch.clone(),
            processor_model: details.cpu.model.clone(),
            cores: details.cpu.count,
            threads: details.cpu.count,
            memory: Memory::from_mebibytes(details.ram_mebibytes),
            drives: details.storage.iter().map(drive).collect(),
            nics: details.nics.iter().map(nic).collect(),
            ..Self::default()
        }
    }

    /// In Metal3's form.
    pub fn hardware_details(&self, hostname: &str) -> HardwareDetails {
        let nic = |nic: &BlockNic| Nic {
            name: nic.name.clone(),
            mac: nic.mac.clone(),
            speed_gbps: nic.speed_gbps,
            ..Default::default()
        };
        let disk = |drive: &InventoryDrive| StorageDevice {
            name: drive.name.clone(),
            kind: drive.media.to_ascii_uppercase(),
            size_bytes: drive.capacity_bytes,
            rotational: drive.media.eq_ignore_ascii_case("HDD"),
            model: drive.model.clone(),
            serial_number: drive.serial_number.clone(),
            ..Default::default()
        };
        HardwareDetails {
            system_vendor: SystemVendor {
                manufacturer: self.manufacturer.clone(),
                product_name: self.model.clone(),
                serial_number: self.serial_number.clone(),
            },
            firmware: Firmware {
                bios: FirmwareBios { version: self.bios_version.clone(), ..Default::default() },
            },
            ram_mebibytes: self.memory.mebibytes(),
            nics: self.nics.iter().map(nic).collect(),
            storage: self.drives.iter().map(disk).collect(),
            cpu: Cpu {
                arch: self.architecture.clone(),
                model: self.processor_model.clone(),
                clock_megahertz: f64::from(self.clock_megahertz),
                count: self.threads,
                ..Default::default()
            },
            hostname: hostname.to_owned(),
        }
    }

    /// Drives as a ResourceBlock shows them.
    pub fn block_drives(&self) -> Vec<Drive> {
        let drive = |drive: &InventoryDrive| Drive {
            name: drive.name.clone(),
            capacity: Memory(drive.capacity_bytes),
            media: drive.media.clone(),
        };
        self.drives.iter().map(drive).collect()
    }

    /// GPUs in all.
    pub fn gpu_count(&self) -> u32 {
        let gpus = self.accelerators.iter().filter(|a| a.kind == drystone_api::AcceleratorType::GPU);
        gpus.map(|accelerator| accelerator.count).fold(0, u32::saturating_add)
    }
}
