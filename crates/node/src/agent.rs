//! The agent as a whole: joins the cluster, registers the Node, and runs pods until it is told to stop.
//!
//! Stopping it stops no pod: the next agent finds everything again.

use std::{path::Path, sync::Arc, time::Duration};

use drystone_identity::tls::{ServerIdentity, TlsError};
use k8s_openapi::{
    api::core::v1::{Node, Service},
    jiff::Timestamp,
};
use kube::{
    Api, Client,
    runtime::{
        WatchStreamExt, reflector,
        reflector::{Store, store::Writer},
        watcher,
    },
};
use tokio::{sync::watch, time::sleep};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    config::NodeConfig,
    containerd::{self, RuntimeChoiceError, Settings, Supervisor, SupervisorError},
    cri::Runtime,
    events::Events,
    join::{ApiConnection, Certificates, JoinError, ServingError, client_with, join, serving_identity},
    node_object::{Description, Heartbeat, facts, register},
    pods::{
        Manager, PodContext, PodStore,
        images::Images,
        objects::Objects,
        spec::{NodeFacts, dns::Resolver},
        volumes::Volumes,
    },
    probes::HttpClient,
};

/// Pause after a failure to join or to register; doubled up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// The longest pause.
const MAX_PAUSE: Duration = Duration::from_secs(10);

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
    let (runtime, connection) = tokio::join!(
        start_runtime(&config, &tasks, &shutdown),
        connect(&config, &shutdown)
    );
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
        let (network_state, network) = watch::channel(Ok(()));
        let description = Description::new(&self.config, Vec::new());
        let Some(node) = self.register(&description, &client).await else { return Ok(()) };
        let context = self.pod_context(&client, &capacity)?;
        let store = PodStore::default();
        let heartbeat = Heartbeat {
            config: Arc::clone(&self.config),
            capacity,
            node,
            client: self.connection.clone(),
            runtime: self.runtime.clone(),
            network,
        };
        self.tasks.spawn(heartbeat.run(self.shutdown.clone()));
        let certificates = Certificates {
            config: Arc::clone(&self.config),
            connection: self.connection.clone(),
            serving: Arc::clone(&self.serving),
        };
        self.tasks.spawn(certificates.run(self.shutdown.clone()));
        Manager::new(context, store, self.shutdown.clone()).run().await;
        drop(network_state);
        self.tasks.close();
        self.tasks.wait().await;
        Ok(())
    }

    /// Registers the Node, however long it takes; none if the agent is told to stop.
    async fn register(&self, description: &Description, client: &Client) -> Option<Node> {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.shutdown.run_until_cancelled(register(client, description)).await? {
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
        capacity: &std::collections::BTreeMap<String, String>,
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
            volumes: Volumes::new(config.data_dir.join("pods"), Arc::clone(&objects)),
            objects,
            events,
            http: HttpClient::new()?,
            services: self.follow_services(client),
        }))
    }

    /// The Services of the cluster, for variables of containers.
    fn follow_services(&self, client: &Client) -> Store<Service> {
        let (store, writer): (Store<Service>, Writer<Service>) = reflector::store();
        let services = watcher(Api::<Service>::all(client.clone()), watcher::Config::default());
        let stream = services.default_backoff().reflect(writer);
        let follow = futures::StreamExt::for_each(stream, |event| async move {
            if let Err(error) = event {
                tracing::warn!(%error, "watching Services");
            }
        });
        self.tasks.spawn(self.shutdown.clone().run_until_cancelled_owned(follow));
        store
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
        let mut supervisor =
            Supervisor::new(settings, runtime.clone(), config.data_dir.join("containerd"));
        supervisor.ensure_running().await?;
        tasks.spawn(supervisor.run(shutdown.clone()));
        containerd::ensure_sandbox_image(&runtime, &config.container_runtime, &config.data_dir).await?;
    }
    for archive in &config.images {
        containerd::import(config.container_runtime.socket(), archive).await?;
    }
    Ok(runtime)
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
