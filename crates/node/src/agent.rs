//! The agent as a whole: joins the cluster, registers the Node, and runs pods until it is told to stop.
//!
//! Stopping it stops no pod: the next agent finds everything again.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::Duration,
};

use drystone_identity::tls::{ServerIdentity, TlsError};
use ipnet::Ipv4Net;
use k8s_openapi::{api::core::v1::Node, jiff::Timestamp};
use kube::Client;
use tokio::{
    net::TcpListener,
    sync::watch,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    config::NodeConfig,
    containerd::{self, RuntimeChoiceError, Settings, Supervisor, SupervisorError},
    cri::Runtime,
    events::Events,
    join::{ApiConnection, Certificates, JoinError, ServingError, client_with, join, serving_identity},
    kubelet_api::{KubeletApi, KubeletApiError},
    networking::{Networking, NetworkingError, NetworkingHandle},
    node_object::{Description, Heartbeat, facts, register},
    pods::{
        Manager, PodContext, PodStore,
        images::Images,
        objects::Objects,
        spec::{NodeFacts, dns::Resolver},
        volumes::{Volumes, nfs::ShareMounter},
    },
    probes::HttpClient,
};

/// Pause after a failure to join or to register; doubled up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// The longest pause.
const MAX_PAUSE: Duration = Duration::from_secs(10);
/// How long the Node waits for its block of pod addresses before it is registered without.
const BLOCK_PATIENCE: Duration = Duration::from_secs(1);
/// How often addresses of sandboxes that are gone are looked for.
const LEAK_INTERVAL: Duration = Duration::from_secs(60);

/// An agent that cannot run.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// No OCI runtime.
    #[error(transparent)]
    Runtime(#[from] RuntimeChoiceError),
    /// containerd cannot be run.
    #[error(transparent)]
    Containerd(#[from] SupervisorError),
    /// The runtime's socket cannot be used.
    #[error("the container runtime's socket: {0}")]
    Socket(#[from] tonic::transport::Error),
    /// The sandbox image cannot be had.
    #[error(transparent)]
    Pause(#[from] containerd::PauseError),
    /// An image archive cannot be imported.
    #[error(transparent)]
    Import(#[from] containerd::ImportError),
    /// A file of the node's credentials cannot be used.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// The kubelet API has no certificate.
    #[error(transparent)]
    Serving(#[from] ServingError),
    /// A certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The pods' network cannot be set up.
    #[error(transparent)]
    Network(#[from] NetworkingError),
    /// The kubelet API cannot be served.
    #[error(transparent)]
    KubeletApi(#[from] KubeletApiError),
    /// Its address cannot be listened on.
    #[error("listening on {address} for the kubelet API: {source}; check `listen` in the node configuration")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// No HTTP client for probes.
    #[error("no client for probes can be made: {0}")]
    Http(#[from] reqwest::Error),
}

/// Runs the agent until `shutdown`.
///
/// # Errors
/// [`AgentError`] if something is wrong that waiting does not mend. What others may mend, such as an API server that is not
/// there yet, is waited for.
pub async fn run(config: NodeConfig, shutdown: CancellationToken) -> Result<(), AgentError> {
    let config = Arc::new(config);
    let tasks = TaskTracker::new();
    // Joining waits for others, starting containerd for this machine: both at once.
    let (runtime, connection) =
        tokio::join!(start_runtime(&config, &tasks, &shutdown), connect(&config, &shutdown));
    let runtime = runtime?;
    let Some(connection) = connection? else { return Ok(()) };
    let serving = ServerIdentity::new(&serving_identity(&config, Timestamp::now())?)?;
    let agent = Agent { config, runtime, connection, serving, tasks, shutdown };
    agent.run().await
}

struct Agent {
    config: Arc<NodeConfig>,
    runtime: Runtime,
    connection: ApiConnection,
    serving: Arc<ServerIdentity>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

impl Agent {
    async fn run(self) -> Result<(), AgentError> {
        let client = self.connection.client();
        let capacity = facts::capacity(&self.config.capacity, &self.config.data_dir);
        let networking =
            Networking::start(Arc::clone(&self.config), client.clone(), self.shutdown.clone()).await?;
        let mut blocks = networking.blocks();
        // One write instead of two, if the block comes soon.
        let _ = timeout(BLOCK_PATIENCE, blocks.wait_for(|blocks| !blocks.is_empty())).await;
        let description = self.describe(&mut blocks);
        let Some(node) = self.register(&description, &client).await else { return Ok(()) };
        let context = self.pod_context(&client, &networking, &capacity)?;
        let store = PodStore::default();
        let heartbeat = Heartbeat {
            config: Arc::clone(&self.config),
            capacity,
            node,
            client: self.connection.clone(),
            runtime: self.runtime.clone(),
            network: networking.state(),
        };
        self.tasks.spawn(heartbeat.run(self.shutdown.clone()));
        let certificates = Certificates {
            config: Arc::clone(&self.config),
            connection: self.connection.clone(),
            serving: Arc::clone(&self.serving),
        };
        self.tasks.spawn(certificates.run(self.shutdown.clone()));
        let api = KubeletApi::new(
            Arc::clone(&self.config),
            Arc::new(store.clone()),
            self.runtime.clone(),
            client.clone(),
            Arc::clone(&self.serving),
        )?;
        let address = self.config.kubelet_address();
        let listener =
            TcpListener::bind(address).await.map_err(|source| AgentError::Listen { address, source })?;
        self.tasks.spawn(api.run(listener, self.shutdown.clone()));
        let manager = Manager::new(context, store, self.shutdown.clone());
        tokio::join!(manager.run(), self.publish_blocks(blocks, &client), self.collect_leaks(&networking));
        self.tasks.close();
        tokio::join!(self.tasks.wait(), networking.finished());
        Ok(())
    }

    fn describe(&self, blocks: &mut watch::Receiver<Vec<Ipv4Net>>) -> Description {
        Description::new(&self.config, blocks.borrow_and_update().clone())
    }

    /// Tells the API of blocks that came after the Node was registered.
    async fn publish_blocks(&self, mut blocks: watch::Receiver<Vec<Ipv4Net>>, client: &Client) {
        while let Some(Ok(())) = self.shutdown.run_until_cancelled(blocks.changed()).await {
            let description = self.describe(&mut blocks);
            self.register(&description, client).await;
        }
    }

    /// Frees addresses that the runtime forgot to give back: one without CNI's GC does when it is killed at the wrong moment.
    async fn collect_leaks(&self, networking: &NetworkingHandle) {
        while self.shutdown.run_until_cancelled(sleep(LEAK_INTERVAL)).await.is_some() {
            let Ok(sandboxes) = self.runtime.list_pod_sandboxes(HashMap::new()).await else { continue };
            let sandboxes: BTreeSet<String> = sandboxes.into_iter().map(|sandbox| sandbox.id).collect();
            match networking.collect_leaks(&sandboxes).await {
                Ok(freed) if freed.is_empty() => {}
                Ok(freed) => {
                    tracing::warn!(count = freed.len(), "addresses of vanished sandboxes were freed");
                }
                Err(error) => tracing::warn!(%error, "freeing addresses of vanished sandboxes"),
            }
        }
    }

    /// Registers the Node, however long it takes; none if the agent is told to stop.
    async fn register(&self, description: &Description, client: &Client) -> Option<Node> {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.shutdown.run_until_cancelled(Box::pin(register(client, description))).await? {
                Ok(node) => return Some(node),
                Err(error) => tracing::warn!(%error, "registering the node"),
            }
            self.shutdown.run_until_cancelled(sleep(pause)).await?;
            pause = (pause * 2).min(MAX_PAUSE);
        }
    }

    fn pod_context(
        &self,
        client: &Client,
        networking: &NetworkingHandle,
        capacity: &BTreeMap<String, String>,
    ) -> Result<Arc<PodContext>, AgentError> {
        let config = &self.config;
        let objects = Arc::new(Objects::new(client.clone()));
        let events = Events::start(client.clone(), config.node_name.clone());
        let resolver = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
        Ok(Arc::new(PodContext {
            runtime: self.runtime.clone(),
            client: client.clone(),
            facts: NodeFacts {
                name: config.node_name.clone(),
                address: config.node_address.into(),
                memory: facts::memory().total,
                allocatable: capacity.clone(),
                cluster_dns: config.cluster_dns.clone(),
                cluster_domain: config.cluster_domain.clone(),
                resolver: Resolver::parse(&resolver),
                log_dir: config.log_dir.clone(),
                cgroup_root: config.cgroup_root.clone(),
            },
            images: Images::new(self.runtime.clone(), Arc::clone(&objects), events.clone()),
            volumes: Volumes::new(
                config.data_dir.join("pods"),
                Arc::clone(&objects),
                ShareMounter::default(),
            ),
            objects,
            events,
            http: HttpClient::new()?,
            services: networking.services(),
        }))
    }
}

/// The container runtime: containerd started if it is the agent's, images imported.
async fn start_runtime(
    config: &NodeConfig,
    tasks: &TaskTracker,
    shutdown: &CancellationToken,
) -> Result<Runtime, AgentError> {
    let runtime = Runtime::new(config.container_runtime.socket())?;
    if config.container_runtime.manage {
        let cni = config.data_dir.join("cni");
        let settings = Settings {
            oci_runtime: containerd::choose_runtime(config.container_runtime.runtime.as_deref())?,
            runtime: config.container_runtime.clone(),
            apparmor: Path::new("/sys/kernel/security/apparmor").is_dir(),
            cni_programs: cni.join("bin"),
            cni_configurations: cni.join("net.d"),
            cni_socket: config.cni_socket.clone(),
        };
        write_cni_configuration(&settings)?;
        let mut supervisor = Supervisor::new(settings, runtime.clone(), config.data_dir.join("containerd"));
        supervisor.ensure_running().await?;
        tasks.spawn(supervisor.run(shutdown.clone()));
        containerd::ensure_sandbox_image(&runtime, &config.container_runtime, &config.data_dir).await?;
    }
    for archive in &config.images {
        if archive.contains("://") {
            fetch_and_import(config, archive, shutdown).await;
        } else {
            containerd::import(config.container_runtime.socket(), Path::new(archive)).await?;
        }
    }
    Ok(runtime)
}

/// Imports an archive from elsewhere, however long it takes to reach its server, unless the agent is told to stop before.
async fn fetch_and_import(config: &NodeConfig, url: &str, shutdown: &CancellationToken) {
    let Some(daemon) = &config.address_daemon else { return };
    let directory = config.data_dir.join("images");
    let mut pause = FIRST_PAUSE;
    loop {
        let fetched =
            containerd::import_fetched(config.container_runtime.socket(), url, &daemon.ca_file, &directory);
        match shutdown.run_until_cancelled(Box::pin(fetched)).await {
            None | Some(Ok(())) => return,
            Some(Err(error)) => tracing::warn!(%error, "images of the cluster"),
        }
        if shutdown.run_until_cancelled(sleep(pause)).await.is_none() {
            return;
        }
        pause = (pause * 2).min(MAX_PAUSE);
    }
}

/// The runtime says that its network is ready as soon as it finds this.
fn write_cni_configuration(settings: &Settings) -> Result<(), AgentError> {
    let path = settings.cni_configurations.join("10-drystone.conflist");
    let io = |source| SupervisorError::Io { path: path.clone(), source };
    std::fs::create_dir_all(&settings.cni_configurations).map_err(io)?;
    drystone_identity::files::write_public(&path, settings.cni_configuration().as_bytes())
        .map_err(|error| AgentError::Containerd(SupervisorError::File(error)))
}

/// The API, as this node; none if the agent is told to stop before.
async fn connect(
    config: &NodeConfig,
    shutdown: &CancellationToken,
) -> Result<Option<ApiConnection>, AgentError> {
    let mut pause = FIRST_PAUSE;
    loop {
        let Some(joined) = shutdown.run_until_cancelled(join(config, Timestamp::now())).await else {
            return Ok(None);
        };
        match joined {
            Ok(identity) => return Ok(Some(ApiConnection::new(client_with(config, &identity)?))),
            Err(error @ (JoinError::NoToken | JoinError::Url(_))) => return Err(error.into()),
            Err(error) => tracing::warn!(%error, "joining the cluster"),
        }
        if shutdown.run_until_cancelled(sleep(pause)).await.is_none() {
            return Ok(None);
        }
        pause = (pause * 2).min(MAX_PAUSE);
    }
}
