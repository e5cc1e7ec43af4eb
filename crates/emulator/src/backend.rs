//! The seam between what a site *says* (Redfish services) and what it *does* (packets, processes): a backend gives
//! hosts, switches and the gateway a body. `sim` keeps state only; `netns` makes namespaces.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::PathBuf,
};

use ipnet::IpNet;

use crate::site::{HostSpec, SiteFile};

/// What a host finds when it is switched on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BootSource {
    /// The archive inserted as virtual media (a tar in NoCloud's shape, see the architecture's "Boot medium"), as a file.
    Medium(PathBuf),
    /// The host's own disk: whatever a previous boot left there; nothing if it never booted.
    Disk,
}

/// How far a host has come since it was switched on (Redfish `BootProgress.LastState`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BootState {
    /// Switched off.
    Off,
    /// Firmware is at work.
    PostInProgress,
    /// The operating system has been started.
    OsBootStarted,
    /// The operating system runs and the user data has been applied.
    OsRunning,
    /// Nothing bootable was found, or the boot failed; the host is on and idle.
    NoBoot,
}

/// Forwarding rules of one switch, as patched into its ForwardingTable resource: zone id → zone.
pub type ForwardingZones = BTreeMap<String, ForwardingZone>;

/// One zone in a switch's forwarding table.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct ForwardingZone {
    /// Number that stands for the zone inside switches; unique in a fabric, from 1.
    pub tag: u32,
    /// Every member of the zone by MAC address (lower case, colons) with its egress port on this switch.
    pub members: BTreeMap<String, ForwardingMember>,
    /// Ports that broadcast and multicast frames of the zone leave by (never the port they came from).
    pub flood_ports: Vec<String>,
}

/// A member of a zone as one switch sees it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct ForwardingMember {
    /// Egress port on this switch.
    pub port: String,
    /// Whether several zones may contain this endpoint (a gateway).
    #[serde(default)]
    pub shared: bool,
    /// The members of the zone that this one exchanges frames with, by MAC address; all of them if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peers: Option<BTreeSet<String>>,
}

impl ForwardingZone {
    /// Whether the zone lets frames pass from one endpoint to the other: both are members, and neither has peers without
    /// the other.
    pub fn permits(&self, source: &str, destination: &str) -> bool {
        let lets = |one: &str, other: &str| {
            self.members
                .get(one)
                .is_some_and(|member| member.peers.as_ref().is_none_or(|peers| peers.contains(other)))
        };
        lets(source, destination) && lets(destination, source)
    }

    /// Whether a broadcast frame from a member leaves by a port: one of the flood ports; and if a restricted member is
    /// behind that port, only if somebody is there whom the zone permits.
    pub fn floods(&self, source: &str, port: &str) -> bool {
        let mut behind = self.members.iter().filter(|(_, member)| member.port == port).peekable();
        self.members.contains_key(source)
            && self.flood_ports.iter().any(|flood| flood == port)
            && (!behind.clone().any(|(_, member)| member.peers.is_some())
                || behind.any(|(mac, _)| mac != source && self.permits(source, mac)))
    }
}

/// Failure of a backend.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {reason}")]
pub struct BackendError {
    /// What was attempted, with names: `power on host rack-03`.
    pub what: String,
    /// Why it failed, and what to do if that is known.
    pub reason: String,
}

/// Gives a site a body. All calls are idempotent.
#[async_trait::async_trait]
pub trait Backend: Send + Sync + 'static {
    /// Whether a host boots whatever is on a medium, the agent's too. Others have it simulated.
    fn boots_media(&self, _host: &HostSpec) -> bool {
        false
    }

    /// The network that hosts find themselves in, where it is not the site's; with this machine's address in it.
    fn hosts_network(&self) -> Option<IpNet> {
        None
    }

    /// Builds (or finds again, after the emulator was restarted) switches, links and the gateway; no host is switched on.
    /// Returns where the gateway listens.
    async fn start(&self, site: &SiteFile, gateway: &GatewayConfig)
    -> Result<GatewayEndpoints, BackendError>;

    /// Makes a switch forward exactly what the zones say.
    async fn program_switch(&self, switch: &str, zones: &ForwardingZones) -> Result<(), BackendError>;

    /// Makes a switch forward a changed zone of its table; `whole` makes the whole table for those who need it.
    async fn program_zones(
        &self,
        switch: &str,
        whole: &(dyn Fn() -> ForwardingZones + Sync),
    ) -> Result<(), BackendError> {
        self.program_switch(switch, &whole()).await
    }

    /// Sets a switch port up or down (a fault, or `LinkState`).
    async fn set_port(&self, switch: &str, port: &str, up: bool) -> Result<(), BackendError>;

    /// Switches a host on and starts what the boot source says. Returns once the operating system has been started.
    async fn power_on(&self, host: &HostSpec, boot: BootSource) -> Result<(), BackendError>;

    /// Asks the operating system to shut down; the host may ignore it.
    async fn shut_down(&self, host: &HostSpec) -> Result<(), BackendError>;

    /// Switches a host off at once: all its processes end and its interfaces vanish. Its disk stays.
    async fn power_off(&self, host: &HostSpec) -> Result<(), BackendError>;

    /// Forgets what is on a host's disk (it must be off).
    async fn wipe_disk(&self, host: &HostSpec) -> Result<(), BackendError>;

    /// How far a host's boot has come.
    async fn boot_state(&self, host: &HostSpec) -> Result<BootState, BackendError>;

    /// Takes everything down: hosts, switches, gateway, files that only the running site needs.
    async fn stop(&self) -> Result<(), BackendError>;
}

/// What the gateway of a site needs to know.
#[derive(Debug, Clone)]
pub struct GatewayConfig {
    /// Where Drystone listens on this machine (HTTPS); what hosts send to the controller address is forwarded there.
    pub controller: SocketAddr,
    /// Where the CONNECT proxy shall listen; port 0 for any.
    pub proxy_listen: SocketAddr,
    /// User name of the proxy.
    pub proxy_user: String,
    /// Password of the proxy.
    pub proxy_password: String,
}

/// Where a site's gateway can be reached.
#[derive(Debug, Clone)]
pub struct GatewayEndpoints {
    /// The CONNECT proxy, dialling from the site's campus network.
    pub proxy: SocketAddr,
    /// Inside the site: what hosts use to reach Drystone.
    pub controller: SocketAddr,
}
