//! What the API is told about a pod: `(specification, what the runtime has, waiting, probes, what was told before) → status`.
//! Pure.

mod conditions;
mod containers;

use std::{collections::BTreeMap, net::IpAddr};

use k8s_openapi::{
    api::core::v1::{ContainerStatus, HostIP, Pod, PodIP, PodSpec, PodStatus},
    apimachinery::pkg::apis::meta::v1::Time,
    jiff::Timestamp,
};

use super::{
    observed::{Observed, RunState},
    plan::{Role, restart_policy, role},
    resources::qos_class,
};

/// Why a container does not run yet, or not again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// In one word, such as `CrashLoopBackOff`.
    pub reason: String,
    /// In a sentence.
    pub message: String,
}

/// What probes say of a running container.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProbeView {
    /// Whether it has started up.
    pub started: bool,
    /// Whether it may get traffic.
    pub ready: bool,
}

/// How far a pod is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    /// It goes on.
    Active,
    /// Everything in it has ended, for good.
    Ended,
    /// As `Ended`, because it had to.
    Failed {
        /// In one word.
        reason: String,
        /// In a sentence.
        message: String,
    },
}

/// What a status is made from.
#[derive(Clone, Copy)]
pub struct Input<'a> {
    /// The pod as the API has it, with the status told before.
    pub pod: &'a Pod,
    /// The pod as the runtime has it.
    pub observed: &'a Observed,
    /// Containers that wait, by name.
    pub waiting: &'a BTreeMap<String, Waiting>,
    /// Probes by container identifier.
    pub probes: &'a dyn Fn(&str) -> ProbeView,
    /// How far it is.
    pub stage: &'a Stage,
    /// Address of the node.
    pub host_address: IpAddr,
    /// When the agent took the pod on.
    pub started: Timestamp,
    /// Now.
    pub now: Timestamp,
}

/// Makes a status.
pub fn status(input: Input<'_>) -> PodStatus {
    let spec = input.pod.spec.clone().unwrap_or_default();
    let before = input.pod.status.clone().unwrap_or_default();
    let inits = containers::statuses(input, spec.init_containers.as_deref().unwrap_or_default());
    let mains = containers::statuses(input, &spec.containers);
    let phase = phase(&spec, &inits, &mains, input.stage, before.phase.as_deref());
    let mut addresses = addresses(&spec, input);
    if addresses.is_empty() && *input.stage != Stage::Active {
        // The runtime has forgotten it; a pod that has ended is still the one that had it.
        let told = before.pod_ips.iter().flatten().filter_map(|told| told.ip.parse::<IpAddr>().ok());
        addresses.extend(told);
    }
    let (reason, message) = match input.stage {
        Stage::Failed { reason, message } => (Some(reason.clone()), Some(message.clone())),
        _ if phase == "Failed" => (before.reason.clone(), before.message.clone()),
        _ => (None, None),
    };
    let mut status = PodStatus {
        phase: Some(phase),
        reason,
        message,
        start_time: before.start_time.clone().or(Some(Time(whole_seconds(input.started)))),
        host_ip: Some(input.host_address.to_string()),
        host_ips: Some(vec![HostIP { ip: input.host_address.to_string() }]),
        pod_ip: addresses.first().map(ToString::to_string),
        pod_ips: if addresses.is_empty() {
            None
        } else {
            Some(addresses.iter().map(|address| PodIP { ip: address.to_string() }).collect())
        },
        qos_class: before.qos_class.clone().or_else(|| Some(qos_class(&spec).to_string())),
        observed_generation: input.pod.metadata.generation,
        init_container_statuses: Some(inits).filter(|statuses| !statuses.is_empty()),
        container_statuses: Some(mains),
        ..PodStatus::default()
    };
    status.conditions = Some(conditions::conditions(input, &spec, &status));
    status
}

/// Kubernetes writes times with whole seconds.
pub(super) fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

/// Address of the pod: its sandbox's, or the node's. A pod that has ended keeps the one it had.
fn addresses(spec: &PodSpec, input: Input<'_>) -> Vec<IpAddr> {
    if spec.host_network == Some(true) {
        return vec![input.host_address];
    }
    match input.observed.ready_sandbox() {
        Some(sandbox) => sandbox.addresses.clone(),
        None => input.observed.sandboxes.first().map(|sandbox| sandbox.addresses.clone()).unwrap_or_default(),
    }
}

fn phase(
    spec: &PodSpec,
    inits: &[ContainerStatus],
    mains: &[ContainerStatus],
    stage: &Stage,
    before: Option<&str>,
) -> String {
    // A pod does not come back from its end.
    if let Some(ended @ ("Succeeded" | "Failed")) = before {
        return ended.to_owned();
    }
    let tally = Tally::of(mains);
    let phase = match stage {
        Stage::Ended if !init_failed(spec, inits) && tally.succeeded == mains.len() => "Succeeded",
        Stage::Failed { .. } | Stage::Ended => "Failed",
        Stage::Active => active_phase(spec, inits, &tally, mains.len()),
    };
    phase.to_owned()
}

fn active_phase(spec: &PodSpec, inits: &[ContainerStatus], tally: &Tally, mains: usize) -> &'static str {
    if !is_initialized(spec, inits) && tally.running == 0 && tally.stopped == 0 {
        return "Pending";
    }
    if tally.waiting > 0 {
        return "Pending";
    }
    match (tally.running, restart_policy(spec)) {
        (0, "Always") => "Running",
        (0, _) if tally.succeeded == mains => "Succeeded",
        (0, "Never") => "Failed",
        _ => "Running",
    }
}

/// How many containers are how far.
#[derive(Default)]
struct Tally {
    running: usize,
    /// Never started.
    waiting: usize,
    /// Ended, perhaps waiting to be started again.
    stopped: usize,
    succeeded: usize,
}

impl Tally {
    fn of(statuses: &[ContainerStatus]) -> Self {
        let mut tally = Self::default();
        for status in statuses {
            let state = status.state.as_ref();
            let last = status.last_state.as_ref().and_then(|state| state.terminated.as_ref());
            if state.is_some_and(|state| state.running.is_some()) {
                tally.running += 1;
            } else if let Some(end) = state.and_then(|state| state.terminated.as_ref()) {
                tally.stopped += 1;
                tally.succeeded += usize::from(end.exit_code == 0);
            } else if last.is_some() {
                tally.stopped += 1;
            } else {
                tally.waiting += 1;
            }
        }
        tally
    }
}

fn init_failed(spec: &PodSpec, inits: &[ContainerStatus]) -> bool {
    each_init(spec, inits).any(|(role, status)| {
        let end = status.state.as_ref().and_then(|state| state.terminated.as_ref());
        role == Role::Init && end.is_some_and(|end| end.exit_code != 0)
    })
}

/// Whether everything that comes before the main containers has done its part.
fn is_initialized(spec: &PodSpec, inits: &[ContainerStatus]) -> bool {
    each_init(spec, inits).all(|(role, status)| {
        let state = status.state.as_ref();
        match role {
            Role::Sidecar => status.started == Some(true),
            _ => state.and_then(|state| state.terminated.as_ref()).is_some_and(|end| end.exit_code == 0),
        }
    })
}

fn each_init<'a>(
    spec: &'a PodSpec,
    statuses: &'a [ContainerStatus],
) -> impl Iterator<Item = (Role, &'a ContainerStatus)> {
    let containers = spec.init_containers.as_deref().unwrap_or_default();
    containers.iter().map(|container| role(container, true)).zip(statuses)
}

/// Whether a main container of this sandbox exists: then init containers are over, whether their records remain or not.
fn has_passed_init(input: Input<'_>, spec: &PodSpec) -> bool {
    let sandbox = input.observed.sandboxes.first();
    sandbox.is_some_and(|sandbox| {
        spec.containers.iter().any(|container| {
            let run = input.observed.latest_in(&container.name, &sandbox.id);
            run.is_some_and(|run| run.state != RunState::Created)
        })
    })
}

#[cfg(test)]
mod tests;
