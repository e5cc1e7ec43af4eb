//! A model of the runner and of the world: carries out decisions under a script of outcomes, crashes and cancellation, and
//! checks after each one what [`decide`] guarantees.

use std::collections::BTreeSet;

use drystone_api::{FailurePolicy, OperationPhase, OperationSpec, OperationStatus, StepSpec, StepState};
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use serde_json::Value;

use crate::plan::{
    Decision, Plan, Situation, decide,
    transition::{self, Order},
};

/// Most attempts at a step.
const MAX_ATTEMPTS: u32 = 3;
/// Steps that run at the same time where the plan does not say.
pub(super) const DEFAULT_PARALLELISM: usize = 3;

/// What becomes of an effect in flight.
#[derive(Debug, Clone, Copy)]
pub(super) enum Fate {
    Done,
    Transient,
    Permanent,
}

/// One thing that happens to the operation.
#[derive(Debug, Clone, Copy)]
pub(super) enum Happening {
    /// One of the effects in flight ends; `applied` says whether a failing one did its work nevertheless.
    Ends { which: prop::sample::Index, fate: Fate, applied: bool },
    /// The process is killed and started again.
    Crash,
    /// Somebody cancels.
    Cancel,
    /// Somebody asks it to stop gently.
    Halt,
    /// If it stopped, somebody tells it to go on.
    GoOn,
    /// If it stopped, somebody has it undone.
    RollBack,
    /// Time passes.
    Tick,
}

pub(super) fn happenings() -> impl Strategy<Value = Vec<Happening>> {
    let fate = prop_oneof![6 => Just(Fate::Done), 2 => Just(Fate::Transient), 1 => Just(Fate::Permanent)];
    let ends = (any::<prop::sample::Index>(), fate, any::<bool>())
        .prop_map(|(which, fate, applied)| Happening::Ends { which, fate, applied });
    let happening = prop_oneof![
        20 => ends,
        2 => Just(Happening::Crash),
        1 => Just(Happening::Cancel),
        1 => Just(Happening::Halt),
        3 => Just(Happening::GoOn),
        2 => Just(Happening::RollBack),
        3 => Just(Happening::Tick),
    ];
    prop::collection::vec(happening, 0..60)
}

prop_compose! {
    /// A plan of up to ten steps, listed in any order.
    pub(super) fn plans()(size in 1..10_usize)(
        edges in prop::collection::vec(prop::collection::vec(any::<bool>(), size), size),
        listing in Just((0..size).collect::<Vec<_>>()).prop_shuffle(),
        estimates in prop::collection::vec(0..20_u32, size),
        parallelism in 0..4_u32,
        policy in prop_oneof![
            Just(FailurePolicy::Undo), Just(FailurePolicy::Stop), Just(FailurePolicy::Continue)
        ],
    ) -> Plan {
        let steps = listing.iter().map(|&number| StepSpec {
            id: number.to_string(),
            action: "test.act".to_owned(),
            depends_on: (0..number).filter(|&other| edges[number][other]).map(|other| other.to_string()).collect(),
            estimate_seconds: estimates[number],
            ..StepSpec::default()
        });
        let spec = OperationSpec { steps: steps.collect(), on_failure: policy, parallelism, ..OperationSpec::default() };
        Plan::new(spec).expect("edges lead to lower numbers, so there is no circle")
    }
}

/// The operation, and the world that it changes.
pub(super) struct Model {
    pub(super) plan: Plan,
    pub(super) status: OperationStatus,
    pub(super) in_effect: BTreeSet<usize>,
    in_flight: BTreeSet<usize>,
    retry_at: Vec<Option<Timestamp>>,
    cancel: bool,
    halt: bool,
    now: Timestamp,
}

impl Model {
    pub(super) fn new(plan: Plan) -> Self {
        let status = transition::aligned(&plan, &OperationStatus::default());
        let retry_at = vec![None; plan.len()];
        Self {
            plan,
            status,
            in_effect: BTreeSet::new(),
            in_flight: BTreeSet::new(),
            retry_at,
            cancel: false,
            halt: false,
            now: Timestamp::from_second(1_800_000_000).expect("in range"),
        }
    }

    /// Runs to the end: through what happens, then with every effect coming to its end. Panics when a guarantee is broken.
    pub(super) fn run(&mut self, happenings: &[Happening]) {
        self.carry_out_decisions();
        for &happening in happenings {
            self.happen(happening);
            self.carry_out_decisions();
        }
        let mut rounds = 0;
        while !self.status.phase.is_final() {
            rounds += 1;
            assert!(rounds < 1_000, "does not come to an end: {:?}", self.status);
            match self.in_flight.first().copied() {
                Some(index) => self.end(index, Fate::Done, true),
                None => self.happen(Happening::Tick),
            }
            self.carry_out_decisions();
        }
        self.check_the_end();
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Ends { which, fate, applied } if !self.in_flight.is_empty() => {
                let index =
                    *self.in_flight.iter().nth(which.index(self.in_flight.len())).expect("one of them");
                self.end(index, fate, applied);
            }
            Happening::Ends { .. } => {}
            Happening::Crash => {
                // What was in flight may have had its effect, or not: half of them have.
                for &index in &self.in_flight {
                    if self.status.steps[index].state == StepState::Running && index % 2 == 0 {
                        self.in_effect.insert(index);
                    }
                }
                self.in_flight.clear();
                self.retry_at.fill(None);
            }
            Happening::Cancel => self.cancel = true,
            Happening::Halt => self.halt = true,
            Happening::GoOn => self.tell(Order::GoOn),
            Happening::RollBack => self.tell(Order::RollBack),
            Happening::Tick => {
                self.now = self.now.checked_add(SignedDuration::from_secs(30)).expect("in range");
            }
        }
    }

    fn tell(&mut self, order: Order) {
        if !self.status.phase.is_final() {
            return;
        }
        let (retries, rollbacks) = match order {
            Order::GoOn => (self.status.retries + 1, self.status.rollbacks),
            Order::RollBack => (self.status.retries, self.status.rollbacks + 1),
        };
        let spec = OperationSpec { retries, rollbacks, ..self.plan.spec().clone() };
        let resumable = self.status.phase.is_resumable();
        let taken = transition::take_order(&spec, &mut self.status);
        assert_eq!(taken, resumable.then_some(order));
        if taken.is_some() {
            (self.cancel, self.halt) = (false, false);
            assert_eq!(transition::take_order(&spec, &mut self.status), None, "taken once");
        }
    }

    fn end(&mut self, index: usize, fate: Fate, applied: bool) {
        self.in_flight.remove(&index);
        let (step, now) = (&mut self.status.steps[index], self.now);
        if step.state == StepState::Undoing {
            match fate {
                Fate::Permanent => transition::undo_failed(step, "no", now),
                Fate::Done | Fate::Transient => {
                    self.in_effect.remove(&index);
                    transition::undone(step, now);
                }
            }
            return;
        }
        if applied || matches!(fate, Fate::Done) {
            self.in_effect.insert(index);
        }
        match fate {
            Fate::Done => transition::succeed(step, Value::Null, now),
            Fate::Transient if transition::attempts_that_count(step) < MAX_ATTEMPTS => {
                transition::retry(step, "not yet");
                self.retry_at[index] = now.checked_add(SignedDuration::from_secs(20)).ok();
            }
            Fate::Transient | Fate::Permanent => transition::fail(step, "no", now),
        }
    }

    fn carry_out_decisions(&mut self) {
        loop {
            let before = self.status.phase;
            let decision = decide(
                &self.plan,
                &self.status,
                &Situation {
                    in_flight: &self.in_flight,
                    retry_at: &self.retry_at,
                    cancel: self.cancel,
                    halt: self.halt,
                    default_parallelism: DEFAULT_PARALLELISM,
                    now: self.now,
                },
            );
            self.check(before, &decision);
            self.apply(&decision);
            if decision.skip.is_empty() && decision.abandon.is_empty() {
                return;
            }
        }
    }

    fn apply(&mut self, decision: &Decision) {
        self.status.phase = decision.phase;
        for &index in &decision.skip {
            transition::skip(&mut self.status.steps[index], self.now);
        }
        for &index in &decision.abandon {
            transition::abandon(&mut self.status.steps[index], self.now);
        }
        for &index in &decision.interrupt {
            // An interrupted effect ends; every other one had done its work.
            self.in_flight.remove(&index);
            let undoing = self.status.steps[index].state == StepState::Undoing;
            match index % 2 == 0 {
                true if undoing => drop(self.in_effect.remove(&index)),
                true => drop(self.in_effect.insert(index)),
                false => {}
            }
            transition::abandon(&mut self.status.steps[index], self.now);
        }
        for &index in &decision.start {
            transition::begin(&mut self.status.steps[index], self.now);
            self.in_flight.insert(index);
        }
        for &index in &decision.undo {
            transition::begin_undo(&mut self.status.steps[index]);
            self.in_flight.insert(index);
        }
        if !decision.interrupt.is_empty() {
            self.carry_out_decisions();
        }
    }

    /// What holds for every decision.
    fn check(&self, before: OperationPhase, decision: &Decision) {
        let state = |index: usize| self.status.steps[index].state;
        if before.is_final() {
            assert_eq!(decision, &Decision { phase: before, ..Decision::default() }, "final is final");
        }
        for &index in &decision.start {
            assert!(!self.in_flight.contains(&index), "started twice at the same time");
            assert!(matches!(state(index), StepState::Waiting | StepState::Retrying | StepState::Running));
            for &dependency in self.plan.graph().dependencies(index) {
                assert_eq!(state(dependency), StepState::Succeeded, "started before what it depends on");
            }
        }
        for &index in &decision.undo {
            assert!(!self.in_flight.contains(&index), "undone while in flight");
            for &dependent in self.plan.graph().dependents(index) {
                assert!(!self.in_effect.contains(&dependent), "undone under something that rests on it");
                assert!(!self.in_flight.contains(&dependent), "undone under something that is in flight");
            }
        }
        let limit = match self.plan.spec().parallelism {
            0 => DEFAULT_PARALLELISM,
            given => usize::try_from(given).expect("small"),
        };
        let in_flight = self.in_flight.len() + decision.start.len() + decision.undo.len();
        assert!(in_flight <= limit, "{in_flight} in flight, {limit} allowed");
        let lists = [&decision.start, &decision.undo, &decision.skip, &decision.abandon, &decision.interrupt];
        let named: Vec<usize> = lists.into_iter().flatten().copied().collect();
        let distinct: BTreeSet<usize> = named.iter().copied().collect();
        assert_eq!(named.len(), distinct.len(), "a step is named twice: {decision:?}");
        let idle = named.is_empty() && self.in_flight.is_empty();
        assert!(
            !idle || decision.phase.is_final() || decision.wake_at.is_some(),
            "nothing to wait for, but not at the end"
        );
    }

    fn check_the_end(&self) {
        let count = |state: StepState| self.status.steps.iter().filter(|step| step.state == state).count();
        let all = self.plan.len();
        assert!(self.in_flight.is_empty());
        match self.status.phase {
            OperationPhase::Succeeded => {
                assert_eq!(count(StepState::Succeeded), all);
                assert_eq!(self.in_effect.len(), all);
            }
            OperationPhase::Undone => {
                assert_eq!(count(StepState::Undone) + count(StepState::Skipped), all);
                assert!(self.in_effect.is_empty(), "left over: {:?}", self.in_effect);
            }
            OperationPhase::Cancelled => {
                assert!((self.cancel || self.halt) && count(StepState::Succeeded) < all);
            }
            OperationPhase::Failed => assert!(count(StepState::Failed) + count(StepState::UndoFailed) > 0),
            other => panic!("{other:?} is not final"),
        }
        let ended = count(StepState::Waiting) + count(StepState::Running) + count(StepState::Retrying);
        assert_eq!(ended + count(StepState::Undoing), 0, "steps left in the middle: {:?}", self.status.steps);
    }
}
