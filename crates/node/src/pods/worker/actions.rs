//! Carrying out a plan's actions.

use std::time::{Duration, Instant};

use k8s_openapi::{
    api::core::v1::{Container, PodSpec},
    jiff::Timestamp,
};

use super::{StepError, Worker};
use crate::{
    events::Severity,
    pods::{
        hooks,
        observed::Run,
        plan::{Action, StopReason},
        spec::sandbox::sandbox_config,
    },
};

/// What a container gets at least, after its hook has used up its grace.
const MIN_GRACE: Duration = Duration::from_secs(2);
/// Grace of a pod that does not say.
const DEFAULT_GRACE: Duration = Duration::from_secs(30);

/// How far the actions got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// All were done.
    Done,
    /// Something must wait, until then if it is known.
    Blocked(Option<Timestamp>),
}

impl Worker {
    pub(super) async fn carry_out(&mut self, actions: Vec<Action>) -> Result<Outcome, StepError> {
        let mut retries = Vec::new();
        let mut blocked = false;
        for action in actions {
            match self.act(action).await? {
                Outcome::Done => {}
                Outcome::Blocked(retry) => {
                    blocked = true;
                    retries.extend(retry);
                }
            }
        }
        Ok(if blocked { Outcome::Blocked(retries.into_iter().min()) } else { Outcome::Done })
    }

    async fn act(&mut self, action: Action) -> Result<Outcome, StepError> {
        match action {
            Action::StopSandbox { id } => self.context.runtime.stop_pod_sandbox(&id).await?,
            Action::CreateSandbox { attempt } => return self.create_sandbox(attempt).await,
            Action::Start { name, attempt, .. } => return Box::pin(self.start(&name, attempt)).await,
            Action::Stop { id, name, reason } => self.stop_one(&id, &name, &reason).await?,
            Action::Remove { id } => self.context.runtime.remove_container(&id).await?,
        }
        Ok(Outcome::Done)
    }

    async fn create_sandbox(&mut self, attempt: u32) -> Result<Outcome, StepError> {
        if let Err(error) = self.set_up_volumes().await {
            let message = format!("MountVolume.SetUp failed: {error}");
            return Ok(self.failed("FailedMount", message));
        }
        let config = sandbox_config(&self.pod, &self.context.facts, attempt);
        match self.context.runtime.run_pod_sandbox(config).await {
            Ok(_) => {
                self.obstacles = 0;
                Ok(Outcome::Done)
            }
            Err(error) => {
                let message = format!("Failed to create pod sandbox: {}", error.message());
                Ok(self.failed("FailedCreatePodSandBox", message))
            }
        }
    }

    /// Tells what is in the way, and when to try again.
    pub(super) fn failed(&mut self, reason: &'static str, message: String) -> Outcome {
        self.context.events.pod(&self.pod, Severity::Warning, reason, message);
        Outcome::Blocked(Some(self.obstacle()))
    }

    async fn stop_one(&mut self, id: &str, name: &str, reason: &StopReason) -> Result<(), StepError> {
        let Some(run) = self.observed.runs.iter().find(|run| run.id == id).cloned() else { return Ok(()) };
        let spec = self.spec();
        let container = container(&spec, name).cloned().unwrap_or_default();
        let message = match reason {
            StopReason::Unhealthy(failure) => format!("Container {name} {failure}, will be restarted"),
            StopReason::Changed => format!("Container {name} definition changed, will be restarted"),
            StopReason::Unknown => format!("Container {name} is in an unknown state, will be restarted"),
        };
        let grace = match reason {
            StopReason::Unhealthy(failure) => probe_grace(&container, failure).unwrap_or(grace(&spec)),
            StopReason::Changed => grace(&spec),
            StopReason::Unknown => Duration::ZERO,
        };
        self.stop(&container, &run, grace, message).await
    }

    /// Runs the hook and stops the container, within `grace` in all.
    pub(super) async fn stop(
        &self,
        container: &Container,
        run: &Run,
        grace: Duration,
        message: String,
    ) -> Result<(), StepError> {
        let context = &self.context;
        context.events.container(&self.pod, &run.name, Severity::Normal, "Killing", message);
        let begin = Instant::now();
        let hook = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.pre_stop.as_ref());
        if let Some(hook) = hook.filter(|_| !grace.is_zero() && run.is_running()) {
            let (runtime, http) = (&context.runtime, &context.http);
            let work = hooks::run(hook, container, &run.id, self.address(), runtime, http, grace);
            let problem = match tokio::time::timeout(grace, work).await {
                Ok(Ok(())) => None,
                Ok(Err(problem)) => Some(problem),
                Err(_) => Some(format!("it did not end within {} s", grace.as_secs())),
            };
            if let Some(problem) = problem {
                let message = format!("PreStopHook failed: {problem}");
                let events = &context.events;
                events.container(&self.pod, &run.name, Severity::Warning, "FailedPreStopHook", message);
            }
        }
        let rest = grace.saturating_sub(begin.elapsed()).max(MIN_GRACE.min(grace));
        Ok(context.runtime.stop_container(&run.id, rest).await?)
    }
}

/// A container of the pod, init containers included.
pub(super) fn container<'a>(spec: &'a PodSpec, name: &str) -> Option<&'a Container> {
    spec.containers
        .iter()
        .chain(spec.init_containers.iter().flatten())
        .find(|container| container.name == name)
}

/// How long containers of the pod have to end.
pub(super) fn grace(spec: &PodSpec) -> Duration {
    spec.termination_grace_period_seconds.map_or(DEFAULT_GRACE, seconds)
}

pub(super) fn seconds(seconds: i64) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or_default())
}

/// The grace that the probe which failed gives, if it says.
fn probe_grace(container: &Container, failure: &str) -> Option<Duration> {
    let probe = if failure.contains("startup probe") {
        container.startup_probe.as_ref()
    } else {
        container.liveness_probe.as_ref()
    };
    probe?.termination_grace_period_seconds.map(seconds)
}
