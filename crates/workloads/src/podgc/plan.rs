//! Which pods are garbage. Pure.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use k8s_openapi::api::core::v1::{Node, Pod};
use tokio::time::Instant;

use crate::{kind, node::taint::Readiness, pod};

/// Taint by which an administrator says that a node will not come back by itself.
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

/// Why a pod is garbage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    /// Its node no longer exists.
    Orphaned,
    /// It is being deleted, and its node was declared out of service.
    OutOfService,
    /// It was deleted before it got a node.
    Unscheduled,
    /// It ended, and too many such are kept.
    Terminated,
}

impl Reason {
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Orphaned => "its node no longer exists",
            Self::OutOfService => "its node is out of service",
            Self::Unscheduled => "it was deleted before it was scheduled",
            Self::Terminated => "too many finished pods",
        }
    }
}

/// Nodes that pods name but that are not there, and since when.
pub(super) struct Quarantine {
    period: Duration,
    missing: HashMap<String, Instant>,
}

impl Quarantine {
    pub(super) fn new(period: Duration) -> Self {
        Self { period, missing: HashMap::new() }
    }

    /// Takes note of which nodes are missing now; returns those missing for the whole period.
    pub(super) fn observe(&mut self, pods: &[Arc<Pod>], nodes: &[Arc<Node>], now: Instant) -> Vec<String> {
        let present: HashSet<&str> = nodes.iter().map(|node| kind::name(node.as_ref())).collect();
        let missing: BTreeSet<&str> = pods
            .iter()
            .filter_map(|pod| pod::node_name(pod))
            .filter(|name| !present.contains(name))
            .collect();
        self.missing.retain(|name, _| missing.contains(name.as_str()));
        for name in missing {
            self.missing.entry(name.to_owned()).or_insert(now);
        }
        let period = self.period;
        let mut overdue: Vec<String> = self
            .missing
            .iter()
            .filter(|(_, since)| now.saturating_duration_since(**since) >= period)
            .map(|(name, _)| name.clone())
            .collect();
        overdue.sort();
        overdue
    }
}

/// The pods to remove. `gone` are nodes known not to exist; `threshold` finished pods may stay (0: any number).
pub(super) fn garbage(
    pods: &[Arc<Pod>],
    nodes: &[Arc<Node>],
    gone: &[String],
    threshold: usize,
) -> Vec<(Arc<Pod>, Reason)> {
    let given_up: HashSet<&str> =
        nodes.iter().filter(|node| is_given_up(node)).map(|node| kind::name(node.as_ref())).collect();
    let mut garbage: Vec<(Arc<Pod>, Reason)> = Vec::new();
    let mut finished: Vec<&Arc<Pod>> = Vec::new();
    for pod in pods {
        let deleting = kind::is_deleting(pod.as_ref());
        match pod::node_name(pod) {
            Some(node) if gone.iter().any(|gone| gone == node) => {
                garbage.push((pod.clone(), Reason::Orphaned));
            }
            Some(node) if deleting && given_up.contains(node) => {
                garbage.push((pod.clone(), Reason::OutOfService));
            }
            None if deleting => garbage.push((pod.clone(), Reason::Unscheduled)),
            _ if pod::is_finished(pod) && !deleting => finished.push(pod),
            _ => {}
        }
    }
    if threshold > 0 && finished.len() > threshold {
        finished.sort_by_key(|pod| pod.metadata.creation_timestamp.as_ref().map(|time| time.0));
        let surplus = finished.len() - threshold;
        garbage.extend(finished.into_iter().take(surplus).map(|pod| (pod.clone(), Reason::Terminated)));
    }
    garbage
}

fn is_given_up(node: &Node) -> bool {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    taints.iter().any(|taint| taint.key == OUT_OF_SERVICE) && Readiness::of(node) != Readiness::Ready
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use k8s_openapi::{api::core::v1::PodStatus, apimachinery::pkg::apis::meta::v1::Time};

    use super::*;

    fn pod(name: &str, node: Option<&str>, phase: &str, deleting: bool, created: i64) -> Arc<Pod> {
        let mut pod = crate::pod::tests::test_pod(name, node, false);
        pod.status = Some(PodStatus { phase: Some(phase.into()), ..Default::default() });
        let time = Time(Timestamp::from_second(created).unwrap());
        pod.metadata.creation_timestamp = Some(time.clone());
        pod.metadata.deletion_timestamp = deleting.then_some(time);
        Arc::new(pod)
    }

    #[test]
    fn garbage_is_what_nobody_else_removes() {
        let mut dead: Node =
            serde_json::from_value(serde_json::json!({"metadata": {"name": "dead"}})).unwrap();
        dead.spec = serde_json::from_value(
            serde_json::json!({"taints": [{"key": OUT_OF_SERVICE, "effect": "NoExecute"}]}),
        )
        .unwrap();
        let pods = [
            pod("fine", Some("n1"), "Running", false, 1),
            pod("orphan", Some("gone"), "Running", false, 1),
            pod("waiting", None, "Pending", false, 1),
            pod("unscheduled", None, "Pending", true, 1),
            pod("stuck", Some("dead"), "Running", true, 1),
            pod("still", Some("dead"), "Running", false, 1),
            pod("old", Some("n1"), "Succeeded", false, 1),
            pod("newer", Some("n1"), "Failed", false, 2),
        ];
        let found = garbage(&pods, &[Arc::new(dead)], &["gone".to_owned()], 1);
        let found: Vec<_> = found.iter().map(|(pod, reason)| (kind::name(pod.as_ref()), *reason)).collect();
        assert_eq!(
            found,
            [
                ("orphan", Reason::Orphaned),
                ("unscheduled", Reason::Unscheduled),
                ("stuck", Reason::OutOfService),
                ("old", Reason::Terminated),
            ]
        );
    }

    #[test]
    fn a_node_must_be_missing_for_a_while() {
        let mut quarantine = Quarantine::new(Duration::from_secs(40));
        let pods = [pod("p", Some("n"), "Running", false, 1)];
        let start = Instant::now();
        assert!(quarantine.observe(&pods, &[], start).is_empty());
        let node: Node = serde_json::from_value(serde_json::json!({"metadata": {"name": "n"}})).unwrap();
        assert!(quarantine.observe(&pods, &[Arc::new(node)], start + Duration::from_secs(39)).is_empty());
        assert!(quarantine.observe(&pods, &[], start + Duration::from_secs(41)).is_empty());
        assert_eq!(quarantine.observe(&pods, &[], start + Duration::from_secs(81)), ["n"]);
    }
}
