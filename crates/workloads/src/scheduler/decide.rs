//! Choosing a node for a pod. Pure: the picture of the cluster in, a node or the reasons against every node out.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use super::{
    cluster::{Cluster, NodeInfo},
    filter::{self, Prepared, Rejection, Rule},
    pod_info::{NamespaceLabels, PodInfo},
    score,
    volumes::VolumeNeeds,
};

/// In clusters up to this size every node is looked at.
const ALWAYS_SEARCHED: usize = 100;

/// Why a pod fits nowhere now.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Misfit {
    /// Number of nodes.
    pub nodes: usize,
    /// The reason against each node.
    pub rejections: BTreeMap<String, Rejection>,
    /// A reason against all nodes at once.
    pub general: Option<String>,
}

impl Misfit {
    /// A reason that has nothing to do with any single node.
    pub fn general(nodes: usize, reason: String) -> Self {
        Self { nodes, general: Some(reason), ..Self::default() }
    }

    /// The summary that users know: `0/3 nodes are available: 1 node(s) were unschedulable, 2 Insufficient cpu.`
    pub fn summary(&self) -> String {
        if self.nodes == 0 && self.general.is_none() {
            return "no nodes available to schedule pods".into();
        }
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for reason in self.rejections.values().flat_map(|rejection| &rejection.reasons) {
            *counts.entry(reason.as_ref()).or_default() += 1;
        }
        let mut texts: Vec<Cow<'_, str>> =
            counts.iter().map(|(reason, count)| format!("{count} {reason}").into()).collect();
        texts.sort();
        texts.extend(self.general.as_deref().map(Cow::from));
        format!("0/{} nodes are available: {}.", self.nodes, texts.join(", "))
    }

    /// The rules that stand in the way.
    pub fn rules(&self) -> BTreeSet<Rule> {
        let mut rules: BTreeSet<Rule> = self.rejections.values().map(|rejection| rejection.rule).collect();
        if self.general.is_some() {
            rules.insert(Rule::Volumes);
        }
        rules
    }
}

/// Where the search begins and how ties are broken. Changes with every pod, so that nodes are used evenly.
#[derive(Debug, Clone, Copy, Default)]
pub struct Turn(pub usize);

/// Chooses the best node for a pod.
///
/// In large clusters the search stops once enough possible nodes are found.
///
/// # Errors
/// The reasons against every node.
pub fn decide(
    cluster: &Cluster,
    pod: &PodInfo,
    volumes: &VolumeNeeds,
    namespaces: NamespaceLabels<'_>,
    turn: Turn,
) -> Result<String, Misfit> {
    let prepared = Prepared::new(cluster, pod, volumes, namespaces);
    let possible = possible_nodes(cluster, &prepared, turn)?;
    if let [only] = possible.as_slice() {
        return Ok(only.name.clone());
    }
    let scores = score::scores(cluster, &prepared, &possible);
    let best = scores.iter().copied().max().unwrap_or(0);
    let best: Vec<&NodeInfo> =
        possible.iter().zip(&scores).filter(|(_, score)| **score == best).map(|(node, _)| *node).collect();
    best.get(turn.0 % best.len().max(1)).map(|node| node.name.clone()).ok_or_else(Misfit::default)
}

fn possible_nodes<'a>(
    cluster: &'a Cluster,
    prepared: &Prepared<'_>,
    turn: Turn,
) -> Result<Vec<&'a NodeInfo>, Misfit> {
    let entries = cluster.entries();
    let enough = enough(entries.len());
    // Only where the search ends early must it begin elsewhere each time.
    let start = if entries.len() > enough { turn.0.wrapping_mul(enough) % entries.len() } else { 0 };
    let (before, after) = entries.split_at(start);
    let mut possible = Vec::new();
    let mut misfit = Misfit::default();
    for node in after.iter().chain(before).filter(|info| info.node.is_some()) {
        misfit.nodes += 1;
        match filter::check(cluster, prepared, node) {
            Ok(()) => possible.push(node),
            Err(rejection) => {
                misfit.rejections.insert(node.name.clone(), rejection);
            }
        }
        if possible.len() >= enough {
            break;
        }
    }
    if possible.is_empty() { Err(misfit) } else { Ok(possible) }
}

/// How many possible nodes are compared in a cluster of that size: all, or a share that shrinks from 50 to 5 percent.
fn enough(nodes: usize) -> usize {
    if nodes <= ALWAYS_SEARCHED {
        return ALWAYS_SEARCHED.max(1);
    }
    let percent = 50usize.saturating_sub(nodes / 125).max(5);
    (nodes * percent / 100).max(ALWAYS_SEARCHED)
}
