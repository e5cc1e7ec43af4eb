//! The loop that carries out one operation.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use drystone_api::{ObjectReference, Operation, OperationPhase, OperationStatus, StepState};
use futures::{FutureExt, future::BoxFuture};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc},
    task::JoinSet,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{
    Journal, JournalError, Place, Shared, Signals,
    effect::{Effect, Outcome},
    story::Story,
};
use crate::{
    action::{StepError, StepReport},
    plan::{
        Decision, Plan, Situation, decide, estimate,
        transition::{self, Order},
    },
    reference::reference_to,
};

/// Reports of steps that may wait to be taken in.
const REPORTS: usize = 256;

/// See [`super::Engine::run`].
pub(super) async fn run(
    shared: &Arc<Shared>,
    operation: &Operation,
    journal: &mut dyn Journal,
    signals: &Signals,
) -> Result<OperationPhase, JournalError> {
    let mut status = operation.status.clone().unwrap_or_default();
    let order = transition::take_order(&operation.spec, &mut status);
    if status.phase.is_final() {
        return Ok(status.phase);
    }
    let refusal = match Plan::new(operation.spec.clone()) {
        Ok(plan) => match unknown_action(shared, &plan, &status) {
            None => {
                return Run::new(shared, operation, plan, &status, order).carry_out(journal, signals).await;
            }
            Some(refusal) => refusal,
        },
        Err(problem) => format!("the plan is not valid: {problem}"),
    };
    refuse(shared, operation, status, journal, refusal).await
}

/// An operation that has not begun is not begun at all if it could not be completed.
fn unknown_action(shared: &Shared, plan: &Plan, status: &OperationStatus) -> Option<String> {
    if status.phase != OperationPhase::Pending {
        return None;
    }
    let step = plan.spec().steps.iter().find(|step| !shared.registry.contains(&step.action))?;
    Some(format!("step {} needs action {:?}, which this engine does not have", step.id, step.action))
}

async fn refuse(
    shared: &Shared,
    operation: &Operation,
    mut status: OperationStatus,
    journal: &mut dyn Journal,
    refusal: String,
) -> Result<OperationPhase, JournalError> {
    let mut story = Story::new(shared.events.clone(), operation, &status);
    status.phase = OperationPhase::Failed;
    status.finished_at = Some(Time(shared.clock.now()));
    status.message = transition::shortened(&refusal);
    story.ended(&status);
    journal.record(&status).await?;
    story.tell();
    Ok(status.phase)
}

/// What the journal lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Unsaved {
    Nothing,
    /// How far steps are: can wait, and can be lost.
    Progress,
    /// A step began, ended, or changed its state otherwise: must be durable before anything else happens.
    Transition,
}

pub(super) struct Run<'a> {
    pub(super) shared: &'a Arc<Shared>,
    pub(super) plan: Plan,
    pub(super) story: Story,
    pub(super) operation: ObjectReference,
    pub(super) status: OperationStatus,
    cancel: bool,
    halt: bool,
    in_flight: BTreeSet<usize>,
    interrupts: BTreeMap<usize, CancellationToken>,
    pub(super) retry_at: Vec<Option<Timestamp>>,
    tasks: JoinSet<(usize, Outcome)>,
    pub(super) reports: mpsc::Sender<(usize, StepReport)>,
    inbox: mpsc::Receiver<(usize, StepReport)>,
    queued: Option<BoxFuture<'static, Option<OwnedSemaphorePermit>>>,
    spare: Option<OwnedSemaphorePermit>,
    pub(super) unsaved: Unsaved,
    saved_at: Instant,
    refreshed_at: Instant,
}

impl<'a> Run<'a> {
    fn new(
        shared: &'a Arc<Shared>,
        operation: &Operation,
        plan: Plan,
        status: &OperationStatus,
        order: Option<Order>,
    ) -> Self {
        let status = transition::aligned(&plan, status);
        let (reports, inbox) = mpsc::channel(REPORTS);
        let mut story = Story::new(shared.events.clone(), operation, &status);
        match order {
            Some(Order::GoOn) => story.resumed(),
            Some(Order::RollBack) => story.undoing(),
            None => {}
        }
        Self {
            shared,
            story,
            operation: reference_to(operation),
            cancel: false,
            halt: false,
            in_flight: BTreeSet::new(),
            interrupts: BTreeMap::new(),
            retry_at: vec![None; plan.len()],
            plan,
            status,
            tasks: JoinSet::new(),
            reports,
            inbox,
            queued: None,
            spare: None,
            // The first write claims the operation: it fails if the copy that was read is outdated, before anything is done.
            unsaved: Unsaved::Transition,
            saved_at: Instant::now(),
            refreshed_at: Instant::now(),
        }
    }

    async fn carry_out(
        mut self,
        journal: &mut dyn Journal,
        signals: &Signals,
    ) -> Result<OperationPhase, JournalError> {
        loop {
            self.cancel = signals.cancel.is_cancelled();
            self.halt = signals.halt.is_cancelled();
            let (effects, wake_at) = self.advance();
            let progress_is_due =
                self.unsaved == Unsaved::Progress && self.saved_at.elapsed() >= self.progress_interval();
            if self.unsaved == Unsaved::Transition || progress_is_due {
                self.save(journal).await?;
            }
            for effect in effects {
                self.tasks.spawn(effect.carry_out());
            }
            if self.status.phase.is_final() {
                return Ok(self.status.phase);
            }
            self.wait(signals, wake_at).await;
        }
    }

    /// Applies what [`decide`] says until it has nothing more to say. The effects are to be begun once the journal is
    /// durable.
    fn advance(&mut self) -> (Vec<Effect>, Option<Timestamp>) {
        let mut effects = Vec::new();
        loop {
            let now = self.shared.clock.now();
            let decision = decide(
                &self.plan,
                &self.status,
                &Situation {
                    in_flight: &self.in_flight,
                    retry_at: &self.retry_at,
                    cancel: self.cancel,
                    halt: self.halt,
                    default_parallelism: self.shared.config.parallelism,
                    now,
                },
            );
            self.enter(decision.phase, now);
            let changed = self.end_steps(&decision, now) | self.begin_steps(&decision, now, &mut effects);
            if !changed {
                return (effects, decision.wake_at);
            }
        }
    }

    /// Changes the phase.
    fn enter(&mut self, phase: OperationPhase, now: Timestamp) {
        if (self.cancel || self.halt) && matches!(phase, OperationPhase::Undoing | OperationPhase::Cancelled)
        {
            self.story.cancelled();
        }
        if self.status.phase == phase {
            return;
        }
        if self.status.started_at.is_none() {
            self.status.started_at = Some(Time(now));
            self.story.started(&self.plan);
        }
        self.status.phase = phase;
        self.unsaved = Unsaved::Transition;
        if phase.is_final() {
            self.status.finished_at = Some(Time(now));
            self.status.message = self.story.summary(&self.plan, &self.status);
            self.story.ended(&self.status);
        } else if phase == OperationPhase::Undoing {
            self.story.undoing();
        }
    }

    /// Whether any step changed its state.
    fn end_steps(&mut self, decision: &Decision, now: Timestamp) -> bool {
        for &index in &decision.skip {
            transition::skip(&mut self.status.steps[index], now);
        }
        for &index in &decision.abandon {
            transition::abandon(&mut self.status.steps[index], now);
        }
        for index in &decision.interrupt {
            if let Some(token) = self.interrupts.get(index) {
                token.cancel();
            }
        }
        let changed = !(decision.skip.is_empty() && decision.abandon.is_empty());
        if changed {
            self.unsaved = Unsaved::Transition;
        }
        changed
    }

    /// Whether a step ended right away, so that there is more to decide.
    fn begin_steps(&mut self, decision: &Decision, now: Timestamp, effects: &mut Vec<Effect>) -> bool {
        let begin = decision.start.iter().map(|&index| (index, false));
        let undo = decision.undo.iter().map(|&index| (index, true));
        let mut failed = false;
        for (index, undo) in begin.chain(undo) {
            let Some(permit) = self.take_permit() else { return failed };
            self.unsaved = Unsaved::Transition;
            match self.begin(index, undo, permit, now) {
                Some(effect) => effects.push(effect),
                None => failed = true,
            }
        }
        // Nothing waits for a place any more.
        self.queued = None;
        self.spare = None;
        failed
    }

    /// Journals the beginning of an effect and prepares it; `None` if the step failed right away.
    fn begin(
        &mut self,
        index: usize,
        undo: bool,
        permit: OwnedSemaphorePermit,
        now: Timestamp,
    ) -> Option<Effect> {
        let spec = &self.plan.spec().steps[index];
        let step = &mut self.status.steps[index];
        if undo {
            transition::begin_undo(step);
        } else {
            transition::begin(step, now);
        }
        let Some(action) = self.shared.registry.get(&spec.action) else {
            let why = StepError::permanent(format!("this engine does not have action {:?}", spec.action));
            let outcome = if undo { Outcome::Undone(Err(why)) } else { Outcome::Ran(Err(why)) };
            self.settle(index, outcome, false);
            return None;
        };
        let interrupt = CancellationToken::new();
        self.in_flight.insert(index);
        self.interrupts.insert(index, interrupt.clone());
        self.retry_at[index] = None;
        let place = Place::new(self.shared.places.clone(), permit);
        Some(Effect {
            index,
            undo,
            action,
            parameters: spec.parameters.clone(),
            bounds: self.bounds(index),
            context: self.context(index, interrupt, place),
        })
    }

    fn take_permit(&mut self) -> Option<OwnedSemaphorePermit> {
        let permit = self.spare.take().or_else(|| self.shared.places.clone().try_acquire_owned().ok());
        if permit.is_none() && self.queued.is_none() {
            let places = self.shared.places.clone();
            self.queued = Some(async move { places.acquire_owned().await.ok() }.boxed());
        }
        permit
    }

    /// Makes the journal durable, then tells the story.
    async fn save(&mut self, journal: &mut dyn Journal) -> Result<(), JournalError> {
        self.refresh();
        journal.record(&self.status).await?;
        self.story.tell();
        self.unsaved = Unsaved::Nothing;
        self.saved_at = Instant::now();
        Ok(())
    }

    /// Brings progress, remaining time and message up to date. Whether people would see a difference.
    fn refresh(&mut self) -> bool {
        self.refreshed_at = Instant::now();
        let now = self.shared.clock.now();
        let percent = estimate::progress_percent(&self.plan, &self.status, now);
        let remaining =
            estimate::remaining_seconds(&self.plan, &self.status, self.shared.config.parallelism, now);
        let message = self.story.summary(&self.plan, &self.status);
        let status = &mut self.status;
        let changed = status.progress_percent != percent || status.message != message;
        (status.progress_percent, status.remaining_seconds, status.message) = (percent, remaining, message);
        changed
    }

    /// Waits until there is something to decide or to write.
    async fn wait(&mut self, signals: &Signals, wake_at: Option<Timestamp>) {
        let deadline = self.next_deadline(wake_at);
        let queued = self.queued.is_some();
        tokio::select! {
            biased;
            Some(joined) = self.tasks.join_next(), if !self.tasks.is_empty() => {
                // Whatever ends at the same moment goes into the same write.
                tokio::task::yield_now().await;
                let mut next = Some(joined);
                while let Some(joined) = next {
                    self.take_in(joined);
                    next = self.tasks.try_join_next();
                }
            }
            () = signals.cancel.cancelled(), if !self.cancel => {}
            () = signals.halt.cancelled(), if !self.halt => {}
            permit = async { match self.queued.as_mut() { Some(queued) => queued.await, None => None } }, if queued => {
                self.queued = None;
                self.spare = permit;
            }
            Some(report) = self.inbox.recv() => {
                let mut next = Some(report);
                while let Some((index, report)) = next {
                    self.note(index, &report);
                    next = self.inbox.try_recv().ok();
                }
            }
            () = tokio::time::sleep_until(deadline) => {
                if self.refresh() {
                    self.unsaved = self.unsaved.max(Unsaved::Progress);
                }
            }
        }
    }

    fn next_deadline(&self, wake_at: Option<Timestamp>) -> Instant {
        let refresh = match self.unsaved {
            Unsaved::Nothing => self.refreshed_at + self.shared.config.refresh_interval,
            _ => self.saved_at + self.progress_interval(),
        };
        let wake = wake_at.map(|time| {
            let left = time.duration_since(self.shared.clock.now());
            Instant::now() + Duration::try_from(left).unwrap_or_default()
        });
        wake.map_or(refresh, |wake| wake.min(refresh))
    }

    /// The whole journal is written each time, so that long ones are written less often.
    fn progress_interval(&self) -> Duration {
        let steps = u32::try_from(self.plan.len()).unwrap_or(u32::MAX);
        self.shared.config.progress_interval + Duration::from_millis(5) * steps
    }

    fn take_in(&mut self, joined: Result<(usize, Outcome), tokio::task::JoinError>) {
        match joined {
            Ok((index, outcome)) => {
                self.in_flight.remove(&index);
                let interrupted = self.interrupts.remove(&index).is_some_and(|token| token.is_cancelled());
                self.settle(index, outcome, interrupted);
            }
            // Panics are caught inside the task and nothing else aborts it while this runs.
            Err(error) => tracing::error!(operation = %self.operation, %error, "a step's task was lost"),
        }
    }

    fn note(&mut self, index: usize, report: &StepReport) {
        let running = self.in_flight.contains(&index) && self.status.steps[index].state == StepState::Running;
        if !running {
            return;
        }
        let step = &mut self.status.steps[index];
        let changed = match report {
            StepReport::Progress { percent, message } => transition::progress(step, *percent, message),
            StepReport::Log(line) => transition::progress(step, step.progress_percent, line),
        };
        if changed {
            self.unsaved = self.unsaved.max(Unsaved::Progress);
        }
    }
}
