//! Making the Node object, or bringing it up to date.

use std::collections::BTreeMap;

use ipnet::Ipv4Net;
use k8s_openapi::{
    api::core::v1::{Node, NodeSpec, Taint},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;

use super::POD_BLOCKS_ANNOTATION;
use crate::config::NodeConfig;

/// A node that could not be registered.
#[derive(Debug, thiserror::Error)]
#[error("Node {name:?} cannot be registered: {source}")]
pub struct RegisterError {
    name: String,
    source: Box<kube::Error>,
}

/// What a node says of itself once.
#[derive(Debug, Clone)]
pub struct Description {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its taints, unless it is registered already.
    pub taints: Vec<Taint>,
    /// Its blocks of pod addresses; empty if it has none yet.
    pub blocks: Vec<Ipv4Net>,
}

impl Description {
    /// What the configuration says.
    pub fn new(config: &NodeConfig, blocks: Vec<Ipv4Net>) -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let mut labels = BTreeMap::from([
            ("kubernetes.io/hostname".to_owned(), config.node_name.clone()),
            ("kubernetes.io/os".to_owned(), "linux".to_owned()),
            ("kubernetes.io/arch".to_owned(), architecture.to_owned()),
        ]);
        labels.extend(config.labels.clone());
        let taints = config.taints.iter().map(|taint| Taint {
            key: taint.key.clone(),
            value: taint.value.clone(),
            effect: taint.effect.clone(),
            time_added: None,
        });
        Self { name: config.node_name.clone(), labels, taints: taints.collect(), blocks }
    }

    fn annotations(&self) -> BTreeMap<String, String> {
        if self.blocks.is_empty() {
            return BTreeMap::new();
        }
        let blocks: Vec<String> = self.blocks.iter().map(ToString::to_string).collect();
        BTreeMap::from([(POD_BLOCKS_ANNOTATION.to_owned(), blocks.join(","))])
    }

    fn new_node(&self) -> Node {
        let first = self.blocks.first().map(ToString::to_string);
        Node {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                labels: Some(self.labels.clone()),
                annotations: Some(self.annotations()),
                ..ObjectMeta::default()
            },
            spec: Some(NodeSpec {
                pod_cidr: first.clone(),
                pod_cidrs: first.map(|first| vec![first]),
                taints: Some(self.taints.clone()).filter(|taints| !taints.is_empty()),
                ..NodeSpec::default()
            }),
            status: None,
        }
    }

    /// What differs from the node as it is; none if nothing does. Taints are the administrator's once the node exists, and a
    /// block, once set, cannot be changed.
    fn changes(&self, node: &Node) -> Option<serde_json::Value> {
        let labels = node.metadata.labels.clone().unwrap_or_default();
        let annotations = node.metadata.annotations.clone().unwrap_or_default();
        let missing = |wanted: &BTreeMap<String, String>, have: &BTreeMap<String, String>| {
            wanted.iter().any(|(key, value)| have.get(key) != Some(value))
        };
        let has_block = node.spec.as_ref().is_some_and(|spec| spec.pod_cidr.is_some());
        let first = self.blocks.first().filter(|_| !has_block).map(ToString::to_string);
        if !missing(&self.labels, &labels) && !missing(&self.annotations(), &annotations) && first.is_none() {
            return None;
        }
        let mut patch = json!({"metadata": {"labels": self.labels, "annotations": self.annotations()}});
        if let Some(first) = first {
            patch["spec"] = json!({"podCIDR": first, "podCIDRs": [first]});
        }
        Some(patch)
    }
}

/// Makes the Node, or brings it up to date; returns it.
///
/// # Errors
/// [`RegisterError`] if the API refuses or does not answer.
pub async fn register(client: &Client, description: &Description) -> Result<Node, RegisterError> {
    let api: Api<Node> = Api::all(client.clone());
    let failed = |source| RegisterError { name: description.name.clone(), source: Box::new(source) };
    let node = match api.get_opt(&description.name).await.map_err(failed)? {
        Some(node) => node,
        None => match api.create(&PostParams::default(), &description.new_node()).await {
            // Created at the same moment by an agent that is shutting down, perhaps.
            Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => {
                api.get(&description.name).await.map_err(failed)?
            }
            other => return other.map_err(failed),
        },
    };
    match description.changes(&node) {
        None => Ok(node),
        Some(patch) => {
            let patch = Patch::Merge(patch);
            api.patch(&description.name, &PatchParams::default(), &patch).await.map_err(failed)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn description(blocks: &[&str]) -> Description {
        Description {
            name: "n1".into(),
            labels: [("a".to_owned(), "b".to_owned())].into(),
            taints: vec![Taint { key: "k".into(), effect: "NoSchedule".into(), ..Taint::default() }],
            blocks: blocks.iter().map(|block| block.parse().unwrap()).collect(),
        }
    }

    #[test]
    fn a_registered_node_needs_no_change() {
        let description = description(&["10.42.3.0/24", "10.42.4.0/24"]);
        let mut node = description.new_node();
        assert_eq!(node.spec.as_ref().unwrap().pod_cidr.as_deref(), Some("10.42.3.0/24"));
        assert_eq!(description.changes(&node), None);
        // What an administrator changed is left alone.
        node.spec.as_mut().unwrap().taints = None;
        node.metadata.labels.as_mut().unwrap().insert("own".into(), "label".into());
        assert_eq!(description.changes(&node), None);
    }

    #[test]
    fn blocks_come_later_and_are_set_once() {
        let node = description(&[]).new_node();
        let change = description(&["10.42.3.0/24"]).changes(&node).unwrap();
        assert_eq!(change["spec"]["podCIDR"], "10.42.3.0/24");
        let node = description(&["10.42.3.0/24"]).new_node();
        let change = description(&["10.42.9.0/24"]).changes(&node).unwrap();
        assert_eq!(change.get("spec"), None);
        assert_eq!(change["metadata"]["annotations"][POD_BLOCKS_ANNOTATION], "10.42.9.0/24");
    }
}
