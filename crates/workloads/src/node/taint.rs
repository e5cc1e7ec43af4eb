//! The taints that a node's condition asks for. Pure.

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Node, Taint},
    apimachinery::pkg::apis::meta::v1::Time,
};

use super::health::condition;
use crate::scheduler::taints::{NOT_READY, UNREACHABLE, UNSCHEDULABLE};

/// Conditions that keep new pods off while they hold.
const PRESSURES: [(&str, &str); 4] = [
    ("MemoryPressure", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "node.kubernetes.io/pid-pressure"),
    ("NetworkUnavailable", "node.kubernetes.io/network-unavailable"),
];

/// How a node's readiness stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// Ready.
    Ready,
    /// The node says that it is not ready.
    NotReady,
    /// The node has gone silent.
    Unreachable,
}

impl Readiness {
    /// Of a node; one that never reported is not ready.
    pub fn of(node: &Node) -> Self {
        match condition(node, "Ready").map(|ready| ready.status.as_str()) {
            Some("True") => Self::Ready,
            Some("Unknown") => Self::Unreachable,
            _ => Self::NotReady,
        }
    }

    fn taint(self) -> Option<&'static str> {
        match self {
            Self::Ready => None,
            Self::NotReady => Some(NOT_READY),
            Self::Unreachable => Some(UNREACHABLE),
        }
    }
}

/// Whether pods may be driven off nodes that are not ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Eviction {
    /// Yes, beginning with this node now.
    Begin,
    /// Not this node yet, but if it has begun it goes on.
    Continue,
    /// No: everything is down, which says more about the network than about the nodes.
    Halt,
}

/// Whether the node has already been given the taint that drives pods off.
pub fn is_evicting(node: &Node) -> bool {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    taints
        .iter()
        .any(|taint| taint.effect == "NoExecute" && (taint.key == NOT_READY || taint.key == UNREACHABLE))
}

/// The node's taints as they should be. Those of users and other controllers stay as they are.
pub fn wanted(node: &Node, eviction: Eviction, now: Timestamp) -> Vec<Taint> {
    let spec = node.spec.clone().unwrap_or_default();
    let present = spec.taints.unwrap_or_default();
    let readiness = Readiness::of(node);
    let mut ours: Vec<(&str, &str)> = Vec::new();
    ours.extend(readiness.taint().map(|key| (key, "NoSchedule")));
    for (type_, key) in PRESSURES {
        if condition(node, type_).is_some_and(|condition| condition.status == "True") {
            ours.push((key, "NoSchedule"));
        }
    }
    if spec.unschedulable.unwrap_or(false) {
        ours.push((UNSCHEDULABLE, "NoSchedule"));
    }
    let evict = match eviction {
        Eviction::Begin => true,
        Eviction::Continue => is_evicting(node),
        Eviction::Halt => false,
    };
    if evict {
        ours.extend(readiness.taint().map(|key| (key, "NoExecute")));
    }
    let mut wanted: Vec<Taint> = present
        .iter()
        .filter(|taint| !is_managed(taint) || ours.contains(&(taint.key.as_str(), taint.effect.as_str())))
        .cloned()
        .collect();
    for (key, effect) in ours {
        if !wanted.iter().any(|taint| taint.key == key && taint.effect == effect) {
            wanted.push(Taint {
                key: key.into(),
                effect: effect.into(),
                value: None,
                time_added: Some(Time(now)),
            });
        }
    }
    wanted
}

/// Whether this controller alone decides about a taint.
fn is_managed(taint: &Taint) -> bool {
    let key = taint.key.as_str();
    match taint.effect.as_str() {
        "NoSchedule" => {
            [NOT_READY, UNREACHABLE, UNSCHEDULABLE].contains(&key)
                || PRESSURES.iter().any(|(_, managed)| *managed == key)
        }
        "NoExecute" => [NOT_READY, UNREACHABLE].contains(&key),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{NodeCondition, NodeSpec, NodeStatus};

    use super::*;

    fn node(conditions: &[(&str, &str)], taints: &[(&str, &str)], cordoned: bool) -> Node {
        let conditions = conditions
            .iter()
            .map(|(type_, status)| NodeCondition {
                type_: (*type_).into(),
                status: (*status).into(),
                ..Default::default()
            })
            .collect();
        let taints = taints
            .iter()
            .map(|(key, effect)| Taint { key: (*key).into(), effect: (*effect).into(), ..Default::default() })
            .collect();
        Node {
            spec: Some(NodeSpec {
                taints: Some(taints),
                unschedulable: Some(cordoned),
                ..Default::default()
            }),
            status: Some(NodeStatus { conditions: Some(conditions), ..Default::default() }),
            ..Default::default()
        }
    }

    fn shown(node: &Node, eviction: Eviction) -> Vec<String> {
        let wanted = wanted(node, eviction, Timestamp::UNIX_EPOCH);
        wanted
            .iter()
            .map(|t| format!("{}:{}", t.key.trim_start_matches("node.kubernetes.io/"), t.effect))
            .collect()
    }

    #[test]
    fn conditions_become_taints_and_foreign_ones_stay() {
        let healthy = node(&[("Ready", "True")], &[("gpu", "NoSchedule"), (NOT_READY, "NoSchedule")], false);
        assert_eq!(shown(&healthy, Eviction::Begin), ["gpu:NoSchedule"]);
        let silent =
            node(&[("Ready", "Unknown")], &[(NOT_READY, "NoExecute"), (NOT_READY, "NoSchedule")], false);
        assert_eq!(shown(&silent, Eviction::Begin), ["unreachable:NoSchedule", "unreachable:NoExecute"]);
        assert_eq!(shown(&silent, Eviction::Continue), ["unreachable:NoSchedule", "unreachable:NoExecute"]);
        assert_eq!(shown(&silent, Eviction::Halt), ["unreachable:NoSchedule"]);
        let fresh = node(&[("Ready", "False")], &[], false);
        assert_eq!(shown(&fresh, Eviction::Continue), ["not-ready:NoSchedule"]);
        let pressed =
            node(&[("Ready", "True"), ("DiskPressure", "True"), ("MemoryPressure", "False")], &[], true);
        assert_eq!(
            shown(&pressed, Eviction::Begin),
            ["disk-pressure:NoSchedule", "unschedulable:NoSchedule"]
        );
    }

    #[test]
    fn taints_that_stay_keep_their_time() {
        let mut silent = node(&[("Ready", "Unknown")], &[(UNREACHABLE, "NoExecute")], false);
        let since = Some(Time(Timestamp::from_second(77).unwrap()));
        silent.spec.as_mut().unwrap().taints.as_mut().unwrap()[0].time_added.clone_from(&since);
        let wanted = wanted(&silent, Eviction::Begin, Timestamp::UNIX_EPOCH);
        assert_eq!(wanted[0].time_added, since);
    }
}
