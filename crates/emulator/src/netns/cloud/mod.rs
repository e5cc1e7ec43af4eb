//! Virtual machines of the site's cloud as hosts of namespaces: each with a real SSH server on port 22, on networks that the site's gateway
//! routes to, and with volumes that are files behind loop devices.
//!
//! ```text
//!   campus0 │ ds-SITE.gw │ cloud0 ── gateway │ ds-SITE.net.NAME (bridge) ├─ eth0 │ ds-SITE-vm.0123456789ab
//!             routes       10.10.0.1                                     └─ eth0 │ ds-SITE-vm.ba9876543210
//! ```
//!
//! A machine is a host (see [`super::host`]) whose boot medium is made here out of its image and its user data. Volumes keep what is on
//! them; a loop device lives as long as its volume is in use on this machine.

mod medium;
mod networks;
mod volumes;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::IpAddr,
    path::PathBuf,
    sync::Arc,
};

use futures::{StreamExt as _, stream};
use nix::unistd::Pid;
use tokio::sync::{Mutex, RwLock};
use uuid::Uuid;

use super::{
    Inner, NetnsBackend,
    boot_spec::{Device, HostFiles},
    error,
    host::{Host, HostError},
    names, namespace,
    plan::{NicPlan, Port},
    progress,
    switch::DownPorts,
};
use crate::{
    backend::{BackendError, BootSource, BootState},
    cloud::bodies::{Bodies, MachineSpec},
    site::CloudNetwork,
};
use networks::Networks;
use volumes::Volumes;
pub(in crate::netns) use volumes::devices_below;

/// Machines that are taken up at once after a restart.
const TOGETHER: usize = 4;

/// Bodies of namespaces.
pub(crate) struct NetnsBodies {
    backend: NetnsBackend,
    site: String,
    networks: RwLock<Networks>,
    volumes: Volumes,
    /// One thing at a time is done to a machine.
    locks: Mutex<BTreeMap<Uuid, Arc<Mutex<()>>>>,
    /// No port of a network is ever set down.
    up: DownPorts,
}

impl NetnsBodies {
    /// Bodies beside the hosts of a site.
    ///
    /// # Errors
    /// The state directory cannot be used.
    pub(crate) fn new(backend: NetnsBackend, site: &str) -> Result<Self, BackendError> {
        let state = backend.inner.state_directory.clone();
        let up = DownPorts::load(&state.join("no-ports-down.json"))
            .map_err(|reason| error("ports of the cloud's networks", reason))?;
        Ok(Self {
            volumes: Volumes::new(state.join("volumes")),
            backend,
            site: site.to_owned(),
            networks: RwLock::default(),
            locks: Mutex::default(),
            up,
        })
    }

    fn inner(&self) -> &Inner {
        &self.backend.inner
    }

    /// The host that a machine is. Without its specification, only what is needed to take it down.
    async fn host(&self, id: Uuid, spec: Option<&MachineSpec>) -> Result<Host, BackendError> {
        let name = names::machine(id);
        let networks = self.networks.read().await;
        let nics = spec.map(|spec| spec.nics.as_slice()).unwrap_or_default();
        let nics = nics.iter().enumerate().map(|(index, nic)| {
            let network = networks.namespace(nic.network).ok_or_else(|| {
                error(format!("machine {id}"), format!("the cloud has no body for network {}", nic.network))
            })?;
            let interface = names::interface(&format!("v{}", nic.mac.replace(':', "")));
            let port = Port { namespace: network.to_owned(), interface };
            Ok(NicPlan { interface: format!("eth{index}"), mac: nic.mac.clone(), port })
        });
        let mut devices = Vec::new();
        for (volume, device) in spec.map(|spec| spec.volumes.as_slice()).unwrap_or_default() {
            let loop_device = self.volumes.attach(*volume).await?;
            let name = device.trim_start_matches("/dev/").to_owned();
            devices.push(Device { source: loop_device, name });
        }
        Ok(Host {
            site: self.site.clone(),
            files: HostFiles { directory: self.inner().state_directory.join("hosts").join(&name) },
            name,
            nics: nics.collect::<Result<_, BackendError>>()?,
            cgroups: self.inner().cgroups.clone(),
            owner: self.inner().owner(),
            devices,
        })
    }

    async fn lock(&self, id: Uuid) -> Arc<Mutex<()>> {
        Arc::clone(self.locks.lock().await.entry(id).or_default())
    }

    /// Boots a machine that is off: from its medium if it never has, else from its disk.
    async fn boot(&self, spec: &MachineSpec) -> Result<(), BackendError> {
        let what = || format!("starting machine {}", spec.name);
        let host = self.host(spec.id, Some(spec)).await?;
        if !matches!(
            host.boot_state().map_err(|reason| error(what(), reason))?,
            BootState::Off | BootState::PostInProgress
        ) {
            return Ok(());
        }
        off(&host).await.map_err(|reason| error(what(), reason))?;
        let networks = self.networks.read().await;
        let archive = medium::archive(spec, &networks).map_err(|reason| error(what(), reason))?;
        drop(networks);
        std::fs::create_dir_all(&host.files.directory).map_err(|reason| error(what(), reason))?;
        let path = host.files.directory.join("medium.tar");
        let boot = if host.files.has_booted() {
            BootSource::Disk
        } else {
            write_private(&path, &archive).map_err(|reason| error(what(), reason))?;
            BootSource::Medium(path.clone())
        };
        let started = host.power_on(&boot, &self.inner().program, &self.up).await;
        // It holds passwords, and has been read by the time that the machine shows life.
        let _ = std::fs::remove_file(&path);
        match started {
            Ok(child) => {
                if let Some(mut child) = child {
                    // Collected when it ends; the machine is taken up again or removed by whoever wants that.
                    tokio::spawn(async move { drop(child.wait().await) });
                }
                Ok(())
            }
            Err(reason) => {
                if let Err(second) = host.power_off().await {
                    tracing::warn!(machine = spec.name, reason = %second, "tidying up after a failed start");
                }
                Err(error(what(), reason))
            }
        }
    }

    async fn boot_alone(&self, machine: MachineSpec) -> Result<(), BackendError> {
        let lock = self.lock(machine.id).await;
        let _alone = lock.lock().await;
        self.boot(&machine).await
    }

    async fn take_down(&self, id: Uuid) -> Result<(), BackendError> {
        let what = || format!("removing machine {id}");
        let host = self.host(id, None).await?;
        off(&host).await.map_err(|reason| error(what(), reason))?;
        match std::fs::remove_dir_all(&host.files.directory) {
            Err(reason) if reason.kind() != io::ErrorKind::NotFound => Err(error(what(), reason)),
            _ => Ok(()),
        }
    }

    /// Machines that are on disk.
    fn on_disk(&self) -> Vec<PathBuf> {
        let directory = self.inner().state_directory.join("hosts");
        let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
        let found =
            entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(names::MACHINE));
        found.map(|entry| entry.path()).collect()
    }

    /// A host of which only the directory is known.
    fn stray(&self, directory: PathBuf) -> Host {
        let name = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Host {
            site: self.site.clone(),
            name,
            nics: Vec::new(),
            files: HostFiles { directory },
            cgroups: self.inner().cgroups.clone(),
            owner: self.inner().owner(),
            devices: Vec::new(),
        }
    }
}

/// A file for the owner only: it may hold passwords.
fn write_private(path: &std::path::Path, bytes: &[u8]) -> io::Result<()> {
    use std::{io::Write as _, os::unix::fs::OpenOptionsExt as _};
    let mut file =
        std::fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(path)?;
    file.write_all(bytes)
}

#[async_trait::async_trait]
impl Bodies for NetnsBodies {
    async fn start(
        &self,
        networks: &[CloudNetwork],
        machines: Vec<MachineSpec>,
        volumes: BTreeMap<Uuid, u64>,
    ) -> Result<(), BackendError> {
        let built = networks::build(&self.site, networks, &self.inner().owner()).await?;
        *self.networks.write().await = built;
        for (id, gib) in volumes {
            self.volumes.make(id, gib).await?;
        }
        let wanted: BTreeSet<String> = machines.iter().map(|machine| names::machine(machine.id)).collect();
        for directory in self.on_disk() {
            let stray = self.stray(directory);
            if !wanted.contains(&stray.name) {
                let what = format!("removing machine {}", stray.name);
                off(&stray).await.map_err(|reason| error(&what, reason))?;
                std::fs::remove_dir_all(&stray.files.directory).map_err(|reason| error(&what, reason))?;
            }
        }
        // Each future owns its machine: one that borrowed it would not be general enough for the trait's boxed future.
        let mut starting =
            stream::iter(machines).map(|machine| self.boot_alone(machine)).buffer_unordered(TOGETHER);
        while let Some(started) = starting.next().await {
            started?;
        }
        Ok(())
    }

    async fn make_volume(&self, id: Uuid, gib: u64) -> Result<(), BackendError> {
        self.volumes.make(id, gib).await
    }

    async fn remove_volume(&self, id: Uuid) -> Result<(), BackendError> {
        self.volumes.remove(id).await
    }

    async fn make_machine(&self, machine: &MachineSpec) -> Result<(), BackendError> {
        let lock = self.lock(machine.id).await;
        let _alone = lock.lock().await;
        self.boot(machine).await
    }

    async fn change_machine(&self, machine: &MachineSpec, rebuild: bool) -> Result<(), BackendError> {
        let lock = self.lock(machine.id).await;
        let _alone = lock.lock().await;
        // Switched off and on: it comes up with what it is plugged into now.
        if rebuild {
            self.take_down(machine.id).await?;
        } else {
            let host = self.host(machine.id, None).await?;
            let what = || format!("switching off machine {}", machine.name);
            off(&host).await.map_err(|reason| error(what(), reason))?;
            let networks = self.networks.read().await;
            let network =
                medium::network_config(machine, &networks).map_err(|reason| error(what(), reason))?;
            let kept = host.files.own("/var/lib/cloud").join("network-config");
            if host.files.has_booted() {
                std::fs::write(kept, network).map_err(|reason| error(what(), reason))?;
            }
        }
        self.boot(machine).await
    }

    async fn remove_machine(&self, id: Uuid) -> Result<(), BackendError> {
        let lock = self.lock(id).await;
        let _alone = lock.lock().await;
        self.take_down(id).await?;
        self.locks.lock().await.remove(&id);
        Ok(())
    }

    async fn attach(&self, machine: Uuid, volume: Uuid, device: &str) -> Result<(), BackendError> {
        let what = || format!("attaching volume {volume} as {device}");
        let source = self.volumes.attach(volume).await?;
        let host = self.host(machine, None).await?;
        let init = init_of(&host).ok_or_else(|| error(what(), "the machine does not run"))?;
        volumes::show(init, &source, device).await.map_err(|reason| error(what(), reason))
    }

    async fn detach(&self, machine: Uuid, _volume: Uuid, device: &str) -> Result<(), BackendError> {
        let host = self.host(machine, None).await?;
        let Some(init) = init_of(&host) else { return Ok(()) };
        volumes::hide(init, device).await.map_err(|reason| error(format!("detaching {device}"), reason))
    }

    async fn lead(&self, floating: IpAddr, to: Option<IpAddr>) -> Result<(), BackendError> {
        networks::lead(&self.site, floating, to)
            .await
            .map_err(|reason| error(format!("floating address {floating}"), reason))
    }

    async fn stop(&self) -> Result<(), BackendError> {
        let mut first_failure = None;
        let hosts: Vec<Host> = self.on_disk().into_iter().map(|directory| self.stray(directory)).collect();
        let down = futures::future::join_all(hosts.iter().map(|host| async move {
            host.power_off_with_site()
                .await
                .map_err(|reason| error(format!("switching off machine {}", host.name), reason))?;
            let _ = std::fs::remove_file(host.files.console());
            Ok(())
        }));
        for outcome in down.await {
            first_failure = first_failure.or(outcome.err());
        }
        let networks = std::mem::take(&mut *self.networks.write().await);
        for name in networks.namespaces() {
            if let Err(reason) = namespace::delete(name).await {
                first_failure = first_failure.or(Some(error(format!("removing network {name}"), reason)));
            }
        }
        let detached = self.volumes.detach_all().await;
        first_failure.map_or(detached, Err)
    }
}

/// Switches a machine off and leaves its ports free.
async fn off(host: &Host) -> Result<(), HostError> {
    host.unplug().await?;
    host.power_off().await
}

/// The PID 1 of a machine that runs.
fn init_of(host: &Host) -> Option<Pid> {
    let init = progress::last(&host.files.progress()).ok()??.init?;
    init.is_alive().then_some(Pid::from_raw(init.pid))
}
