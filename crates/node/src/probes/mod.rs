//! Probes: whether a container has started up, is alive, and may get traffic.
//!
//! [`Prober`] keeps one task per probe of each running container of a pod and a board of their results, which the pod's worker
//! reads; it wakes the worker when a result changes something.

mod attempt;
mod grpc;
mod schedule;

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use k8s_openapi::api::core::v1::{Container, Pod, Probe};
use tokio::{sync::Notify, task::AbortHandle};

use self::{attempt::Target, schedule::Schedule};
use crate::{
    cri::Runtime,
    events::{Events, Severity},
    pods::{
        observed::{Observed, Run, RunState},
        plan::Health,
        status::ProbeView,
    },
};

pub use attempt::{HttpClient, http_target, port_number};

/// What a probe finds out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Whether the container has started up; the others wait for it.
    Startup,
    /// Whether it is alive; if not, it is stopped.
    Liveness,
    /// Whether it may get traffic.
    Readiness,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Liveness => "Liveness",
            Self::Readiness => "Readiness",
        }
    }
}

/// What is known of one running container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Findings {
    started: bool,
    ready: bool,
    failure: Option<String>,
}

type Board = Arc<Mutex<HashMap<String, Findings>>>;

/// Probes the containers of one pod.
#[derive(Debug)]
pub struct Prober {
    runtime: Runtime,
    http: HttpClient,
    events: Events,
    worker: Arc<Notify>,
    board: Board,
    tasks: HashMap<String, Vec<AbortHandle>>,
}

impl Prober {
    /// Probes nothing yet. `worker` is woken when something changes.
    pub fn new(runtime: Runtime, http: HttpClient, events: Events, worker: Arc<Notify>) -> Self {
        Self { runtime, http, events, worker, board: Board::default(), tasks: HashMap::new() }
    }

    /// Begins to probe containers that run since the last call, and stops with those that do no more. Containers that the API
    /// knew as ready stay so until a probe says otherwise: an agent that was restarted is no reason to take traffic away.
    pub fn follow(&mut self, pod: &Arc<Pod>, observed: &Observed, address: Option<IpAddr>) {
        let running: BTreeMap<&str, &Run> =
            observed.runs.iter().filter(|run| run.is_running()).map(|run| (run.id.as_str(), run)).collect();
        let gone: Vec<String> =
            self.tasks.keys().filter(|id| !running.contains_key(id.as_str())).cloned().collect();
        for id in gone {
            self.stop(&id);
        }
        for run in running.into_values().filter(|run| !self.tasks.contains_key(&run.id)).collect::<Vec<_>>() {
            if let Some(container) = container_of(pod, &run.name) {
                self.begin(pod, container, run, address);
            }
        }
    }

    /// Stops all probes.
    pub fn stop_all(&mut self) {
        let ids: Vec<String> = self.tasks.keys().cloned().collect();
        ids.iter().for_each(|id| self.stop(id));
    }

    /// For planning.
    pub fn health(&self, id: &str) -> Health {
        let board = lock(&self.board);
        let findings = board.get(id);
        Health {
            started: findings.is_some_and(|findings| findings.started),
            failure: findings.and_then(|findings| findings.failure.clone()),
        }
    }

    /// For the status.
    pub fn view(&self, id: &str) -> ProbeView {
        let board = lock(&self.board);
        let findings = board.get(id);
        ProbeView {
            started: findings.is_some_and(|findings| findings.started),
            ready: findings.is_some_and(|findings| findings.started && findings.ready),
        }
    }

    fn stop(&mut self, id: &str) {
        self.tasks.remove(id).into_iter().flatten().for_each(|task| task.abort());
        lock(&self.board).remove(id);
    }

    fn begin(&mut self, pod: &Arc<Pod>, container: &Container, run: &Run, address: Option<IpAddr>) {
        let was = told(pod, &run.id);
        let findings = Findings {
            started: container.startup_probe.is_none() || was.started,
            ready: container.readiness_probe.is_none() || was.ready,
            failure: None,
        };
        lock(&self.board).insert(run.id.clone(), findings);
        let probes = [
            (Kind::Startup, &container.startup_probe),
            (Kind::Liveness, &container.liveness_probe),
            (Kind::Readiness, &container.readiness_probe),
        ];
        let tasks = probes.into_iter().filter_map(|(kind, probe)| {
            let task = self.task(pod, container, run, address, kind, probe.as_ref()?);
            Some(tokio::spawn(task.run()).abort_handle())
        });
        let tasks = tasks.collect();
        self.tasks.insert(run.id.clone(), tasks);
    }

    fn task(
        &self,
        pod: &Arc<Pod>,
        container: &Container,
        run: &Run,
        address: Option<IpAddr>,
        kind: Kind,
        probe: &Probe,
    ) -> Task {
        let since = match &run.state {
            RunState::Running { started } => *started,
            _ => run.created,
        };
        Task {
            kind,
            pod: Arc::clone(pod),
            container: container.name.clone(),
            id: run.id.clone(),
            target: Target::new(probe, container, &run.id, address),
            schedule: Schedule::new(kind, probe, since),
            runtime: self.runtime.clone(),
            http: self.http.clone(),
            events: self.events.clone(),
            board: Arc::clone(&self.board),
            worker: Arc::clone(&self.worker),
        }
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.stop_all();
    }
}

fn container_of<'a>(pod: &'a Pod, name: &str) -> Option<&'a Container> {
    let spec = pod.spec.as_ref()?;
    spec.containers
        .iter()
        .chain(spec.init_containers.iter().flatten())
        .find(|container| container.name == name)
}

/// What the API was told of this very run.
fn told(pod: &Pod, id: &str) -> ProbeView {
    let status = pod.status.as_ref();
    let lists = status.map(|status| [&status.container_statuses, &status.init_container_statuses]);
    let mut statuses = lists.into_iter().flatten().flatten().flatten();
    let found = statuses
        .find(|status| status.container_id.as_deref().and_then(|full| full.rsplit("//").next()) == Some(id));
    found.map_or_else(ProbeView::default, |status| ProbeView {
        started: status.started == Some(true),
        ready: status.ready,
    })
}

fn lock(board: &Board) -> std::sync::MutexGuard<'_, HashMap<String, Findings>> {
    board.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Task {
    kind: Kind,
    pod: Arc<Pod>,
    container: String,
    id: String,
    target: Target,
    schedule: Schedule,
    runtime: Runtime,
    http: HttpClient,
    events: Events,
    board: Board,
    worker: Arc<Notify>,
}

impl Task {
    /// Until it is aborted, or has nothing more to find out.
    async fn run(mut self) {
        if self.kind == Kind::Startup && self.findings().started {
            return;
        }
        loop {
            tokio::time::sleep(self.schedule.pause(k8s_openapi::jiff::Timestamp::now())).await;
            if self.kind != Kind::Startup && !self.findings().started {
                self.schedule.wait_for_startup();
                continue;
            }
            let result = self.target.attempt(&self.runtime, &self.http, self.schedule.timeout()).await;
            if let Err(problem) = &result
                && !self.schedule.is_eager()
            {
                let message = format!("{} probe failed: {problem}", self.kind.name());
                self.events.container(&self.pod, &self.container, Severity::Warning, "Unhealthy", message);
            }
            if let Some(verdict) = self.schedule.record(result.is_ok()) {
                self.post(verdict, result.err());
                if self.kind == Kind::Startup && verdict {
                    return;
                }
            }
        }
    }

    fn findings(&self) -> Findings {
        lock(&self.board).get(&self.id).cloned().unwrap_or_default()
    }

    fn post(&self, verdict: bool, problem: Option<String>) {
        let mut board = lock(&self.board);
        let Some(findings) = board.get_mut(&self.id) else { return };
        let before = findings.clone();
        match (self.kind, verdict) {
            (Kind::Startup, true) => findings.started = true,
            (Kind::Readiness, verdict) => findings.ready = verdict,
            (Kind::Liveness, true) => {}
            (Kind::Startup | Kind::Liveness, false) => {
                let kind = self.kind.name().to_lowercase();
                let problem = problem.unwrap_or_default();
                findings.failure = Some(format!("failed {kind} probe: {problem}"));
            }
        }
        if *findings != before {
            self.worker.notify_one();
        }
    }
}
