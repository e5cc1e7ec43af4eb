use std::{collections::BTreeMap, time::Duration};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::pods::observed::Exit;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn pod(policy: &str, inits: &[Value], mains: &[&str]) -> Pod {
    let mains: Vec<Value> = mains.iter().map(|name| json!({"name": name, "image": "i"})).collect();
    serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "default", "uid": "u"},
        "spec": {"restartPolicy": policy, "initContainers": inits, "containers": mains},
    }))
    .unwrap()
}

fn init(name: &str) -> Value {
    json!({"name": name, "image": "i"})
}

fn sidecar(name: &str) -> Value {
    json!({"name": name, "image": "i", "restartPolicy": "Always"})
}

fn sandbox(attempt: u32, ready: bool) -> Sandbox {
    let created = at(i64::from(attempt) * 1000);
    Sandbox { id: format!("s{attempt}"), attempt, ready, created, addresses: Vec::new() }
}

fn exited(code: i32) -> RunState {
    RunState::Exited(Exit {
        code,
        started: Some(at(1)),
        finished: Some(at(10)),
        reason: String::new(),
        message: String::new(),
    })
}

fn running() -> RunState {
    RunState::Running { started: at(1) }
}

fn run(name: &str, attempt: u32, sandbox: &str, state: RunState) -> Run {
    Run {
        id: format!("{name}-{attempt}"),
        name: name.to_owned(),
        attempt,
        sandbox: sandbox.to_owned(),
        state,
        image: "i".into(),
        image_id: "i@sha256:0".into(),
        created: at(2000 + i64::from(attempt)),
        spec_hash: "i".into(),
        log_path: String::new(),
    }
}

fn observed(sandboxes: Vec<Sandbox>, runs: Vec<Run>) -> Observed {
    let mut observed = Observed { sandboxes, runs };
    observed.sort();
    observed
}

fn plan_of(pod: &Pod, observed: &Observed) -> Plan {
    plan_with(pod, observed, &CrashBackoff::default(), &|_| Health { started: true, failure: None })
}

fn plan_with(
    pod: &Pod,
    observed: &Observed,
    backoff: &CrashBackoff,
    health: &dyn Fn(&str) -> Health,
) -> Plan {
    plan(Input { pod, observed, health, backoff, started: at(0), now: at(20) })
}

/// Actions in short.
fn short(plan: &Plan) -> Vec<String> {
    let describe = |action: &Action| match action {
        Action::StopSandbox { id } => format!("stop-sandbox {id}"),
        Action::CreateSandbox { attempt } => format!("sandbox {attempt}"),
        Action::Start { name, attempt, .. } => format!("start {name} {attempt}"),
        Action::Stop { id, .. } => format!("stop {id}"),
        Action::Remove { id } => format!("remove {id}"),
    };
    plan.actions.iter().map(describe).collect()
}

#[test]
fn a_new_pod_gets_a_sandbox_and_then_its_containers() {
    let pod = pod("Always", &[], &["a", "b"]);
    assert_eq!(short(&plan_of(&pod, &Observed::default())), ["sandbox 0"]);
    let ready = observed(vec![sandbox(0, true)], vec![]);
    assert_eq!(short(&plan_of(&pod, &ready)), ["start a 0", "start b 0"]);
    let done =
        observed(vec![sandbox(0, true)], vec![run("a", 0, "s0", running()), run("b", 0, "s0", running())]);
    assert_eq!(short(&plan_of(&pod, &done)), [""; 0]);
}

#[test]
fn init_containers_run_in_order() {
    let pod = pod("Always", &[init("i1"), init("i2")], &["a"]);
    let with = |runs| observed(vec![sandbox(0, true)], runs);
    assert_eq!(short(&plan_of(&pod, &with(vec![]))), ["start i1 0"]);
    assert_eq!(short(&plan_of(&pod, &with(vec![run("i1", 0, "s0", running())]))), [""; 0]);
    assert_eq!(short(&plan_of(&pod, &with(vec![run("i1", 0, "s0", exited(1))]))), ["start i1 1"]);
    assert_eq!(short(&plan_of(&pod, &with(vec![run("i1", 0, "s0", exited(0))]))), ["start i2 0"]);
    // Records of init containers that did their work may be gone.
    assert_eq!(short(&plan_of(&pod, &with(vec![run("i2", 0, "s0", exited(0))]))), ["start a 0"]);
    assert_eq!(short(&plan_of(&pod, &with(vec![run("a", 0, "s0", exited(1))]))), ["start a 1"]);
}

#[test]
fn a_failed_init_container_ends_a_pod_that_never_restarts() {
    let pod = pod("Never", &[init("i1")], &["a"]);
    let failed = observed(vec![sandbox(0, true)], vec![run("i1", 0, "s0", exited(1))]);
    assert_eq!(plan_of(&pod, &failed).verdict, Verdict::Finished);
}

#[test]
fn sidecars_start_in_their_place_and_are_kept_running() {
    let pod = pod("OnFailure", &[sidecar("proxy"), init("i1")], &["a"]);
    let with = |runs| observed(vec![sandbox(0, true)], runs);
    assert_eq!(short(&plan_of(&pod, &with(vec![]))), ["start proxy 0"]);
    let proxy = || run("proxy", 0, "s0", running());
    let starting = |_: &str| Health::default();
    let waiting = plan_with(&pod, &with(vec![proxy()]), &CrashBackoff::default(), &starting);
    assert_eq!(short(&waiting), [""; 0], "until its startup probe succeeds");
    assert_eq!(short(&plan_of(&pod, &with(vec![proxy()]))), ["start i1 0"]);
    let late = with(vec![run("proxy", 0, "s0", exited(0)), run("a", 0, "s0", running())]);
    assert_eq!(short(&plan_of(&pod, &late)), ["start proxy 1"], "whatever its exit code and the policy");
    let over = with(vec![proxy(), run("a", 0, "s0", exited(0))]);
    assert_eq!(plan_of(&pod, &over).verdict, Verdict::Finished, "a sidecar does not keep a pod going");
}

#[test]
fn restart_policies() {
    for (policy, code, restarted) in [
        ("Always", 0, true),
        ("Always", 1, true),
        ("OnFailure", 0, false),
        ("OnFailure", 1, true),
        ("Never", 0, false),
        ("Never", 1, false),
    ] {
        let pod = pod(policy, &[], &["a", "b"]);
        let state = observed(
            vec![sandbox(0, true)],
            vec![run("a", 0, "s0", exited(code)), run("b", 0, "s0", running())],
        );
        let plan = plan_of(&pod, &state);
        let expected: &[&str] = if restarted { &["start a 1"] } else { &[] };
        assert_eq!(short(&plan), expected, "{policy} {code}");
        assert_eq!(plan.verdict, Verdict::Going);
    }
}

#[test]
fn a_lost_sandbox_is_replaced_with_everything_in_it() {
    let lost = |policy| {
        let pod = pod(policy, &[init("i1")], &["a", "b"]);
        let state = observed(
            vec![sandbox(0, false)],
            vec![run("i1", 0, "s0", exited(0)), run("a", 0, "s0", exited(0)), run("b", 0, "s0", exited(137))],
        );
        (pod, state)
    };
    let (pod, mut state) = lost("OnFailure");
    assert_eq!(short(&plan_of(&pod, &state)), ["stop-sandbox s0", "sandbox 1"]);
    state.sandboxes.insert(0, sandbox(1, true));
    assert_eq!(short(&plan_of(&pod, &state)), ["start i1 1"], "init containers prepare the new sandbox");
    state.runs.insert(0, run("i1", 1, "s1", exited(0)));
    assert_eq!(short(&plan_of(&pod, &state)), ["start b 1"], "a had ended well");
    let (pod, state) = lost("Never");
    assert_eq!(plan_of(&pod, &state).verdict, Verdict::Finished);
}

#[test]
fn surplus_sandboxes_are_stopped() {
    let pod = pod("Always", &[], &["a"]);
    let state = observed(vec![sandbox(0, true), sandbox(1, true)], vec![run("a", 0, "s1", running())]);
    assert_eq!(short(&plan_of(&pod, &state)), ["stop-sandbox s0"]);
}

#[test]
fn interrupted_and_unknown_runs_are_cleared_away() {
    let pod = pod("Always", &[], &["a"]);
    let with = |state| observed(vec![sandbox(0, true)], vec![run("a", 3, "s0", state)]);
    assert_eq!(short(&plan_of(&pod, &with(RunState::Created))), ["remove a-3", "start a 4"]);
    assert_eq!(short(&plan_of(&pod, &with(RunState::Unknown))), ["stop a-3"]);
}

#[test]
fn unhealthy_and_changed_containers_are_stopped() {
    let mut pod = pod("Always", &[], &["a"]);
    let state = observed(vec![sandbox(0, true)], vec![run("a", 0, "s0", running())]);
    let sick = |_: &str| Health { started: true, failure: Some("liveness".into()) };
    let plan = plan_with(&pod, &state, &CrashBackoff::default(), &sick);
    let Action::Stop { reason, .. } = &plan.actions[0] else { panic!("{plan:?}") };
    assert_eq!(*reason, StopReason::Unhealthy("liveness".into()));
    pod.spec.as_mut().unwrap().containers[0].image = Some("other".into());
    let Action::Stop { reason, .. } = &plan_of(&pod, &state).actions[0] else { panic!() };
    assert_eq!(*reason, StopReason::Changed);
}

#[test]
fn a_container_that_keeps_ending_waits() {
    let pod = pod("Always", &[], &["a"]);
    let state = observed(vec![sandbox(0, true)], vec![run("a", 1, "s0", exited(1))]);
    let mut backoff = CrashBackoff::default();
    backoff.restarted("a", at(1), at(2));
    backoff.restarted("a", at(3), at(4));
    let plan = plan_with(&pod, &state, &backoff, &|_| Health::default());
    assert_eq!(short(&plan), [""; 0]);
    assert_eq!(plan.pauses, [Pause { name: "a".into(), until: at(30), seconds: 20 }]);
}

#[test]
fn a_pod_past_its_deadline_fails() {
    let mut pod = pod("Always", &[], &["a"]);
    pod.spec.as_mut().unwrap().active_deadline_seconds = Some(30);
    let plan = plan_of(&pod, &Observed::default());
    assert_eq!((plan.deadline, plan.verdict), (Some(at(30)), Verdict::Going));
    pod.spec.as_mut().unwrap().active_deadline_seconds = Some(20);
    assert!(
        matches!(plan_of(&pod, &Observed::default()).verdict, Verdict::Failed { reason, .. } if reason == "DeadlineExceeded")
    );
}

/// A runtime in memory, in which containers end as they like.
#[derive(Debug, Clone)]
struct Simulation {
    observed: Observed,
    clock: i64,
    backoff: CrashBackoff,
}

impl Simulation {
    fn apply(&mut self, action: &Action) {
        self.clock += 1;
        let now = at(10_000 + self.clock);
        match action {
            Action::StopSandbox { id } => {
                for sandbox in self.observed.sandboxes.iter_mut().filter(|sandbox| sandbox.id == *id) {
                    sandbox.ready = false;
                }
                let inside = self.observed.runs.iter_mut().filter(|run| run.sandbox == *id);
                inside.filter(|run| run.exit().is_none()).for_each(|run| run.state = exited(137));
            }
            Action::CreateSandbox { attempt } => {
                let created = Sandbox { created: now, ..sandbox(*attempt, true) };
                assert!(!self.observed.sandboxes.iter().any(|other| other.id == created.id), "{created:?}");
                self.observed.sandboxes.push(created);
            }
            Action::Start { name, attempt, .. } => {
                let inside = self.observed.ready_sandbox().unwrap().id.clone();
                assert!(!self.observed.runs.iter().any(|run| run.name == *name && run.attempt == *attempt));
                let started = Run { created: now, ..run(name, *attempt, &inside, running()) };
                self.observed.runs.push(started);
            }
            Action::Stop { id, .. } => self.end(id, 143),
            Action::Remove { id } => self.observed.runs.retain(|run| run.id != *id),
        }
        self.observed.sort();
    }

    fn end(&mut self, id: &str, code: i32) {
        for run in self.observed.runs.iter_mut().filter(|run| run.id == *id) {
            run.state = exited(code);
        }
    }
}

proptest! {
    /// Whatever happens, the planner settles, and then everything that should run does, once.
    #[test]
    fn plans_converge(
        policy in prop::sample::select(vec!["Always", "OnFailure", "Never"]),
        inits in proptest::collection::vec(any::<bool>(), 0..3),
        mains in 1_usize..4,
        happenings in proptest::collection::vec((0_u8..5, any::<prop::sample::Index>(), 0_i32..3), 0..20),
    ) {
        let inits: Vec<Value> = inits.iter().enumerate()
            .map(|(n, is_sidecar)| if *is_sidecar { sidecar(&format!("i{n}")) } else { init(&format!("i{n}")) })
            .collect();
        let names = ["a", "b", "c"];
        let pod = pod(policy, &inits, &names[..mains]);
        let mut simulation = Simulation { observed: Observed::default(), clock: 0, backoff: CrashBackoff::default() };
        let mut happenings = happenings.into_iter();
        let mut quiet = 0;
        let mut rounds = 0;
        let verdict = loop {
            rounds += 1;
            prop_assert!(rounds < 200, "it never settles");
            let health = |_: &str| Health { started: true, failure: None };
            let now = at(20_000);
            let plan = plan(Input {
                pod: &pod, observed: &simulation.observed, health: &health, backoff: &simulation.backoff, started: at(0), now,
            });
            for action in &plan.actions {
                simulation.apply(action);
            }
            if plan.verdict != Verdict::Going { break plan.verdict; }
            quiet = if plan.actions.is_empty() { quiet + 1 } else { 0 };
            match happenings.next() {
                Some((kind, which, code)) => {
                    quiet = 0;
                    happen(&mut simulation, kind, &which, code);
                }
                // Init containers end by themselves, and well.
                None => finish_inits(&mut simulation, &pod),
            }
            if quiet > 2 && happenings.len() == 0 { break plan.verdict; }
        };
        let observed = &simulation.observed;
        prop_assert!(observed.sandboxes.iter().filter(|sandbox| sandbox.ready).count() <= 1);
        let mut running: BTreeMap<&str, usize> = BTreeMap::new();
        for run in observed.runs.iter().filter(|run| run.is_running()) {
            *running.entry(&run.name).or_default() += 1;
        }
        prop_assert!(running.values().all(|count| *count == 1), "{running:?}");
        if verdict == Verdict::Going && policy == "Always" {
            prop_assert!(names[..mains].iter().all(|name| running.contains_key(name)), "{running:?}");
        }
        if policy == "Always" { prop_assert_eq!(verdict, Verdict::Going); }
    }
}

fn happen(simulation: &mut Simulation, kind: u8, which: &prop::sample::Index, code: i32) {
    let running: Vec<String> =
        simulation.observed.runs.iter().filter(|run| run.is_running()).map(|run| run.id.clone()).collect();
    match kind {
        0 => {
            let ready = simulation.observed.ready_sandbox().map(|sandbox| sandbox.id.clone());
            if let Some(id) = ready {
                simulation.apply(&Action::StopSandbox { id });
            }
        }
        1 if !simulation.observed.runs.is_empty() => {
            let index = which.index(simulation.observed.runs.len());
            if !simulation.observed.runs[index].is_running() {
                simulation.observed.runs[index].state = RunState::Unknown;
            }
        }
        _ if !running.is_empty() => simulation.end(&running[which.index(running.len())], code),
        _ => {}
    }
}

fn finish_inits(simulation: &mut Simulation, pod: &Pod) {
    let inits = pod.spec.as_ref().unwrap().init_containers.clone().unwrap_or_default();
    for container in inits.iter().filter(|container| role(container, true) == Role::Init) {
        let id = simulation
            .observed
            .latest(&container.name)
            .filter(|run| run.is_running())
            .map(|run| run.id.clone());
        if let Some(id) = id {
            simulation.end(&id, 0);
        }
    }
}

#[test]
fn durations_do_not_overflow() {
    assert_eq!(after(Timestamp::MAX, Duration::from_secs(1)), Timestamp::MAX);
}
