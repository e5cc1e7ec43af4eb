//! Attaching pods to the network of a node.
//!
//! Each pod gets a veth pair, no bridge: every packet of a pod is routed by the host. Thus two pods of one node reach each
//! other through a Service like any others (on a bridge the answer would take a shortcut past address translation), and
//! nothing is flooded or learnt. Inside, the only neighbour is the host under the link-local [`GATEWAY`], with a permanent
//! ARP entry; outside, a host route and a permanent entry lead to the pod. No packet waits for ARP.
//!
//! [`PodNetwork`] answers CNI's commands; [`routes`] lead to the pods of other nodes.

mod attachment;
pub mod routes;

use std::{
    collections::BTreeSet,
    net::Ipv4Addr,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use ipnet::Ipv4Net;

use crate::{
    daemon::Handler,
    ipam::{AddressManager, IpamError, JournalError},
    protocol::{AddResult, Attachment, CniError, Environment, ErrorCode, NetworkConfiguration},
    tools::{ToolError, Tools},
};
use attachment::Link;
use routes::Routes;

/// What pods see as their gateway. Link-local, the same for all: it is never used beyond the veth pair.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);

/// Names of the host's ends of pods' interfaces begin with this.
pub const INTERFACE_PREFIX: &str = "pod";

/// What the network of a node is made of.
#[derive(Debug, Clone)]
pub struct NetworkSettings {
    /// Address of the node; source of what the node sends to pods and Services.
    pub node_address: Ipv4Addr,
    /// The interface that has this address.
    pub interface: String,
    /// Addresses of all pods of the cluster.
    pub pod_cidr: Ipv4Net,
    /// Addresses of all Services of the cluster.
    pub service_cidr: Ipv4Net,
    /// Largest packet of pods, in bytes.
    pub mtu: u32,
}

/// A change of the network that failed.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// A tool failed.
    #[error(transparent)]
    Tool(#[from] ToolError),
    /// A tool's answer makes no sense.
    #[error("the answer of `{program}` cannot be decoded: {problem}")]
    Answer {
        /// The tool.
        program: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// Some routes could not be set; the others are.
    #[error("{} route(s) cannot be set ({}): {source}", missing.len(), list(missing))]
    Routes {
        /// Where they lead to.
        missing: BTreeSet<Ipv4Net>,
        /// What the tool said.
        source: ToolError,
    },
    /// An address could not be given or freed.
    #[error(transparent)]
    Address(#[from] IpamError),
}

/// The first few of some networks, for people.
fn list(networks: &BTreeSet<Ipv4Net>) -> String {
    let first: Vec<String> = networks.iter().take(5).map(ToString::to_string).collect();
    let more = if networks.len() > first.len() { ", …" } else { "" };
    first.join(", ") + more
}

impl From<JournalError> for NetworkError {
    fn from(error: JournalError) -> Self {
        Self::Address(error.into())
    }
}

impl From<NetworkError> for CniError {
    fn from(error: NetworkError) -> Self {
        let code = match &error {
            NetworkError::Address(IpamError::Exhausted { .. }) => ErrorCode::NO_ADDRESS,
            NetworkError::Address(IpamError::NoBlock) => ErrorCode::TryAgainLater,
            NetworkError::Address(IpamError::Journal(_)) => ErrorCode::Io,
            NetworkError::Tool(_) | NetworkError::Answer { .. } | NetworkError::Routes { .. } => {
                ErrorCode::NETWORK
            }
        };
        Self::new(code, error.to_string())
    }
}

/// The pods' network on this node.
#[derive(Debug)]
pub struct PodNetwork {
    settings: NetworkSettings,
    tools: Tools,
    addresses: Arc<Mutex<AddressManager>>,
}

impl PodNetwork {
    /// A network whose host side is in the namespace of `tools`.
    pub fn new(settings: NetworkSettings, tools: Tools, addresses: AddressManager) -> Self {
        Self { settings, tools, addresses: Arc::new(Mutex::new(addresses)) }
    }

    /// Makes the node forward packets. Idempotent.
    ///
    /// # Errors
    /// [`NetworkError`] if the kernel's parameters cannot be set.
    pub async fn prepare(&self) -> Result<(), NetworkError> {
        self.tools.sysctl("net.ipv4.ip_forward=1").await?;
        Ok(())
    }

    /// Gives pods addresses out of these blocks from now on.
    pub fn set_blocks(&self, blocks: &[Ipv4Net]) {
        self.lock().set_blocks(blocks);
    }

    /// Makes the node's routes those of the cluster: to its own blocks, to other nodes' blocks, to Services. Routes that are
    /// right already are left alone, others of an earlier call are removed.
    ///
    /// # Errors
    /// [`NetworkError::Routes`] names the routes that cannot be set; all others are. Others if a tool fails.
    pub async fn set_routes(&self, others: &Routes) -> Result<(), NetworkError> {
        let own = self.lock().blocks();
        let wanted = routes::wanted(&self.settings, &own, others);
        let current = routes::current(&self.tools).await?;
        let changes = routes::changes(&current, &wanted);
        if !changes.is_empty() {
            tracing::debug!(%changes, "routes change");
            if let Err(source) = self.tools.run("ip", &["-force", "-batch", "-"], &changes).await {
                let missing = routes::missing(&routes::current(&self.tools).await?, &wanted);
                if !missing.is_empty() {
                    return Err(NetworkError::Routes { missing, source });
                }
                // A route that was to be deleted was gone already.
            }
        }
        Ok(())
    }

    /// Frees what belongs to sandboxes that no longer exist: not among `sandboxes`, and without a network namespace. For
    /// runtimes that know no GC. Returns the attachments freed.
    ///
    /// # Errors
    /// [`NetworkError`] of the first attachment that could not be freed; the others were tried.
    pub async fn collect_leaks(&self, sandboxes: &BTreeSet<String>) -> Result<Vec<Attachment>, NetworkError> {
        let leaked: Vec<Attachment> = self
            .lock()
            .holdings()
            .iter()
            .filter(|(attachment, _)| !sandboxes.contains(&attachment.container_id))
            .filter(|(_, holding)| holding.network_namespace.as_deref().is_none_or(|path| !path.exists()))
            .map(|(attachment, _)| attachment.clone())
            .collect();
        self.detach_all(&leaked).await.map(|()| leaked)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, AddressManager> {
        // The manager changes its memory only after its journal: a panic between leaves it right.
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Works on the addresses off the async threads, because it waits for the disk.
    async fn with_addresses<T: Send + 'static, E: Into<NetworkError> + Send + 'static>(
        &self,
        work: impl FnOnce(&mut AddressManager) -> Result<T, E> + Send + 'static,
    ) -> Result<T, NetworkError> {
        let addresses = Arc::clone(&self.addresses);
        let work = move || work(&mut addresses.lock().unwrap_or_else(PoisonError::into_inner));
        match tokio::task::spawn_blocking(work).await {
            Ok(result) => result.map_err(Into::into),
            Err(error) => {
                Err(NetworkError::Answer { program: "address manager", problem: error.to_string() })
            }
        }
    }

    async fn attach(&self, attachment: Attachment, namespace: &Path) -> Result<AddResult, NetworkError> {
        let held = self.lock().holdings().contains_key(&attachment);
        let (key, path) = (attachment.clone(), namespace.to_owned());
        let address = self.with_addresses(move |addresses| addresses.allocate(&key, Some(&path))).await?;
        let link = Link::new(&attachment, address, self.settings.mtu);
        let made = match self.tools.ip(&link.host_commands(namespace, self.settings.node_address)).await {
            Ok(_) => Tools::inside(namespace).ip(&link.pod_commands()).await.map(drop),
            Err(error) => Err(error),
        };
        if let Err(error) = made {
            // Nothing is left of what was not there before; what was there belongs to an ADD that succeeded.
            if !held && let Err(error) = self.detach(&attachment).await {
                tracing::warn!(%error, "undoing a failed ADD; DEL or GC will do it");
            }
            return Err(error.into());
        }
        Ok(link.result(namespace))
    }

    async fn detach(&self, attachment: &Attachment) -> Result<(), NetworkError> {
        match self.tools.ip(&Link::removal(attachment)).await {
            // The interface went with its namespace.
            Err(error) if error.says("Cannot find device") => {}
            other => drop(other?),
        }
        let key = attachment.clone();
        self.with_addresses(move |addresses| addresses.release(&key)).await?;
        Ok(())
    }

    async fn detach_all(&self, attachments: &[Attachment]) -> Result<(), NetworkError> {
        let mut result = Ok(());
        for attachment in attachments {
            if let Err(error) = self.detach(attachment).await {
                tracing::warn!(container = attachment.container_id, %error, "freeing an attachment");
                result = result.and(Err(error));
            }
        }
        result
    }

    async fn verify(&self, attachment: &Attachment, namespace: &Path) -> Result<(), CniError> {
        let failed = |problem: String| CniError::new(ErrorCode::CHECK_FAILED, problem);
        let Some(holding) = self.lock().holdings().get(attachment).cloned() else {
            let message = format!("container {} has no address", attachment.container_id);
            return Err(CniError::new(ErrorCode::UnknownContainer, message));
        };
        let link = Link::new(attachment, holding.address, self.settings.mtu);
        let inside = Tools::inside(namespace).run("ip", &link.pod_query(), "").await;
        let outside = self.tools.run("ip", &link.host_query(), "").await;
        let describe = |error: ToolError| failed(error.to_string());
        link.check(&inside.map_err(describe)?, &outside.map_err(describe)?).map_err(failed)
    }
}

fn attachment_of(request: &Environment) -> Attachment {
    Attachment { container_id: request.container_id.clone(), interface: request.interface.clone() }
}

fn namespace_of(request: &Environment) -> Result<&Path, CniError> {
    request.network_namespace.as_deref().ok_or_else(|| {
        CniError::new(ErrorCode::InvalidEnvironment, "environment variable CNI_NETNS: it is not set")
    })
}

#[async_trait]
impl Handler for PodNetwork {
    async fn add(&self, request: &Environment, _: &NetworkConfiguration) -> Result<AddResult, CniError> {
        let namespace = namespace_of(request)?;
        self.attach(attachment_of(request), namespace).await.map_err(Into::into)
    }

    async fn del(&self, request: &Environment, _: &NetworkConfiguration) -> Result<(), CniError> {
        self.detach(&attachment_of(request)).await.map_err(Into::into)
    }

    async fn check(
        &self,
        request: &Environment,
        configuration: &NetworkConfiguration,
    ) -> Result<(), CniError> {
        if configuration.previous.is_none() {
            let message = "field \"prevResult\" of the network configuration: CHECK needs it";
            return Err(CniError::new(ErrorCode::InvalidConfiguration, message));
        }
        self.verify(&attachment_of(request), namespace_of(request)?).await
    }

    async fn status(&self) -> Result<(), CniError> {
        let addresses = self.lock();
        let problem = match (addresses.blocks().is_empty(), addresses.free()) {
            (true, _) => IpamError::NoBlock.to_string(),
            (_, 0) => "all pod addresses of the node are in use".to_owned(),
            _ => return Ok(()),
        };
        Err(CniError::new(ErrorCode::NotAvailable, problem))
    }

    async fn collect(&self, configuration: &NetworkConfiguration) -> Result<(), CniError> {
        let valid = &configuration.valid_attachments;
        let stale: Vec<Attachment> =
            self.lock().holdings().keys().filter(|held| !valid.contains(held)).cloned().collect();
        self.detach_all(&stale).await.map_err(Into::into)
    }
}
