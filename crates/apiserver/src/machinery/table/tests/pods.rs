//! What pods look like in the stations of their lives.

#![expect(clippy::needless_pass_by_value, reason = "objects are written where they are used")]

use super::*;

fn running(name: &str) -> Value {
    json!({"name": name, "ready": true, "started": true, "restartCount": 0, "state": {"running": {}}})
}

fn waiting(name: &str, reason: &str) -> Value {
    json!({"name": name, "ready": false, "restartCount": 0, "state": {"waiting": {"reason": reason}}})
}

fn terminated(name: &str, state: Value) -> Value {
    json!({"name": name, "ready": false, "restartCount": 0, "state": {"terminated": state}})
}

/// A pod of two containers in a phase; `more` goes into its status.
fn pod(name: &str, phase: &str, containers: Value, more: Value) -> Value {
    let mut pod = object(
        name,
        json!({
            "spec": {"nodeName": "n1", "containers": [{"name": "a"}, {"name": "b"}]},
            "status": {"phase": phase, "podIP": "10.42.0.7", "podIPs": [{"ip": "10.42.0.7"}], "containerStatuses": containers},
        }),
    );
    if let (Some(status), Value::Object(more)) = (pod["status"].as_object_mut(), more) {
        status.extend(more);
    }
    pod
}

fn with_init(mut pod: Value, init: Value, statuses: Value) -> Value {
    pod["spec"]["initContainers"] = init;
    pod["status"]["initContainerStatuses"] = statuses;
    pod
}

fn restarted() -> Value {
    let mut twice = running("a");
    twice["restartCount"] = 2.into();
    twice["lastState"] = json!({"terminated": {"finishedAt": "2026-01-10T11:30:00Z"}});
    twice
}

fn deleted(mut pod: Value) -> Value {
    pod["metadata"]["deletionTimestamp"] = "2026-01-10T11:59:00Z".into();
    pod
}

fn ordinary() -> Vec<Value> {
    let completed = json!({"reason": "Completed", "exitCode": 0});
    let ready = json!({"conditions": [{"type": "Ready", "status": "True"}]});
    let mut pending = pod("pending", "Pending", json!([]), json!({"nominatedNodeName": "n2"}));
    pending["spec"]["nodeName"] = Value::Null;
    pending["spec"]["readinessGates"] = json!([{"conditionType": "lb"}, {"conditionType": "dns"}]);
    pending["status"]["podIP"] = Value::Null;
    pending["status"]["podIPs"] = Value::Null;
    pending["status"]["conditions"] = json!([{"type": "lb", "status": "True"}]);
    let gated =
        json!({"conditions": [{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]});
    let done = json!([terminated("a", completed.clone()), terminated("b", completed.clone())]);
    vec![
        pod("running", "Running", json!([running("a"), running("b")]), ready.clone()),
        pod("restarted", "Running", json!([restarted(), running("b")]), json!({})),
        pending,
        pod("gated", "Pending", json!([]), gated),
        pod("crashing", "Running", json!([waiting("a", "CrashLoopBackOff"), running("b")]), json!({})),
        pod("exited", "Failed", json!([terminated("a", json!({"exitCode": 3})), running("b")]), json!({})),
        pod("killed", "Failed", json!([terminated("a", json!({"exitCode": 137, "signal": 9}))]), json!({})),
        pod("evicted", "Failed", json!([]), json!({"reason": "Evicted"})),
        pod("done", "Succeeded", done, json!({})),
        pod("half-ready", "Running", json!([terminated("a", completed.clone()), running("b")]), ready),
        pod("half", "Running", json!([terminated("a", completed), running("b")]), json!({})),
        deleted(pod("going", "Running", json!([running("a"), running("b")]), json!({}))),
        deleted(pod("gone", "Succeeded", json!([]), json!({}))),
        deleted(pod("lost", "Running", json!([running("a"), running("b")]), json!({"reason": "NodeLost"}))),
    ]
}

fn initializing() -> Vec<Value> {
    let two = json!([{"name": "i"}, {"name": "j"}]);
    let sidecar = json!([{"name": "s", "restartPolicy": "Always"}, {"name": "j"}]);
    let blocked = json!([waiting("a", "PodInitializing"), waiting("b", "PodInitializing")]);
    let pending = |name: &str| pod(name, "Pending", blocked.clone(), json!({}));
    let ended = |code: i64| terminated("i", json!({"exitCode": code}));
    let mut restarted_sidecar = restarted();
    restarted_sidecar["name"] = "s".into();
    let mut restarted_init = terminated("j", json!({"exitCode": 0}));
    restarted_init["restartCount"] = 5.into();
    vec![
        with_init(
            pending("first"),
            two.clone(),
            json!([waiting("i", "PodInitializing"), waiting("j", "PodInitializing")]),
        ),
        with_init(pending("second"), two.clone(), json!([ended(0), running("j")])),
        with_init(pending("no-image"), two.clone(), json!([waiting("i", "ImagePullBackOff")])),
        with_init(pending("failing"), two.clone(), json!([ended(4)])),
        with_init(
            pending("erring"),
            two,
            json!([terminated("i", json!({"exitCode": 1, "reason": "Error"}))]),
        ),
        with_init(pending("sidecar-up"), sidecar.clone(), json!([running("s"), running("j")])),
        with_init(
            pod("sidecar", "Running", json!([running("a"), running("b")]), json!({})),
            sidecar,
            json!([restarted_sidecar, restarted_init]),
        ),
    ]
}

#[test]
fn pods() {
    insta::assert_snapshot!(print_builtin("", "Pod", &ordinary()));
}

#[test]
fn pods_that_initialize() {
    insta::assert_snapshot!(print_builtin("", "Pod", &initializing()));
}

#[test]
fn pods_that_ended_are_marked() {
    let columns = Columns::of_builtin("", "Pod");
    let reasons: Vec<String> = ordinary()
        .iter()
        .filter_map(|pod| columns.conditions(pod))
        .map(|conditions| conditions[0]["reason"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(reasons, ["Failed", "Failed", "Failed", "Succeeded", "Succeeded"]);
}
