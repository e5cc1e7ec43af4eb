//! Nodes that came so lately that the scheduler may not have tried them for the pods that wait.

use std::time::Duration;

use k8s_openapi::{
    api::core::v1::{Node, Pod},
    apimachinery::pkg::api::resource::Quantity,
    jiff::Timestamp,
};
use kube::{Api, Client, ResourceExt as _, api::ListParams};

use super::growth::{amount, requests};
use crate::growth::{Amounts, NewNode};

/// For how long a node is new. The scheduler tries waiting pods within moments of a node's coming.
const NEW: Duration = Duration::from_secs(10);

/// The new nodes of a cluster with what they have free.
///
/// # Errors
/// If the cluster's API does not answer.
pub(super) async fn new_nodes(inside: &Client, now: Timestamp) -> Result<Vec<NewNode>, kube::Error> {
    let nodes: Api<Node> = Api::all(inside.clone());
    let pods: Api<Pod> = Api::all(inside.clone());
    let mut new = Vec::new();
    for node in nodes.list(&ListParams::default()).await?.into_iter().filter(|node| is_new(node, now)) {
        let selector = format!("spec.nodeName={}", node.name_any());
        let placed = pods.list(&ListParams::default().fields(&selector)).await?;
        new.push(open(&node, &placed.items));
    }
    Ok(new)
}

/// Whether a node takes pods, and has done so for a short time only.
fn is_new(node: &Node, now: Timestamp) -> bool {
    let status = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let ready = status.into_iter().find(|condition| condition.type_ == "Ready" && condition.status == "True");
    let since = ready.and_then(|ready| ready.last_transition_time.as_ref());
    let age = since.map(|since| now.duration_since(since.0));
    let closed = node.spec.as_ref().is_some_and(|spec| spec.unschedulable == Some(true));
    !closed && age.and_then(|age| Duration::try_from(age).ok()).is_some_and(|age| age < NEW)
}

fn open(node: &Node, placed: &[Pod]) -> NewNode {
    let allocatable = node.status.as_ref().and_then(|status| status.allocatable.clone()).unwrap_or_default();
    let number = |(name, Quantity(text)): (String, Quantity)| (name.clone(), amount(&name, &text));
    let mut free: Amounts = allocatable.into_iter().map(number).collect();
    for pod in placed.iter().filter(|pod| !has_ended(pod)) {
        for (resource, used) in requests(&pod.spec.clone().unwrap_or_default()) {
            if let Some(has) = free.get_mut(&resource) {
                *has = has.saturating_sub(used);
            }
        }
    }
    let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    NewNode {
        free,
        labels: node.metadata.labels.clone().unwrap_or_default(),
        taints: taints
            .filter(|taint| taint.effect != "PreferNoSchedule")
            .map(|taint| taint.key.clone())
            .collect(),
    }
}

fn has_ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node(since: &str, status: &str) -> Node {
        let value = json!({"metadata": {"name": "n"}, "spec": {"taints": [
                {"key": "a", "effect": "NoSchedule"}, {"key": "b", "effect": "PreferNoSchedule"}]},
            "status": {"allocatable": {"cpu": "4", "drystone.dev/gpu": "2"},
                "conditions": [{"type": "Ready", "status": status, "lastTransitionTime": since}]}});
        serde_json::from_value(value).expect("a node")
    }

    #[test]
    fn nodes_are_new_for_a_while() {
        let now: Timestamp = "2026-01-01T00:00:10Z".parse().expect("a time");
        assert!(is_new(&node("2026-01-01T00:00:05Z", "True"), now));
        assert!(!is_new(&node("2026-01-01T00:00:00Z", "True"), now));
        assert!(!is_new(&node("2026-01-01T00:00:05Z", "False"), now));
    }

    #[test]
    fn what_is_free_is_what_pods_left() {
        let pod = |phase: &str| -> Pod {
            serde_json::from_value(json!({"status": {"phase": phase}, "spec": {"containers": [
                {"name": "c", "resources": {"requests": {"cpu": "500m", "drystone.dev/gpu": "1"}}}]}}))
            .expect("a pod")
        };
        let open = open(&node("2026-01-01T00:00:05Z", "True"), &[pod("Running"), pod("Succeeded")]);
        assert_eq!((open.free["cpu"], open.free["drystone.dev/gpu"]), (3500, 1));
        assert_eq!(open.taints, ["a"]);
    }
}
