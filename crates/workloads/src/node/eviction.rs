//! When a pod must leave a node with `NoExecute` taints. Pure.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Node, Pod, Taint, Toleration};

use crate::scheduler::taints::{NOT_READY, UNREACHABLE, tolerates};

/// Until when a pod may stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stay {
    /// For ever, as far as taints go.
    Forever,
    /// Until this time.
    Until(Timestamp),
}

/// Decides from the node's taints and the pod's tolerations.
///
/// `default_seconds` is how long pods that say nothing about it stay on a node that is not ready or unreachable. Time counts
/// from when the taint was added, so that a restart of the controller does not begin anew.
pub fn stay(pod: &Pod, node: &Node, default_seconds: i64, now: Timestamp) -> Stay {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    let tolerations = pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default();
    let limits = taints
        .iter()
        .filter(|taint| taint.effect == "NoExecute")
        .filter_map(|taint| limit(taint, tolerations, default_seconds, now));
    limits.min().map_or(Stay::Forever, Stay::Until)
}

/// Until when one taint lets the pod stay; `None`: for ever.
fn limit(
    taint: &Taint,
    tolerations: &[Toleration],
    default_seconds: i64,
    now: Timestamp,
) -> Option<Timestamp> {
    let since = taint.time_added.as_ref().map_or(now, |time| time.0);
    let after =
        |seconds: i64| since.checked_add(SignedDuration::from_secs(seconds.max(0))).unwrap_or(Timestamp::MAX);
    let matching: Vec<&Toleration> =
        tolerations.iter().filter(|toleration| tolerates(toleration, taint)).collect();
    if matching.is_empty() {
        let by_condition = taint.key == NOT_READY || taint.key == UNREACHABLE;
        return Some(after(if by_condition { default_seconds } else { 0 }));
    }
    // The shortest of the limits counts; a toleration without one sets none.
    matching.iter().filter_map(|toleration| toleration.toleration_seconds).min().map(after)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node(key: &str, since: i64) -> Node {
        let since = Timestamp::from_second(since).unwrap().to_string();
        serde_json::from_value(
            json!({"spec": {"taints": [{"key": key, "effect": "NoExecute", "timeAdded": since},
            {"key": "harmless", "effect": "NoSchedule"}]}}),
        )
        .unwrap()
    }

    fn pod(tolerations: &serde_json::Value) -> Pod {
        serde_json::from_value(json!({"spec": {"containers": [], "tolerations": tolerations}})).unwrap()
    }

    fn until(seconds: i64) -> Stay {
        Stay::Until(Timestamp::from_second(seconds).unwrap())
    }

    #[test]
    fn tolerations_give_time() {
        let now = Timestamp::from_second(1000).unwrap();
        let silent = node(UNREACHABLE, 900);
        for (tolerations, expected) in [
            (json!([]), until(1200)),
            (json!([{"key": UNREACHABLE, "operator": "Exists", "effect": "NoExecute"}]), Stay::Forever),
            (json!([{"key": UNREACHABLE, "operator": "Exists", "tolerationSeconds": 5}]), until(905)),
            (
                json!([{"operator": "Exists"}, {"key": UNREACHABLE, "operator": "Exists", "tolerationSeconds": 7}]),
                until(907),
            ),
            (json!([{"key": UNREACHABLE, "operator": "Exists", "tolerationSeconds": -1}]), until(900)),
        ] {
            assert_eq!(stay(&pod(&tolerations), &silent, 300, now), expected, "{tolerations}");
        }
        assert_eq!(stay(&pod(&json!([])), &node("maintenance", 950), 300, now), until(950));
        assert_eq!(stay(&pod(&json!([])), &Node::default(), 300, now), Stay::Forever);
    }
}
