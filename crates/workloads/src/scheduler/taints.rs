//! Taints and tolerations.

use k8s_openapi::api::core::v1::{Node, Taint, Toleration};

/// Set on nodes that do not report themselves ready.
pub const NOT_READY: &str = "node.kubernetes.io/not-ready";
/// Set on nodes that have stopped reporting.
pub const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
/// Set on nodes that are cordoned.
pub const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

/// Whether a toleration covers a taint.
pub fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let effect = toleration.effect.as_deref().unwrap_or_default();
    let key = toleration.key.as_deref().unwrap_or_default();
    if (!effect.is_empty() && effect != taint.effect) || (!key.is_empty() && key != taint.key) {
        return false;
    }
    match toleration.operator.as_deref().unwrap_or("Equal") {
        "Exists" => true,
        "Equal" | "" => {
            !key.is_empty()
                && toleration.value.as_deref().unwrap_or_default()
                    == taint.value.as_deref().unwrap_or_default()
        }
        _ => false,
    }
}

/// The first taint with one of the effects that no toleration covers.
pub fn untolerated<'a>(
    taints: impl IntoIterator<Item = &'a Taint>,
    tolerations: &[Toleration],
    effects: &[&str],
) -> Option<&'a Taint> {
    taints
        .into_iter()
        .filter(|taint| effects.contains(&taint.effect.as_str()))
        .find(|taint| !tolerations.iter().any(|toleration| tolerates(toleration, taint)))
}

/// The taints that keep pods off a node now.
///
/// Those of its specification, and those that the node life cycle is about to add because of the node's condition or
/// cordon: a pod must not slip onto a node in the moment between.
pub fn effective(node: &Node) -> Vec<Taint> {
    let spec = node.spec.as_ref();
    let mut taints = spec.and_then(|spec| spec.taints.clone()).unwrap_or_default();
    let mut imply = |key: &str| {
        if !taints.iter().any(|taint| taint.key == key && taint.effect == "NoSchedule") {
            taints.push(Taint { key: key.into(), effect: "NoSchedule".into(), ..Default::default() });
        }
    };
    if spec.and_then(|spec| spec.unschedulable).unwrap_or(false) {
        imply(UNSCHEDULABLE);
    }
    match ready_status(node) {
        Some("True") | None => {}
        Some("Unknown") => imply(UNREACHABLE),
        Some(_) => imply(NOT_READY),
    }
    taints
}

/// The status of the node's `Ready` condition.
pub fn ready_status(node: &Node) -> Option<&str> {
    let conditions = node.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == "Ready").map(|condition| condition.status.as_str())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{NodeCondition, NodeSpec, NodeStatus};

    use super::*;

    fn taint(key: &str, value: &str, effect: &str) -> Taint {
        Taint { key: key.into(), value: Some(value.into()), effect: effect.into(), time_added: None }
    }

    fn toleration(key: &str, operator: &str, value: &str, effect: &str) -> Toleration {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Toleration {
            key: some(key),
            operator: some(operator),
            value: some(value),
            effect: some(effect),
            toleration_seconds: None,
        }
    }

    #[test]
    fn what_covers_what() {
        let gpu = taint("gpu", "yes", "NoSchedule");
        for (key, operator, value, effect, expected) in [
            ("gpu", "Equal", "yes", "NoSchedule", true),
            ("gpu", "", "yes", "", true),
            ("gpu", "Equal", "no", "NoSchedule", false),
            ("gpu", "Exists", "", "", true),
            ("gpu", "Exists", "", "NoExecute", false),
            ("", "Exists", "", "", true),
            ("", "Equal", "yes", "", false),
            ("cpu", "Exists", "", "", false),
        ] {
            let toleration = toleration(key, operator, value, effect);
            assert_eq!(tolerates(&toleration, &gpu), expected, "{key} {operator} {value} {effect}");
        }
        assert!(untolerated([&gpu], &[], &["NoExecute"]).is_none());
        assert!(untolerated([&gpu], &[], &["NoSchedule", "NoExecute"]).is_some());
    }

    #[test]
    fn conditions_and_cordon_imply_taints() {
        let node = |ready: &str, cordoned: bool| Node {
            spec: Some(NodeSpec { unschedulable: Some(cordoned), ..Default::default() }),
            status: Some(NodeStatus {
                conditions: Some(vec![NodeCondition {
                    type_: "Ready".into(),
                    status: ready.into(),
                    ..Default::default()
                }]),
                ..Default::default()
            }),
            ..Default::default()
        };
        let keys = |node: &Node| effective(node).into_iter().map(|taint| taint.key).collect::<Vec<_>>();
        assert!(keys(&node("True", false)).is_empty());
        assert_eq!(keys(&node("False", false)), [NOT_READY]);
        assert_eq!(keys(&node("Unknown", true)), [UNSCHEDULABLE, UNREACHABLE]);
    }
}
