//! The nodes of a cluster, as steps are told of them. Pure.

use serde::{Deserialize, Serialize};

use super::parameters::{NodeGroup, Parameters};
use crate::model::{Member, Situation};

/// What a node is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// It runs the cluster's API.
    ControlPlane,
    /// It runs pods.
    #[default]
    Worker,
    /// It has the volumes.
    Storage,
}

impl Role {
    /// As `VnfInstance.status.nodes` says it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ControlPlane => "control-plane",
            Self::Worker => "worker",
            Self::Storage => "storage",
        }
    }
}

/// A node.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeRef {
    /// What it is for.
    pub role: Role,
    /// VDU that it is an instance of.
    pub vdu: String,
    /// Which of the VDU's instances.
    pub index: u32,
    /// Its host name: the VDU in lower case and the index, so that it never collides and a healed node gets its name back.
    pub name: String,
}

impl NodeRef {
    /// The node at a place.
    pub fn new(role: Role, vdu: &str, index: u32) -> Self {
        Self { role, vdu: vdu.to_owned(), index, name: node_name(vdu, index) }
    }

    /// Whether it is at this place.
    pub fn is_at(&self, member: &Member) -> bool {
        self.vdu == member.vdu && self.index == member.index
    }
}

/// A DNS label (RFC 1123) of a VDU's name and a number.
fn node_name(vdu: &str, index: u32) -> String {
    let letter = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let mut name: String = vdu.chars().map(letter).take(50).collect();
    while name.starts_with('-') {
        name.remove(0);
    }
    if name.is_empty() {
        name.push_str("node");
    }
    format!("{}-{index}", name.trim_end_matches('-'))
}

/// The nodes of a cluster before and after an operation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Nodes {
    /// All that are there afterwards: control planes, workers, storage; by index.
    pub after: Vec<NodeRef>,
    /// Those of them that are new, or made anew.
    pub added: Vec<NodeRef>,
    /// Those that stay as they are.
    pub standing: Vec<NodeRef>,
    /// Those that leave, or are to be made anew.
    pub leaving: Vec<NodeRef>,
}

impl Nodes {
    /// Finds them. Members of VDUs that the parameters do not name are no nodes.
    pub fn of(situation: &Situation, parameters: &Parameters) -> Self {
        let node = |member: &Member| {
            let of = |group: &NodeGroup| group.vdu == member.vdu;
            let role = if of(&parameters.masters) {
                Role::ControlPlane
            } else if of(&parameters.workers) {
                Role::Worker
            } else if parameters.storage.as_ref().is_some_and(|storage| of(&storage.node)) {
                Role::Storage
            } else {
                return None;
            };
            Some(NodeRef::new(role, &member.vdu, member.index))
        };
        let sorted = |mut nodes: Vec<NodeRef>| {
            nodes.sort();
            nodes.dedup();
            nodes
        };
        let after = sorted(situation.after.iter().filter_map(node).collect());
        let added = sorted(situation.added().iter().filter_map(node).collect());
        let leaves = |node: &NodeRef| situation.affected.iter().any(|vnfc| node.is_at(&vnfc.member));
        let before = sorted(situation.before.iter().filter_map(|vnfc| node(&vnfc.member)).collect());
        let leaving: Vec<NodeRef> =
            before.iter().filter(|node| situation.entire || leaves(node)).cloned().collect();
        let standing = before.into_iter().filter(|node| !leaving.contains(node)).collect();
        Self { after, added, standing, leaving }
    }
}

/// Those of a role.
pub fn of_role(nodes: &[NodeRef], role: Role) -> impl Iterator<Item = &NodeRef> {
    nodes.iter().filter(move |node| node.role == role)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_dns_labels() {
        assert_eq!(node_name("masterNode", 0), "masternode-0");
        assert_eq!(node_name("VDU_1", 12), "vdu-1-12");
        assert_eq!(node_name("__", 3), "node-3");
        assert_eq!(node_name(&"x".repeat(200), 4_294_967_295).len(), 61);
    }
}
