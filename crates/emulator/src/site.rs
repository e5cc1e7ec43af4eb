//! The site file: what an emulated site consists of, how fast it is and what goes wrong in it.
//!
//! A site file is YAML. [`document`] is its form as written, with templates, counts and defaults; [`resolve`] expands
//! and checks it into a [`SiteFile`], where every host, port and cable stands by itself and every reference is good.
//! The rest of the emulator sees only the latter. What a file may say is shown by `examples/sites/rack.yaml`.

mod cloud;
mod document;
mod duration;
mod fabrics;
mod faults;
mod gateway;
mod hosts;
mod mac;
mod pools;
mod problem;
mod resolve;
mod sunfish;
#[cfg(test)]
mod tests;
mod topology;

use std::{net::IpAddr, path::Path, sync::Arc, time::Duration};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub(crate) use cloud::CloudFaultDocument;
pub use cloud::{
    CloudDelays, CloudFaultKind, CloudFaultSpec, CloudFlavor, CloudImage, CloudNetwork, CloudSpec, CloudUser,
    CloudZone, ImageUser,
};
pub use faults::{FaultKind, FaultSpec};
pub(crate) use faults::{REFUSED_STATUS, REFUSED_STATUSES, default_delay as default_fault_delay};
pub use mac::{BadMacAddress, MacAddress};
pub use problem::{SiteError, SiteProblem};
pub(crate) use sunfish::is_core;

/// An emulated site, expanded and checked.
#[derive(Debug, Clone, PartialEq)]
pub struct SiteFile {
    /// Name of the site: a DNS label of at most 32 characters.
    pub name: String,
    /// What gives hosts a body, unless the emulator is told otherwise.
    pub backend: BackendKind,
    /// How long things take.
    pub timing: Timing,
    /// Credentials of every Redfish service of the site.
    pub credentials: SiteCredentials,
    /// Fabrics with their switches.
    pub fabrics: Vec<FabricSpec>,
    /// Hosts in the order of the file. Names are unique.
    pub hosts: Vec<HostSpec>,
    /// Pools of devices that fabric agents can attach to hosts.
    pub pools: Vec<PoolSpec>,
    /// Agents in the manner of Sunfish.
    pub sunfish_agents: Vec<SunfishSpec>,
    /// The way between the site, its campus and Drystone; absent where a site has none.
    pub gateway: Option<GatewaySpec>,
    /// An OpenStack of virtual machines; absent where a site has none.
    pub cloud: Option<CloudSpec>,
    /// Faults of fabric services from the start, by service name.
    pub service_faults: Vec<(String, FaultSpec)>,
}

/// What gives hosts, switches and the gateway a body.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BackendKind {
    /// State only; tens of thousands of hosts.
    #[default]
    Sim,
    /// Network, mount and PID namespaces of this machine; needs root.
    Netns,
    /// Virtual machines under software emulation; with switches as of `netns` for root in a site with a gateway, else each behind QEMU's address
    /// translation.
    Qemu,
}

/// How long things take. All but `request_latency` are multiplied by `scale` (see [`Timing::scaled`]).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Timing {
    /// Factor for the delays of hosts: 0 makes them vanish, 1 is as the file says.
    pub scale: f64,
    /// From power on to the start of the operating system.
    pub post: Duration,
    /// From the start of the operating system to its running, at least.
    pub boot_os: Duration,
    /// How long writing an image takes a host that only simulates it, at least.
    pub image: Duration,
    /// From the request to shut down to power off, at least.
    pub shutdown: Duration,
    /// What every Redfish request takes beside its own work.
    pub request_latency: Duration,
}

/// Credentials of the Redfish services.
#[derive(Clone, PartialEq, Eq)]
pub struct SiteCredentials {
    /// User name; has all rights.
    pub user: String,
    /// Password; made at the first start and kept in the state directory if absent.
    pub password: Option<String>,
}

impl std::fmt::Debug for SiteCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SiteCredentials").field("user", &self.user).finish_non_exhaustive()
    }
}

/// A fabric.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FabricSpec {
    /// Redfish id of the fabric.
    pub id: String,
    /// UUID, derived from the names of site and fabric; equal in every service that shows a part of the fabric.
    pub uuid: Uuid,
    /// Who speaks for it.
    pub services: FabricServices,
    /// Switches. Names are unique in the site.
    pub switches: Vec<SwitchSpec>,
}

/// Which Redfish services a fabric has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum FabricServices {
    /// Every switch is a service of its own and knows only itself.
    #[default]
    PerSwitch,
    /// One agent speaks for all switches, and takes zones and connections.
    Agent,
}

/// A switch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SwitchSpec {
    /// Name, and Redfish id: a DNS label of at most 32 characters. Cables that lead here share it.
    pub name: Arc<str>,
    /// UUID, derived from the names of site and switch.
    pub uuid: Uuid,
    /// Its ports: edge ports `p1`… first, then interswitch ports `isl0`….
    pub ports: Vec<PortSpec>,
}

/// A port of a switch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortSpec {
    /// Name, and Redfish id; unique in the switch. All ports of a site that are called so share it.
    pub name: Arc<str>,
    /// Speed in Gbit/s.
    pub speed_gbps: u32,
    /// What is plugged in.
    pub cable: Cable,
}

/// Where the cable in a switch port leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cable {
    /// Nothing is plugged in.
    Unplugged,
    /// A network interface of a host.
    Nic {
        /// Name of the host.
        host: String,
        /// Name of the interface.
        nic: String,
        /// Its MAC address.
        mac: MacAddress,
    },
    /// The gateway of the site.
    Gateway {
        /// MAC address of its interface.
        mac: MacAddress,
    },
    /// An endpoint that belongs to no host of the site.
    Endpoint {
        /// MAC address of it.
        mac: MacAddress,
    },
    /// Another switch of the fabric.
    Switch {
        /// Name of the other switch.
        switch: Arc<str>,
        /// Name of the other switch's port.
        port: Arc<str>,
    },
}

/// A host.
#[derive(Debug, Clone, PartialEq)]
pub struct HostSpec {
    /// Name: a DNS label of at most 40 characters.
    pub name: String,
    /// System UUID, derived from the names of site and host.
    pub uuid: Uuid,
    /// Rack it stands in; empty if not told.
    pub rack: String,
    /// Whether it is a virtual machine in a site whose other hosts are namespaces.
    pub virtual_machine: bool,
    /// Processors.
    pub processor: ProcessorSpec,
    /// Main memory in MiB, over all modules.
    pub memory_mib: u64,
    /// GPUs, one entry each.
    pub gpus: Vec<AcceleratorSpec>,
    /// Drives, one entry each; names are unique in the host.
    pub drives: Vec<DriveSpec>,
    /// Network interfaces; names are unique in the host.
    pub nics: Vec<NicSpec>,
    /// Whether it is switched on (without an operating system) when the site is made.
    pub initially_on: bool,
    /// Power drawn.
    pub watts: Watts,
    /// Faults of its BMC from the start.
    pub faults: Vec<FaultSpec>,
}

/// Processors of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessorSpec {
    /// Model.
    pub model: String,
    /// Number of sockets, each with an equal part of the cores.
    pub sockets: u32,
    /// Cores in all.
    pub cores: u32,
    /// Hardware threads in all.
    pub threads: u32,
    /// Highest clock in MHz.
    pub max_speed_mhz: u32,
}

/// A GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcceleratorSpec {
    /// Model.
    pub model: String,
    /// Memory of it in MiB.
    pub memory_mib: u64,
}

/// A drive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DriveSpec {
    /// Name, and Redfish id.
    pub name: String,
    /// Capacity in GiB.
    pub capacity_gib: u64,
    /// What it is made of.
    pub media: DriveMedia,
}

/// Kind of a drive.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum DriveMedia {
    /// Solid state behind NVMe.
    #[default]
    NVMe,
    /// Solid state behind SATA.
    #[serde(rename = "SSD")]
    Ssd,
    /// Rotating.
    #[serde(rename = "HDD")]
    Hdd,
}

/// A network interface of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NicSpec {
    /// Name, and Redfish id: `eth0`.
    pub name: String,
    /// MAC address; derived from the names of site, host and interface unless the file gives it.
    pub mac: MacAddress,
    /// Speed in Gbit/s.
    pub speed_gbps: u32,
    /// The switch that its cable leads to.
    pub switch: String,
    /// The port that its cable leads to.
    pub port: String,
}

/// Electrical power in watts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watts {
    /// Switched on and idle.
    pub idle: u32,
    /// Under full load.
    pub busy: u32,
}

/// A chassis of devices that an agent attaches to hosts over its fabric.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolSpec {
    /// Name: a DNS label of at most 32 characters, unique in the site.
    pub name: String,
    /// Id of the fabric whose agent shows it.
    pub fabric: String,
    /// The devices; each becomes a ResourceBlock.
    pub devices: Vec<PooledDevice>,
}

/// A pooled device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PooledDevice {
    /// A GPU.
    Gpu(AcceleratorSpec),
    /// Memory.
    Memory {
        /// Size in MiB.
        size_mib: u64,
    },
    /// A drive.
    Drive(DriveSpec),
}

/// An agent in the manner of Sunfish: a CXL fabric with memory appliances, which registers with a core by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SunfishSpec {
    /// Id of its fabric, and name of the service.
    pub id: String,
    /// UUID of the fabric, derived from the names of site and fabric: the same after every restart.
    pub uuid: Uuid,
    /// Address of the core: `http://127.0.0.1:5000`; without one it does not register.
    pub core: Option<String>,
    /// How often it looks whether the core still knows it.
    pub heartbeat: Duration,
    /// Where the memory is.
    pub appliances: Vec<ApplianceSpec>,
    /// Names of the hosts that can use it.
    pub hosts: Vec<String>,
}

/// A memory appliance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApplianceSpec {
    /// Name of its chassis.
    pub name: String,
    /// How many fabric adapters it has, each with memory of its own.
    pub adapters: u32,
    /// Memory of each adapter in MiB.
    pub memory_mib: u64,
}

/// The gateway of a site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewaySpec {
    /// Its address on the node network, with the network's prefix length: `10.20.0.1/16`.
    pub node_address: IpNet,
    /// The part of the node network that hosts get their addresses from; all of it if absent.
    pub node_allocation: Option<IpNet>,
    /// Its address on the campus network, with the network's prefix length: `203.0.113.1/24`.
    pub campus_address: IpNet,
    /// Port by which hosts reach Drystone at the gateway's node address.
    pub controller_port: u16,
    /// MAC address of its interface to the fabric.
    pub mac: MacAddress,
    /// The switch that its cable leads to.
    pub switch: String,
    /// The port that its cable leads to.
    pub port: String,
    /// Machines on the campus network.
    pub clients: Vec<CampusClient>,
    /// Addresses outside the node network that Services may show; hosts answer for them on the node network (ARP),
    /// and the gateway routes them there.
    pub external_pools: Vec<ExternalPoolSpec>,
}

/// A machine on the campus network, outside of every zone.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CampusClient {
    /// Name: a DNS label.
    pub name: String,
    /// Address in the campus network.
    pub address: IpAddr,
}

/// A pool of external addresses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExternalPoolSpec {
    /// Name that clusters use in `network.externalPool`.
    pub name: String,
    /// The ranges.
    pub ranges: Vec<IpNet>,
    /// Prefix length of the block that one cluster gets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block_prefix_length: Option<u8>,
}

/// Reads a site file; the same as [`SiteFile::load`].
///
/// # Errors
/// The file cannot be read, is no YAML, or says something that cannot be; the error lists every place.
pub fn load(path: &Path) -> Result<SiteFile, SiteError> {
    SiteFile::load(path)
}

impl SiteFile {
    /// Reads a site file.
    ///
    /// # Errors
    /// The file cannot be read, is no YAML, or says something that cannot be; the error lists every place.
    pub fn load(path: &Path) -> Result<Self, SiteError> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| SiteError::unreadable(&path.display().to_string(), &error))?;
        Self::parse(&text).map_err(|error| error.in_file(&path.display().to_string()))
    }

    /// Reads the text of a site file.
    ///
    /// # Errors
    /// The text is no YAML or says something that cannot be; the error lists every place.
    pub fn parse(text: &str) -> Result<Self, SiteError> {
        resolve::resolve(document::parse(text)?)
    }

    /// The host of this name.
    pub fn host(&self, name: &str) -> Option<&HostSpec> {
        self.hosts.iter().find(|host| host.name == name)
    }

    /// Every switch of every fabric.
    pub fn switches(&self) -> impl Iterator<Item = &SwitchSpec> {
        self.fabrics.iter().flat_map(|fabric| &fabric.switches)
    }

    /// The switch of this name.
    pub fn switch(&self, name: &str) -> Option<&SwitchSpec> {
        self.switches().find(|switch| *switch.name == *name)
    }
}

impl Cable {
    /// MAC address of the endpoint that the cable leads to, if it leads to one.
    pub const fn mac(&self) -> Option<MacAddress> {
        match self {
            Self::Nic { mac, .. } | Self::Gateway { mac } | Self::Endpoint { mac } => Some(*mac),
            Self::Unplugged | Self::Switch { .. } => None,
        }
    }
}

impl SwitchSpec {
    /// The port of this name.
    pub fn port(&self, name: &str) -> Option<&PortSpec> {
        self.ports.iter().find(|port| *port.name == *name)
    }
}

impl Timing {
    /// A delay of a host under the scale of the site.
    pub fn scaled(&self, delay: Duration) -> Duration {
        delay.mul_f64(self.scale)
    }
}

impl GatewaySpec {
    /// All external ranges of all pools.
    pub fn external_ranges(&self) -> impl Iterator<Item = IpNet> {
        self.external_pools.iter().flat_map(|pool| pool.ranges.iter().copied())
    }
}
