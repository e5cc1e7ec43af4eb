//! What life cycles are about: states with their history, refusals, clusters as placement sees them, deployments gathered from documents.

mod cluster;
mod deployment;
mod history;
mod manifests;
mod paths;
mod refusal;

pub use cluster::{Amounts, ClusterFacts, Room};
pub use deployment::{DeployedApp, Deployment, Documents, GENERIC_PLACEMENT, gather};
pub use history::{Entry, History, State, is_removed};
pub use manifests::{HookTime, Manifest, Manifests};
pub use paths::{CloudPath, GroupPath, Target, cluster_of, cluster_path};
pub use refusal::Refusal;
