//! What steps are told. No secrets: only where they are.

use serde::{Deserialize, Serialize};

use super::nodes::NodeRef;
use crate::model::{SecretNames, Situation};

/// Where steps find what they need.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Source {
    /// Namespace of all objects.
    pub namespace: String,
    /// Name of the VnfInstance.
    pub instance: String,
    /// Its uid: whose the nodes are.
    pub uid: String,
    /// Name of the VnfLcmOperation.
    pub occurrence: String,
    /// Names of the Secrets with what is secret of the requests.
    pub secrets: SecretNames,
    /// Uid of the VnfPackage.
    pub package: String,
    /// Step that has the inventory.
    pub inventory: String,
    /// Step that has the inventory before the VIM was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inventory_before: Option<String>,
    /// Site through whose gateway nodes are reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
}

impl Source {
    /// That of a situation.
    pub fn of(situation: &Situation) -> Self {
        Self {
            namespace: situation.instance.namespace.clone(),
            instance: situation.instance.name.clone(),
            uid: situation.instance.uid.clone(),
            occurrence: situation.occurrence.name.clone(),
            secrets: situation.secrets.clone(),
            package: situation.package.clone(),
            inventory: situation.inventory.clone(),
            inventory_before: situation.inventory_before.clone(),
            gateway: situation.gateway.clone(),
        }
    }
}

/// What one step is told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Task {
    /// Where it finds what it needs.
    pub source: Source,
    /// The node that it is about; none if it is about the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeRef>,
    /// All nodes that there are afterwards.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<NodeRef>,
    /// Control planes that work, the one to be asked first at the beginning.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub via: Vec<NodeRef>,
    /// Whether the storage server's volumes are kept when it is made anew.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub volumes_kept: bool,
    /// Whether it may go on although others still use the cluster.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub forced: bool,
}
