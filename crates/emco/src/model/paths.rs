//! Paths of what life cycles are about.

use drystone_api::emco::{Cluster, DeploymentIntentGroup, Document as _, DocumentPath, LogicalCloud};
use drystone_appcontext::ClusterName;

use super::Refusal;

/// What a life-cycle operation is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A deployment intent group.
    Group(GroupPath),
    /// A logical cloud.
    Cloud(CloudPath),
    /// The networks of a cluster.
    Networks(ClusterName),
}

impl Target {
    /// Reads a path.
    ///
    /// # Errors
    /// It is the path of none of these.
    pub fn parse(path: &str) -> Result<Self, Refusal> {
        if let Some(group) = GroupPath::parse(path) {
            return Ok(Self::Group(group));
        }
        if let Some(cloud) = CloudPath::parse(path) {
            return Ok(Self::Cloud(cloud));
        }
        if let Some(cluster) = cluster_of(path) {
            return Ok(Self::Networks(cluster));
        }
        Err(Refusal::bad(format!(
            "spec.path: {path:?} is the path neither of a deployment intent group nor of a logical cloud nor of a cluster"
        )))
    }

    /// The path.
    pub fn path(&self) -> String {
        match self {
            Self::Group(group) => group.path(),
            Self::Cloud(cloud) => cloud.path(),
            Self::Networks(cluster) => cluster_path(cluster),
        }
    }

    /// Its own name, for messages.
    pub fn name(&self) -> String {
        match self {
            Self::Group(group) => group.name.clone(),
            Self::Cloud(cloud) => cloud.name.clone(),
            Self::Networks(cluster) => cluster.to_string(),
        }
    }
}

/// Path of a deployment intent group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupPath {
    /// Project.
    pub project: String,
    /// Composite application.
    pub composite_app: String,
    /// Its version.
    pub version: String,
    /// The group.
    pub name: String,
}

impl GroupPath {
    /// Reads a path.
    pub fn parse(path: &str) -> Option<Self> {
        let parts = DocumentPath::parse(DeploymentIntentGroup::PATTERN, path).ok()?;
        Some(Self {
            project: parts.get("project").to_owned(),
            composite_app: parts.get("compositeApp").to_owned(),
            version: parts.get("compositeAppVersion").to_owned(),
            name: parts.get("deploymentIntentGroup").to_owned(),
        })
    }

    /// Path of the composite application.
    pub fn app_path(&self) -> String {
        format!("projects/{}/composite-apps/{}/{}", self.project, self.composite_app, self.version)
    }

    /// The path.
    pub fn path(&self) -> String {
        format!("{}/deployment-intent-groups/{}", self.app_path(), self.name)
    }

    /// Path of a logical cloud of the same project.
    pub fn cloud(&self, name: &str) -> CloudPath {
        CloudPath { project: self.project.clone(), name: name.to_owned() }
    }

    /// Path of a group of another version of the same composite application.
    #[must_use]
    pub fn sibling(&self, version: &str, name: &str) -> Self {
        Self { version: version.to_owned(), name: name.to_owned(), ..self.clone() }
    }
}

/// Path of a logical cloud.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloudPath {
    /// Project.
    pub project: String,
    /// The logical cloud.
    pub name: String,
}

impl CloudPath {
    /// Reads a path.
    pub fn parse(path: &str) -> Option<Self> {
        let parts = DocumentPath::parse(LogicalCloud::PATTERN, path).ok()?;
        Some(Self { project: parts.get("project").to_owned(), name: parts.get("logicalCloud").to_owned() })
    }

    /// The path.
    pub fn path(&self) -> String {
        format!("projects/{}/logical-clouds/{}", self.project, self.name)
    }
}

/// The cluster of a path.
pub fn cluster_of(path: &str) -> Option<ClusterName> {
    let parts = DocumentPath::parse(Cluster::PATTERN, path).ok()?;
    Some(ClusterName::new(parts.get("clusterProvider"), parts.get("cluster")))
}

/// The path of a cluster.
pub fn cluster_path(cluster: &ClusterName) -> String {
    format!("cluster-providers/{}/clusters/{}", cluster.provider, cluster.cluster)
}
