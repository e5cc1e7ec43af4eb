//! Which nodes get a daemon, and how one is replaced.

use proptest::prelude::*;
use serde_json::json;

use super::{plan::Fit, *};
use crate::pod::tests::test_pod;

fn set(extra: &serde_json::Value) -> DaemonSet {
    let mut spec = json!({
        "selector": {"matchLabels": {"app": "agent"}},
        "template": {"metadata": {"labels": {"app": "agent"}}, "spec": {"containers": [{"name": "c"}]}},
    });
    for (key, value) in extra.as_object().unwrap() {
        spec[key] = value.clone();
    }
    serde_json::from_value(
        json!({"metadata": {"name": "agent", "namespace": "default", "uid": "ds"}, "spec": spec}),
    )
    .unwrap()
}

fn node(name: &str, spec: &serde_json::Value) -> Arc<Node> {
    let node = json!({"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}, "spec": spec});
    Arc::new(serde_json::from_value(node).unwrap())
}

fn daemon(name: &str, node: &str, hash: &str, ready: bool) -> Arc<Pod> {
    let mut pod = test_pod(name, Some(node), ready);
    pod.metadata.labels = Some([(revisions::HASH_LABEL.to_owned(), hash.to_owned())].into());
    Arc::new(pod)
}

fn planned(set: &DaemonSet, nodes: &[Arc<Node>], pods: &[Arc<Pod>]) -> (Vec<String>, Vec<String>) {
    let now = Timestamp::from_second(1000).unwrap();
    let plan = plan::plan(&Observed { set, nodes, pods, hash: "new", now });
    let deleted =
        plan.delete.iter().chain(&plan.ended).map(|pod| kind::name(pod.as_ref()).to_owned()).collect();
    (plan.create.into_iter().collect(), deleted)
}

#[test]
fn nodes_are_judged_by_selector_and_taints() {
    let taint = |key: &str, effect: &str| json!({"taints": [{"key": key, "effect": effect}]});
    let spec = set(&json!({})).spec.unwrap().template.spec.unwrap();
    for (node_spec, expected) in [
        (json!({}), Fit::Run),
        (taint("gpu", "NoSchedule"), Fit::Tolerate),
        (taint("gpu", "NoExecute"), Fit::Forbid),
        (taint("node.kubernetes.io/unreachable", "NoExecute"), Fit::Run),
        (taint("node.kubernetes.io/unschedulable", "NoSchedule"), Fit::Run),
    ] {
        assert_eq!(plan::fit(&spec, &node("n", &node_spec)), expected, "{node_spec}");
    }
    let mut elsewhere = spec.clone();
    elsewhere.node_selector = Some([("kubernetes.io/hostname".to_owned(), "m".to_owned())].into());
    assert_eq!(plan::fit(&elsewhere, &node("n", &json!({}))), Fit::Forbid);
}

#[test]
fn pods_are_pinned_to_their_node() {
    let mut pod = test_pod("p", None, false);
    plan::pin(pod.spec.as_mut().unwrap(), "n7");
    assert_eq!(plan::target_node(&pod), Some("n7"));
}

#[test]
fn every_suitable_node_gets_one() {
    let nodes = [
        node("n1", &json!({})),
        node("n2", &json!({})),
        node("n3", &json!({"taints": [{"key": "x", "effect": "NoExecute"}]})),
    ];
    let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    assert_eq!(planned(&set(&json!({})), &nodes, &[]), (names(&["n1", "n2"]), vec![]));
    let pods = [
        daemon("a", "n1", "new", true),
        daemon("b", "n1", "new", true),
        daemon("c", "n3", "new", true),
        daemon("d", "gone", "new", true),
    ];
    assert_eq!(planned(&set(&json!({})), &nodes, &pods), (names(&["n2"]), names(&["b", "c", "d"])));
    let mut failed = daemon("f", "n1", "new", false).as_ref().clone();
    failed.status.as_mut().unwrap().phase = Some("Failed".into());
    let pods = [Arc::new(failed), daemon("g", "n2", "new", true)];
    assert_eq!(planned(&set(&json!({})), &nodes[..2], &pods), (vec![], names(&["f"])));
}

#[test]
fn updates_respect_their_limits() {
    let nodes: Vec<_> = ["n1", "n2", "n3"].map(|name| node(name, &json!({}))).into();
    let old = |ready: [bool; 3]| -> Vec<_> {
        (0..3).map(|n| daemon(&format!("p{n}"), &format!("n{}", n + 1), "old", ready[n])).collect()
    };
    assert_eq!(planned(&set(&json!({})), &nodes, &old([true; 3])).1, ["p0"]);
    assert_eq!(planned(&set(&json!({})), &nodes, &old([true, false, true])).1, ["p1"]);
    let on_delete = set(&json!({"updateStrategy": {"type": "OnDelete"}}));
    assert!(planned(&on_delete, &nodes, &old([true; 3])).1.is_empty());
    let surge = set(&json!({"updateStrategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}}));
    assert_eq!(planned(&surge, &nodes, &old([true; 3])), (vec!["n1".to_owned()], vec![]));
    let mut both = old([true; 3]);
    both.push(daemon("p0b", "n1", "new", false));
    assert_eq!(planned(&surge, &nodes, &both), (vec![], vec![]));
    both[3] = daemon("p0b", "n1", "new", true);
    assert_eq!(planned(&surge, &nodes, &both), (vec!["n2".to_owned()], vec!["p0".to_owned()]));
}

#[test]
fn status_counts_nodes() {
    let nodes = [
        node("n1", &json!({})),
        node("n2", &json!({})),
        node("n3", &json!({"taints": [{"key": "x", "effect": "NoSchedule"}]})),
    ];
    let pods =
        [daemon("a", "n1", "new", true), daemon("b", "n2", "old", false), daemon("c", "n3", "old", true)];
    let set = set(&json!({}));
    let now = Timestamp::from_second(1000).unwrap();
    let status = plan::status(&Observed { set: &set, nodes: &nodes, pods: &pods, hash: "new", now });
    assert_eq!(
        (status.desired_number_scheduled, status.current_number_scheduled, status.number_misscheduled),
        (2, 2, 1)
    );
    assert_eq!((status.number_ready, status.updated_number_scheduled), (1, Some(1)));
    assert_eq!((status.number_available, status.number_unavailable), (Some(1), Some(1)));
}

proptest! {
    /// An update reaches every node, and never more nodes than allowed are without an available pod.
    #[test]
    fn updates_finish_within_limits(count in 1usize..7, unavailable in 1i32..4, surge in 0i32..3) {
        let nodes: Vec<_> = (0..count).map(|n| node(&format!("n{n}"), &json!({}))).collect();
        let limits = if surge > 0 { json!({"maxSurge": surge, "maxUnavailable": 0}) } else { json!({"maxUnavailable": unavailable}) };
        let set = set(&json!({"updateStrategy": {"rollingUpdate": limits}}));
        let mut pods: Vec<_> = (0..count).map(|n| daemon(&format!("old{n}"), &format!("n{n}"), "old", true)).collect();
        let now = Timestamp::from_second(1000).unwrap();
        for round in 0..60 {
            let plan = plan::plan(&Observed { set: &set, nodes: &nodes, pods: &pods, hash: "new", now });
            for gone in plan.delete {
                pods.retain(|pod| pod.metadata.uid != gone.metadata.uid);
            }
            for node in plan.create {
                pods.push(daemon(&format!("new{round}-{node}"), &node, "new", false));
            }
            let served = nodes.iter().filter(|n| {
                pods.iter().any(|pod| pod::node_name(pod) == Some(kind::name(n.as_ref())) && pod::is_ready(pod))
            });
            let missing = i32::try_from(count - served.count()).unwrap();
            let allowed = if surge > 0 { 0 } else { unavailable };
            prop_assert!(missing <= allowed);
            if round % 2 == 1 {
                for pod in &mut pods {
                    *pod = daemon(kind::name(pod.as_ref()), pod::node_name(pod).unwrap(), label(pod.as_ref(), revisions::HASH_LABEL).unwrap(), true);
                }
            }
        }
        prop_assert!(pods.len() == count && pods.iter().all(|pod| label(pod.as_ref(), revisions::HASH_LABEL) == Some("new")));
    }
}
