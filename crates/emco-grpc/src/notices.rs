//! Those parts of the contract that are streams of notices, and the channel of news about clusters: traits that whoever knows such news
//! implements, and what is told.

use async_trait::async_trait;
use drystone_appcontext::{ClusterName, ContextId, contract::ControllerError};
use futures::stream::BoxStream;

/// Notices, until the stream ends or fails.
pub type Notices<N> = BoxStream<'static, Result<N, ControllerError>>;

/// Tells who asks when something about the readiness of an AppContext has changed (`readyNotify`).
#[async_trait]
pub trait ReadinessNotices: Send + Sync {
    /// News about this context for the client of this name, which goes on until it unsubscribes. What has changed is looked up in the
    /// AppContext.
    ///
    /// # Errors
    /// [`ControllerError`] if nothing can be told of this context.
    async fn alert(&self, client: &str, id: ContextId) -> Result<Notices<Readiness>, ControllerError>;

    /// Ends the client's streams of this context.
    ///
    /// # Errors
    /// [`ControllerError`] if that is not possible; that there is none is no error.
    async fn unsubscribe(&self, client: &str, id: ContextId) -> Result<(), ControllerError>;
}

/// Something about the readiness of an app in a cluster has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readiness {
    /// The AppContext.
    pub id: ContextId,
    /// The app's name.
    pub app: String,
    /// Where it runs.
    pub cluster: ClusterName,
}

/// Hears what happens to clusters (`ClmControllerEventChannel`).
#[async_trait]
pub trait ClusterEvents: Send + Sync {
    /// Something has happened to this cluster.
    ///
    /// # Errors
    /// [`ControllerError`] if the listener cannot accept that; the front end then answers 500.
    async fn cluster_event(&self, cluster: &ClusterName, event: ClusterEvent) -> Result<(), ControllerError>;
}

/// What has happened to a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClusterEvent {
    /// It has been onboarded.
    Created,
    /// What is known of it has changed.
    Updated,
    /// It is gone.
    Deleted,
}

/// Tells who asks how the status of deployments changes (`StatusNotify`).
#[async_trait]
pub trait StatusNotices: Send + Sync {
    /// The status as it is, and whenever it changes, until the client deregisters.
    ///
    /// # Errors
    /// [`ControllerError`] if there is nothing of which to tell a status.
    async fn register(&self, query: StatusQuery) -> Result<Notices<StatusNotice>, ControllerError>;

    /// Ends the client's streams.
    ///
    /// # Errors
    /// [`ControllerError`] if that is not possible; that there is none is no error.
    async fn deregister(&self, client: &str) -> Result<(), ControllerError>;
}

/// What a client wants to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusQuery {
    /// The client's name for itself; [`StatusNotices::deregister`] ends what was registered with it.
    pub client: String,
    /// Whose status.
    pub subject: StatusSubject,
    /// Which of the two statuses.
    pub kind: StatusKind,
    /// Only these apps; all if empty.
    pub apps: Vec<String>,
    /// Only these clusters, `provider+cluster`; all if empty.
    pub clusters: Vec<String>,
    /// Only these resources; all if empty.
    pub resources: Vec<String>,
    /// Whether to tell of each app, cluster and resource, too.
    pub details: bool,
}

/// Whose status is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StatusSubject {
    /// A deployment intent group.
    Group {
        /// Its project.
        project: String,
        /// Its composite app.
        composite_app: String,
        /// The version of that.
        version: String,
        /// Its own name.
        group: String,
    },
    /// A logical cloud.
    LogicalCloud {
        /// Its project.
        project: String,
        /// Its own name.
        logical_cloud: String,
    },
    /// The networks of a cluster.
    Cluster(ClusterName),
}

/// Which status is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatusKind {
    /// Whether objects are ready.
    Ready,
    /// Whether objects are there.
    Deployed,
}

/// A status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatusValue {
    /// It cannot be told.
    Error,
    /// There, but not ready.
    NotReady,
    /// Ready.
    Ready,
    /// Not there.
    NotDeployed,
    /// There.
    Deployed,
}

/// A status, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusNotice {
    /// Of all together.
    pub value: StatusValue,
    /// Of each app of a group; empty unless details were asked for.
    pub apps: Vec<AppStatus>,
    /// Of each cluster of a logical cloud, or of the cluster itself; empty unless details were asked for.
    pub clusters: Vec<ClusterStatus>,
}

/// The status of an app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppStatus {
    /// The app's name.
    pub app: String,
    /// Of all its clusters together.
    pub value: StatusValue,
    /// Of each.
    pub clusters: Vec<ClusterStatus>,
}

/// The status of what is in a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterStatus {
    /// The cluster.
    pub cluster: ClusterName,
    /// Of all its resources together.
    pub value: StatusValue,
    /// Of each.
    pub resources: Vec<ResourceStatus>,
}

/// The status of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResourceStatus {
    /// Its name.
    pub name: String,
    /// Its API group, empty for the core group.
    pub group: String,
    /// Its API version.
    pub version: String,
    /// Its kind.
    pub kind: String,
    /// How it is.
    pub value: StatusValue,
}
