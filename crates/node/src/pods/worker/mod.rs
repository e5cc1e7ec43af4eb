//! The worker of one pod: looks, plans, does what can be done now, tells the API, and waits for something to happen.
//!
//! It keeps nothing that it could not find out again: an agent that is killed anywhere goes on from what the runtime has.

mod actions;
mod ending;
mod report;
mod start;
mod tidy;

use std::{
    collections::BTreeMap,
    fmt,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use k8s_openapi::{
    api::core::v1::{Pod, PodSpec, PodStatus, Service},
    jiff::Timestamp,
};
use kube::Client;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use self::actions::Outcome;
use super::{
    backoff::{CrashBackoff, after},
    images::Images,
    objects::Objects,
    observed::{Observed, observe},
    plan::{self, Pause, Verdict},
    spec::NodeFacts,
    status::{Stage, Waiting},
    volumes::{VolumeError, Volumes},
};
use crate::{
    cri::{CriError, Runtime},
    events::{Events, Severity},
    networking::objects::Objects as Services,
    probes::{HttpClient, Prober},
};

/// How often plans are made in a row before others get their turn.
const MAX_ROUNDS: usize = 16;
/// Pause after the first failure of a step; doubled up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// The longest pause after failures.
const MAX_PAUSE: Duration = Duration::from_secs(10);
/// How often what volumes show is brought up to date.
const REFRESH: Duration = Duration::from_secs(60);

/// What all workers of a node share.
pub struct PodContext {
    /// The container runtime.
    pub runtime: Runtime,
    /// The API.
    pub client: Client,
    /// What the node contributes to pods.
    pub facts: NodeFacts,
    /// Images.
    pub images: Images,
    /// ConfigMaps, Secrets, tokens.
    pub objects: Arc<Objects>,
    /// Volumes.
    pub volumes: Volumes,
    /// Where events are told.
    pub events: Events,
    /// For probes and hooks.
    pub http: HttpClient,
    /// The Services of the cluster, for variables of containers.
    pub services: Services<Service>,
}

impl fmt::Debug for PodContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PodContext").field("facts", &self.facts).finish_non_exhaustive()
    }
}

/// The pod as it should be.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    /// As the API has it, or had it last.
    pub(super) pod: Arc<Pod>,
    /// The API has it no more.
    pub(super) gone: bool,
}

/// When the worker is to look again, unless it is woken before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// At once.
    Again,
    /// Then, or only when it is woken.
    Wait(Option<Timestamp>),
    /// Never: nothing is left of the pod.
    Done,
}

/// A step that could not be done.
#[derive(Debug, thiserror::Error)]
enum StepError {
    #[error(transparent)]
    Runtime(#[from] CriError),
    #[error(transparent)]
    Volume(#[from] VolumeError),
    #[error("telling the API: {0}")]
    Api(#[from] Box<kube::Error>),
}

/// The worker.
pub(super) struct Worker {
    context: Arc<PodContext>,
    wanted: watch::Receiver<Wanted>,
    wake: Arc<Notify>,
    pod: Arc<Pod>,
    uid: String,
    observed: Observed,
    prober: Prober,
    backoff: CrashBackoff,
    waiting: BTreeMap<String, Waiting>,
    /// When the agent took the pod on.
    started: Timestamp,
    /// Objects of the API must be as new as this.
    since: Instant,
    /// When volumes were brought up to date.
    volumes_set_up: Option<Instant>,
    /// The status that the API has, as far as the worker knows.
    told: Option<PodStatus>,
    /// Steps that failed in a row.
    failures: u32,
    /// Obstacles in a row, to sandboxes and containers.
    obstacles: u32,
}

impl Worker {
    pub(super) fn new(context: Arc<PodContext>, wanted: watch::Receiver<Wanted>, wake: Arc<Notify>) -> Self {
        let pod = Arc::clone(&wanted.borrow().pod);
        let prober = Prober::new(
            context.runtime.clone(),
            context.http.clone(),
            context.events.clone(),
            Arc::clone(&wake),
        );
        Self {
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            told: pod.status.clone(),
            context,
            wanted,
            wake,
            pod,
            observed: Observed::default(),
            prober,
            backoff: CrashBackoff::default(),
            waiting: BTreeMap::new(),
            started: Timestamp::now(),
            since: Instant::now(),
            volumes_set_up: None,
            failures: 0,
            obstacles: 0,
        }
    }

    /// Works until nothing is left of the pod, or until `shutdown`, which leaves everything as it is.
    pub(super) async fn run(mut self, shutdown: CancellationToken) {
        loop {
            let next = tokio::select! {
                () = shutdown.cancelled() => return,
                next = self.look_and_act() => next,
            };
            let pause = match next {
                Next::Done => return,
                Next::Again => continue,
                Next::Wait(at) => at.map(until),
            };
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.wake.notified() => {}
                () = sleep(pause) => {}
                changed = self.wanted.changed() => if changed.is_err() { return },
            }
        }
    }

    /// One step; a failure is followed by a pause.
    async fn look_and_act(&mut self) -> Next {
        self.take_wanted();
        match self.step().await {
            Ok(next) => {
                self.failures = 0;
                next
            }
            Err(error) => {
                self.failures = self.failures.saturating_add(1);
                let name = self.pod.metadata.name.as_deref().unwrap_or_default();
                tracing::warn!(pod = name, %error, "working on a pod");
                Next::Wait(Some(after(Timestamp::now(), pause(self.failures))))
            }
        }
    }

    /// When to try again after one more obstacle.
    fn obstacle(&mut self) -> Timestamp {
        self.obstacles = self.obstacles.saturating_add(1);
        // What was missing may have come meanwhile.
        self.since = Instant::now();
        after(Timestamp::now(), pause(self.obstacles))
    }

    fn take_wanted(&mut self) {
        let wanted = self.wanted.borrow_and_update();
        if Arc::ptr_eq(&self.pod, &wanted.pod) {
            return;
        }
        self.pod = Arc::clone(&wanted.pod);
        drop(wanted);
        self.merge_told();
    }

    fn gone(&self) -> bool {
        self.wanted.borrow().gone
    }

    fn is_leaving(&self) -> bool {
        self.pod.metadata.deletion_timestamp.is_some() || self.gone()
    }

    /// Whether the API was told that the pod has ended.
    fn has_ended(&self) -> bool {
        let phase = self.told.as_ref().and_then(|status| status.phase.as_deref());
        matches!(phase, Some("Succeeded" | "Failed"))
    }

    fn spec(&self) -> PodSpec {
        self.pod.spec.clone().unwrap_or_default()
    }

    /// Address of the pod, for probes and hooks.
    fn address(&self) -> Option<IpAddr> {
        if self.pod.spec.as_ref().is_some_and(|spec| spec.host_network == Some(true)) {
            return Some(self.context.facts.address);
        }
        self.observed.ready_sandbox().and_then(|sandbox| sandbox.addresses.first().copied())
    }

    async fn look(&mut self) -> Result<(), StepError> {
        self.observed = observe(&self.context.runtime, &self.uid, &self.observed).await?;
        self.read_termination_messages();
        let address = self.address();
        self.prober.follow(&self.pod, &self.observed, address);
        Ok(())
    }

    async fn step(&mut self) -> Result<Next, StepError> {
        self.look().await?;
        if self.is_leaving() {
            return self.leave().await;
        }
        if self.has_ended() {
            return self.finish(Stage::Ended).await;
        }
        self.refresh_volumes().await;
        for _ in 0..MAX_ROUNDS {
            let plan = self.plan();
            match plan.verdict {
                Verdict::Going => {}
                Verdict::Finished => return self.finish(Stage::Ended).await,
                Verdict::Failed { reason, message } => {
                    return self.finish(Stage::Failed { reason, message }).await;
                }
            }
            self.waiting.clear();
            self.note_pauses(&plan.pauses);
            let resume = plan.pauses.iter().map(|pause| pause.until).chain(plan.deadline).min();
            if plan.actions.is_empty() {
                return self.rest(resume).await;
            }
            let outcome = self.carry_out(plan.actions).await?;
            self.look().await?;
            if let Outcome::Blocked(retry) = outcome {
                return self.rest([resume, retry].into_iter().flatten().min()).await;
            }
            if self.wanted.has_changed().unwrap_or(false) {
                return Ok(Next::Again);
            }
        }
        self.report(&Stage::Active).await?;
        Ok(Next::Again)
    }

    /// Nothing can be done now: tells the API, clears away what is old, and waits.
    async fn rest(&mut self, resume: Option<Timestamp>) -> Result<Next, StepError> {
        self.report(&Stage::Active).await?;
        self.tidy().await;
        let refresh = Volumes::needs_refresh(&self.pod)
            .then(|| self.volumes_set_up.map(|at| REFRESH.saturating_sub(at.elapsed())))
            .flatten()
            .map(|pause| after(Timestamp::now(), pause));
        Ok(Next::Wait([resume, refresh].into_iter().flatten().min()))
    }

    fn plan(&self) -> plan::Plan {
        let health = |id: &str| self.prober.health(id);
        plan::plan(plan::Input {
            pod: &self.pod,
            observed: &self.observed,
            health: &health,
            backoff: &self.backoff,
            started: self.started,
            now: Timestamp::now(),
        })
    }

    fn note_pauses(&mut self, pauses: &[Pause]) {
        let (name, namespace) = (&self.pod.metadata.name, &self.pod.metadata.namespace);
        for pause in pauses {
            let message = format!(
                "back-off {}s restarting failed container={} pod={}_{}({})",
                pause.seconds,
                pause.name,
                name.as_deref().unwrap_or_default(),
                namespace.as_deref().unwrap_or_default(),
                self.uid
            );
            let event = format!(
                "Back-off restarting failed container {} in pod {}_{}({})",
                pause.name,
                name.as_deref().unwrap_or_default(),
                namespace.as_deref().unwrap_or_default(),
                self.uid
            );
            self.context.events.container(&self.pod, &pause.name, Severity::Warning, "BackOff", event);
            let waiting = Waiting { reason: "CrashLoopBackOff".to_owned(), message };
            self.waiting.insert(pause.name.clone(), waiting);
        }
    }

    /// Makes volumes, or brings them up to date when that was long ago.
    async fn set_up_volumes(&mut self) -> Result<(), VolumeError> {
        if self.volumes_set_up.is_none() {
            self.context.volumes.set_up(&self.pod, &self.context.facts, self.since).await?;
            self.volumes_set_up = Some(Instant::now());
        }
        Ok(())
    }

    async fn refresh_volumes(&mut self) {
        let due = self.volumes_set_up.is_some_and(|at| at.elapsed() >= REFRESH);
        if !due || !Volumes::needs_refresh(&self.pod) {
            return;
        }
        // What is shown stays as it is when it cannot be brought up to date.
        if let Err(error) = self.context.volumes.refresh(&self.pod, &self.context.facts, Instant::now()).await
        {
            tracing::warn!(pod = self.pod.metadata.name, %error, "bringing volumes up to date");
        }
        self.volumes_set_up = Some(Instant::now());
    }
}

/// How long to wait after so many failures in a row.
fn pause(failures: u32) -> Duration {
    FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(MAX_PAUSE)
}

fn until(time: Timestamp) -> Duration {
    Duration::try_from(time.duration_since(Timestamp::now())).unwrap_or_default()
}

async fn sleep(pause: Option<Duration>) {
    match pause {
        Some(pause) => tokio::time::sleep(pause).await,
        None => std::future::pending().await,
    }
}
