//! What is asked: `status=deployed&output=all&app=a&cluster=p%2Bc`.

use std::collections::BTreeSet;

use drystone_appcontext::{ClusterName, ContextId};
use thiserror::Error;

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

/// A query that cannot be answered (400).
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("Invalid query: {name}={value}: {problem}")]
pub struct QueryError {
    name: String,
    value: String,
    problem: &'static str,
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

    /// Reads the members of a query string, decoded. `usual`: the status that is told where none is named.
    ///
    /// # Errors
    /// A value that has no meaning. Unknown members are passed over, as EMCO does.
    pub fn parse<'a>(
        members: impl IntoIterator<Item = (&'a str, &'a str)>,
        usual: StatusKind,
    ) -> Result<Self, QueryError> {
        let mut query = Self::of(usual);
        let mut has_status = false;
        for (name, value) in members {
            let wrong = |problem| QueryError { name: name.to_owned(), value: value.to_owned(), problem };
            match (name, value) {
                ("status", "deployed" | "ready") => {
                    has_status = true;
                    query.kind = if value == "ready" { StatusKind::Ready } else { StatusKind::Deployed };
                }
                ("status", _) => return Err(wrong("expected deployed or ready")),
                ("type", "rsync" | "cluster") if has_status => {}
                ("type", "rsync") => query.kind = StatusKind::Rsync,
                ("type", "cluster") => query.kind = StatusKind::Cluster,
                ("type", _) => return Err(wrong("expected rsync or cluster")),
                ("output", "summary") => query.output = Output::Summary,
                ("output", "all") => query.output = Output::All,
                ("output", "detail") => query.output = Output::Detail,
                ("output", _) => return Err(wrong("expected summary, all or detail")),
                ("instance", _) => {
                    let context = value.parse().map_err(|_| wrong("expected the number of a context"))?;
                    query.instance = Some(context);
                }
                ("app", _) => drop(query.apps.insert(value.to_owned())),
                ("cluster", _) => {
                    let cluster = value.parse().map_err(|_| wrong("expected provider+cluster"))?;
                    query.clusters.insert(cluster);
                }
                ("resource", _) => drop(query.resources.insert(value.to_owned())),
                ("apps", _) => query.list = Some(List::Apps),
                ("clusters", _) if query.list != Some(List::Apps) => query.list = Some(List::Clusters),
                ("resources", _) if query.list.is_none() => query.list = Some(List::Resources),
                _ => {}
            }
        }
        Ok(query)
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
