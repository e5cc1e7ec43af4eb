//! The hardware of a host as its BMC commands it: power, boot, virtual media, drives.
//!
//! [`sequence`] decides what a reset does (pure); [`Hardware`] carries it out over a [`Backend`], with the delays of the
//! site, one sequence at a time; a new reset takes over from one under way. What was accepted is written to
//! [`record`] before it is acknowledged, so that an emulator that is killed and started again carries on.

mod agent;
#[cfg(test)]
mod agent_tests;
mod boot;
mod medium;
mod record;
mod sequence;
#[cfg(test)]
mod tests;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use drystone_agent::download::Detours;
use drystone_redfish::{server::SavedSubscription, types::ResetType};
use jiff::Timestamp;
use tokio::sync::watch;

use crate::{
    backend::{Backend, BackendError, BootState},
    site::{HostSpec, Timing},
    state::{self, StateError},
};

pub use record::{BootOverride, BootTarget, HostRecord, InsertedMedium, OverrideEnabled};
pub use sequence::Phase;
use sequence::{Decision, Step};

/// Why hardware did not do what it was told.
#[derive(Debug, thiserror::Error)]
pub enum HardwareError {
    /// The present state does not allow it.
    #[error("the host is {}; {command} is not possible now", .phase.describe())]
    Conflict {
        /// What it was told.
        command: &'static str,
        /// What it does.
        phase: Phase,
    },
    /// The state could not be kept; nothing has been changed.
    #[error(transparent)]
    State(#[from] StateError),
    /// The backend failed.
    #[error(transparent)]
    Backend(#[from] BackendError),
}

/// What became of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepted {
    /// It is being carried out.
    Begun,
    /// There is nothing to do.
    NothingToDo,
}

/// Something that happened to the hardware, for those who listen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Power came on.
    PoweredOn,
    /// Power went off.
    PoweredOff,
    /// Boot progress or boot settings changed.
    System,
    /// A medium was inserted or ejected.
    Medium,
    /// The BMC's password was changed.
    Account,
}

/// What hardware does at a moment.
#[derive(Debug, Clone)]
pub struct Situation {
    /// Power and boot.
    pub phase: Phase,
    /// Since when.
    pub since: Timestamp,
    /// Why nothing boots; empty unless the phase is [`Phase::NoBoot`].
    pub reason: String,
    /// What is kept.
    pub record: HostRecord,
}

struct State {
    phase: Phase,
    since: Timestamp,
    reason: String,
    record: HostRecord,
}

type Listener = Box<dyn Fn(Change) + Send + Sync>;

/// A host's hardware.
pub struct Hardware {
    spec: Arc<HostSpec>,
    timing: Timing,
    backend: Arc<dyn Backend>,
    record_path: PathBuf,
    medium_path: PathBuf,
    /// What an image that was written brought with it: the medium that the disk boots.
    disk_seed: PathBuf,
    detours: Detours,
    /// The agent, while the host runs it.
    agent: Mutex<Option<agent::RunningAgent>>,
    state: Mutex<State>,
    /// Counts commands: whoever carries one out sees that it has been overtaken.
    command: watch::Sender<u64>,
    /// Held by whoever moves the backend.
    actuator: tokio::sync::Mutex<()>,
    /// Held by whoever writes the record.
    writer: tokio::sync::Mutex<()>,
    listener: OnceLock<Listener>,
}

/// Where hardware keeps its files.
#[derive(Debug, Clone)]
pub struct HardwareFiles {
    /// Directory of the records.
    pub records: PathBuf,
    /// Directory of media while they are used, and of what images brought with them.
    pub media: PathBuf,
    /// Where hosts whose agent is simulated reach what is in their network.
    pub detours: Detours,
}

impl HardwareFiles {
    fn record(&self, host: &str) -> PathBuf {
        self.records.join(format!("{host}.json"))
    }

    /// Reads the record of a host; that of a new host if there is none.
    ///
    /// # Errors
    /// The file cannot be read, or holds something else.
    pub fn load(&self, spec: &HostSpec) -> Result<HostRecord, StateError> {
        let kept = state::read_json(&self.record(&spec.name))?;
        Ok(kept.unwrap_or_else(|| HostRecord { on: spec.initially_on, ..HostRecord::default() }))
    }
}

impl Hardware {
    /// Hardware with what was kept of it. Nothing happens before [`resume`](Self::resume).
    pub fn new(
        spec: Arc<HostSpec>,
        timing: Timing,
        backend: Arc<dyn Backend>,
        files: &HardwareFiles,
        record: HostRecord,
    ) -> Arc<Self> {
        Arc::new(Self {
            record_path: files.record(&spec.name),
            medium_path: files.media.join(format!("{}.img", spec.name)),
            disk_seed: files.media.join(format!("{}.disk", spec.name)),
            detours: files.detours.clone(),
            agent: Mutex::default(),
            spec,
            timing,
            backend,
            state: Mutex::new(State {
                phase: Phase::Off,
                since: Timestamp::now(),
                reason: String::new(),
                record,
            }),
            command: watch::Sender::new(0),
            actuator: tokio::sync::Mutex::default(),
            writer: tokio::sync::Mutex::default(),
            listener: OnceLock::new(),
        })
    }

    /// What it is made of.
    pub fn spec(&self) -> &HostSpec {
        &self.spec
    }

    /// What it does now.
    pub fn situation(&self) -> Situation {
        let state = self.lock();
        Situation {
            phase: state.phase,
            since: state.since,
            reason: state.reason.clone(),
            record: state.record.clone(),
        }
    }

    /// Whether power is on.
    pub fn is_on(&self) -> bool {
        self.lock().phase.is_on()
    }

    /// Who is told of changes; the first call counts.
    pub fn listen(&self, listener: impl Fn(Change) + Send + Sync + 'static) {
        // A second listener would mean two BMCs; the first stays.
        drop(self.listener.set(Box::new(listener)));
    }

    /// Presses a button. Returns when the command is durable; it is carried out from then on.
    ///
    /// # Errors
    /// The present state does not allow it, or the command could not be kept.
    pub async fn reset(self: &Arc<Self>, kind: ResetType) -> Result<Accepted, HardwareError> {
        let writer = self.writer.lock().await;
        let (phase, mut record) = {
            let state = self.lock();
            (state.phase, state.record.clone())
        };
        let steps = match sequence::decide(kind, phase, record.on) {
            Decision::Nothing => return Ok(Accepted::NothingToDo),
            Decision::Conflict => return Err(HardwareError::Conflict { command: kind.as_str(), phase }),
            Decision::Steps(steps) => steps,
        };
        record.on = sequence::ends_on(steps, phase);
        // What pushing the button means depends on the moment: after a restart it means what it meant then.
        record.pending = Some(match kind {
            ResetType::PushPowerButton if record.on => ResetType::On,
            ResetType::PushPowerButton => ResetType::GracefulShutdown,
            _ => kind,
        });
        state::write_json_soon(&self.record_path, &record).await?;
        let number = {
            let mut state = self.lock();
            state.record = record;
            state.phase = sequence::entered(steps, phase);
            state.since = Timestamp::now();
            state.reason.clear();
            self.overtake()
        };
        drop(writer);
        self.tell(Change::System);
        self.begin(steps, number);
        Ok(Accepted::Begun)
    }

    /// Changes what is kept. Returns when it is durable.
    ///
    /// # Errors
    /// The record could not be written; nothing has been changed.
    pub async fn change(
        &self,
        what: Change,
        change: impl FnOnce(&mut HostRecord) + Send,
    ) -> Result<(), HardwareError> {
        self.keep(change).await?;
        self.tell(what);
        Ok(())
    }

    /// Keeps the event subscriptions of the BMC.
    ///
    /// # Errors
    /// The record could not be written; nothing has been changed.
    pub async fn keep_subscriptions(
        &self,
        subscriptions: Vec<SavedSubscription>,
    ) -> Result<(), HardwareError> {
        self.keep(|record| record.subscriptions = subscriptions).await
    }

    /// Erases the drives.
    ///
    /// # Errors
    /// The host is not off, or the backend failed.
    pub async fn erase_drives(&self) -> Result<(), HardwareError> {
        let _actuator = self.actuator.lock().await;
        let phase = self.lock().phase;
        if phase != Phase::Off {
            return Err(HardwareError::Conflict { command: "erasing its drives", phase });
        }
        medium::remove(&self.disk_seed);
        self.backend.wipe_disk(&self.spec).await?;
        self.keep(|record| record.installed = false).await
    }

    /// Takes up after a restart of the emulator: the hardware goes on where it is, or gets where it should be.
    ///
    /// # Errors
    /// The backend does not say what the host does.
    pub async fn resume(self: &Arc<Self>) -> Result<(), HardwareError> {
        let found = Phase::from(self.backend.boot_state(&self.spec).await?);
        let (on, pending, number) = {
            let state = self.lock();
            (state.record.on, state.record.pending, self.overtake())
        };
        self.enter(number, found, String::new());
        let steps: &'static [Step] = match pending.map(|kind| sequence::decide(kind, found, on)) {
            Some(Decision::Steps(steps)) => steps,
            // Off although it should be on: the power failed. On although it should be off: a command was cut short.
            _ if on && !found.is_on() => &[Step::PowerOn],
            _ if !on && found.is_on() => &[Step::PowerOff],
            _ if found == Phase::OsStarting => &[Step::AwaitBoot],
            _ => &[],
        };
        self.enter(number, sequence::entered(steps, found), String::new());
        if !steps.is_empty() {
            self.begin(steps, number);
        } else if pending.is_some() {
            self.keep(|record| (record.pending, record.booting) = (None, None)).await?;
        }
        Ok(())
    }

    /// Lets go of the backend: what is under way ends as soon as it can, and stays on record for the next start. Nobody
    /// gives commands any more.
    pub async fn halt(&self) {
        {
            let _state = self.lock();
            self.overtake();
        }
        self.end_agent();
        let _idle = self.actuator.lock().await;
    }

    /// Ends the agent, if the host runs it.
    fn end_agent(&self) {
        self.agent.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    fn runs_agent(&self) -> bool {
        self.agent.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Looks whether a host that runs has gone off by itself.
    pub async fn observe(&self) {
        let Ok(_actuator) = self.actuator.try_lock() else { return };
        if self.runs_agent() || !matches!(self.lock().phase, Phase::OsRunning | Phase::NoBoot) {
            return;
        }
        if self.backend.boot_state(&self.spec).await.is_ok_and(|state| state == BootState::Off) {
            // Its processes ended from inside: the same as a shutdown.
            let number = *self.command.borrow();
            self.went_off(number).await;
        }
    }

    /// Takes note that the system switched itself off.
    async fn went_off(&self, number: u64) {
        let kept = self.keep(|record| record.on = record.on && self.overtaken(number)).await;
        if let Err(error) = kept {
            tracing::warn!(host = self.spec.name, %error, "that the host is off could not be kept");
        }
        self.enter(number, Phase::Off, String::new());
    }

    /// Counts a new command. Called with the state locked, so that phase and command go together.
    fn overtake(&self) -> u64 {
        let mut number = 0;
        self.command.send_modify(|current| {
            *current += 1;
            number = *current;
        });
        number
    }

    /// Carries steps out in a task of its own, after whatever is under way has noticed.
    fn begin(self: &Arc<Self>, steps: &'static [Step], number: u64) {
        let hardware = Arc::clone(self);
        tokio::spawn(async move {
            let actuator = hardware.actuator.lock().await;
            if hardware.carry_out(steps, number).await {
                // Commands are counted by whoever holds the writer's lock, as this closure does: it is not another's.
                let done = |record: &mut HostRecord| {
                    if !hardware.overtaken(number) {
                        record.pending = None;
                    }
                };
                if let Err(error) = hardware.keep(done).await {
                    // The sequence is repeated after a restart; every step of it is idempotent.
                    tracing::warn!(host = hardware.spec.name, %error, "the end of a power sequence could not be kept");
                }
            }
            drop(actuator);
        });
    }

    /// Whether all steps were carried out; not if another command came.
    async fn carry_out(self: &Arc<Self>, steps: &[Step], number: u64) -> bool {
        for step in steps {
            if self.overtaken(number) {
                return false;
            }
            let done = match step {
                Step::ShutDown => self.shut_down(number).await,
                Step::PowerOff => self.power_off(number).await,
                Step::PowerOn => self.power_on(number).await,
                Step::AwaitBoot => self.await_boot(number).await,
            };
            if !done {
                return false;
            }
        }
        true
    }

    fn overtaken(&self, number: u64) -> bool {
        *self.command.borrow() != number
    }

    /// Waits, unless another command comes. False if one came.
    async fn pause(&self, length: Duration, number: u64) -> bool {
        let mut commands = self.command.subscribe();
        let overtaken = commands.wait_for(|current| *current != number);
        tokio::select! {
            () = tokio::time::sleep(length) => true,
            _ = overtaken => false,
        }
    }

    async fn keep(&self, change: impl FnOnce(&mut HostRecord) + Send) -> Result<(), HardwareError> {
        let _writer = self.writer.lock().await;
        let mut record = self.lock().record.clone();
        change(&mut record);
        state::write_json_soon(&self.record_path, &record).await?;
        self.lock().record = record;
        Ok(())
    }

    /// Enters a phase on behalf of a command, unless another one has come.
    fn enter(&self, number: u64, phase: Phase, reason: String) {
        let before = {
            let mut state = self.lock();
            if self.overtaken(number) {
                return;
            }
            let before = std::mem::replace(&mut state.phase, phase);
            state.since = Timestamp::now();
            state.reason = reason;
            before
        };
        if before.is_on() != phase.is_on() {
            self.tell(if phase.is_on() { Change::PoweredOn } else { Change::PoweredOff });
        } else if before != phase {
            self.tell(Change::System);
        }
    }

    fn tell(&self, change: Change) {
        if let Some(listener) = self.listener.get() {
            listener(change);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic while holding it cannot leave the state half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Drops what was fetched of a medium that is not inserted any more: it may hold keys. A host that still reads it has it open.
    pub(crate) fn drop_medium(&self) {
        medium::remove(self.medium_path());
    }

    /// Where the medium lies while it is used.
    fn medium_path(&self) -> &Path {
        &self.medium_path
    }
}
