//! What to do next for a pod: `(specification, what the runtime has, health, time) → actions`. Pure.
//!
//! One call yields what can be done now; the worker does it, looks again and calls again, until nothing is left to do. Thus an
//! agent that was killed anywhere goes on from what it finds.

use k8s_openapi::{
    api::core::v1::{Container, Pod, PodSpec},
    jiff::Timestamp,
};

use super::{
    backoff::{CrashBackoff, after},
    labels,
    observed::{Observed, Run, RunState, Sandbox},
};

/// Which part a container plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Runs to its end before the others.
    Init,
    /// Started among the init containers, runs beside the others.
    Sidecar,
    /// What the pod is for.
    Main,
}

/// Why a running container is stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StopReason {
    /// A probe failed too often; says which and how.
    Unhealthy(String),
    /// Its specification changed.
    Changed,
    /// The runtime has lost track of it.
    Unknown,
}

/// A step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Stop a sandbox that is of no use, and free its network.
    StopSandbox {
        /// Its identifier.
        id: String,
    },
    /// Make a sandbox.
    CreateSandbox {
        /// How many there were before.
        attempt: u32,
    },
    /// Make and start a container.
    Start {
        /// Its name in the pod.
        name: String,
        /// Its part.
        role: Role,
        /// How many runs there were before.
        attempt: u32,
    },
    /// Stop a container, with the grace it is due.
    Stop {
        /// Its identifier.
        id: String,
        /// Its name in the pod.
        name: String,
        /// Why.
        reason: StopReason,
    },
    /// Remove what an interrupted start left.
    Remove {
        /// Its identifier.
        id: String,
    },
}

/// Whether the pod goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It does.
    Going,
    /// Its containers have ended, and none is started again.
    Finished,
    /// It must not go on.
    Failed {
        /// In one word.
        reason: String,
        /// In a sentence.
        message: String,
    },
}

/// A container that waits until it is started again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pause {
    /// Its name in the pod.
    pub name: String,
    /// Until when.
    pub until: Timestamp,
    /// How long in all, in seconds.
    pub seconds: u64,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Now, in this order.
    pub actions: Vec<Action>,
    /// Not now.
    pub pauses: Vec<Pause>,
    /// When the pod's deadline passes.
    pub deadline: Option<Timestamp>,
    /// Whether the pod goes on.
    pub verdict: Verdict,
}

/// What probes say of a running container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// Whether it has started up; true without a startup probe.
    pub started: bool,
    /// A liveness or startup probe failed too often; says which and how.
    pub failure: Option<String>,
}

/// What a plan is made from.
#[derive(Clone, Copy)]
pub struct Input<'a> {
    /// The pod as the API has it.
    pub pod: &'a Pod,
    /// The pod as the runtime has it.
    pub observed: &'a Observed,
    /// Health by container identifier.
    pub health: &'a dyn Fn(&str) -> Health,
    /// Pauses of containers that keep ending.
    pub backoff: &'a CrashBackoff,
    /// When the agent took the pod on, if the API does not say.
    pub started: Timestamp,
    /// Now.
    pub now: Timestamp,
}

/// The part a container plays by its specification; `init` says where it is listed.
pub fn role(container: &Container, init: bool) -> Role {
    match (init, container.restart_policy.as_deref()) {
        (true, Some("Always")) => Role::Sidecar,
        (true, _) => Role::Init,
        (false, _) => Role::Main,
    }
}

/// The pod's restart policy; `Always` unless it says otherwise.
pub fn restart_policy(spec: &PodSpec) -> &str {
    spec.restart_policy.as_deref().unwrap_or("Always")
}

/// Makes a plan.
pub fn plan(input: Input<'_>) -> Plan {
    let mut planner = Planner { input, actions: Vec::new(), pauses: Vec::new() };
    let spec = input.pod.spec.clone().unwrap_or_default();
    let deadline = deadline(&spec, input);
    let verdict = match deadline {
        Some(deadline) if deadline <= input.now => Verdict::Failed {
            reason: "DeadlineExceeded".to_owned(),
            message: "Pod was active on the node longer than the specified deadline".to_owned(),
        },
        _ => planner.pod(&spec),
    };
    Plan { actions: planner.actions, pauses: planner.pauses, deadline, verdict }
}

fn deadline(spec: &PodSpec, input: Input<'_>) -> Option<Timestamp> {
    let seconds = u64::try_from(spec.active_deadline_seconds?).ok()?;
    let status = input.pod.status.as_ref();
    let started = status.and_then(|status| status.start_time.as_ref()).map_or(input.started, |time| time.0);
    Some(after(started, std::time::Duration::from_secs(seconds)))
}

struct Planner<'a> {
    input: Input<'a>,
    actions: Vec<Action>,
    pauses: Vec<Pause>,
}

impl Planner<'_> {
    fn pod(&mut self, spec: &PodSpec) -> Verdict {
        let observed = self.input.observed;
        if is_finished(spec, observed) {
            return Verdict::Finished;
        }
        let Some(sandbox) = observed.ready_sandbox() else { return self.without_sandbox(spec) };
        for surplus in observed.sandboxes.iter().filter(|other| other.ready && other.id != sandbox.id) {
            self.actions.push(Action::StopSandbox { id: surplus.id.clone() });
        }
        match self.init_stage(spec, sandbox) {
            InitStage::Passed => {
                for container in &spec.containers {
                    self.main(spec, container, sandbox);
                }
                Verdict::Going
            }
            InitStage::Waiting => Verdict::Going,
            InitStage::Failed => Verdict::Finished,
        }
    }

    fn without_sandbox(&mut self, spec: &PodSpec) -> Verdict {
        let observed = self.input.observed;
        if restart_policy(spec) == "Never" && !observed.runs.is_empty() {
            // Its containers went down with the sandbox, and may not be started again.
            return Verdict::Finished;
        }
        if let Some(last) = observed.sandboxes.first() {
            self.actions.push(Action::StopSandbox { id: last.id.clone() });
        }
        let attempt = observed.sandboxes.iter().map(|sandbox| sandbox.attempt + 1).max().unwrap_or(0);
        self.actions.push(Action::CreateSandbox { attempt });
        Verdict::Going
    }

    fn init_stage(&mut self, spec: &PodSpec, sandbox: &Sandbox) -> InitStage {
        let observed = self.input.observed;
        let inits = spec.init_containers.as_deref().unwrap_or_default();
        for (index, container) in inits.iter().enumerate() {
            let later = inits[index + 1..].iter().chain(&spec.containers);
            // Something behind it was started, so it had done its work; its own record may be gone.
            let passed = later.clone().any(|later| observed.latest_in(&later.name, &sandbox.id).is_some());
            let run = observed.latest_in(&container.name, &sandbox.id);
            match role(container, true) {
                Role::Sidecar => {
                    if !self.sidecar(container, run) && !passed {
                        return InitStage::Waiting;
                    }
                }
                _ if passed => {}
                _ => match self.init(spec, container, run) {
                    InitStage::Passed => {}
                    other => return other,
                },
            }
        }
        InitStage::Passed
    }

    fn init(&mut self, spec: &PodSpec, container: &Container, run: Option<&Run>) -> InitStage {
        match run.map(|run| (run, &run.state)) {
            Some((_, RunState::Exited(exit))) if exit.code == 0 => return InitStage::Passed,
            Some((_, RunState::Exited(_))) if restart_policy(spec) == "Never" => return InitStage::Failed,
            Some((run, RunState::Running { .. })) if run.spec_hash == labels::spec_hash(container) => {}
            _ => self.bring_up(container, Role::Init, run),
        }
        InitStage::Waiting
    }

    /// Whether a sidecar is far enough for what comes behind it.
    fn sidecar(&mut self, container: &Container, run: Option<&Run>) -> bool {
        match run {
            Some(run) if run.is_running() => {
                let health = (self.input.health)(&run.id);
                !self.stop_if_necessary(container, run, &health) && health.started
            }
            _ => {
                self.bring_up(container, Role::Sidecar, run);
                false
            }
        }
    }

    fn main(&mut self, spec: &PodSpec, container: &Container, sandbox: &Sandbox) {
        let observed = self.input.observed;
        match observed.latest_in(&container.name, &sandbox.id) {
            Some(run) if run.is_running() => {
                let health = (self.input.health)(&run.id);
                self.stop_if_necessary(container, run, &health);
            }
            run => {
                // Not in this sandbox, perhaps: that it ended well in the one before counts, too.
                let last = run.or_else(|| observed.latest(&container.name));
                if last.is_none_or(|last| is_started_again(spec, last)) {
                    self.bring_up(container, Role::Main, run);
                }
            }
        }
    }

    fn stop_if_necessary(&mut self, container: &Container, run: &Run, health: &Health) -> bool {
        let reason = match &health.failure {
            Some(failure) => StopReason::Unhealthy(failure.clone()),
            None if run.spec_hash != labels::spec_hash(container) => StopReason::Changed,
            None => return false,
        };
        self.actions.push(Action::Stop { id: run.id.clone(), name: run.name.clone(), reason });
        true
    }

    /// Starts a container that does not run, after what is left of its last run is out of the way.
    fn bring_up(&mut self, container: &Container, role: Role, run: Option<&Run>) {
        let name = container.name.clone();
        match run.map(|run| (run, &run.state)) {
            Some((run, RunState::Running { .. })) => {
                let reason = StopReason::Changed;
                self.actions.push(Action::Stop { id: run.id.clone(), name, reason });
                return;
            }
            Some((run, RunState::Unknown)) => {
                let reason = StopReason::Unknown;
                self.actions.push(Action::Stop { id: run.id.clone(), name, reason });
                return;
            }
            Some((run, RunState::Created)) => {
                self.actions.push(Action::Remove { id: run.id.clone() });
            }
            Some((_, RunState::Exited(exit))) => {
                let finished = exit.finished.unwrap_or(self.input.now);
                let pause = self.input.backoff.not_before(&name, finished);
                if let Some((until, pause)) = pause.filter(|(until, _)| *until > self.input.now) {
                    self.pauses.push(Pause { name, until, seconds: pause.as_secs() });
                    return;
                }
            }
            None => {}
        }
        let attempt = self.input.observed.latest(&name).map_or(0, |last| last.attempt + 1);
        self.actions.push(Action::Start { name, role, attempt });
    }
}

enum InitStage {
    Passed,
    Waiting,
    Failed,
}

/// Whether a container that does not run is started again.
fn is_started_again(spec: &PodSpec, run: &Run) -> bool {
    match (&run.state, restart_policy(spec)) {
        (RunState::Exited(_), "Never") => false,
        (RunState::Exited(exit), "OnFailure") => exit.code != 0,
        _ => true,
    }
}

/// Whether every main container has ended for good.
pub fn is_finished(spec: &PodSpec, observed: &Observed) -> bool {
    restart_policy(spec) != "Always"
        && spec.containers.iter().all(|container| {
            let last = observed.latest(&container.name);
            last.is_some_and(|run| run.exit().is_some() && !is_started_again(spec, run))
        })
}

#[cfg(test)]
mod tests;
