//! When pods are tried, and when again.

use std::time::Duration;

use super::*;

fn bound(verdict: Verdict) -> String {
    match verdict {
        Verdict::Bind { pod, node } => format!("{} -> {node}", crate::kind::name(pod.pod.as_ref())),
        other => panic!("expected a binding, got {other:?}"),
    }
}

#[test]
fn important_pods_first_then_in_order_of_arrival() {
    let now = Instant::now();
    let mut engine = Engine::new("default-scheduler");
    engine.node_changed(&added(node("n1", "a")), now);
    for (name, priority) in [("a", 0), ("b", 0), ("vip", 7), ("c", 0)] {
        engine.pod_changed(&added(with_spec(&pod(name, "x", "100m"), &json!({"priority": priority}))), now);
    }
    let order: Vec<String> = (0..4).map(|_| bound(next(&mut engine, now))).collect();
    assert_eq!(order, ["vip -> n1", "a -> n1", "b -> n1", "c -> n1"]);
    assert!(matches!(next(&mut engine, now), Verdict::Idle(None)));
}

#[test]
fn a_parked_pod_waits_for_what_can_help_it() {
    let now = Instant::now();
    let mut engine = Engine::new("default-scheduler");
    engine
        .node_changed(&added(sized_node("n1", "a", &[("cpu", "1"), ("memory", "1Gi"), ("pods", "9")])), now);
    engine.pod_changed(&added(pod("p", "x", "2")), now);
    assert!(matches!(next(&mut engine, now), Verdict::Unschedulable { .. }));
    let later = now + Duration::from_secs(5);
    assert!(matches!(next(&mut engine, later), Verdict::Idle(Some(_))), "nothing happened");
    // A heartbeat does not help.
    let mut heartbeat = sized_node("n1", "a", &[("cpu", "1"), ("memory", "1Gi"), ("pods", "9")]);
    heartbeat.metadata.resource_version = Some("2".into());
    engine.node_changed(&added(heartbeat), later);
    assert!(matches!(next(&mut engine, later), Verdict::Idle(Some(_))));
    engine.node_changed(&added(node("n2", "a")), later);
    assert_eq!(bound(next(&mut engine, later)), "p -> n2");
}

#[test]
fn a_failed_binding_frees_the_node_and_backs_off() {
    let now = Instant::now();
    let mut engine = Engine::new("default-scheduler");
    engine.node_changed(&added(node("n1", "a")), now);
    engine.pod_changed(&added(pod("p", "x", "4")), now);
    bound(next(&mut engine, now));
    assert_eq!(engine.cluster().node("n1").unwrap().pods.len(), 1);
    engine.bind_failed("uid-p", now);
    assert_eq!(engine.cluster().node("n1").unwrap().pods.len(), 0);
    let Verdict::Idle(Some(due)) = next(&mut engine, now) else { panic!("must back off") };
    assert_eq!(due - now, Duration::from_secs(1));
    assert_eq!(bound(next(&mut engine, due)), "p -> n1");
}

#[test]
fn what_happens_during_a_try_is_not_missed() {
    let now = Instant::now();
    let mut queue = super::super::queue::SchedulingQueue::default();
    let info = Arc::new(PodInfo::new(Arc::new(pod("p", "x", "1"))));
    queue.add(info, now);
    queue.pop(now).unwrap();
    queue.happened(super::super::queue::Happening::PodLeft, now);
    queue.park("uid-p", [super::super::filter::Rule::Resources].into(), now);
    assert!(queue.pop(now).is_none());
    assert!(queue.pop(now + Duration::from_secs(1)).is_some(), "tried again after its back-off");
}

#[test]
fn only_own_unfinished_ungated_pods_are_scheduled() {
    let now = Instant::now();
    let mut engine = Engine::new("default-scheduler");
    engine.node_changed(&added(node("n1", "a")), now);
    engine.pod_changed(&added(with_spec(&pod("other", "x", "1"), &json!({"schedulerName": "mine"}))), now);
    engine.pod_changed(
        &added(with_spec(&pod("gated", "x", "1"), &json!({"schedulingGates": [{"name": "g"}]}))),
        now,
    );
    let mut dying = pod("dying", "x", "1");
    dying.metadata.deletion_timestamp =
        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::UNIX_EPOCH));
    engine.pod_changed(&added(dying), now);
    assert!(matches!(next(&mut engine, now), Verdict::Idle(None)));
    let gated = Arc::new(with_spec(&pod("gated", "x", "1"), &json!({"schedulingGates": [{"name": "g"}]})));
    engine.pod_changed(&Change::Updated { old: gated, new: Arc::new(pod("gated", "x", "1")) }, now);
    assert_eq!(bound(next(&mut engine, now)), "gated -> n1");
    // A status update of the assumed pod must not queue it again.
    let mut touched = pod("gated", "x", "1");
    touched.metadata.annotations = Some(labels(&[("a", "b")]));
    engine
        .pod_changed(&Change::Updated { old: Arc::new(pod("gated", "x", "1")), new: Arc::new(touched) }, now);
    assert!(matches!(next(&mut engine, now), Verdict::Idle(None)));
}
