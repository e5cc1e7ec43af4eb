//! The network-namespace backend: a site on one Linux machine, with real packets, processes and containers.
//!
//! | thing | what it is |
//! |---|---|
//! | switch | a network namespace with a bridge and an nftables ruleset ([`switch`], [`ruleset`]) |
//! | cable | a veth pair between two namespaces |
//! | host | network, mount, PID, UTS, IPC and cgroup namespaces with an overlay of the machine's root ([`host`], [`guest`]) |
//! | gateway | a routing namespace, and two services in this process ([`gateway`]) |
//!
//! Names are in [`names`]. The machine's own network, mounts and settings are not changed, but for `/run/netns`, where
//! iproute2 keeps namespaces, and a directory per site in the cgroup hierarchies.
//!
//! State is in the kernel and in files, not in this process: an emulator that is killed and started again finds switches,
//! gateway and running hosts as they are. Below the state directory, `hosts/HOST/disk` is what a host keeps while it
//! is off, `hosts/HOST/console.log` what its PID 1 said, `ports-down.json` which switch ports were set down.
//!
//! Hosts run this same binary under hidden subcommands; its `main` must call [`guest::dispatch`] first.

use std::{
    collections::BTreeMap,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use nix::sys::statfs::{OVERLAYFS_SUPER_MAGIC, statfs};
use tokio::sync::{Mutex, RwLock};

use crate::{
    backend::{
        Backend, BackendError, BootSource, BootState, ForwardingZones, GatewayConfig, GatewayEndpoints,
    },
    site::{HostSpec, SiteFile},
};

mod assembly;
mod boot_spec;
mod cgroup;
mod cloud;
mod command;
mod gateway;
pub mod guest;
mod host;
mod leftovers;
mod names;
mod namespace;
mod plan;
pub(crate) mod process;
mod progress;
mod ruleset;
mod settings;
mod switch;
mod taps;

pub(crate) use cloud::NetnsBodies;
pub use leftovers::inspect_leftovers;
pub(crate) use taps::Tap;

use cgroup::Hierarchies;
use gateway::GatewayServices;
use host::Program;
use plan::SitePlan;
use switch::DownPorts;

/// How the backend works.
#[derive(Debug, Clone)]
pub struct NetnsConfig {
    /// Where the site's state lies; a path on a file system that can be the upper layer of an overlay (ext4,
    /// xfs, btrfs, tmpfs; not an overlay itself).
    pub state_directory: PathBuf,
    /// The program that hosts run as PID 1 and find as `/usr/local/bin/drystone`; the running one if not given.
    pub executable: Option<PathBuf>,
    /// Further directories of the machine that hosts must not see. They never see the state directory.
    pub hidden: Vec<PathBuf>,
    /// Files of the machine that hosts see at the same paths, read-only, wherever they are: much of the machine (home
    /// directories, `/tmp`, other file systems) is not visible otherwise. Absolute paths.
    pub shown: Vec<PathBuf>,
    /// Whether all hosts are virtual machines that somebody else runs: then only switches, cables and gateway are made here.
    pub machines: bool,
}

/// A site made of namespaces.
#[derive(Debug, Clone)]
pub struct NetnsBackend {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    state_directory: PathBuf,
    program: Program,
    cgroups: Hierarchies,
    machines: bool,
    site: RwLock<Option<Running>>,
    down_ports: Mutex<DownPorts>,
    /// One operation at a time per host.
    host_locks: Mutex<BTreeMap<String, Arc<Mutex<()>>>>,
}

/// A site that has been started.
#[derive(Debug)]
struct Running {
    plan: SitePlan,
    services: Option<GatewayServices>,
    endpoints: GatewayEndpoints,
}

/// Makes a [`BackendError`] out of anything.
#[expect(clippy::needless_pass_by_value, reason = "made to be the end of `map_err`, which hands errors over")]
fn error(what: impl Into<String>, reason: impl ToString) -> BackendError {
    BackendError { what: what.into(), reason: reason.to_string() }
}

impl NetnsBackend {
    /// A backend; nothing is built yet.
    ///
    /// # Errors
    /// The machine or the state directory cannot serve: not root, no cgroups, a state directory on an overlay or with a
    /// path that overlays cannot take.
    pub fn new(config: NetnsConfig) -> Result<Self, BackendError> {
        let what = "network-namespace backend";
        if !nix::unistd::geteuid().is_root() {
            return Err(error(
                what,
                "needs root, to make namespaces and mounts; run as root, or use backend sim",
            ));
        }
        let state = check_state_directory(&config.state_directory).map_err(|reason| {
            error(format!("state directory {}", config.state_directory.display()), reason)
        })?;
        let executable = match config.executable {
            Some(path) => path,
            None => std::env::current_exe().map_err(|reason| error("finding the running program", reason))?,
        };
        let cgroups =
            Hierarchies::of_this_machine().map_err(|reason| error("reading /proc/self/mountinfo", reason))?;
        if cgroups.roots().is_empty() {
            return Err(error(what, "no cgroup hierarchy is mounted; mount cgroup2 on /sys/fs/cgroup"));
        }
        let mut hidden = config.hidden;
        hidden.push(state.clone());
        let down_ports = DownPorts::load(&state.join("ports-down.json"))
            .map_err(|reason| error(format!("{}", state.join("ports-down.json").display()), reason))?;
        let inner = Inner {
            state_directory: state,
            program: Program { executable, hidden, shown: config.shown },
            cgroups,
            machines: config.machines,
            site: RwLock::new(None),
            down_ports: Mutex::new(down_ports),
            host_locks: Mutex::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }
}

fn check_state_directory(path: &Path) -> Result<PathBuf, String> {
    std::fs::create_dir_all(path).map_err(|reason| reason.to_string())?;
    let path = path.canonicalize().map_err(|reason| reason.to_string())?;
    // Namespaces are marked with it, and Linux keeps 255 bytes of a mark.
    if path.as_os_str().len() > 200 {
        return Err("is longer than 200 bytes; choose a shorter path".to_owned());
    }
    // These would end an option of mount(8)'s overlay early.
    if path.to_string_lossy().contains([',', ':', '\\']) {
        return Err(
            "must not contain commas, colons or backslashes, which overlay mounts treat specially".to_owned()
        );
    }
    let kind = statfs(&path).map_err(|reason| reason.to_string())?.filesystem_type();
    if kind == OVERLAYFS_SUPER_MAGIC {
        return Err(
            "lies on an overlay, which cannot carry hosts' disks; choose a directory on ext4, xfs or tmpfs, \
                    in a container a volume"
                .to_owned(),
        );
    }
    // Hosts' disks hold what their boot media said, secrets too.
    let hosts = path.join("hosts");
    std::fs::create_dir_all(&hosts)
        .and_then(|()| std::fs::set_permissions(&hosts, std::fs::Permissions::from_mode(0o700)))
        .map_err(|reason| reason.to_string())?;
    Ok(path)
}

#[async_trait::async_trait]
impl Backend for NetnsBackend {
    async fn start(
        &self,
        site: &SiteFile,
        gateway: &GatewayConfig,
    ) -> Result<GatewayEndpoints, BackendError> {
        let mut running = self.inner.site.write().await;
        if let Some(running) = running.as_ref() {
            return Ok(running.endpoints.clone());
        }
        let plan = plan::of_site(site).map_err(|reason| error(format!("site {}", site.name), reason))?;
        self.inner.claim(&plan).await?;
        self.inner.build_switches(&plan).await?;
        let (mut services, mut endpoints) = (None, gateway::no_endpoints());
        if let Some(gateway_plan) = &plan.gateway {
            let failed = |reason| error(format!("gateway of site {}", plan.site), reason);
            let down = self.inner.down_ports.lock().await;
            gateway::build(gateway_plan, &self.inner.owner(), &down).await.map_err(failed)?;
            let (started, at) = GatewayServices::start(gateway_plan, gateway).await.map_err(failed)?;
            (services, endpoints) = (Some(started), at);
        }
        self.inner.tidy_hosts(&plan, site).await?;
        *running = Some(Running { plan, services, endpoints: endpoints.clone() });
        Ok(endpoints)
    }

    async fn program_switch(&self, switch: &str, zones: &ForwardingZones) -> Result<(), BackendError> {
        let what = || format!("forwarding table of switch {switch}");
        let plan = {
            let site = self.inner.site.read().await;
            let running = site.as_ref().ok_or_else(|| error(what(), "the site has not been started"))?;
            running
                .plan
                .switches
                .get(switch)
                .cloned()
                .ok_or_else(|| error(what(), "the site has no such switch"))?
        };
        switch::program(&plan.namespace, &plan.ports, zones).await.map_err(|reason| error(what(), reason))
    }

    async fn set_port(&self, switch: &str, port: &str, up: bool) -> Result<(), BackendError> {
        let (namespace, interface) = self.inner.port(switch, port).await?;
        let failed = |reason: String| error(format!("port {port} of switch {switch}"), reason);
        let mut down = self.inner.down_ports.lock().await;
        down.set(&namespace, &interface, up).map_err(|reason| failed(reason.to_string()))?;
        switch::set_port(&namespace, &interface, up).await.map_err(|reason| failed(reason.to_string()))
    }

    async fn power_on(&self, host: &HostSpec, boot: BootSource) -> Result<(), BackendError> {
        let what = || format!("switching on host {}", host.name);
        let body = self.inner.started_host(&host.name).await?;
        let lock = self.inner.host_lock(&host.name).await;
        let _alone = lock.lock().await;
        if body.boot_state().map_err(|reason| error(what(), reason))? != BootState::Off {
            return Ok(());
        }
        body.power_off().await.map_err(|reason| error(what(), reason))?;
        let started = {
            let down = self.inner.down_ports.lock().await;
            body.power_on(&boot, &self.inner.program, &down).await
        };
        match started {
            Ok(child) => {
                if let Some(child) = child {
                    tokio::spawn(Inner::tidy_when_ended(Arc::downgrade(&self.inner), body, child));
                }
                Ok(())
            }
            Err(reason) => {
                if let Err(second) = body.power_off().await {
                    tracing::warn!(host = host.name, reason = %second, "tidying up after a failed power on");
                }
                Err(error(what(), reason))
            }
        }
    }

    async fn shut_down(&self, host: &HostSpec) -> Result<(), BackendError> {
        let body = self.inner.started_host(&host.name).await?;
        body.shut_down().map_err(|reason| error(format!("shutting down host {}", host.name), reason))
    }

    async fn power_off(&self, host: &HostSpec) -> Result<(), BackendError> {
        let body = self.inner.started_host(&host.name).await?;
        let lock = self.inner.host_lock(&host.name).await;
        let _alone = lock.lock().await;
        body.power_off().await.map_err(|reason| error(format!("switching off host {}", host.name), reason))
    }

    async fn wipe_disk(&self, host: &HostSpec) -> Result<(), BackendError> {
        let what = || format!("wiping the disk of host {}", host.name);
        let body = self.inner.started_host(&host.name).await?;
        let lock = self.inner.host_lock(&host.name).await;
        let _alone = lock.lock().await;
        if body.boot_state().map_err(|reason| error(what(), reason))? != BootState::Off {
            return Err(error(what(), "the host is on; switch it off first"));
        }
        body.power_off().await.map_err(|reason| error(what(), reason))?;
        body.wipe_disk().map_err(|reason| error(what(), reason))
    }

    async fn boot_state(&self, host: &HostSpec) -> Result<BootState, BackendError> {
        let body = self.inner.started_host(&host.name).await?;
        let state =
            body.boot_state().map_err(|reason| error(format!("boot state of host {}", host.name), reason))?;
        if state == BootState::Off && body.is_untidy() {
            // A host that an earlier emulator switched on has shut down: nobody else waits for it.
            self.inner.tidy(&body).await;
        }
        Ok(state)
    }

    async fn stop(&self) -> Result<(), BackendError> {
        let mut site = self.inner.site.write().await;
        let Some(running) = site.as_mut() else { return Ok(()) };
        if let Some(services) = running.services.take() {
            services.stop().await;
        }
        // Kept until this has succeeded, so that a failed stop can be tried again.
        self.inner.take_down(&running.plan).await?;
        *site = None;
        Ok(())
    }
}
