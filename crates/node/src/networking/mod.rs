//! The node's network: addresses for pods, the CNI plugin's other end, routes to other nodes' pods, Services, and (in
//! [`dns`](crate::dns)) their names.
//!
//! | module | what it does |
//! |---|---|
//! | `blocks` | leases this node's blocks of pod addresses; uses the remembered ones meanwhile |
//! | [`neighbours`] | Node objects → routes to other nodes' pods, and keeps them |
//! | [`services`] | Services and EndpointSlices → what the data plane is to program; pure |
//! | `plane` | applies that whenever it changes, and repairs it |
//! | [`objects`] | a copy of all objects of a kind, fed by a watch |
//! | [`retry`] | pauses between attempts |
//!
//! It starts before the Node object exists (whose registration publishes the blocks) and works while the API or the address
//! daemon is away, as far as it ever heard from them. Routes and rules stay in the kernel when the agent ends.

mod blocks;
pub mod neighbours;
pub mod objects;
mod plane;
pub(crate) mod readiness;
pub mod retry;
pub mod services;

use std::{collections::BTreeSet, fs, path::PathBuf, sync::Arc};

use drystone_cni::{
    daemon::{Handler, ServeError, Server},
    dataplane::DataPlane,
    ipam::{AddressManager, JournalError},
    network::{NetworkError, NetworkSettings, PodNetwork},
    protocol::Attachment,
    tools::{ToolError, Tools},
};
use ipnet::Ipv4Net;
use k8s_openapi::api::{
    core::v1::{Node, Service},
    discovery::v1::EndpointSlice,
};
use kube::{Api, Client};
use serde::Deserialize;
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    blocks::BlockKeeper,
    neighbours::NeighbourKeeper,
    objects::Objects,
    plane::PlaneKeeper,
    readiness::{Part, Readiness},
};
use crate::{
    config::NodeConfig,
    dns::{self, NameServer, zone::Domain},
};

/// File below the data directory: which pod has which address.
const ADDRESSES: &str = "pod-addresses";
/// File below the data directory: the node's blocks.
const BLOCKS: &str = "pod-blocks.json";

/// A network that cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum NetworkingError {
    /// The data directory cannot be made.
    #[error("directory {} for the node's state cannot be made: {source}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The configured interface is missing.
    #[error("field `interface` of the node configuration: interface {interface:?} cannot be used: {problem}")]
    Interface {
        /// Its name.
        interface: String,
        /// Why.
        problem: String,
    },
    /// The addresses of earlier pods cannot be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The kernel cannot be made to forward packets.
    #[error("the kernel cannot be set up for pods: {0}")]
    Kernel(#[from] NetworkError),
    /// The cluster's domain is no domain.
    #[error("field `clusterDomain` of the node configuration: {domain:?} is no domain name: {problem}")]
    Domain {
        /// What it says.
        domain: String,
        /// What is wrong.
        problem: String,
    },
    /// The CNI plugin cannot be served.
    #[error(transparent)]
    Socket(#[from] ServeError),
}

/// Starts the node's network.
#[derive(Debug)]
pub struct Networking;

/// The running network. Clones stand for the same one.
#[derive(Debug, Clone)]
pub struct NetworkingHandle {
    network: Arc<PodNetwork>,
    blocks: watch::Receiver<Vec<Ipv4Net>>,
    state: watch::Receiver<Result<(), String>>,
    services: Objects<Service>,
    tasks: TaskTracker,
}

impl Networking {
    /// Starts everything, in the network namespace of this process; it goes on until `shutdown`. Waits for nothing outside this
    /// machine.
    ///
    /// # Errors
    /// [`NetworkingError`] if the machine does not allow it.
    pub async fn start(
        config: Arc<NodeConfig>,
        client: Client,
        shutdown: CancellationToken,
    ) -> Result<NetworkingHandle, NetworkingError> {
        let tools = Tools::here();
        let domain = domain(&config)?;
        let network = open(&config, &tools).await?;
        let server = Server::bind(&config.cni_socket)?;
        let tasks = TaskTracker::new();
        let handler: Arc<dyn Handler> = Arc::clone(&network) as Arc<dyn Handler>;
        tasks.spawn(server.run(handler, shutdown.clone()));

        let readiness = Arc::new(Readiness::new(missing_at_first(&config)));
        let state = readiness.subscribe();
        let (told, blocks) = watch::channel(Vec::new());
        let keeper = BlockKeeper {
            config: Arc::clone(&config),
            file: config.data_dir.join(BLOCKS),
            network: Arc::clone(&network),
            told,
            readiness: Arc::clone(&readiness),
        };
        keeper.begin();
        spawn(&tasks, &shutdown, keeper.run());

        let (addresses, nodes) = watch::channel(None);
        let keeper = NeighbourKeeper {
            config: Arc::clone(&config),
            network: Arc::clone(&network),
            nodes: Objects::<Node>::watch(Api::all(client.clone()), &tasks, shutdown.clone()),
            blocks: blocks.clone(),
            addresses,
            readiness: Arc::clone(&readiness),
        };
        spawn(&tasks, &shutdown, keeper.run());

        let services = Objects::<Service>::watch(Api::all(client.clone()), &tasks, shutdown.clone());
        if config.service_data_plane {
            let slices = Objects::<EndpointSlice>::watch(Api::all(client), &tasks, shutdown.clone());
            if let (Some(address), Some(domain)) = (dns::address(&config), domain) {
                let (config, readiness) = (Arc::clone(&config), Arc::clone(&readiness));
                let (services, slices) = (services.clone(), slices.clone());
                let server = NameServer { config, domain, address, services, slices, readiness };
                spawn(&tasks, &shutdown, server.run());
            }
            let plane = DataPlane::new(tools);
            let keeper = PlaneKeeper { config, plane, services: services.clone(), slices, nodes, readiness };
            spawn(&tasks, &shutdown, keeper.run());
        }
        tasks.close();
        Ok(NetworkingHandle { network, blocks, state, services, tasks })
    }
}

impl NetworkingHandle {
    /// The node's blocks of pod addresses; empty until there are some.
    pub fn blocks(&self) -> watch::Receiver<Vec<Ipv4Net>> {
        self.blocks.clone()
    }

    /// Whether pods get a working network, as it changes.
    pub fn state(&self) -> watch::Receiver<Result<(), String>> {
        self.state.clone()
    }

    /// Whether pods get a working network now.
    ///
    /// # Errors
    /// What is missing.
    pub fn health(&self) -> Result<(), String> {
        self.state.borrow().clone()
    }

    /// The Services of the cluster.
    pub fn services(&self) -> Objects<Service> {
        self.services.clone()
    }

    /// The pods' network.
    pub fn pod_network(&self) -> Arc<PodNetwork> {
        Arc::clone(&self.network)
    }

    /// Frees the addresses of sandboxes that no longer exist. To be called from time to time with the ids of all sandboxes that
    /// the runtime knows; one that is just being made is safe, because its network namespace exists.
    ///
    /// # Errors
    /// [`NetworkError`] of the first attachment that could not be freed; the others were tried.
    pub async fn collect_leaks(&self, sandboxes: &BTreeSet<String>) -> Result<Vec<Attachment>, NetworkError> {
        self.network.collect_leaks(sandboxes).await
    }

    /// Waits until everything has ended after a shutdown.
    pub async fn finished(&self) {
        self.tasks.wait().await;
    }
}

fn spawn(tasks: &TaskTracker, shutdown: &CancellationToken, work: impl Future<Output = ()> + Send + 'static) {
    let shutdown = shutdown.clone();
    tasks.spawn(async move {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = work => {}
        }
    });
}

fn missing_at_first(config: &NodeConfig) -> Vec<(Part, String)> {
    let mut missing = vec![
        (Part::Addresses, "the node has no block of pod addresses yet".to_owned()),
        (Part::Routes, "the API server has not told the other nodes yet".to_owned()),
    ];
    if config.service_data_plane {
        missing.push((Part::Services, "the API server has not told the Services yet".to_owned()));
    }
    if dns::address(config).is_some() {
        missing.push((Part::Names, "cluster DNS does not answer yet".to_owned()));
    }
    missing
}

/// The domain that this node is to answer for, if it is.
fn domain(config: &NodeConfig) -> Result<Option<Domain>, NetworkingError> {
    if dns::address(config).is_none() {
        return Ok(None);
    }
    let domain = Domain::new(&config.cluster_domain, config.pod_cidr, config.service_cidr);
    domain.map(Some).map_err(|error| NetworkingError::Domain {
        domain: config.cluster_domain.clone(),
        problem: error.to_string(),
    })
}

async fn open(config: &NodeConfig, tools: &Tools) -> Result<Arc<PodNetwork>, NetworkingError> {
    let directory = &config.data_dir;
    fs::create_dir_all(directory)
        .map_err(|source| NetworkingError::Directory { path: directory.clone(), source })?;
    let settings = NetworkSettings {
        node_address: config.node_address,
        interface: config.interface.clone(),
        pod_cidr: config.pod_cidr,
        service_cidr: config.service_cidr,
        mtu: mtu(&config.interface, tools).await?,
    };
    let addresses = AddressManager::open(&directory.join(ADDRESSES))?;
    let network = Arc::new(PodNetwork::new(settings, tools.clone(), addresses));
    network.prepare().await?;
    Ok(network)
}

/// Pods' packets leave by this interface as they are, so they may be as large as its packets.
async fn mtu(interface: &str, tools: &Tools) -> Result<u32, NetworkingError> {
    #[derive(Deserialize)]
    struct Link {
        #[serde(default)]
        mtu: Option<u32>,
    }
    let failed = |problem: String| NetworkingError::Interface { interface: interface.to_owned(), problem };
    let shown = tools.run("ip", &["-json", "link", "show", "dev", interface], "").await;
    let shown = shown.map_err(|error: ToolError| failed(error.to_string()))?;
    let links: Vec<Link> = serde_json::from_str(&shown).map_err(|error| failed(error.to_string()))?;
    links.into_iter().find_map(|link| link.mtu).ok_or_else(|| failed("it has no MTU".into()))
}
