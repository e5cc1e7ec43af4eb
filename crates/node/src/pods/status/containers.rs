//! Statuses of containers.

use k8s_openapi::{
    api::core::v1::{
        Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
        ContainerStatus,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};

use super::{Input, ProbeView, Stage, has_passed_init, whole_seconds};
use crate::pods::{
    observed::{Exit, Run, RunState},
    plan::{Role, role},
};

/// Exit code of a container that was killed; stands for one whose end nobody saw.
const KILLED: i32 = 137;

/// One status for each of these containers, in their order.
pub(super) fn statuses(input: Input<'_>, containers: &[Container]) -> Vec<ContainerStatus> {
    containers.iter().map(|container| status(input, container)).collect()
}

fn status(input: Input<'_>, container: &Container) -> ContainerStatus {
    let before = told_before(input, &container.name);
    let run = input.observed.latest(&container.name);
    let mut status = ContainerStatus {
        name: container.name.clone(),
        image: container.image.clone().unwrap_or_default(),
        ..ContainerStatus::default()
    };
    match run {
        Some(run) => describe(input, container, run, &mut status),
        None => without_run(input, container, before, &mut status),
    }
    status
}

fn told_before<'a>(input: Input<'a>, name: &str) -> Option<&'a ContainerStatus> {
    let status = input.pod.status.as_ref()?;
    let lists = [&status.init_container_statuses, &status.container_statuses];
    lists.into_iter().flatten().flatten().find(|status| status.name == name)
}

fn describe(input: Input<'_>, container: &Container, run: &Run, status: &mut ContainerStatus) {
    let is_init = is_init(input, container);
    status.container_id = Some(container_id(run));
    status.image_id.clone_from(&run.image_id);
    status.restart_count = i32::try_from(run.attempt).unwrap_or(i32::MAX);
    let previous = input.observed.previous(&container.name).and_then(terminated);
    let told = told_before(input, &container.name).and_then(|before| before.last_state.clone());
    let last = previous.map(ended).or(told);
    match &run.state {
        RunState::Running { started } => {
            let probes = (input.probes)(&run.id);
            let is_one_shot = is_init && role(container, true) == Role::Init;
            status.started = Some(probes.started);
            status.ready = probes.ready && !is_one_shot && *input.stage == Stage::Active;
            let running = ContainerStateRunning { started_at: Some(Time(whole_seconds(*started))) };
            status.state = Some(ContainerState { running: Some(running), ..ContainerState::default() });
            status.last_state = last;
        }
        RunState::Exited(exit) => {
            let end = termination(run, exit);
            status.started = Some(false);
            // For an init container, ready means that it has done its work.
            status.ready = is_init && exit.code == 0;
            match input.waiting.get(&container.name) {
                Some(wait) if *input.stage == Stage::Active => {
                    status.state = Some(waiting(&wait.reason, &wait.message));
                    status.last_state = Some(ended(end));
                }
                _ => {
                    status.state = Some(ended(end));
                    status.last_state = last;
                }
            }
        }
        RunState::Created | RunState::Unknown if *input.stage != Stage::Active => {
            status.state = Some(ended(nobody_saw(Some(run))));
            status.last_state = last;
        }
        RunState::Created | RunState::Unknown => {
            status.started = Some(false);
            let wait = input.waiting.get(&container.name);
            status.state = Some(wait.map_or_else(
                || waiting("ContainerCreating", ""),
                |wait| waiting(&wait.reason, &wait.message),
            ));
            status.last_state = last;
        }
    }
}

/// The runtime has no record: the container was not made yet, or its record is gone.
fn without_run(
    input: Input<'_>,
    container: &Container,
    before: Option<&ContainerStatus>,
    status: &mut ContainerStatus,
) {
    let is_init = is_init(input, container);
    let spec = input.pod.spec.clone().unwrap_or_default();
    status.started = Some(false);
    if let Some(before) = before.filter(|before| before.container_id.is_some()) {
        status.restart_count = before.restart_count;
        status.image_id.clone_from(&before.image_id);
        status.container_id.clone_from(&before.container_id);
        status.last_state.clone_from(&before.last_state);
        let end = before.state.as_ref().and_then(|state| state.terminated.clone());
        if let Some(end) =
            end.filter(|_| (is_init && has_passed_init(input, &spec)) || *input.stage != Stage::Active)
        {
            status.ready = is_init && end.exit_code == 0;
            status.state = Some(ended(end));
            return;
        }
    }
    if *input.stage != Stage::Active {
        status.state = Some(match before.and_then(|before| before.container_id.clone()) {
            Some(_) => ended(nobody_saw(None)),
            None => waiting("ContainerCreating", ""),
        });
        return;
    }
    let wait = input.waiting.get(&container.name);
    let has_inits = spec.init_containers.as_ref().is_some_and(|inits| !inits.is_empty());
    let reason = if has_inits { "PodInitializing" } else { "ContainerCreating" };
    status.state =
        Some(wait.map_or_else(|| waiting(reason, ""), |wait| waiting(&wait.reason, &wait.message)));
}

fn is_init(input: Input<'_>, container: &Container) -> bool {
    let inits = input.pod.spec.as_ref().and_then(|spec| spec.init_containers.as_ref());
    inits.is_some_and(|inits| inits.iter().any(|init| init.name == container.name))
}

/// As Kubernetes writes it: the kind of runtime, and its identifier.
fn container_id(run: &Run) -> String {
    format!("containerd://{}", run.id)
}

fn terminated(run: &Run) -> Option<ContainerStateTerminated> {
    run.exit().map(|exit| termination(run, exit))
}

fn termination(run: &Run, exit: &Exit) -> ContainerStateTerminated {
    let time = |time: Option<k8s_openapi::jiff::Timestamp>| time.map(|time| Time(whole_seconds(time)));
    ContainerStateTerminated {
        container_id: Some(container_id(run)),
        exit_code: exit.code,
        reason: Some(exit.reason.clone()).filter(|reason| !reason.is_empty()),
        message: Some(exit.message.clone()).filter(|message| !message.is_empty()),
        started_at: time(exit.started),
        finished_at: time(exit.finished),
        signal: None,
    }
}

fn nobody_saw(run: Option<&Run>) -> ContainerStateTerminated {
    ContainerStateTerminated {
        container_id: run.map(container_id),
        exit_code: KILLED,
        reason: Some("ContainerStatusUnknown".to_owned()),
        message: Some("The container could not be located when the pod was terminated".to_owned()),
        ..ContainerStateTerminated::default()
    }
}

fn ended(end: ContainerStateTerminated) -> ContainerState {
    ContainerState { terminated: Some(end), ..ContainerState::default() }
}

fn waiting(reason: &str, message: &str) -> ContainerState {
    let waiting = ContainerStateWaiting {
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()).filter(|message| !message.is_empty()),
    };
    ContainerState { waiting: Some(waiting), ..ContainerState::default() }
}

impl ProbeView {
    /// Of a container without probes.
    pub const WITHOUT_PROBES: Self = Self { started: true, ready: true };
}
