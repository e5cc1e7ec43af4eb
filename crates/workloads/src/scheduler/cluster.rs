//! The scheduler's picture of the cluster: nodes, the pods on them, and pods it has just placed itself.
//!
//! A pod that was given a node counts there at once ("assumed"), long before the watch shows it bound. That is what lets a
//! burst of pods be scheduled in memory while their bindings are still being written.

use std::{collections::HashMap, sync::Arc};

use drystone_quantity::Quantity;
use k8s_openapi::api::core::v1::{Node, Taint};

use super::{
    node_selector::Labels,
    pod_info::PodInfo,
    resources::{ResourceList, Resources, Unreadable},
    taints,
};
use crate::kind;

/// A node with the pods on it.
#[derive(Debug, Clone, Default)]
pub struct NodeInfo {
    /// Its name.
    pub name: String,
    /// The node; `None` while only pods bound to it are known.
    pub node: Option<Arc<Node>>,
    /// What pods may use.
    pub allocatable: Resources,
    /// How many pods it takes.
    pub allowed_pods: usize,
    /// Taints that keep pods off.
    pub taints: Vec<Taint>,
    /// What its pods ask for.
    pub requested: Resources,
    /// CPU and memory of its pods for comparing nodes.
    pub compared: (i64, i64),
    /// Its pods.
    pub pods: Vec<Arc<PodInfo>>,
    /// Number of its pods by controller.
    pub by_controller: HashMap<Arc<str>, u32>,
    /// Sizes of the container images it has, by name.
    pub images: HashMap<String, i64>,
}

impl NodeInfo {
    /// The node's labels.
    pub fn labels(&self) -> &Labels {
        static NONE: Labels = Labels::new();
        self.node.as_ref().and_then(|node| node.metadata.labels.as_ref()).unwrap_or(&NONE)
    }

    /// One of the node's labels.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.labels().get(key).map(String::as_str)
    }

    fn set_node(&mut self, node: Arc<Node>) {
        let status = node.status.clone().unwrap_or_default();
        let offered = status.allocatable.or(status.capacity).unwrap_or_default();
        self.allocatable = Resources::of(&offered, Unreadable::Nothing);
        self.allowed_pods = allowed_pods(&offered);
        self.taints = taints::effective(&node);
        self.images.clear();
        for image in status.images.iter().flatten() {
            for name in image.names.iter().flatten() {
                self.images.insert(name.clone(), image.size_bytes.unwrap_or(0));
            }
        }
        self.node = Some(node);
    }

    /// Counts a pod in.
    pub fn add(&mut self, pod: Arc<PodInfo>) {
        self.requested.add(&pod.request);
        self.compared.0 = self.compared.0.saturating_add(pod.compared.0);
        self.compared.1 = self.compared.1.saturating_add(pod.compared.1);
        if !pod.controller.is_empty() {
            *self.by_controller.entry(pod.controller.clone()).or_default() += 1;
        }
        self.pods.push(pod);
    }

    /// Counts a pod out; returns it if it was there.
    pub fn remove(&mut self, uid: &str) -> Option<Arc<PodInfo>> {
        let position = self.pods.iter().position(|pod| pod.uid() == uid)?;
        let pod = self.pods.swap_remove(position);
        self.requested.subtract(&pod.request);
        self.compared.0 = self.compared.0.saturating_sub(pod.compared.0);
        self.compared.1 = self.compared.1.saturating_sub(pod.compared.1);
        if let Some(count) = self.by_controller.get_mut(&pod.controller) {
            *count -= 1;
            if *count == 0 {
                self.by_controller.remove(&pod.controller);
            }
        }
        Some(pod)
    }
}

fn allowed_pods(offered: &ResourceList) -> usize {
    let pods = offered.get("pods").and_then(|pods| pods.0.parse().ok()).map_or(0, Quantity::value);
    usize::try_from(pods).unwrap_or(0)
}

/// Where a pod is.
#[derive(Debug, Clone)]
struct Placement {
    node: String,
    /// Placed by this scheduler, not yet confirmed by the API.
    assumed: bool,
    /// Takes part in inter-pod affinity.
    has_terms: bool,
}

/// The picture. Pure data: it is told about changes and asked about the present.
#[derive(Debug, Clone, Default)]
pub struct Cluster {
    nodes: Vec<NodeInfo>,
    index: HashMap<String, usize>,
    placements: HashMap<String, Placement>,
    /// Pods waiting for the victims of their preemption to go, and the node they wait for, by UID.
    nominated: HashMap<String, (String, Arc<PodInfo>)>,
    /// How many placed pods take part in inter-pod affinity; while zero, nobody needs to look for them.
    pods_with_terms: usize,
}

impl Cluster {
    /// The nodes that exist, with their positions; positions are stable until a node is removed.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeInfo> {
        self.nodes.iter().filter(|info| info.node.is_some())
    }

    /// All entries by position, among them ones without a node.
    pub fn entries(&self) -> &[NodeInfo] {
        &self.nodes
    }

    /// One node.
    pub fn node(&self, name: &str) -> Option<&NodeInfo> {
        self.index.get(name).map(|position| &self.nodes[*position])
    }

    /// One node, to try changes on a copy of the picture.
    pub fn node_mut(&mut self, name: &str) -> Option<&mut NodeInfo> {
        self.index.get(name).map(|position| &mut self.nodes[*position])
    }

    /// How many nodes exist.
    pub fn node_count(&self) -> usize {
        self.nodes().count()
    }

    /// Whether any placed pod has affinity terms.
    pub fn has_terms(&self) -> bool {
        self.pods_with_terms > 0
    }

    /// A node appeared or changed.
    pub fn set_node(&mut self, node: Arc<Node>) {
        let name = kind::name(node.as_ref()).to_owned();
        self.entry(&name).set_node(node);
    }

    /// A node is gone. Its pods stay known until they are gone too.
    pub fn remove_node(&mut self, name: &str) {
        if let Some(info) = self.node_mut(name) {
            info.node = None;
            self.drop_if_unused(name);
        }
    }

    /// The API shows the pod bound to a node: this confirms or corrects what was assumed.
    pub fn confirm(&mut self, pod: Arc<PodInfo>, node: &str) {
        self.remove_pod(pod.uid());
        self.place(pod, node, false);
    }

    /// The scheduler has chosen a node for the pod.
    pub fn assume(&mut self, pod: Arc<PodInfo>, node: &str) {
        self.remove_pod(pod.uid());
        self.place(pod, node, true);
    }

    /// The pod's binding failed; no effect if the API has confirmed it meanwhile.
    pub fn forget(&mut self, uid: &str) {
        if self.placements.get(uid).is_some_and(|placement| placement.assumed) {
            self.remove_pod(uid);
        }
    }

    /// Whether the pod has a node, assumed or confirmed.
    pub fn is_placed(&self, uid: &str) -> bool {
        self.placements.contains_key(uid)
    }

    /// The pod is gone or has ended.
    pub fn remove_pod(&mut self, uid: &str) {
        self.nominated.remove(uid);
        let Some(placement) = self.placements.remove(uid) else { return };
        if placement.has_terms {
            self.pods_with_terms -= 1;
        }
        if let Some(info) = self.node_mut(&placement.node) {
            info.remove(uid);
        }
        self.drop_if_unused(&placement.node);
    }

    /// The pod waits for room on a node.
    pub fn nominate(&mut self, pod: Arc<PodInfo>, node: &str) {
        self.nominated.insert(pod.uid().to_owned(), (node.to_owned(), pod));
    }

    /// The pod waits no longer.
    pub fn denominate(&mut self, uid: &str) {
        self.nominated.remove(uid);
    }

    /// Pods waiting for room on a node that are at least as important as `pod`.
    pub fn nominated_before<'a>(
        &'a self,
        node: &'a str,
        pod: &'a PodInfo,
    ) -> impl Iterator<Item = &'a Arc<PodInfo>> {
        self.nominated
            .values()
            .filter(move |(at, other)| {
                at == node && other.priority() >= pod.priority() && other.uid() != pod.uid()
            })
            .map(|(_, other)| other)
    }

    fn place(&mut self, pod: Arc<PodInfo>, node: &str, assumed: bool) {
        let has_terms = pod.has_terms();
        self.pods_with_terms += usize::from(has_terms);
        self.placements.insert(pod.uid().to_owned(), Placement { node: node.to_owned(), assumed, has_terms });
        self.entry(node).add(pod);
    }

    fn entry(&mut self, name: &str) -> &mut NodeInfo {
        let position = match self.index.get(name) {
            Some(position) => *position,
            None => {
                self.index.insert(name.to_owned(), self.nodes.len());
                self.nodes.push(NodeInfo { name: name.to_owned(), ..Default::default() });
                self.nodes.len() - 1
            }
        };
        &mut self.nodes[position]
    }

    fn drop_if_unused(&mut self, name: &str) {
        let Some(position) = self.index.get(name).copied() else { return };
        let info = &self.nodes[position];
        if info.node.is_some() || !info.pods.is_empty() {
            return;
        }
        self.index.remove(name);
        self.nodes.swap_remove(position);
        if let Some(moved) = self.nodes.get(position) {
            self.index.insert(moved.name.clone(), position);
        }
    }
}
