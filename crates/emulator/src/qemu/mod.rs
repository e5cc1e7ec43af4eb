//! The QEMU backend: hosts are virtual machines with a real firmware and kernel, under software emulation, so that it works
//! wherever QEMU does. Slow, and for what needs a real boot: media, disks, boot loaders.
//!
//! | thing | what it is |
//! |---|---|
//! | host | a `qemu-system-x86_64` process ([`machine`]) that outlives the emulator, found again by its number and start time |
//! | drive | a sparse file `hosts/HOST/drives/NAME.raw` |
//! | serial console | `hosts/HOST/console.log`, which also tells how far a boot has come ([`console`]) |
//! | power button | QEMU's control socket ([`control`]) |
//! | cable | as root, in a site with a gateway: a tap in a namespace of the host, bridged to the veth pair that leads to the switch, and switches and gateway are those of [`crate::netns`]; else the first interface is behind QEMU's own address translation, from where this machine is 10.0.2.2 |
//!
//! In a site of namespaces single hosts can be machines (`backend: qemu` of the host): all others are left to [`crate::netns`].
//!
//! A host boots what its BMC says, once from the medium if there is one, and from its drives when it resets itself.

mod console;
mod control;
mod machine;

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
};

use ipnet::IpNet;
use tokio::sync::Mutex;

use crate::{
    backend::{
        Backend, BackendError, BootSource, BootState, ForwardingZones, GatewayConfig, GatewayEndpoints,
    },
    netns::NetnsBackend,
    site::{HostSpec, SiteFile},
};
use machine::{Machine, MachineError, Network};

/// What this machine is called behind QEMU's address translation.
const BEHIND_TRANSLATION: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);

/// How the backend works.
pub struct QemuConfig {
    /// Where hosts have their files.
    pub state_directory: PathBuf,
    /// Switches and gateway; hosts are behind QEMU's address translation without.
    pub network: Option<NetnsBackend>,
    /// Whether only hosts that say so are virtual machines, and the others namespaces of `network`.
    pub mixed: bool,
}

/// A site whose hosts are virtual machines.
pub struct QemuBackend {
    state_directory: PathBuf,
    network: Option<NetnsBackend>,
    mixed: bool,
    /// Machines that may have been switched on, and one operation at a time for each.
    hosts: Mutex<BTreeMap<String, Arc<Mutex<()>>>>,
}

fn failed(what: impl Into<String>) -> impl FnOnce(MachineError) -> BackendError {
    let what = what.into();
    move |error| BackendError { what, reason: error.to_string() }
}

impl QemuBackend {
    /// A backend; nothing is started yet.
    pub fn new(config: QemuConfig) -> Self {
        let QemuConfig { state_directory, network, mixed } = config;
        Self { state_directory, network, mixed, hosts: Mutex::default() }
    }

    /// Who gives a host its body, if it is no machine.
    fn other(&self, host: &HostSpec) -> Option<&NetnsBackend> {
        self.network.as_ref().filter(|_| self.mixed && !host.virtual_machine)
    }

    fn machine(&self, host: &str) -> Machine {
        Machine { host: host.to_owned(), directory: self.state_directory.join("hosts").join(host) }
    }

    async fn lock(&self, host: &str) -> Arc<Mutex<()>> {
        self.hosts.lock().await.entry(host.to_owned()).or_default().clone()
    }
}

#[async_trait::async_trait]
impl Backend for QemuBackend {
    fn boots_media(&self, host: &HostSpec) -> bool {
        self.other(host).is_none()
    }

    fn hosts_network(&self) -> Option<IpNet> {
        let network = IpNet::new(IpAddr::V4(BEHIND_TRANSLATION), 24).ok();
        network.filter(|_| self.network.is_none())
    }

    async fn start(
        &self,
        site: &SiteFile,
        gateway: &GatewayConfig,
    ) -> Result<GatewayEndpoints, BackendError> {
        machine::check_program().await.map_err(failed("qemu backend"))?;
        let mut hosts = self.hosts.lock().await;
        for host in site.hosts.iter().filter(|host| self.other(host).is_none()) {
            hosts.entry(host.name.clone()).or_default();
        }
        drop(hosts);
        if let Some(network) = &self.network {
            return network.start(site, gateway).await;
        }
        // Nobody can be dialled from outside: there is no proxy.
        let controller = match gateway.controller.ip() {
            ip if ip.is_loopback() => IpAddr::V4(BEHIND_TRANSLATION),
            ip => ip,
        };
        Ok(GatewayEndpoints {
            proxy: gateway.proxy_listen,
            controller: SocketAddr::new(controller, gateway.controller.port()),
        })
    }

    async fn program_switch(&self, switch: &str, zones: &ForwardingZones) -> Result<(), BackendError> {
        match &self.network {
            Some(network) => network.program_switch(switch, zones).await,
            None => Ok(()),
        }
    }

    async fn set_port(&self, switch: &str, port: &str, up: bool) -> Result<(), BackendError> {
        match &self.network {
            Some(network) => network.set_port(switch, port, up).await,
            None => Ok(()),
        }
    }

    async fn power_on(&self, host: &HostSpec, boot: BootSource) -> Result<(), BackendError> {
        if let Some(namespaces) = self.other(host) {
            return namespaces.power_on(host, boot).await;
        }
        let what = || format!("switching on host {}", host.name);
        let (machine, lock) = (self.machine(&host.name), self.lock(&host.name).await);
        let _alone = lock.lock().await;
        if machine.is_running() {
            return Ok(());
        }
        let network = match &self.network {
            Some(network) => Network::Taps(network.plug_in_machine(&host.name).await?),
            None => Network::Translated(host.nics.first().map(|nic| nic.mac.to_string())),
        };
        machine.power_on(host, &boot, &network).await.map_err(failed(what()))
    }

    async fn shut_down(&self, host: &HostSpec) -> Result<(), BackendError> {
        if let Some(namespaces) = self.other(host) {
            return namespaces.shut_down(host).await;
        }
        self.machine(&host.name)
            .press_button()
            .await
            .map_err(failed(format!("shutting down host {}", host.name)))
    }

    async fn power_off(&self, host: &HostSpec) -> Result<(), BackendError> {
        if let Some(namespaces) = self.other(host) {
            return namespaces.power_off(host).await;
        }
        let lock = self.lock(&host.name).await;
        let _alone = lock.lock().await;
        let off = self.machine(&host.name).power_off().await;
        off.map_err(failed(format!("switching off host {}", host.name)))?;
        match &self.network {
            Some(network) => network.power_off(host).await,
            None => Ok(()),
        }
    }

    async fn wipe_disk(&self, host: &HostSpec) -> Result<(), BackendError> {
        if let Some(namespaces) = self.other(host) {
            return namespaces.wipe_disk(host).await;
        }
        let lock = self.lock(&host.name).await;
        let _alone = lock.lock().await;
        self.machine(&host.name).wipe().map_err(failed(format!("wiping the drives of host {}", host.name)))
    }

    async fn boot_state(&self, host: &HostSpec) -> Result<BootState, BackendError> {
        if let Some(namespaces) = self.other(host) {
            return namespaces.boot_state(host).await;
        }
        self.machine(&host.name).boot_state().map_err(failed(format!("boot state of host {}", host.name)))
    }

    async fn stop(&self) -> Result<(), BackendError> {
        let names: Vec<String> = self.hosts.lock().await.keys().cloned().collect();
        let mut first = Ok(());
        for name in names {
            let lock = self.lock(&name).await;
            let _alone = lock.lock().await;
            let off = self.machine(&name).power_off().await;
            first = first.and(off.map_err(failed(format!("switching off host {name}"))));
        }
        match &self.network {
            Some(network) => first.and(network.stop().await),
            None => first,
        }
    }
}
