//! A journal in memory, a world that actions change, and an engine between them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;
use drystone_api::{ObjectReference, Operation, OperationSpec, OperationStatus, StepState};
use jiff::{SignedDuration, Timestamp};
use kube::Client;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::{
    action::{Action, ActionRegistry, StepContext, StepError},
    events::{EventKind, EventSink},
    runner::{Clock, Engine, EngineConfig, Journal, JournalError},
};

/// What survives a crash.
#[derive(Debug, Default)]
pub(super) struct Disk {
    pub(super) status: OperationStatus,
    pub(super) version: u64,
    pub(super) writes: u32,
}

pub(super) type SharedDisk = Arc<Mutex<Disk>>;

/// A journal on a [`Disk`].
pub(super) struct DiskJournal {
    disk: SharedDisk,
    version: u64,
    /// How long a write takes.
    latency: Duration,
    /// How many more writes succeed before the store stops answering.
    pub(super) writes_left: u32,
}

impl DiskJournal {
    pub(super) fn open(disk: &SharedDisk) -> Self {
        let version = disk.lock().expect("not poisoned").version;
        Self { disk: disk.clone(), version, latency: Duration::from_millis(2), writes_left: u32::MAX }
    }
}

#[async_trait]
impl Journal for DiskJournal {
    async fn record(&mut self, status: &OperationStatus) -> Result<(), JournalError> {
        tokio::time::sleep(self.latency / 2).await;
        let Some(left) = self.writes_left.checked_sub(1) else {
            let operation = "test".to_owned();
            return Err(JournalError::Unavailable {
                operation,
                seconds: 60,
                why: "the disk is full".to_owned(),
            });
        };
        self.writes_left = left;
        {
            let mut disk = self.disk.lock().expect("not poisoned");
            if disk.version != self.version {
                return Err(JournalError::Fenced { operation: "test".to_owned() });
            }
            disk.version += 1;
            disk.writes += 1;
            disk.status = status.clone();
            self.version = disk.version;
        }
        // The answer takes its time as well: a crash may come when the write is done and not yet known to be.
        tokio::time::sleep(self.latency / 2).await;
        Ok(())
    }
}

/// What actions change, and what they saw.
#[derive(Debug, Default)]
pub(super) struct World {
    pub(super) in_effect: BTreeSet<String>,
    pub(super) log: Vec<String>,
    pub(super) running: BTreeSet<String>,
    pub(super) most_running: usize,
    /// Guarantees that were found broken.
    pub(super) violations: Vec<String>,
    /// What each step does on its successive attempts; by default it succeeds.
    pub(super) script: BTreeMap<String, Vec<StepError>>,
    pub(super) undo_script: BTreeMap<String, Vec<StepError>>,
}

pub(super) type SharedWorld = Arc<Mutex<World>>;

/// Parameters of [`Put`].
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct PutParameters {
    /// How long it takes, in milliseconds of simulated time.
    pub(super) takes: u64,
    /// What it rests on: steps that must be in effect.
    pub(super) rests_on: Vec<String>,
    /// Whether it heeds a request to end.
    pub(super) stubborn: bool,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct PutOutput {
    pub(super) put: String,
}

/// Puts the step's id into the world; taken back, it takes it out.
pub(super) struct Put {
    world: SharedWorld,
    disk: SharedDisk,
}

impl Put {
    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().expect("not poisoned")
    }

    fn state_on_disk(&self, step: &str) -> StepState {
        let disk = self.disk.lock().expect("not poisoned");
        disk.status
            .steps
            .iter()
            .find(|status| status.id == step)
            .map(|status| status.state)
            .unwrap_or_default()
    }

    fn require(&self, holds: bool, what: impl Fn() -> String) {
        if !holds {
            self.world().violations.push(what());
        }
    }
}

/// Keeps count of what runs at the same time, also when it is dropped half-way.
struct Presence {
    world: SharedWorld,
    step: String,
}

impl Presence {
    fn enter(world: &SharedWorld, step: &str) -> Self {
        let mut inner = world.lock().expect("not poisoned");
        if !inner.running.insert(step.to_owned()) {
            inner.violations.push(format!("{step} runs twice at the same time"));
        }
        inner.most_running = inner.most_running.max(inner.running.len());
        Self { world: world.clone(), step: step.to_owned() }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.world.lock().expect("not poisoned").running.remove(&self.step);
    }
}

impl Action for Put {
    const NAME: &'static str = "test.put";
    type Parameters = PutParameters;
    type Output = PutOutput;

    async fn run(&self, context: &StepContext, parameters: PutParameters) -> Result<PutOutput, StepError> {
        let step = context.step().to_owned();
        self.require(self.state_on_disk(&step) == StepState::Running, || format!("{step} runs unjournaled"));
        for other in &parameters.rests_on {
            let there = self.world().in_effect.contains(other);
            self.require(there, || format!("{step} runs before {other}"));
            self.require(context.input::<PutOutput>(other).is_ok_and(|output| output.put == *other), || {
                format!("{step} did not get the output of {other}")
            });
        }
        let _presence = Presence::enter(&self.world, &step);
        self.world().log.push(format!("run {step}"));
        let half = Duration::from_millis(parameters.takes / 2);
        self.sleep(context, half, parameters.stubborn).await?;
        let failure = self
            .world()
            .script
            .get_mut(&step)
            .filter(|script| !script.is_empty())
            .map(|script| script.remove(0));
        // What fails may have had its effect all the same.
        self.world().in_effect.insert(step.clone());
        if let Some(error) = failure {
            return Err(error);
        }
        self.sleep(context, half, parameters.stubborn).await?;
        Ok(PutOutput { put: step })
    }

    async fn undo(&self, context: &StepContext, parameters: PutParameters) -> Result<(), StepError> {
        let step = context.step().to_owned();
        self.require(self.state_on_disk(&step) == StepState::Undoing, || {
            format!("{step} is undone unjournaled")
        });
        for other in &parameters.rests_on {
            let there = self.world().in_effect.contains(other);
            self.require(there, || format!("{step} is undone after {other}, on which it rests"));
        }
        let _presence = Presence::enter(&self.world, &step);
        self.world().log.push(format!("undo {step}"));
        tokio::time::sleep(Duration::from_millis(parameters.takes / 2)).await;
        let failure = self
            .world()
            .undo_script
            .get_mut(&step)
            .filter(|script| !script.is_empty())
            .map(|script| script.remove(0));
        if let Some(error) = failure {
            return Err(error);
        }
        self.world().in_effect.remove(&step);
        tokio::time::sleep(Duration::from_millis(parameters.takes / 2)).await;
        Ok(())
    }
}

impl Put {
    async fn sleep(
        &self,
        context: &StepContext,
        duration: Duration,
        stubborn: bool,
    ) -> Result<(), StepError> {
        tokio::select! {
            biased;
            () = context.cancelled(), if !stubborn => Err(StepError::Cancelled),
            () = tokio::time::sleep(duration) => Ok(()),
        }
    }
}

/// Panics.
pub(super) struct Panic;

impl Action for Panic {
    const NAME: &'static str = "test.panic";
    type Parameters = ();
    type Output = ();

    async fn run(&self, _: &StepContext, (): ()) -> Result<(), StepError> {
        panic!("as told");
    }
}

/// Waits, outside of the engine's places, until another step is in effect.
pub(super) struct AwaitOther {
    world: SharedWorld,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Other {
    pub(super) step: String,
}

impl Action for AwaitOther {
    const NAME: &'static str = "test.await-other";
    type Parameters = Other;
    type Output = ();

    async fn run(&self, context: &StepContext, other: Other) -> Result<(), StepError> {
        context
            .wait_for(async {
                while !self.world.lock().expect("not poisoned").in_effect.contains(&other.step) {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            })
            .await
    }
}

/// A clock that follows Tokio's simulated time.
struct SimulatedClock {
    start: Instant,
}

impl Clock for SimulatedClock {
    fn now(&self) -> Timestamp {
        let elapsed = SignedDuration::try_from(self.start.elapsed()).expect("small");
        Timestamp::from_second(1_800_000_000).expect("in range") + elapsed
    }
}

/// Events as `Kind Reason note`.
#[derive(Debug, Default)]
pub(super) struct Events(pub(super) Mutex<Vec<String>>);

impl EventSink for Events {
    fn publish(&self, _: &ObjectReference, kind: EventKind, reason: &str, note: &str) {
        self.0.lock().expect("not poisoned").push(format!("{} {reason} {note}", kind.as_str()));
    }
}

/// All that a test needs.
pub(super) struct Bench {
    pub(super) world: SharedWorld,
    pub(super) disk: SharedDisk,
    pub(super) events: Arc<Events>,
    pub(super) operation: Operation,
    pub(super) config: EngineConfig,
    start: Instant,
}

impl Bench {
    pub(super) fn new(spec: OperationSpec) -> Self {
        let mut operation = Operation::new("test", spec);
        operation.metadata.namespace = Some("default".to_owned());
        operation.metadata.uid = Some("6b7f1c1e-0000-4000-8000-000000000001".to_owned());
        Self {
            world: SharedWorld::default(),
            disk: SharedDisk::default(),
            events: Arc::default(),
            operation,
            config: EngineConfig::default(),
            start: Instant::now(),
        }
    }

    /// A new engine: what a restarted process has.
    pub(super) fn engine(&self) -> Engine {
        let mut registry = ActionRegistry::new();
        registry.register(Put { world: self.world.clone(), disk: self.disk.clone() }).expect("new");
        registry.register(Panic).expect("new");
        registry.register(AwaitOther { world: self.world.clone() }).expect("new");
        let clock = Arc::new(SimulatedClock { start: self.start });
        Engine::with_clock(unreachable_client(), registry, self.config.clone(), self.events.clone(), clock)
    }

    /// The operation with the journal as it is on disk.
    pub(super) fn read(&self) -> Operation {
        let mut operation = self.operation.clone();
        operation.status = Some(self.status());
        operation
    }

    pub(super) fn status(&self) -> OperationStatus {
        self.disk.lock().expect("not poisoned").status.clone()
    }

    pub(super) fn states(&self) -> Vec<StepState> {
        self.status().steps.iter().map(|step| step.state).collect()
    }

    pub(super) fn message(&self, index: usize) -> String {
        self.status().steps[index].message.clone()
    }

    pub(super) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().expect("not poisoned")
    }

    pub(super) fn in_effect(&self) -> Vec<String> {
        self.world().in_effect.iter().cloned().collect()
    }

    /// Runs to the end without a crash.
    pub(super) async fn run(&self) -> OperationStatus {
        self.run_until(&tokio_util::sync::CancellationToken::new()).await
    }

    /// The same, with a token that cancels.
    pub(super) async fn run_until(&self, cancel: &tokio_util::sync::CancellationToken) -> OperationStatus {
        let phase = self
            .engine()
            .run(&self.read(), &mut DiskJournal::open(&self.disk), cancel)
            .await
            .expect("the journal takes everything");
        let status = self.status();
        assert_eq!(status.phase, phase);
        assert_eq!(self.world().violations, [""; 0]);
        status
    }

    pub(super) fn events(&self) -> Vec<String> {
        self.events.0.lock().expect("not poisoned").clone()
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }
}

/// A client of an API that nobody is to call.
pub(super) fn unreachable_client() -> Client {
    let service = tower::service_fn(|_: http::Request<kube::client::Body>| async {
        Err::<http::Response<kube::client::Body>, _>(std::io::Error::other("no API in this test"))
    });
    Client::new(service, "default")
}
