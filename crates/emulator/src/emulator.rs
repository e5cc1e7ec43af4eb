//! Starts a site from its file and its state directory, and takes it down again.

use std::{collections::HashMap, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use drystone_agent::download::Detours;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use ipnet::IpNet;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    backend::{Backend, BackendError, GatewayConfig, GatewayEndpoints},
    bmc::Bmc,
    cloud::bodies::Bodies,
    credentials::Credentials,
    endpoints::{self, Endpoints, Gateway, Service},
    fabric::{FabricLinks, FabricService, FabricSetup, Hosts},
    hardware::{Hardware, HardwareError, HardwareFiles, HostRecord},
    listener::{self, Emulated, Ports, Serving},
    netns::{NetnsBackend, NetnsConfig},
    qemu::{QemuBackend, QemuConfig},
    sim::{SimBackend, SimHostState},
    site::{BackendKind, FabricServices, HostSpec, SiteError, SiteFile, is_core},
    state::{self, StateDirectory, StateError},
    sunfish::SunfishAgent,
};

mod cloud;

/// File with the addresses of the services.
const PORTS: &str = "ports.json";
/// File with the name of the site that the state belongs to.
const SITE: &str = "site.json";
/// Name of the gateway's proxy among the addresses.
const PROXY: &str = "gateway proxy";
/// How many hosts are taken up at once after a restart.
const RESUME_CONCURRENCY: usize = 16;
/// How often it is looked whether hosts that run have gone off by themselves.
const OBSERVE_INTERVAL: Duration = Duration::from_secs(2);
/// How long requests under way may take at the end.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);
/// How long a power sequence under way may take at the end.
const HALT_LIMIT: Duration = Duration::from_secs(30);

/// What to emulate, and where.
#[derive(Debug, Clone)]
pub struct EmulatorConfig {
    /// The site file.
    pub site_file: PathBuf,
    /// Where everything that outlives this process is kept; one emulator at a time.
    pub state_directory: PathBuf,
    /// Where Drystone listens (HTTPS): what hosts send to the controller's address goes there.
    pub controller: SocketAddr,
    /// The backend, instead of the site file's.
    pub backend: Option<BackendKind>,
    /// The program that hosts of the network-namespace backend run as PID 1; the running one if not given.
    pub guest_program: Option<PathBuf>,
    /// Further directories of the machine that hosts of the network-namespace backend must not see.
    pub hidden: Vec<PathBuf>,
    /// Files of the machine that hosts of the network-namespace backend see at the same (absolute) paths.
    pub shown: Vec<PathBuf>,
    /// Address of the core that Sunfish agents register with (`http://127.0.0.1:5000`), instead of the site file's.
    pub sunfish_core: Option<String>,
}

impl EmulatorConfig {
    /// A configuration with presets.
    pub fn new(
        site_file: impl Into<PathBuf>,
        state_directory: impl Into<PathBuf>,
        controller: SocketAddr,
    ) -> Self {
        Self {
            site_file: site_file.into(),
            state_directory: state_directory.into(),
            controller,
            backend: None,
            guest_program: None,
            hidden: Vec::new(),
            shown: Vec::new(),
            sunfish_core: None,
        }
    }
}

/// Why a site cannot be emulated.
#[derive(Debug, thiserror::Error)]
pub enum EmulatorError {
    /// The site file is wrong.
    #[error(transparent)]
    Site(#[from] SiteError),
    /// The state directory cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// The state directory belongs to another site.
    #[error(
        "{directory} holds the state of site {found:?}, not of {wanted:?}; choose another state directory"
    )]
    OtherSite {
        /// The directory.
        directory: PathBuf,
        /// The site that it belongs to.
        found: String,
        /// The site of the file.
        wanted: String,
    },
    /// The backend fails.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// Switches and cables cannot be brought to the state that they are to have.
    #[error("cables of fabric {fabric}: {reason}")]
    Cabling {
        /// The fabric.
        fabric: String,
        /// Why.
        reason: String,
    },
    /// The address given for the core of Sunfish agents cannot be one.
    #[error("{0:?} is no address of a core such as http://127.0.0.1:5000")]
    Core(String),
    /// A host cannot be taken up.
    #[error("host {host}: {source}")]
    Host {
        /// The host.
        host: String,
        /// Why.
        source: HardwareError,
    },
    /// A service cannot listen.
    #[error("service {service} cannot listen on a loopback port: {source}")]
    Listen {
        /// The service.
        service: String,
        /// Why.
        source: std::io::Error,
    },
}

/// Emulates a site until `shutdown` is cancelled, then takes it down.
///
/// # Errors
/// The site cannot be started, or not be taken down.
pub async fn run(config: EmulatorConfig, shutdown: CancellationToken) -> Result<(), EmulatorError> {
    let emulator = Emulator::start(config).await?;
    tracing::info!(
        site = emulator.endpoints().site,
        bmcs = emulator.endpoints().bmcs.len(),
        "the emulated site is ready"
    );
    shutdown.cancelled().await;
    emulator.stop().await
}

/// Emulates a site until the process is told to end (SIGTERM, SIGINT), then takes it down.
///
/// # Errors
/// The site cannot be started, or not be taken down; or signals cannot be listened for.
pub async fn run_until_signal(config: EmulatorConfig) -> Result<(), EmulatorError> {
    use tokio::signal::unix::{SignalKind, signal};
    let failed = |source| EmulatorError::Listen { service: "signals".to_owned(), source };
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let shutdown = CancellationToken::new();
    let told = shutdown.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        told.cancel();
    });
    run(config, shutdown).await
}

/// A site that is being emulated.
pub struct Emulator {
    endpoints: Endpoints,
    backend: Arc<dyn Backend>,
    bodies: Arc<dyn Bodies>,
    hosts: Arc<Hosts>,
    serving: Serving,
    state: StateDirectory,
}

impl Emulator {
    /// Starts a site, or takes it up again. When this returns everything answers and `endpoints.json` is there.
    ///
    /// # Errors
    /// See [`EmulatorError`].
    pub async fn start(config: EmulatorConfig) -> Result<Self, EmulatorError> {
        let site = SiteFile::load(&config.site_file)?;
        let state = StateDirectory::open(&config.state_directory)?;
        endpoints::remove(state.path());
        claim(&state, &site)?;
        raise_descriptor_limit();
        let password = match &site.credentials.password {
            Some(password) => password.clone(),
            None => state.password("password")?,
        };
        let credentials = Arc::new(Credentials { user: site.credentials.user.clone(), password });
        let files = HardwareFiles {
            records: state.directory("bmc")?,
            media: state.directory("media")?,
            detours: detours(&site, config.controller),
        };
        let records = load_records(&site, &files)?;
        let (backend, network) = make_backend(&config, &site, &state, &records)?;
        let bodies = cloud::make_bodies(&site, network)?;

        let mut ports = Ports::new(state::read_json(&state.path().join(PORTS))?.unwrap_or_default());
        let proxy_listen =
            ports.by_service().get(PROXY).copied().filter(|address| address.ip().is_loopback());
        let gateway = GatewayConfig {
            controller: config.controller,
            proxy_listen: proxy_listen.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 0))),
            proxy_user: credentials.user.clone(),
            proxy_password: state.password("proxy-password")?,
        };
        let reached = backend.start(&site, &gateway).await?;
        if reached.proxy.port() != 0 {
            ports.remember(PROXY, reached.proxy);
        }

        let serving = Serving {
            latency: site.timing.request_latency,
            shutdown: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        let site = Arc::new(site);
        let mut builder = Builder {
            site: Arc::clone(&site),
            credentials,
            backend: Arc::clone(&backend),
            ports,
            serving,
            links: Vec::new(),
        };
        let hosts = builder.make_hosts(&files, records);
        let fabric_services = builder.start_fabrics(&state, &hosts).await?;
        let bmcs = builder.start_bmcs(&hosts).await?;
        let sunfish_agents = builder.start_sunfish(&state, config.sunfish_core.as_deref()).await?;
        let cloud = builder.start_cloud(&state, bodies.clone()).await?;
        observe(&hosts, std::mem::take(&mut builder.links), &builder.serving);
        state::write_json(&state.path().join(PORTS), builder.ports.by_service())?;
        let endpoints = Endpoints {
            site: site.name.clone(),
            pid: std::process::id(),
            bmcs,
            fabric_services,
            sunfish_agents,
            gateway: gateway_endpoint(&site, &gateway, &reached, backend.hosts_network()),
            cloud,
        };
        endpoints::write(state.path(), &endpoints)?;
        Ok(Self { endpoints, backend, bodies, hosts, serving: builder.serving, state })
    }

    /// Where the site can be reached.
    pub fn endpoints(&self) -> &Endpoints {
        &self.endpoints
    }

    /// Takes the site down: services, hosts, switches, gateway. What hosts remember stays in the state directory.
    ///
    /// # Errors
    /// The backend cannot take everything down.
    pub async fn stop(self) -> Result<(), EmulatorError> {
        endpoints::remove(self.state.path());
        self.quiesce().await;
        self.bodies.stop().await?;
        self.backend.stop().await?;
        Ok(())
    }

    /// Ends as if the process was killed: services stop, hosts and switches stay as they are. For tests of restarts.
    pub async fn abandon(self) {
        self.quiesce().await;
    }

    async fn quiesce(&self) {
        self.serving.shutdown.cancel();
        self.serving.tasks.close();
        if tokio::time::timeout(DRAIN_LIMIT, self.serving.tasks.wait()).await.is_err() {
            tracing::warn!("some requests were cut off");
        }
        let halted = stream::iter(self.hosts.values()).for_each_concurrent(None, |hardware| hardware.halt());
        if tokio::time::timeout(HALT_LIMIT, halted).await.is_err() {
            tracing::warn!("some power sequences were cut off");
        }
    }
}

/// Hosts whose agent is simulated are not in their network: what they would reach at the gateway is reached here.
fn detours(site: &SiteFile, controller: SocketAddr) -> Detours {
    let inside =
        site.gateway.as_ref().map(|spec| SocketAddr::new(spec.node_address.addr(), spec.controller_port));
    inside.map_or_else(Detours::default, |inside| Detours::default().with(inside, controller))
}

/// Marks a new state directory as the site's, and refuses another site's.
fn claim(state: &StateDirectory, site: &SiteFile) -> Result<(), EmulatorError> {
    let path = state.path().join(SITE);
    match state::read_json::<String>(&path)? {
        Some(found) if found != site.name => Err(EmulatorError::OtherSite {
            directory: state.path().to_owned(),
            found,
            wanted: site.name.clone(),
        }),
        Some(_) => Ok(()),
        None => Ok(state::write_json(&path, &site.name)?),
    }
}

fn load_records(site: &SiteFile, files: &HardwareFiles) -> Result<HashMap<String, HostRecord>, StateError> {
    site.hosts.iter().map(|host| Ok((host.name.clone(), files.load(host)?))).collect()
}

fn make_backend(
    config: &EmulatorConfig,
    site: &SiteFile,
    state: &StateDirectory,
    records: &HashMap<String, HostRecord>,
) -> Result<(Arc<dyn Backend>, Option<NetnsBackend>), BackendError> {
    match config.backend.unwrap_or(site.backend) {
        BackendKind::Sim => {
            let known = records.iter().map(|(name, record)| SimHostState {
                name: name.clone(),
                on: record.is_settled_on(),
                installed: record.installed,
            });
            Ok((Arc::new(SimBackend::new(known)), None))
        }
        BackendKind::Netns => {
            let namespaces = make_namespaces(config, state, false)?;
            if !site.hosts.iter().any(|host| host.virtual_machine) {
                return Ok((Arc::new(namespaces.clone()), Some(namespaces)));
            }
            let state_directory = state.path().to_owned();
            let network = Some(namespaces.clone());
            let backend = QemuBackend::new(QemuConfig { state_directory, network, mixed: true });
            Ok((Arc::new(backend), Some(namespaces)))
        }
        BackendKind::Qemu => {
            // Namespaces need root, and hosts a way to Drystone; else they are behind QEMU's own address translation.
            let root = nix::unistd::geteuid().is_root() && site.gateway.is_some();
            let network = root.then(|| make_namespaces(config, state, true)).transpose()?;
            let state_directory = state.path().to_owned();
            let backend =
                QemuBackend::new(QemuConfig { state_directory, network: network.clone(), mixed: false });
            Ok((Arc::new(backend), network))
        }
    }
}

fn make_namespaces(
    config: &EmulatorConfig,
    state: &StateDirectory,
    machines: bool,
) -> Result<NetnsBackend, BackendError> {
    NetnsBackend::new(NetnsConfig {
        state_directory: state.path().to_owned(),
        executable: config.guest_program.clone(),
        hidden: config.hidden.clone(),
        shown: config.shown.clone(),
        machines,
    })
}

/// A site has a socket for each BMC, and more for their clients.
fn raise_descriptor_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        if soft < hard { setrlimit(Resource::RLIMIT_NOFILE, hard, hard) } else { Ok(()) }
    });
    if let Err(error) = raised {
        tracing::warn!(%error, "the number of open files stays as limited as it is");
    }
}

fn gateway_endpoint(
    site: &SiteFile,
    gateway: &GatewayConfig,
    reached: &GatewayEndpoints,
    hosts_network: Option<IpNet>,
) -> Option<Gateway> {
    let spec = site.gateway.as_ref();
    let node_network = hosts_network.or_else(|| spec.map(|spec| spec.node_address))?;
    let has_proxy = reached.proxy.port() != 0;
    Some(Gateway {
        proxy_url: if has_proxy { format!("http://{}", reached.proxy) } else { String::new() },
        user: gateway.proxy_user.clone(),
        password: gateway.proxy_password.clone(),
        controller_address: reached.controller.to_string(),
        node_network,
        node_allocation: spec.and_then(|spec| spec.node_allocation),
        external_pools: spec.map(|spec| spec.external_pools.clone()).unwrap_or_default(),
    })
}

/// Looks now and then whether hosts that run have gone off by themselves.
fn observe(hosts: &Arc<Hosts>, links: Vec<Arc<FabricLinks>>, serving: &Serving) {
    let (hosts, shutdown) = (Arc::clone(hosts), serving.shutdown.clone());
    serving.tasks.spawn(async move {
        // What later looks are compared with.
        links.iter().for_each(|links| links.observe_hosts());
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(OBSERVE_INTERVAL) => {}
            }
            for hardware in hosts.values() {
                hardware.observe().await;
            }
            links.iter().for_each(|links| links.observe_hosts());
        }
    });
}

/// Makes the services of a site.
struct Builder {
    site: Arc<SiteFile>,
    credentials: Arc<Credentials>,
    backend: Arc<dyn Backend>,
    ports: Ports,
    serving: Serving,
    links: Vec<Arc<FabricLinks>>,
}

impl Builder {
    fn make_hosts(&self, files: &HardwareFiles, mut records: HashMap<String, HostRecord>) -> Arc<Hosts> {
        let make = |spec: &HostSpec| {
            let record = records.remove(&spec.name).unwrap_or_default();
            let (timing, backend) = (self.site.timing, Arc::clone(&self.backend));
            (spec.name.clone(), Hardware::new(Arc::new(spec.clone()), timing, backend, files, record))
        };
        Arc::new(self.site.hosts.iter().map(make).collect())
    }

    async fn start_fabrics(
        &mut self,
        state: &StateDirectory,
        hosts: &Arc<Hosts>,
    ) -> Result<Vec<Service>, EmulatorError> {
        let directory = state.directory("fabric")?;
        let mut started = Vec::new();
        for (fabric, spec) in Arc::clone(&self.site).fabrics.iter().enumerate() {
            let switches: Vec<Option<usize>> = match spec.services {
                FabricServices::Agent => vec![None],
                FabricServices::PerSwitch => (0..spec.switches.len()).map(Some).collect(),
            };
            let links = FabricLinks::new(
                Arc::clone(&self.site),
                fabric,
                Arc::clone(hosts),
                Arc::clone(&self.backend),
                &directory,
            )?;
            let mut services = Vec::with_capacity(switches.len());
            for switch in switches {
                services.push(FabricService::new(FabricSetup {
                    links: Arc::clone(&links),
                    switch,
                    directory: directory.clone(),
                    credentials: Arc::clone(&self.credentials),
                })?);
            }
            links.watch(services.iter().map(Arc::downgrade).collect());
            for service in services {
                // Traffic first: hosts that ran on expect it.
                service.resume().await?;
                let cabled = service.resume_cabling().await;
                cabled.map_err(|reason| EmulatorError::Cabling { fabric: spec.id.clone(), reason })?;
                let name = service.name().to_owned();
                started.push(self.serve(&format!("fabric {name}"), name, started.len(), service).await?);
            }
            self.links.push(links);
        }
        Ok(started)
    }

    async fn start_sunfish(
        &mut self,
        state: &StateDirectory,
        core: Option<&str>,
    ) -> Result<Vec<Service>, EmulatorError> {
        let site = Arc::clone(&self.site);
        if let Some(core) = core
            && !url::Url::parse(core).is_ok_and(|url| is_core(&url))
        {
            return Err(EmulatorError::Core(core.to_owned()));
        }
        let mut started = Vec::with_capacity(site.sunfish_agents.len());
        for spec in &site.sunfish_agents {
            let directory = state.directory("fabric")?;
            let agent = SunfishAgent::new(&site, spec, core, &directory, Arc::clone(&self.credentials))?;
            let key = format!("sunfish {}", spec.id);
            let service = self.serve(&key, spec.id.clone(), started.len(), Arc::clone(&agent)).await?;
            agent.register(&service.url, &self.serving);
            started.push(service);
        }
        Ok(started)
    }

    async fn start_bmcs(&mut self, hosts: &Arc<Hosts>) -> Result<Vec<Service>, EmulatorError> {
        let site = Arc::clone(&self.site);
        let found: Vec<&Arc<Hardware>> = site.hosts.iter().filter_map(|spec| hosts.get(&spec.name)).collect();
        let resumed = found.iter().map(|hardware| async move {
            let host = hardware.spec().name.clone();
            hardware.resume().await.map_err(|source| EmulatorError::Host { host, source })
        });
        stream::iter(resumed).buffer_unordered(RESUME_CONCURRENCY).try_collect::<()>().await?;
        let mut started = Vec::with_capacity(found.len());
        for (index, hardware) in found.into_iter().enumerate() {
            let bmc = Bmc::new(Arc::clone(hardware), Arc::clone(&self.credentials));
            let name = hardware.spec().name.clone();
            started.push(self.serve(&format!("bmc {name}"), name, index, bmc).await?);
        }
        Ok(started)
    }

    async fn serve<S: Emulated>(
        &mut self,
        key: &str,
        name: String,
        index: usize,
        service: Arc<S>,
    ) -> Result<Service, EmulatorError> {
        let failed = |source| EmulatorError::Listen { service: key.to_owned(), source };
        let listener = self.ports.listen(key, index).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        listener::serve(listener, service, &self.serving);
        let Credentials { user, password } = self.credentials.as_ref().clone();
        Ok(Service { name, url: format!("http://{address}"), user, password })
    }
}
