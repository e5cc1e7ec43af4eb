//! What is asked about the status of something.

use std::collections::BTreeSet;

use drystone_appcontext::{ClusterName, ContextId};

/// Which of the statuses of resources.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatusKind {
    /// What the synchroniser did: `status=deployed`.
    Deployed,
    /// What the clusters say: `status=ready`.
    Ready,
    /// As `Deployed`, in the members of older releases: `type=rsync`.
    Rsync,
    /// As `Ready`, in the members of older releases: `type=cluster`.
    Cluster,
}

impl StatusKind {
    /// Whether it is what the clusters say.
    pub fn is_ready(self) -> bool {
        matches!(self, Self::Ready | Self::Cluster)
    }
}

/// How much is told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Output {
    /// Without resources.
    Summary,
    /// With the status of each resource.
    #[default]
    All,
    /// With the objects whole.
    Detail,
}

/// Only names are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum List {
    /// Of applications.
    Apps,
    /// Of clusters, by application.
    Clusters,
    /// Of resources, by application and cluster.
    Resources,
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusQuery {
    /// Which status.
    pub kind: StatusKind,
    /// How much.
    pub output: Output,
    /// Of which context, instead of the present one.
    pub instance: Option<ContextId>,
    /// Only names.
    pub list: Option<List>,
    /// Only these applications; all if empty.
    pub apps: BTreeSet<String>,
    /// Only these clusters; all if empty.
    pub clusters: BTreeSet<ClusterName>,
    /// Only resources of these names; all if empty.
    pub resources: BTreeSet<String>,
}

impl StatusQuery {
    /// The query that asks for everything of a kind.
    pub fn of(kind: StatusKind) -> Self {
        Self {
            kind,
            output: Output::All,
            instance: None,
            list: None,
            apps: BTreeSet::new(),
            clusters: BTreeSet::new(),
            resources: BTreeSet::new(),
        }
    }

    pub(super) fn wants_app(&self, app: &str) -> bool {
        self.apps.is_empty() || self.apps.contains(app)
    }

    pub(super) fn wants_cluster(&self, cluster: &ClusterName) -> bool {
        self.clusters.is_empty() || self.clusters.contains(cluster)
    }

    pub(super) fn wants_resource(&self, name: &str) -> bool {
        self.resources.is_empty() || self.resources.contains(name)
    }
}
