//! The site file as it is written: everything that has a default may be left out, templates and counts keep it short.

use std::{cell::RefCell, collections::BTreeMap};

use ipnet::IpNet;
use serde::Deserialize;

use super::{
    BackendKind, CampusClient, DriveMedia, ExternalPoolSpec, FabricServices, FaultKind, MacAddress,
    SiteError, cloud::CloudDocument, duration::Span,
};

/// Parses the text; the error names the path of the field, the line and what may stand there.
pub(super) fn parse(text: &str) -> Result<SiteDocument, SiteError> {
    // The path is known only inside the deserializer's scope, the position only to the error that leaves it.
    let path = RefCell::new(String::new());
    let parsed = serde_saphyr::with_deserializer_from_str(text, |deserializer| {
        serde_path_to_error::deserialize(deserializer).map_err(|error| {
            let found = error.path().to_string();
            *path.borrow_mut() = if found == "." { String::new() } else { found };
            error.into_inner()
        })
    });
    parsed.map_err(|error| {
        let message = error.without_snippet().to_string();
        SiteError::single(path.take(), message)
    })
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct SiteDocument {
    pub(super) name: String,
    #[serde(default)]
    pub(super) backend: BackendKind,
    #[serde(default)]
    pub(super) timing: TimingDocument,
    #[serde(default)]
    pub(super) credentials: CredentialsDocument,
    #[serde(default)]
    pub(super) fabrics: Vec<FabricDocument>,
    #[serde(default)]
    pub(super) templates: BTreeMap<String, HostDocument>,
    #[serde(default)]
    pub(super) hosts: Vec<HostDocument>,
    #[serde(default)]
    pub(super) pools: Vec<PoolDocument>,
    #[serde(default)]
    pub(super) sunfish_agents: Vec<SunfishDocument>,
    #[serde(default)]
    pub(super) gateway: Option<GatewayDocument>,
    #[serde(default)]
    pub(super) cloud: Option<CloudDocument>,
    #[serde(default)]
    pub(super) faults: FaultsDocument,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct TimingDocument {
    pub(super) scale: Option<f64>,
    pub(super) post: Option<Span>,
    pub(super) boot_os: Option<Span>,
    pub(super) image: Option<Span>,
    pub(super) shutdown: Option<Span>,
    pub(super) request_latency: Option<Span>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct CredentialsDocument {
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
}

impl std::fmt::Debug for CredentialsDocument {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CredentialsDocument").field("user", &self.user).finish_non_exhaustive()
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct FabricDocument {
    pub(super) id: String,
    #[serde(default)]
    pub(super) services: FabricServices,
    /// Switches one by one; instead of a topology.
    #[serde(default)]
    pub(super) switches: Vec<SwitchDocument>,
    #[serde(default)]
    pub(super) links: Vec<LinkDocument>,
    /// The shape of the fabric; instead of switches and links.
    pub(super) topology: Option<TopologyDocument>,
    /// Endpoints that belong to no host, on edge ports that are left.
    pub(super) bare_endpoints: Option<BareEndpoints>,
}

/// A shape that switches and links follow from.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct TopologyDocument {
    pub(super) kind: TopologyKind,
    pub(super) ports_per_switch: u32,
    /// Edge ports of a switch that has any.
    pub(super) endpoints_per_switch: Option<u32>,
    /// Speed of an edge port.
    pub(super) speed_gbps: u32,
    /// Speed of a link between switches; that of edge ports if absent.
    pub(super) link_speed_gbps: Option<u32>,
    /// What the names of switches begin with; the fabric's id in lower case if absent.
    pub(super) prefix: Option<String>,
    pub(super) groups: Option<u32>,
    pub(super) switches_per_group: Option<u32>,
    /// Cables between any two groups; as many as there are ports for if absent.
    pub(super) links_per_group_pair: Option<u32>,
    /// 2 or 3.
    pub(super) levels: Option<u32>,
    /// Pods of a fat tree of three levels.
    pub(super) pods: Option<u32>,
    /// Leaf switches of a fat tree of two levels.
    pub(super) leaves: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum TopologyKind {
    Dragonfly,
    FatTree,
}

/// How many endpoints without hosts a fabric has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BareEndpoints {
    /// One on every edge port that nothing else is plugged into.
    All,
    /// So many, one on every switch in turn.
    Count(u32),
}

impl<'de> Deserialize<'de> for BareEndpoints {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reads;
        impl serde::de::Visitor<'_> for Reads {
            type Value = BareEndpoints;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a number of endpoints, or all")
            }

            fn visit_u64<E: serde::de::Error>(self, count: u64) -> Result<BareEndpoints, E> {
                let count = u32::try_from(count);
                count
                    .map(BareEndpoints::Count)
                    .map_err(|_| E::custom("more endpoints than any fabric has ports"))
            }

            fn visit_i64<E: serde::de::Error>(self, count: i64) -> Result<BareEndpoints, E> {
                let count = u64::try_from(count);
                self.visit_u64(count.map_err(|_| E::custom("a number of endpoints is not negative"))?)
            }

            fn visit_str<E: serde::de::Error>(self, word: &str) -> Result<BareEndpoints, E> {
                match word {
                    "all" => Ok(BareEndpoints::All),
                    _ => Err(E::invalid_value(serde::de::Unexpected::Str(word), &self)),
                }
            }
        }
        deserializer.deserialize_any(Reads)
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct SwitchDocument {
    pub(super) name: String,
    /// Number of edge ports.
    pub(super) ports: u32,
    /// Speed of an edge port.
    pub(super) speed_gbps: u32,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct LinkDocument {
    pub(super) from: String,
    pub(super) to: String,
    pub(super) speed_gbps: u32,
    /// How many cables side by side.
    #[serde(default = "one")]
    pub(super) count: u32,
}

/// A host, some hosts (`count`) or a template of hosts. What is absent comes from the template, then from the default.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct HostDocument {
    /// Where there are several, a run of `n` in braces stands for the number: `compute-{nn}`.
    pub(super) name: Option<String>,
    pub(super) count: Option<u32>,
    /// Number of the first of several.
    pub(super) first: Option<u32>,
    pub(super) template: Option<String>,
    pub(super) rack: Option<String>,
    /// `qemu` makes a host of a `netns` site a virtual machine.
    pub(super) backend: Option<BackendKind>,
    pub(super) processor: Option<ProcessorDocument>,
    #[serde(rename = "memoryMiB")]
    pub(super) memory_mib: Option<u64>,
    pub(super) gpus: Option<Vec<GpuDocument>>,
    pub(super) drives: Option<Vec<DriveDocument>>,
    pub(super) nics: Option<Vec<NicDocument>>,
    pub(super) power: Option<PowerDocument>,
    pub(super) watts: Option<WattsDocument>,
    pub(super) faults: Option<Vec<FaultDocument>>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ProcessorDocument {
    pub(super) model: Option<String>,
    pub(super) sockets: Option<u32>,
    pub(super) cores: u32,
    pub(super) threads: Option<u32>,
    #[serde(rename = "maxSpeedMHz")]
    pub(super) max_speed_mhz: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct GpuDocument {
    pub(super) model: String,
    #[serde(rename = "memoryMiB")]
    pub(super) memory_mib: u64,
    #[serde(default = "one")]
    pub(super) count: u32,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct DriveDocument {
    #[serde(rename = "capacityGiB")]
    pub(super) capacity_gib: u64,
    #[serde(default)]
    pub(super) media: DriveMedia,
    #[serde(default = "one")]
    pub(super) count: u32,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct NicDocument {
    pub(super) name: String,
    pub(super) mac: Option<MacAddress>,
    /// The slower of card and port counts; the port's speed if absent.
    pub(super) speed_gbps: Option<u32>,
    pub(super) switch: Option<String>,
    /// Several hosts take these in turn.
    pub(super) switches: Option<Vec<String>>,
    pub(super) port: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum PowerDocument {
    On,
    Off,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct WattsDocument {
    pub(super) idle: u32,
    pub(super) busy: u32,
}

/// A chassis of pooled devices; exactly one of `gpus`, `memory` and `drives`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct PoolDocument {
    pub(super) name: String,
    pub(super) fabric: String,
    pub(super) gpus: Option<Vec<GpuDocument>>,
    pub(super) memory: Option<Vec<MemoryDocument>>,
    pub(super) drives: Option<Vec<DriveDocument>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct MemoryDocument {
    #[serde(rename = "sizeMiB")]
    pub(super) size_mib: u64,
    #[serde(default = "one")]
    pub(super) count: u32,
}

/// An agent in the manner of Sunfish.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct SunfishDocument {
    pub(super) id: String,
    /// Address of the core that it registers with.
    pub(super) core: Option<String>,
    pub(super) heartbeat: Option<Span>,
    #[serde(default)]
    pub(super) appliances: Vec<ApplianceDocument>,
    /// Hosts that can use the memory.
    #[serde(default)]
    pub(super) hosts: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ApplianceDocument {
    pub(super) name: String,
    #[serde(default = "one")]
    pub(super) adapters: u32,
    /// Memory of each adapter.
    #[serde(rename = "memoryMiB")]
    pub(super) memory_mib: u64,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct GatewayDocument {
    pub(super) node_address: IpNet,
    pub(super) node_allocation: Option<IpNet>,
    pub(super) campus_address: IpNet,
    pub(super) controller_port: Option<u16>,
    pub(super) mac: Option<MacAddress>,
    pub(super) switch: String,
    pub(super) port: Option<String>,
    #[serde(default)]
    pub(super) clients: Vec<CampusClient>,
    #[serde(default)]
    pub(super) external_pools: Vec<ExternalPoolSpec>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct FaultsDocument {
    /// Faults of BMCs, by host.
    #[serde(default)]
    pub(super) bmc: Vec<HostFaultDocument>,
    /// Faults of fabric services, by service: a switch's name, or a fabric's id for an agent.
    #[serde(default)]
    pub(super) fabric: Vec<ServiceFaultDocument>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct HostFaultDocument {
    pub(super) host: String,
    pub(super) kind: FaultKind,
    pub(super) probability: Option<f64>,
    pub(super) count: Option<u32>,
    pub(super) until: Option<Span>,
    pub(super) delay: Option<Span>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ServiceFaultDocument {
    pub(super) service: String,
    pub(super) kind: FaultKind,
    pub(super) probability: Option<f64>,
    pub(super) count: Option<u32>,
    pub(super) until: Option<Span>,
    pub(super) delay: Option<Span>,
    /// HTTP status of a refused table.
    pub(super) status: Option<u16>,
    /// For faults of switches, cables and tables.
    pub(super) switch: Option<String>,
    pub(super) port: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct FaultDocument {
    pub(super) kind: FaultKind,
    pub(super) probability: Option<f64>,
    pub(super) count: Option<u32>,
    pub(super) until: Option<Span>,
    pub(super) delay: Option<Span>,
}

const fn one() -> u32 {
    1
}
