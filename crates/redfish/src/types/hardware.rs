//! What systems and chassis are made of.

use serde_json::{Map, Value};

use super::{Identifier, Link, Status, part, resource};

resource! {
    /// A processor or an accelerator.
    Processor, "#Processor.v1_22_0.Processor" {
        /// `CPU`, `GPU`, `FPGA`, `DSP`, `Accelerator` …
        processor_type: Option<String>,
        /// `x86`, `ARM` …
        processor_architecture: Option<String>,
        /// `x86-64`, `ARM-A64` …
        instruction_set: Option<String>,
        /// Who made it.
        manufacturer: Option<String>,
        /// Model.
        model: Option<String>,
        /// Where it sits.
        socket: Option<String>,
        /// Cores.
        total_cores: Option<u32>,
        /// Hardware threads.
        total_threads: Option<u32>,
        /// Highest clock in MHz.
        #[serde(rename = "MaxSpeedMHz")]
        max_speed_mhz: Option<u32>,
        /// UUID.
        #[serde(rename = "UUID")]
        uuid: Option<String>,
        /// Memory of its own.
        processor_memory: Vec<ProcessorMemory>,
        /// State and health.
        status: Status,
    }
}

part! {
    /// Memory of a processor.
    ProcessorMemory {
        /// Size in MiB.
        #[serde(rename = "CapacityMiB")]
        capacity_mib: Option<u64>,
        /// `HBM2`, `GDDR6` …
        memory_type: Option<String>,
        /// Whether it is part of the processor.
        integrated_memory: Option<bool>,
    }
}

resource! {
    /// A memory module.
    Memory, "#Memory.v1_23_0.Memory" {
        /// `DRAM`, `NVDIMM_N` …
        memory_type: Option<String>,
        /// `DDR5`, `HBM3` …
        memory_device_type: Option<String>,
        /// Size in MiB.
        #[serde(rename = "CapacityMiB")]
        capacity_mib: Option<u64>,
        /// Speed in MHz or MT/s.
        operating_speed_mhz: Option<u32>,
        /// Where it sits.
        device_locator: Option<String>,
        /// Who made it.
        manufacturer: Option<String>,
        /// State and health.
        status: Status,
    }
}

resource! {
    /// A storage subsystem.
    Storage, "#Storage.v1_21_0.Storage" {
        /// Its drives.
        drives: Vec<Link>,
        /// State and health.
        status: Status,
    }
}

resource! {
    /// A drive.
    Drive, "#Drive.v1_20_0.Drive" {
        /// Capacity in bytes.
        capacity_bytes: Option<u64>,
        /// `SSD` or `HDD`.
        media_type: Option<String>,
        /// `NVMe`, `SATA`, `SAS` …
        protocol: Option<String>,
        /// Who made it.
        manufacturer: Option<String>,
        /// Model.
        model: Option<String>,
        /// Serial number.
        serial_number: Option<String>,
        /// Lasting names.
        identifiers: Vec<Identifier>,
        /// State and health.
        status: Status,
        /// Actions, by name: `#Drive.SecureErase`.
        actions: Map<String, Value>,
    }
}

resource! {
    /// A network interface of a system.
    EthernetInterface, "#EthernetInterface.v1_12_4.EthernetInterface" {
        /// MAC address in use.
        #[serde(rename = "MACAddress")]
        mac_address: Option<String>,
        /// MAC address of the hardware.
        #[serde(rename = "PermanentMACAddress")]
        permanent_mac_address: Option<String>,
        /// Speed in Mbit/s.
        speed_mbps: Option<u64>,
        /// `LinkUp`, `LinkDown`, `NoLink`.
        link_status: Option<String>,
        /// Whether it is switched on.
        interface_enabled: Option<bool>,
        /// State and health.
        status: Status,
    }
}

resource! {
    /// A chassis: a server's case, a rack, a shelf of devices.
    Chassis, "#Chassis.v1_28_0.Chassis" {
        /// `RackMount`, `Rack`, `Shelf` …
        chassis_type: Option<String>,
        /// Who made it.
        manufacturer: Option<String>,
        /// Model.
        model: Option<String>,
        /// Serial number.
        serial_number: Option<String>,
        /// Whether it is on.
        power_state: Option<super::PowerState>,
        /// Least power drawn when it is on, in watts.
        min_power_watts: Option<f64>,
        /// Most power drawn, in watts.
        max_power_watts: Option<f64>,
        /// Where it stands.
        location: Location,
        /// Measured power and the like.
        environment_metrics: Option<Link>,
        /// Links.
        links: ChassisLinks,
        /// State and health.
        status: Status,
    }
}

part! {
    /// Where something stands.
    Location {
        /// In which rack.
        placement: Placement,
    }
}

part! {
    /// A place in a building.
    Placement {
        /// Row of racks.
        row: Option<String>,
        /// Rack.
        rack: Option<String>,
    }
}

part! {
    /// Links of a chassis.
    ChassisLinks {
        /// Systems in it.
        computer_systems: Vec<Link>,
        /// Managers that manage it.
        managed_by: Vec<Link>,
        /// Resource blocks in it.
        resource_blocks: Vec<Link>,
        /// Switches in it.
        switches: Vec<Link>,
    }
}
