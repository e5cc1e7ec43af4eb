//! What the container runtime has of a pod.

use std::collections::HashMap;
use std::net::IpAddr;

use k8s_openapi::jiff::Timestamp;

use crate::{
    cri::{
        CriError, Runtime,
        messages::{
            Container, ContainerState, ContainerStatus, PodSandbox, PodSandboxState, PodSandboxStatus,
        },
    },
    pods::labels,
};

/// A sandbox: the namespaces that a pod's containers share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sandbox {
    /// Identifier.
    pub id: String,
    /// How many the pod had before.
    pub attempt: u32,
    /// Whether it is usable.
    pub ready: bool,
    /// When it was made.
    pub created: Timestamp,
    /// Addresses, the primary one first; none on the node's network.
    pub addresses: Vec<IpAddr>,
}

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// Exit code; above 128, 128 and the number of the signal.
    pub code: i32,
    /// When it started.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub finished: Option<Timestamp>,
    /// `Completed`, `Error`, `OOMKilled`, `StartError`.
    pub reason: String,
    /// What it, or the runtime, said.
    pub message: String,
}

/// Where a container is in its life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunState {
    /// Made, not started.
    Created,
    /// Running.
    Running {
        /// Since when.
        started: Timestamp,
    },
    /// Ended.
    Exited(Exit),
    /// The runtime does not know.
    Unknown,
}

/// One run of a container of the pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Identifier.
    pub id: String,
    /// Name of the container in the pod.
    pub name: String,
    /// How many runs it had before.
    pub attempt: u32,
    /// The sandbox it is in.
    pub sandbox: String,
    /// State.
    pub state: RunState,
    /// The image as the pod names it.
    pub image: String,
    /// The image with its digest.
    pub image_id: String,
    /// When it was made.
    pub created: Timestamp,
    /// [`labels::SPEC_HASH`].
    pub spec_hash: String,
    /// Where its log is.
    pub log_path: String,
}

impl Run {
    /// Whether it runs.
    pub fn is_running(&self) -> bool {
        matches!(self.state, RunState::Running { .. })
    }

    /// How it ended, if it has.
    pub fn exit(&self) -> Option<&Exit> {
        match &self.state {
            RunState::Exited(exit) => Some(exit),
            _ => None,
        }
    }
}

/// All of a pod that the runtime has, the newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    /// Sandboxes.
    pub sandboxes: Vec<Sandbox>,
    /// Containers.
    pub runs: Vec<Run>,
}

impl Observed {
    /// The newest usable sandbox.
    pub fn ready_sandbox(&self) -> Option<&Sandbox> {
        self.sandboxes.iter().find(|sandbox| sandbox.ready)
    }

    /// The newest run of a container.
    pub fn latest(&self, name: &str) -> Option<&Run> {
        self.runs.iter().find(|run| run.name == name)
    }

    /// The newest run of a container in a sandbox.
    pub fn latest_in(&self, name: &str, sandbox: &str) -> Option<&Run> {
        self.runs.iter().find(|run| run.name == name && run.sandbox == sandbox)
    }

    /// The run before the newest.
    pub fn previous(&self, name: &str) -> Option<&Run> {
        self.runs.iter().filter(|run| run.name == name).nth(1)
    }

    /// Puts the newest first.
    pub fn sort(&mut self) {
        self.sandboxes.sort_by_key(|sandbox| std::cmp::Reverse((sandbox.created, sandbox.attempt)));
        self.runs.sort_by_key(|run| std::cmp::Reverse((run.created, run.attempt)));
    }
}

/// Asks the runtime about one pod. Statuses of containers that have ended do not change and are taken from `before`.
///
/// # Errors
/// [`CriError`] of the first call that failed.
pub async fn observe(runtime: &Runtime, uid: &str, before: &Observed) -> Result<Observed, CriError> {
    let (sandboxes, containers) = futures::try_join!(
        runtime.list_pod_sandboxes(labels::by_uid(uid)),
        runtime.list_containers(labels::by_uid(uid))
    )?;
    let sandboxes = sandboxes.into_iter().map(|listed| observe_sandbox(runtime, listed, before));
    let runs = containers.into_iter().map(|listed| observe_run(runtime, listed, before));
    let (sandboxes, runs) =
        futures::try_join!(futures::future::try_join_all(sandboxes), futures::future::try_join_all(runs))?;
    let mut observed = Observed {
        sandboxes: sandboxes.into_iter().flatten().collect(),
        runs: runs.into_iter().flatten().collect(),
    };
    observed.sort();
    Ok(observed)
}

async fn observe_sandbox(
    runtime: &Runtime,
    listed: PodSandbox,
    before: &Observed,
) -> Result<Option<Sandbox>, CriError> {
    let ready = listed.state == PodSandboxState::Ready as i32;
    let known = before.sandboxes.iter().find(|sandbox| sandbox.id == listed.id && sandbox.ready == ready);
    if let Some(known) = known.filter(|sandbox| !sandbox.ready || !sandbox.addresses.is_empty()) {
        return Ok(Some(known.clone()));
    }
    let status = match runtime.pod_sandbox_status(&listed.id).await {
        Err(error) if error.is_not_found() => return Ok(None),
        other => other?,
    };
    let mut addresses = status.as_ref().map(addresses).unwrap_or_default();
    if addresses.is_empty() {
        // One that is stopped has none any more, but the pod is still told by the one it had.
        let earlier = before.sandboxes.iter().find(|sandbox| sandbox.id == listed.id);
        addresses = earlier.map(|sandbox| sandbox.addresses.clone()).unwrap_or_default();
    }
    Ok(Some(Sandbox {
        attempt: listed.metadata.map(|metadata| metadata.attempt).unwrap_or_default(),
        ready,
        created: timestamp(listed.created_at).unwrap_or_default(),
        addresses,
        id: listed.id,
    }))
}

fn addresses(status: &PodSandboxStatus) -> Vec<IpAddr> {
    let Some(network) = &status.network else { return Vec::new() };
    let others = network.additional_ips.iter().map(|address| &address.ip);
    std::iter::once(&network.ip).chain(others).filter_map(|address| address.parse().ok()).collect()
}

async fn observe_run(
    runtime: &Runtime,
    listed: Container,
    before: &Observed,
) -> Result<Option<Run>, CriError> {
    if let Some(known) = before.runs.iter().find(|run| run.id == listed.id)
        && is_settled(&known.state, listed.state)
    {
        return Ok(Some(known.clone()));
    }
    let status = match runtime.container_status(&listed.id).await {
        Err(error) if error.is_not_found() => return Ok(None),
        other => other?,
    };
    Ok(status.map(|status| run(listed.pod_sandbox_id, &status, &listed.labels)))
}

/// Whether there is nothing new to learn.
fn is_settled(known: &RunState, listed: i32) -> bool {
    match known {
        RunState::Exited(_) => listed == ContainerState::Exited as i32,
        RunState::Running { .. } => listed == ContainerState::Running as i32,
        RunState::Created | RunState::Unknown => false,
    }
}

fn run(sandbox: String, status: &ContainerStatus, labels: &HashMap<String, String>) -> Run {
    let metadata = status.metadata.clone().unwrap_or_default();
    Run {
        id: status.id.clone(),
        name: labels.get(labels::CONTAINER_NAME).cloned().unwrap_or(metadata.name),
        attempt: metadata.attempt,
        sandbox,
        state: state(status),
        image: status.image.as_ref().map(|image| image.image.clone()).unwrap_or_default(),
        image_id: status.image_ref.clone(),
        created: timestamp(status.created_at).unwrap_or_default(),
        spec_hash: status.annotations.get(labels::SPEC_HASH).cloned().unwrap_or_default(),
        log_path: status.log_path.clone(),
    }
}

fn state(status: &ContainerStatus) -> RunState {
    match ContainerState::try_from(status.state) {
        Ok(ContainerState::Created) => RunState::Created,
        Ok(ContainerState::Running) => {
            RunState::Running { started: timestamp(status.started_at).unwrap_or_default() }
        }
        Ok(ContainerState::Exited) => RunState::Exited(Exit {
            code: status.exit_code,
            started: timestamp(status.started_at),
            finished: timestamp(status.finished_at),
            reason: match (status.reason.as_str(), status.exit_code) {
                ("", 0) => "Completed".to_owned(),
                ("", _) => "Error".to_owned(),
                (reason, _) => reason.to_owned(),
            },
            message: status.message.clone(),
        }),
        Ok(ContainerState::Unknown) | Err(_) => RunState::Unknown,
    }
}

/// Zero means not yet.
fn timestamp(nanoseconds: i64) -> Option<Timestamp> {
    if nanoseconds == 0 {
        return None;
    }
    Timestamp::from_nanosecond(i128::from(nanoseconds)).ok()
}
