use std::net::Ipv4Addr;

use k8s_openapi::api::core::v1::PodCondition;
use serde_json::{Value, json};

use super::*;
use crate::pods::observed::{Exit, Run, Sandbox};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn pod(spec: Value) -> Pod {
    let mut pod = json!({"metadata": {"name": "web", "namespace": "default", "uid": "u"}});
    pod["spec"] = spec;
    serde_json::from_value(pod).unwrap()
}

fn simple(policy: &str) -> Pod {
    pod(
        json!({"restartPolicy": policy, "containers": [{"name": "a", "image": "i"}, {"name": "b", "image": "i"}]}),
    )
}

fn run(name: &str, attempt: u32, state: RunState) -> Run {
    Run {
        id: format!("{name}{attempt}"),
        name: name.into(),
        attempt,
        sandbox: "s".into(),
        state,
        image: "i".into(),
        image_id: "i@sha256:0".into(),
        created: at(10 + i64::from(attempt)),
        spec_hash: "i".into(),
        log_path: String::new(),
    }
}

fn running() -> RunState {
    RunState::Running { started: at(11) }
}

fn exited(code: i32) -> RunState {
    let reason = if code == 0 { "Completed" } else { "Error" }.to_owned();
    RunState::Exited(Exit {
        code,
        started: Some(at(11)),
        finished: Some(at(12)),
        reason,
        message: String::new(),
    })
}

fn observed(runs: Vec<Run>) -> Observed {
    let addresses = vec![IpAddr::from(Ipv4Addr::new(10, 42, 0, 7))];
    let sandbox = Sandbox { id: "s".into(), attempt: 0, ready: true, created: at(5), addresses };
    let mut observed = Observed { sandboxes: vec![sandbox], runs };
    observed.sort();
    observed
}

struct Case {
    pod: Pod,
    observed: Observed,
    waiting: BTreeMap<String, Waiting>,
    probes: ProbeView,
    stage: Stage,
}

impl Case {
    fn new(pod: Pod, observed: Observed) -> Self {
        Self {
            pod,
            observed,
            waiting: BTreeMap::new(),
            probes: ProbeView::WITHOUT_PROBES,
            stage: Stage::Active,
        }
    }

    fn status(&self) -> PodStatus {
        status(Input {
            pod: &self.pod,
            observed: &self.observed,
            waiting: &self.waiting,
            probes: &|_| self.probes,
            stage: &self.stage,
            host_address: Ipv4Addr::new(10, 20, 0, 7).into(),
            started: at(1),
            now: at(100),
        })
    }
}

fn condition<'a>(status: &'a PodStatus, kind: &str) -> &'a PodCondition {
    status.conditions.iter().flatten().find(|condition| condition.type_ == kind).unwrap()
}

fn phase(status: &PodStatus) -> &str {
    status.phase.as_deref().unwrap()
}

#[test]
fn a_pod_that_was_just_taken_on_is_pending() {
    let status = Case::new(simple("Always"), Observed::default()).status();
    assert_eq!(phase(&status), "Pending");
    let state = status.container_statuses.as_ref().unwrap()[0].state.clone().unwrap();
    assert_eq!(state.waiting.unwrap().reason.as_deref(), Some("ContainerCreating"));
    assert_eq!(condition(&status, "Initialized").status, "True");
    assert_eq!(condition(&status, "Ready").reason.as_deref(), Some("ContainersNotReady"));
    assert_eq!(condition(&status, "Ready").message.as_deref(), Some("containers with unready status: [a b]"));
    assert_eq!(condition(&status, "PodReadyToStartContainers").status, "False");
    assert_eq!((status.pod_ip, status.host_ip.as_deref()), (None, Some("10.20.0.7")));
}

#[test]
fn a_running_pod_is_ready_when_its_probes_say_so() {
    let mut case =
        Case::new(simple("Always"), observed(vec![run("a", 0, running()), run("b", 2, running())]));
    let status = case.status();
    assert_eq!(phase(&status), "Running");
    assert_eq!(condition(&status, "Ready").status, "True");
    assert_eq!(status.pod_ip.as_deref(), Some("10.42.0.7"));
    let statuses = status.container_statuses.unwrap();
    assert_eq!(statuses[0].container_id.as_deref(), Some("containerd://a0"));
    assert_eq!((statuses[0].restart_count, statuses[1].restart_count), (0, 2));
    case.probes = ProbeView { started: true, ready: false };
    let status = case.status();
    assert_eq!((phase(&status), condition(&status, "Ready").status.as_str()), ("Running", "False"));
}

#[test]
fn conditions_keep_the_time_of_their_last_change_and_those_of_others() {
    let mut case =
        Case::new(simple("Always"), observed(vec![run("a", 0, running()), run("b", 0, running())]));
    let old = |kind: &str, value: &str| json!({"type": kind, "status": value, "lastTransitionTime": "1970-01-01T00:00:30Z"});
    case.pod.status = serde_json::from_value(json!({
        "conditions": [old("PodScheduled", "True"), old("Initialized", "True"), old("Ready", "False")],
    }))
    .unwrap();
    let status = case.status();
    let since = |kind| condition(&status, kind).last_transition_time.as_ref().unwrap().0;
    assert_eq!(since("PodScheduled"), at(30));
    assert_eq!(since("Initialized"), at(30));
    assert_eq!(since("Ready"), at(100));
}

#[test]
fn a_crashing_container_tells_how_it_ended_and_that_it_waits() {
    let mut case =
        Case::new(simple("Always"), observed(vec![run("a", 3, exited(2)), run("b", 0, running())]));
    case.waiting
        .insert("a".into(), Waiting { reason: "CrashLoopBackOff".into(), message: "back-off".into() });
    let status = case.status();
    assert_eq!(phase(&status), "Running");
    let crashed = &status.container_statuses.unwrap()[0];
    assert_eq!(
        crashed.state.as_ref().unwrap().waiting.as_ref().unwrap().reason.as_deref(),
        Some("CrashLoopBackOff")
    );
    assert_eq!(crashed.last_state.as_ref().unwrap().terminated.as_ref().unwrap().exit_code, 2);
    assert_eq!((crashed.restart_count, crashed.ready), (3, false));
}

#[test]
fn phases_follow_policy_and_exit_codes() {
    for (policy, codes, stage, expected) in [
        ("Always", [0, 0], Stage::Active, "Running"),
        ("OnFailure", [0, 1], Stage::Active, "Running"),
        ("OnFailure", [0, 0], Stage::Active, "Succeeded"),
        ("Never", [0, 0], Stage::Active, "Succeeded"),
        ("Never", [0, 1], Stage::Active, "Failed"),
        // Deleted pods have ended, whatever their policy.
        ("Always", [0, 0], Stage::Ended, "Succeeded"),
        ("Always", [0, 143], Stage::Ended, "Failed"),
    ] {
        let runs = vec![run("a", 0, exited(codes[0])), run("b", 0, exited(codes[1]))];
        let mut case = Case::new(simple(policy), observed(runs));
        case.stage = stage;
        let status = case.status();
        assert_eq!(phase(&status), expected, "{policy} {codes:?}");
        assert_eq!(condition(&status, "Ready").status, "False");
    }
}

#[test]
fn an_end_is_final() {
    let mut case = Case::new(simple("Never"), observed(vec![run("a", 0, running()), run("b", 0, running())]));
    case.pod.status = serde_json::from_value(json!({"phase": "Failed", "reason": "Evicted"})).unwrap();
    let status = case.status();
    assert_eq!((phase(&status), status.reason.as_deref()), ("Failed", Some("Evicted")));
    assert_eq!(condition(&status, "Ready").reason.as_deref(), Some("PodFailed"));
}

#[test]
fn a_failed_pod_says_why() {
    let mut case =
        Case::new(simple("Always"), observed(vec![run("a", 0, exited(143)), run("b", 0, exited(143))]));
    case.stage = Stage::Failed { reason: "DeadlineExceeded".into(), message: "too long".into() };
    let status = case.status();
    assert_eq!(
        (phase(&status), status.reason.as_deref(), status.message.as_deref()),
        ("Failed", Some("DeadlineExceeded"), Some("too long"))
    );
}

#[test]
fn init_containers_hold_the_pod_pending() {
    let with_init = || {
        pod(json!({
            "initContainers": [{"name": "i", "image": "i"}, {"name": "proxy", "image": "i", "restartPolicy": "Always"}],
            "containers": [{"name": "a", "image": "i"}],
        }))
    };
    let status = Case::new(with_init(), observed(vec![run("i", 0, running())])).status();
    assert_eq!(phase(&status), "Pending");
    assert_eq!(
        condition(&status, "Initialized").message.as_deref(),
        Some("containers with incomplete status: [i proxy]")
    );
    let main = status.container_statuses.as_ref().unwrap()[0].state.clone().unwrap();
    assert_eq!(main.waiting.unwrap().reason.as_deref(), Some("PodInitializing"));
    let runs = vec![run("i", 0, exited(0)), run("proxy", 0, running()), run("a", 0, running())];
    let status = Case::new(with_init(), observed(runs)).status();
    assert_eq!((phase(&status), condition(&status, "Ready").status.as_str()), ("Running", "True"));
    // The record of the init container was cleaned up; what was told of it stays.
    let mut case = Case::new(with_init(), observed(vec![run("proxy", 0, running()), run("a", 0, running())]));
    case.pod.status = Some(status);
    let later = case.status();
    assert_eq!(
        later.init_container_statuses.as_ref().unwrap()[0]
            .state
            .as_ref()
            .unwrap()
            .terminated
            .as_ref()
            .unwrap()
            .exit_code,
        0
    );
    assert_eq!(condition(&later, "Initialized").status, "True");
}

#[test]
fn pods_on_the_network_of_the_node_have_its_address() {
    let host = pod(json!({"hostNetwork": true, "containers": [{"name": "a", "image": "i"}]}));
    assert_eq!(Case::new(host, Observed::default()).status().pod_ip.as_deref(), Some("10.20.0.7"));
}

#[test]
fn readiness_gates_count() {
    let gated = || {
        pod(
            json!({"readinessGates": [{"conditionType": "x/y"}], "containers": [{"name": "a", "image": "i"}]}),
        )
    };
    let mut case = Case::new(gated(), observed(vec![run("a", 0, running())]));
    let status = case.status();
    assert_eq!(condition(&status, "ContainersReady").status, "True");
    assert_eq!(condition(&status, "Ready").reason.as_deref(), Some("ReadinessGatesNotReady"));
    case.pod.status =
        serde_json::from_value(json!({"conditions": [{"type": "x/y", "status": "True"}]})).unwrap();
    assert_eq!(condition(&case.status(), "Ready").status, "True");
}

#[test]
fn containers_nobody_saw_end_are_told_as_such() {
    let mut case = Case::new(simple("Always"), observed(vec![run("a", 0, RunState::Unknown)]));
    case.stage = Stage::Ended;
    let status = case.status();
    assert_eq!(phase(&status), "Failed");
    let end = status.container_statuses.unwrap()[0].state.clone().unwrap().terminated.unwrap();
    assert_eq!((end.exit_code, end.reason.as_deref()), (137, Some("ContainerStatusUnknown")));
}

#[test]
fn a_pod_that_has_ended_keeps_its_address() {
    let mut case = Case::new(simple("Never"), Observed::default());
    case.pod.status = serde_json::from_value(
        json!({"podIP": "10.42.0.9", "podIPs": [{"ip": "10.42.0.9"}], "phase": "Running"}),
    )
    .unwrap();
    assert_eq!(case.status().pod_ip, None, "while it goes on, only what it has counts");
    case.stage = Stage::Ended;
    assert_eq!(case.status().pod_ip.as_deref(), Some("10.42.0.9"));
}
