//! Inter-pod affinity: pods that must, or would like to, share a place with other pods or avoid them.
//!
//! Everything that depends on all pods is computed once per scheduled pod; a node is then judged by its labels alone.

use std::collections::{HashMap, HashSet};

use super::{
    cluster::{Cluster, NodeInfo},
    pod_info::{AffinityTerm, NamespaceLabels, PodInfo},
};

/// Weight of a required term of an existing pod that speaks of the scheduled pod, when nodes are compared.
const REQUIRED_TERM_WEIGHT: i64 = 1;

/// A place: a label of nodes, and its value.
type Place = (String, String);

/// What the pods of the cluster mean for one pod to be scheduled.
#[derive(Debug, Default)]
pub struct AffinityState {
    /// Places that pods already there keep the pod out of.
    kept_out: HashSet<Place>,
    /// Places with a pod that satisfies all required terms.
    near: HashSet<Place>,
    /// Whether the pod satisfies its own required terms, so that it may be the first of its kind.
    satisfies_itself: bool,
    /// Places with a pod that the pod must avoid.
    avoided: HashSet<Place>,
    /// Preference for places.
    preferred: HashMap<Place, i64>,
}

/// Why a node is not possible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conflict {
    /// No pod of the wanted kind is there.
    Affinity,
    /// A pod to be avoided is there.
    AntiAffinity,
    /// A pod there wants to avoid this one.
    ExistingAntiAffinity,
}

impl AffinityState {
    /// Looks at all pods, if that is needed at all.
    pub fn new(cluster: &Cluster, pod: &PodInfo, namespaces: NamespaceLabels<'_>) -> Self {
        let mut state = Self::default();
        if !pod.has_terms() && !cluster.has_terms() {
            return state;
        }
        state.satisfies_itself = pod.affinity.iter().all(|term| term.matches(&pod.pod, namespaces));
        for node in cluster.nodes() {
            for other in &node.pods {
                state.look_at(node, pod, other, namespaces);
            }
        }
        state
    }

    fn look_at(&mut self, node: &NodeInfo, pod: &PodInfo, other: &PodInfo, namespaces: NamespaceLabels<'_>) {
        let speaks_of = |term: &AffinityTerm, whom: &PodInfo| term.matches(&whom.pod, namespaces);
        for term in other.anti_affinity.iter().filter(|term| speaks_of(term, pod)) {
            self.kept_out.extend(place(node, term));
        }
        if !pod.affinity.is_empty() && pod.affinity.iter().all(|term| speaks_of(term, other)) {
            self.near.extend(pod.affinity.iter().filter_map(|term| place(node, term)));
        }
        for term in pod.anti_affinity.iter().filter(|term| speaks_of(term, other)) {
            self.avoided.extend(place(node, term));
        }
        for weighted in pod.preferences.iter().filter(|weighted| speaks_of(&weighted.term, other)) {
            self.prefer(node, &weighted.term, weighted.weight);
        }
        for weighted in other.preferences.iter().filter(|weighted| speaks_of(&weighted.term, pod)) {
            self.prefer(node, &weighted.term, weighted.weight);
        }
        for term in other.affinity.iter().filter(|term| speaks_of(term, pod)) {
            self.prefer(node, term, REQUIRED_TERM_WEIGHT);
        }
    }

    fn prefer(&mut self, node: &NodeInfo, term: &AffinityTerm, weight: i64) {
        if let Some(place) = place(node, term) {
            *self.preferred.entry(place).or_default() += weight;
        }
    }

    /// Whether the pod may go to the node.
    ///
    /// # Errors
    /// The first conflict.
    pub fn check(&self, pod: &PodInfo, node: &NodeInfo) -> Result<(), Conflict> {
        let at = |places: &HashSet<Place>, term: &AffinityTerm| {
            place(node, term).is_some_and(|place| places.contains(&place))
        };
        if !pod.affinity.iter().all(|term| at(&self.near, term)) {
            let first_of_its_kind = self.near.is_empty()
                && self.satisfies_itself
                && pod.affinity.iter().all(|term| node.label(&term.topology_key).is_some());
            if !first_of_its_kind {
                return Err(Conflict::Affinity);
            }
        }
        if pod.anti_affinity.iter().any(|term| at(&self.avoided, term)) {
            return Err(Conflict::AntiAffinity);
        }
        let kept_out = self.kept_out.iter().any(|(key, value)| node.label(key) == Some(value));
        if kept_out { Err(Conflict::ExistingAntiAffinity) } else { Ok(()) }
    }

    /// How much the pod, and those there, would like it to go to the node.
    pub fn preference(&self, node: &NodeInfo) -> i64 {
        let here = self.preferred.iter().filter(|((key, value), _)| node.label(key) == Some(value));
        here.map(|(_, weight)| weight).sum()
    }
}

fn place(node: &NodeInfo, term: &AffinityTerm) -> Option<Place> {
    node.label(&term.topology_key).map(|value| (term.topology_key.clone(), value.to_owned()))
}
