//! The kubelet API: what the API server and monitoring ask a node's agent for. Output of containers, commands in them, ports of
//! pods, and what all of it uses; over HTTPS, for clients that prove who they are and may ask.
//!
//! The API server passes tunnels through unread, so this is where a client's protocol meets that of the container runtime. The
//! runtime speaks SPDY/3.1 and WebSocket up to `v4.channel.k8s.io`; those bytes are passed on as they are. What it does not
//! speak is translated: `v5.channel.k8s.io` (commands) and `SPDY/3.1+portforward.k8s.io` (ports).

mod access;
mod find;
mod listen;
mod logs;
mod refusal;
mod routes;
mod stats;
mod tunnel;

use std::{fmt, path::PathBuf, sync::Arc};

use drystone_identity::tls::{self, ServerIdentity, TlsError};
use k8s_openapi::api::core::v1::Pod;
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::access::Access;
use crate::{config::NodeConfig, cri::Runtime, pods::PodStore};

/// The pods that this node runs.
pub trait PodSource: Send + Sync {
    /// All of them, with their status as far as it is known.
    fn pods(&self) -> Vec<Arc<Pod>>;

    /// One of them.
    fn pod(&self, namespace: &str, name: &str) -> Option<Arc<Pod>> {
        let named = |pod: &Arc<Pod>| {
            pod.metadata.namespace.as_deref() == Some(namespace) && pod.metadata.name.as_deref() == Some(name)
        };
        self.pods().into_iter().find(named)
    }
}

impl PodSource for PodStore {
    fn pods(&self) -> Vec<Arc<Pod>> {
        self.all()
    }

    fn pod(&self, namespace: &str, name: &str) -> Option<Arc<Pod>> {
        self.find(namespace, name)
    }
}

/// The kubelet API cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum KubeletApiError {
    /// The cluster's certificate authority cannot be read.
    #[error("the certificate authority {} cannot be read: {source}; check `caFile` in the node configuration", path.display())]
    Authority {
        /// Its file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// TLS cannot be spoken.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// What answers are made from.
struct Shared {
    config: Arc<NodeConfig>,
    pods: Arc<dyn PodSource>,
    runtime: Runtime,
    access: Access,
    stopping: CancellationToken,
}

/// The server.
pub struct KubeletApi {
    config: Arc<NodeConfig>,
    pods: Arc<dyn PodSource>,
    runtime: Runtime,
    reviewer: kube::Client,
    tls: Arc<ServerConfig>,
}

impl fmt::Debug for KubeletApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KubeletApi").field("node", &self.config.node_name).finish_non_exhaustive()
    }
}

impl KubeletApi {
    /// A server with the certificate `identity`, which may be replaced while it serves. Clients show a certificate of the
    /// cluster's authority, or a token that the API vouches for; `reviewer` asks it, as well as whether they may ask this node.
    ///
    /// # Errors
    /// [`KubeletApiError`] if the cluster's certificate authority cannot be used.
    pub fn new(
        config: Arc<NodeConfig>,
        pods: Arc<dyn PodSource>,
        runtime: Runtime,
        reviewer: kube::Client,
        identity: Arc<ServerIdentity>,
    ) -> Result<Self, KubeletApiError> {
        let authority = std::fs::read_to_string(&config.ca_file)
            .map_err(|source| KubeletApiError::Authority { path: config.ca_file.clone(), source })?;
        let tls = tls::server_config(identity, Some(&authority))?;
        Ok(Self { config, pods, runtime, reviewer, tls })
    }

    /// Serves until `shutdown`; then ends tunnels and followed logs. Bind the listener to
    /// [`NodeConfig::kubelet_address`].
    pub async fn run(self, listener: TcpListener, shutdown: CancellationToken) {
        let access = Access::new(self.reviewer, self.config.node_name.clone());
        let shared = Arc::new(Shared {
            config: self.config,
            pods: self.pods,
            runtime: self.runtime,
            access,
            stopping: shutdown.clone(),
        });
        listen::serve(listener, self.tls, routes::router(&shared), shutdown).await;
    }
}
