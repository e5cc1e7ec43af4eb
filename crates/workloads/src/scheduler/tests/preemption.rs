//! Who must go for whom.

use super::*;
use crate::scheduler::preempt::{Candidate, preempt};

fn ranked(name: &str, cpu: &str, priority: i32) -> Pod {
    with_spec(&pod(name, name, cpu), &json!({"priority": priority}))
}

fn attempt(cluster: &Cluster, pod: &Pod) -> Result<Candidate, String> {
    let misfit = choose(cluster, pod).unwrap_err();
    let info = PodInfo::new(Arc::new(pod.clone()));
    preempt(cluster, &info, &misfit, &VolumeNeeds::default(), &|_| BTreeMap::new(), &[])
}

fn names(candidate: &Candidate) -> Vec<&str> {
    candidate.victims.iter().map(|victim| crate::kind::name(victim.pod.as_ref())).collect()
}

#[test]
fn as_few_and_as_unimportant_as_possible() {
    let cluster = cluster(
        &[node("n1", "a"), node("n2", "a")],
        &[(ranked("low", "2", 1), "n1"), (ranked("mid", "2", 5), "n1"), (ranked("mid2", "4", 5), "n2")],
    );
    let chosen = attempt(&cluster, &ranked("vip", "2", 10)).unwrap();
    assert_eq!((chosen.node.as_str(), names(&chosen)), ("n1", vec!["low"]));
    let chosen = attempt(&cluster, &ranked("vip", "4", 10)).unwrap();
    assert_eq!((chosen.node.as_str(), names(&chosen)), ("n2", vec!["mid2"]), "one victim rather than two");
    assert_eq!(
        attempt(&cluster, &ranked("equal", "2", 1)).unwrap_err(),
        "preemption: 0/2 nodes are available: 2 No preemption victims found for incoming pod."
    );
    assert_eq!(
        attempt(&cluster, &ranked("huge", "8", 10)).unwrap_err(),
        "preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling."
    );
    let never = with_spec(&ranked("polite", "2", 10), &json!({"preemptionPolicy": "Never"}));
    assert_eq!(
        attempt(&cluster, &never).unwrap_err(),
        "preemption: not eligible due to preemptionPolicy=Never."
    );
}

#[test]
fn budgets_are_spared_if_anything_else_will_do() {
    let cluster = cluster(
        &[node("n1", "a"), node("n2", "a")],
        &[(ranked("guarded", "4", 1), "n1"), (ranked("plain", "4", 5), "n2")],
    );
    let budget = serde_json::from_value(json!({
        "metadata": {"namespace": "default", "name": "b"},
        "spec": {"selector": {"matchLabels": {"app": "guarded"}}},
        "status": {"disruptionsAllowed": 0, "currentHealthy": 1, "desiredHealthy": 1, "expectedPods": 1},
    }))
    .unwrap();
    let vip = ranked("vip", "4", 10);
    let misfit = choose(&cluster, &vip).unwrap_err();
    let info = PodInfo::new(Arc::new(vip));
    let none = VolumeNeeds::default();
    let chosen = preempt(&cluster, &info, &misfit, &none, &|_| BTreeMap::new(), &[Arc::new(budget)]).unwrap();
    assert_eq!((chosen.node.as_str(), chosen.budget_violations), ("n2", 0));
}

#[test]
fn room_made_for_a_pod_is_not_taken_by_a_lesser_one() {
    let now = Instant::now();
    let mut engine = Engine::new("default-scheduler");
    engine.node_changed(&added(node("n1", "a")), now);
    let mut low = ranked("low", "4", 1);
    low.spec.as_mut().unwrap().node_name = Some("n1".into());
    engine.pod_changed(&added(low.clone()), now);
    engine.pod_changed(&added(ranked("vip", "4", 10)), now);
    let Verdict::Unschedulable { preemption: Some(candidate), .. } = next(&mut engine, now) else {
        panic!("the important pod must preempt")
    };
    assert_eq!(names(&candidate), ["low"]);
    engine.pod_changed(&Change::Deleted(Arc::new(low)), now);
    engine.pod_changed(&added(ranked("thief", "4", 1)), now);
    let Verdict::Unschedulable { pod, .. } = next(&mut engine, now) else { panic!("the room is reserved") };
    assert_eq!(pod.uid(), "uid-thief");
    let later = now + std::time::Duration::from_secs(2);
    let Verdict::Bind { pod, node } = next(&mut engine, later) else { panic!("the important pod fits now") };
    assert_eq!((pod.uid(), node.as_str()), ("uid-vip", "n1"));
}
