//! Topology spread: keeping a pod's kind evenly distributed over places.

use std::collections::HashMap;

use kube::core::Selector;

use super::{
    cluster::{Cluster, NodeInfo},
    node_selector,
    pod_info::{PodInfo, SpreadConstraint},
    taints::untolerated,
};
use crate::{kind, owner};

/// How one constraint stands.
#[derive(Debug)]
struct Counts {
    /// Position in [`PodInfo::spread`].
    constraint: usize,
    /// Matching pods by place.
    places: HashMap<String, i64>,
    /// Pods in the emptiest place.
    least: i64,
    /// Whether the pod itself would count.
    counts_itself: bool,
}

/// How the pod's constraints stand before it is placed.
#[derive(Debug, Default)]
pub struct SpreadState {
    required: Vec<Counts>,
    preferred: Vec<Counts>,
}

/// Why a node is not possible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conflict {
    /// The node has no such label.
    MissingLabel,
    /// The place would become too full.
    Skew,
}

impl SpreadState {
    /// Counts, if the pod has constraints.
    pub fn new(cluster: &Cluster, pod: &PodInfo) -> Self {
        let mut state = Self::default();
        for required in [true, false] {
            let chosen: Vec<usize> =
                (0..pod.spread.len()).filter(|n| pod.spread[*n].required == required).collect();
            let counts = chosen.iter().map(|n| count(cluster, pod, *n, &chosen)).collect();
            if required {
                state.required = counts;
            } else {
                state.preferred = counts;
            }
        }
        state
    }

    /// Whether the required constraints hold with the pod on the node.
    ///
    /// # Errors
    /// The first conflict.
    pub fn check(&self, pod: &PodInfo, node: &NodeInfo) -> Result<(), Conflict> {
        for counts in &self.required {
            let constraint = &pod.spread[counts.constraint];
            let place = node.label(&constraint.topology_key).ok_or(Conflict::MissingLabel)?;
            let here = counts.places.get(place).copied().unwrap_or(0);
            if here + i64::from(counts.counts_itself) - counts.least > constraint.max_skew {
                return Err(Conflict::Skew);
            }
        }
        Ok(())
    }

    /// Whether there is anything to prefer.
    pub fn has_preferences(&self) -> bool {
        !self.preferred.is_empty()
    }

    /// How crowded the node's places are by the preferred constraints; lower is better. `None`: a label is missing.
    pub fn crowding(&self, pod: &PodInfo, node: &NodeInfo) -> Option<i64> {
        let mut crowding = 0;
        for counts in &self.preferred {
            let constraint = &pod.spread[counts.constraint];
            let place = node.label(&constraint.topology_key)?;
            let here = counts.places.get(place).copied().unwrap_or(0);
            // Few places weigh more than many: being unevenly spread over three zones is worse than over ninety hosts.
            let weight = weight(counts.places.len());
            crowding += here * weight + (constraint.max_skew - 1);
        }
        Some(crowding)
    }
}

/// Grows slowly with the number of places, in hundredths of ln(places + 2).
fn weight(places: usize) -> i64 {
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)]
    let weight = (100.0 * (places as f64 + 2.0).ln()) as i64;
    weight
}

fn count(cluster: &Cluster, pod: &PodInfo, index: usize, siblings: &[usize]) -> Counts {
    let constraint = &pod.spread[index];
    let mut places: HashMap<String, i64> = HashMap::new();
    for node in cluster.nodes() {
        let has_all_labels = siblings.iter().all(|n| node.label(&pod.spread[*n].topology_key).is_some());
        let Some(place) = node.label(&constraint.topology_key) else { continue };
        if has_all_labels && counts_node(constraint, pod, node) {
            *places.entry(place.to_owned()).or_default() += matching_pods(&constraint.selector, pod, node);
        }
    }
    let too_few = constraint.min_domains.is_some_and(|min| places.len() < min);
    let least = if too_few { 0 } else { places.values().copied().min().unwrap_or(0) };
    let counts_itself = owner::matches(&constraint.selector, pod.pod.as_ref());
    Counts { constraint: index, places, least, counts_itself }
}

/// Whether the node is one the pod could be on as far as the constraint's policies say.
fn counts_node(constraint: &SpreadConstraint, pod: &PodInfo, node: &NodeInfo) -> bool {
    let admitted = !constraint.honor_affinity
        || pod
            .pod
            .spec
            .as_ref()
            .is_none_or(|spec| node_selector::matches_pod(spec, &node.name, node.labels()));
    let tolerated = !constraint.honor_taints
        || untolerated(&node.taints, pod.tolerations(), &["NoSchedule", "NoExecute"]).is_none();
    admitted && tolerated
}

fn matching_pods(selector: &Selector, pod: &PodInfo, node: &NodeInfo) -> i64 {
    let namespace = kind::namespace(pod.pod.as_ref());
    let matching = node.pods.iter().filter(|other| {
        let other = other.pod.as_ref();
        kind::namespace(other) == namespace && !kind::is_deleting(other) && owner::matches(selector, other)
    });
    i64::try_from(matching.count()).unwrap_or(i64::MAX)
}

/// How crowded the node is with pods of the same controller: how many share the node and, if nodes have zones, the zone.
///
/// For pods without constraints of their own: replicas are spread over hosts first of all.
#[derive(Debug, Default)]
pub struct DefaultSpread {
    zones: HashMap<String, i64>,
    nodes: HashMap<String, i64>,
}

/// Label for the zone of a node.
const ZONE: &str = "topology.kubernetes.io/zone";

impl DefaultSpread {
    /// Counts pods of the same controller.
    pub fn new(cluster: &Cluster, pod: &PodInfo) -> Self {
        let mut spread = Self::default();
        if pod.controller.is_empty() {
            return spread;
        }
        for node in cluster.nodes() {
            let Some(count) = node.by_controller.get(&pod.controller) else { continue };
            let count = i64::from(*count);
            *spread.nodes.entry(node.name.clone()).or_default() += count;
            if let Some(zone) = node.label(ZONE) {
                *spread.zones.entry(zone.to_owned()).or_default() += count;
            }
        }
        spread
    }

    /// Crowding in the units of the caller's scale: each pod on the node weighs five, each in the zone three.
    pub fn crowding(&self, node: &NodeInfo) -> i64 {
        let here = self.nodes.get(&node.name).copied().unwrap_or(0);
        let zone = node.label(ZONE).and_then(|zone| self.zones.get(zone)).copied().unwrap_or(0);
        here * 5 + zone * 3
    }
}
