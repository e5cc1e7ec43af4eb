//! How a cluster is reached, and as whom.

use std::sync::Arc;

use async_trait::async_trait;
use drystone_appcontext::ClusterName;

/// As whom a cluster is spoken to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// Level of the logical cloud: `0` is the administrator, `1` a user of the cloud.
    pub level: String,
    /// The project of the cloud; empty for level `0`, and where it is not known: then a cloud of any project counts.
    pub project: String,
    /// The namespace of the cloud.
    pub namespace: String,
    /// The cloud; empty for level `0`.
    pub logical_cloud: String,
}

impl Identity {
    /// The cluster's administrator.
    pub fn administrator() -> Self {
        Self {
            level: "0".to_owned(),
            project: String::new(),
            namespace: "default".to_owned(),
            logical_cloud: String::new(),
        }
    }

    /// Whether it is the administrator.
    pub fn is_administrator(&self) -> bool {
        self.level != "1"
    }
}

/// A way to a cluster.
#[derive(Clone)]
pub enum Access {
    /// By a configuration, as from a kubeconfig; nothing in it may run a program.
    Config {
        /// The configuration.
        config: Box<kube::Config>,
        /// Whether a server without TLS is known to speak HTTP/2; with TLS that is negotiated.
        plain_http2: bool,
    },
    /// By a client that exists already.
    Client(kube::Client),
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Config { config, .. } => write!(f, "Access to {}", config.cluster_url),
            Self::Client(_) => f.write_str("Access by a client"),
        }
    }
}

/// Why there is no way to a cluster.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// There is no such cluster, or nobody may speak to it as that identity; it is not tried again.
    #[error("{0}")]
    None(String),
    /// Not now; it is tried again.
    #[error("{0}")]
    NotNow(String),
}

/// Knows the ways to clusters.
#[async_trait]
pub trait Clusters: Send + Sync + 'static {
    /// The way to a cluster as somebody. Asked anew whenever a cluster has refused the credentials.
    ///
    /// # Errors
    /// [`AccessError`] if there is none.
    async fn connect(&self, cluster: &ClusterName, identity: &Identity) -> Result<Access, AccessError>;
}

#[async_trait]
impl<C: Clusters> Clusters for Arc<C> {
    async fn connect(&self, cluster: &ClusterName, identity: &Identity) -> Result<Access, AccessError> {
        (**self).connect(cluster, identity).await
    }
}
