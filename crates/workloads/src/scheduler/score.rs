//! Scoring: which of the possible nodes is the best.
//!
//! Every criterion gives 0 to 100 per node, normalized over the possible nodes, and has a weight.

use super::{
    cluster::{Cluster, NodeInfo},
    filter::Prepared,
    node_selector,
    pod_info::PodInfo,
    spread::DefaultSpread,
    taints::tolerates,
};

/// The best mark of a criterion.
const BEST: i64 = 100;
/// An image smaller than this does not matter.
const SMALL_IMAGE: i64 = 23 * 1024 * 1024;
/// Images larger than this (per container) do not matter more.
const LARGE_IMAGE: i64 = 1000 * 1024 * 1024;

/// Weights of the criteria, as Kubernetes' default profile sets them.
mod weight {
    pub(super) const LEAST_ALLOCATED: i64 = 1;
    pub(super) const BALANCED: i64 = 1;
    pub(super) const IMAGES: i64 = 1;
    pub(super) const NODE_AFFINITY: i64 = 2;
    pub(super) const POD_AFFINITY: i64 = 2;
    pub(super) const SPREAD: i64 = 2;
    pub(super) const TAINTS: i64 = 3;
}

/// Total scores, in the order of `nodes`. Higher is better.
pub fn scores(cluster: &Cluster, prepared: &Prepared<'_>, nodes: &[&NodeInfo]) -> Vec<i64> {
    let pod = prepared.pod;
    let mut totals = vec![0; nodes.len()];
    let mut add = |weight: i64, marks: Vec<i64>| {
        for (total, mark) in totals.iter_mut().zip(marks) {
            *total += weight * mark;
        }
    };
    add(weight::LEAST_ALLOCATED, each(nodes, |node| least_allocated(pod, node)));
    add(weight::BALANCED, each(nodes, |node| balanced(pod, node)));
    add(weight::IMAGES, each(nodes, |node| images(pod, node, nodes)));
    add(weight::TAINTS, fewest(each(nodes, |node| unwanted_taints(pod, node))));
    if let Some(spec) = &pod.pod.spec
        && spec.affinity.is_some()
    {
        add(
            weight::NODE_AFFINITY,
            most(each(nodes, |n| node_selector::preference(spec, &n.name, n.labels()))),
        );
    }
    if pod.has_terms() || cluster.has_terms() {
        add(weight::POD_AFFINITY, between(&each(nodes, |node| prepared.affinity.preference(node))));
    }
    add(weight::SPREAD, spread(cluster, prepared, nodes));
    totals
}

fn each(nodes: &[&NodeInfo], mark: impl Fn(&NodeInfo) -> i64) -> Vec<i64> {
    nodes.iter().map(|node| mark(node)).collect()
}

/// Scales so that the largest value becomes the best mark.
fn most(values: Vec<i64>) -> Vec<i64> {
    let largest = values.iter().copied().max().unwrap_or(0);
    if largest <= 0 {
        return vec![0; values.len()];
    }
    values.into_iter().map(|value| value.max(0) * BEST / largest).collect()
}

/// Scales so that zero becomes the best mark and the largest value the worst.
fn fewest(values: Vec<i64>) -> Vec<i64> {
    let largest = values.iter().copied().max().unwrap_or(0);
    if largest <= 0 {
        return vec![BEST; values.len()];
    }
    values.into_iter().map(|value| (largest - value) * BEST / largest).collect()
}

/// Scales so that the smallest value becomes the worst mark and the largest the best; nothing if all are equal.
fn between(values: &[i64]) -> Vec<i64> {
    let (Some(smallest), Some(largest)) = (values.iter().min(), values.iter().max()) else {
        return Vec::new();
    };
    let range = largest - smallest;
    if range == 0 {
        return vec![0; values.len()];
    }
    values.iter().map(|value| (value - smallest) * BEST / range).collect()
}

/// CPU and memory asked for with the pod on the node, and what there is.
fn usage(pod: &PodInfo, node: &NodeInfo) -> [(i64, i64); 2] {
    let sum = |a: i64, b: i64| a.saturating_add(b);
    [
        (sum(node.compared.0, pod.compared.0), node.allocatable.milli_cpu),
        (sum(node.compared.1, pod.compared.1), node.allocatable.memory),
    ]
}

/// Prefers nodes with much left.
fn least_allocated(pod: &PodInfo, node: &NodeInfo) -> i64 {
    let marks = usage(pod, node).map(|(used, all)| {
        if all <= 0 || used >= all { 0 } else { i128::from(all - used) * i128::from(BEST) / i128::from(all) }
    });
    i64::try_from(marks.iter().sum::<i128>() / 2).unwrap_or(0)
}

/// Prefers nodes whose CPU and memory are used to the same degree, so that neither is stranded.
fn balanced(pod: &PodInfo, node: &NodeInfo) -> i64 {
    let per_mille = usage(pod, node).map(|(used, all)| {
        if all <= 0 { 1000 } else { (i128::from(used) * 1000 / i128::from(all)).min(1000) }
    });
    // The standard deviation of two values is half of their distance.
    let distance = (per_mille[0] - per_mille[1]).abs();
    i64::try_from((2000 - distance) * i128::from(BEST) / 2000).unwrap_or(0)
}

/// Prefers nodes that have the images already; an image that many nodes have counts more, so that popular images do not
/// attract everything to one node.
fn images(pod: &PodInfo, node: &NodeInfo, nodes: &[&NodeInfo]) -> i64 {
    if node.images.is_empty() {
        return 0;
    }
    let Some(spec) = &pod.pod.spec else { return 0 };
    let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
    let total: i64 = spec
        .containers
        .iter()
        .filter_map(|container| {
            let image = normalized_image(container.image.as_deref()?);
            let size = node.images.get(image.as_str())?;
            let holders = nodes.iter().filter(|other| other.images.contains_key(image.as_str())).count();
            Some(size.saturating_mul(count(holders)) / count(nodes.len()).max(1))
        })
        .sum();
    let limit = LARGE_IMAGE.saturating_mul(count(spec.containers.len()).max(1));
    (total.clamp(SMALL_IMAGE, limit) - SMALL_IMAGE) * BEST / (limit - SMALL_IMAGE)
}

/// An image name without a tag means the tag `latest`.
fn normalized_image(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    if last.contains(':') || last.contains('@') { image.to_owned() } else { format!("{image}:latest") }
}

/// Taints that ask pods to stay away without forbidding it.
fn unwanted_taints(pod: &PodInfo, node: &NodeInfo) -> i64 {
    let unwanted = node.taints.iter().filter(|taint| {
        taint.effect == "PreferNoSchedule"
            && !pod.tolerations().iter().any(|toleration| tolerates(toleration, taint))
    });
    i64::try_from(unwanted.count()).unwrap_or(i64::MAX)
}

fn spread(cluster: &Cluster, prepared: &Prepared<'_>, nodes: &[&NodeInfo]) -> Vec<i64> {
    let pod = prepared.pod;
    if prepared.spread.has_preferences() {
        let crowding: Vec<_> = nodes.iter().map(|node| prepared.spread.crowding(pod, node)).collect();
        let worst = crowding.iter().flatten().copied().max().unwrap_or(0);
        // A node without the label is as bad as the worst with it.
        return fewest(crowding.into_iter().map(|crowding| crowding.unwrap_or(worst)).collect());
    }
    if !pod.spread.is_empty() {
        return vec![0; nodes.len()];
    }
    let default = DefaultSpread::new(cluster, pod);
    fewest(each(nodes, |node| default.crowding(node)))
}
