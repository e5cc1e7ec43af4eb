//! What to do next: the heart of the engine, as a pure function of plan, journal and circumstances.

use std::{cmp::Reverse, collections::BTreeSet};

use drystone_api::{FailurePolicy, OperationPhase, OperationStatus, StepState, StepStatus};
use jiff::Timestamp;

use super::Plan;

/// What the journal does not know.
#[derive(Debug, Clone)]
pub struct Situation<'a> {
    /// Steps whose effect, or undoing, this process is carrying out right now. A step that the journal calls `Running` or
    /// `Undoing` and that is not among them was cut short by a crash.
    pub in_flight: &'a BTreeSet<usize>,
    /// For steps that wait for another attempt: not before this time. Empty after a restart: they are tried at once.
    pub retry_at: &'a [Option<Timestamp>],
    /// Whether the operation is to be cancelled (its `cancel` is set, or it is being deleted).
    pub cancel: bool,
    /// Whether the operation is to be stopped gently: its `halt` is set.
    pub halt: bool,
    /// Most steps to run at the same time where the plan does not say.
    pub default_parallelism: usize,
    /// The current time.
    pub now: Timestamp,
}

/// What to do next. Steps by index; a step is named at most once in all the lists.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decision {
    /// The operation's phase. When it is final, all other fields are empty.
    pub phase: OperationPhase,
    /// Begin an attempt at these, most urgent first.
    pub start: Vec<usize>,
    /// Begin to undo these.
    pub undo: Vec<usize>,
    /// These will never run.
    pub skip: Vec<usize>,
    /// These make no further attempt.
    pub abandon: Vec<usize>,
    /// Ask these attempts, which are in flight, to end.
    pub interrupt: Vec<usize>,
    /// Decide again at this time, even if nothing happens before.
    pub wake_at: Option<Timestamp>,
}

/// How an operation goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Course {
    /// Run what can run.
    Forward,
    /// Start nothing new; let what was started come to its end, or interrupt it; then the operation is in that phase.
    Halt { interrupt: bool, end: OperationPhase },
    /// Interrupt what was started, then undo what was done.
    Undo,
    /// Undo nothing more; let what is being undone come to its end, or interrupt it.
    HaltUndoing { interrupt: bool },
}

/// Decides what to do next.
///
/// The journal must be [aligned](super::transition::aligned) with the plan. Guarantees, for every sequence of outcomes:
/// a step starts only when all its dependencies have succeeded; a step that succeeded never starts again; a step is undone
/// only when nothing that depends on it is in effect any more; never more steps are in flight than allowed; with finitely
/// many attempts the operation reaches a final phase.
pub fn decide(plan: &Plan, status: &OperationStatus, situation: &Situation<'_>) -> Decision {
    if status.phase.is_final() {
        return Decision { phase: status.phase, ..Decision::default() };
    }
    let view = View { plan, steps: &status.steps, situation };
    match view.course(status.phase) {
        Course::Forward => view.forward(),
        Course::Halt { interrupt, end } => view.halt(interrupt, end),
        Course::Undo => view.undo(),
        Course::HaltUndoing { interrupt } => view.halt_undoing(interrupt),
    }
}

struct View<'a> {
    plan: &'a Plan,
    steps: &'a [StepStatus],
    situation: &'a Situation<'a>,
}

impl View<'_> {
    fn course(&self, phase: OperationPhase) -> Course {
        let policy = self.plan.spec().on_failure;
        let failed = self.steps.iter().any(|step| step.state == StepState::Failed);
        let complete = self.steps.iter().all(|step| step.state == StepState::Succeeded);
        let Situation { cancel, halt, .. } = *self.situation;
        if phase == OperationPhase::Undoing {
            // Where undoing is the policy, it goes on to its end once begun. Where somebody asked for it, it can be stopped.
            match policy {
                FailurePolicy::Undo => Course::Undo,
                _ if cancel || halt => Course::HaltUndoing { interrupt: cancel },
                _ => Course::Undo,
            }
        } else if cancel && !complete {
            match policy {
                FailurePolicy::Undo => Course::Undo,
                _ => Course::Halt { interrupt: true, end: OperationPhase::Cancelled },
            }
        } else if halt && !complete {
            let at_rest = self.situation.in_flight.is_empty() && !self.is_cut_short();
            match policy {
                FailurePolicy::Undo if at_rest => Course::Undo,
                _ => Course::Halt { interrupt: false, end: OperationPhase::Cancelled },
            }
        } else if failed {
            match policy {
                FailurePolicy::Undo => Course::Undo,
                FailurePolicy::Stop => Course::Halt { interrupt: false, end: OperationPhase::Failed },
                FailurePolicy::Continue => Course::Forward,
            }
        } else {
            Course::Forward
        }
    }

    fn forward(&self) -> Decision {
        let mut decision = Decision { phase: OperationPhase::Running, ..Decision::default() };
        let mut lost = vec![false; self.steps.len()];
        let mut ready = Vec::new();
        for &index in self.plan.graph().order() {
            let dependencies = self.plan.graph().dependencies(index);
            match self.steps[index].state {
                StepState::Waiting if dependencies.iter().any(|&dependency| lost[dependency]) => {
                    lost[index] = true;
                    self.give_up(index, &mut decision);
                }
                StepState::Waiting
                    if dependencies.iter().all(|&dependency| self.has_succeeded(dependency)) =>
                {
                    ready.push(index);
                }
                StepState::Retrying => self.when_due(index, &mut ready, &mut decision.wake_at),
                StepState::Running if !self.in_flight(index) => ready.push(index),
                StepState::Waiting | StepState::Running | StepState::Succeeded => {}
                _ => lost[index] = true,
            }
        }
        decision.start = self.most_urgent(ready);
        if self.all_ended() {
            let complete = self.steps.iter().all(|step| step.state == StepState::Succeeded);
            decision.phase = if complete { OperationPhase::Succeeded } else { OperationPhase::Failed };
        }
        decision
    }

    /// Starts nothing new. Steps that a crash cut short are run to their end, so that what they did is known, unless
    /// they are to be interrupted.
    fn halt(&self, interrupt: bool, end: OperationPhase) -> Decision {
        let mut decision = Decision { phase: OperationPhase::Running, ..Decision::default() };
        let mut resumed = Vec::new();
        for (index, step) in self.steps.iter().enumerate() {
            match (step.state, self.in_flight(index)) {
                (StepState::Waiting, _) => self.give_up(index, &mut decision),
                (StepState::Running, true) if interrupt => decision.interrupt.push(index),
                (StepState::Running, false) if !interrupt => resumed.push(index),
                (StepState::Running | StepState::Retrying, false) => decision.abandon.push(index),
                _ => {}
            }
        }
        decision.start = self.most_urgent(resumed);
        if self.all_ended() {
            decision.phase = end;
        }
        decision
    }

    /// Undoes nothing more. Undoing that a crash cut short is begun again, so that its outcome is known, unless it is to be
    /// interrupted.
    fn halt_undoing(&self, interrupt: bool) -> Decision {
        let mut decision = Decision { phase: OperationPhase::Undoing, ..Decision::default() };
        for (index, step) in self.steps.iter().enumerate() {
            match (step.state, self.in_flight(index)) {
                (StepState::Waiting, _) => self.give_up(index, &mut decision),
                (StepState::Running | StepState::Undoing, true) if interrupt => {
                    decision.interrupt.push(index);
                }
                (StepState::Undoing, false) if !interrupt => decision.undo.push(index),
                (StepState::Running | StepState::Retrying | StepState::Undoing, false) => {
                    decision.abandon.push(index);
                }
                _ => {}
            }
        }
        decision.undo.truncate(self.places());
        if self.all_ended() && !self.steps.iter().any(|step| step.state == StepState::Undoing) {
            let undone = |step: &StepStatus| matches!(step.state, StepState::Undone | StepState::Skipped);
            let all = self.steps.iter().all(undone);
            decision.phase = if all { OperationPhase::Undone } else { OperationPhase::Cancelled };
        }
        decision
    }

    /// Ends a step that waits. One that was tried before may have left something, which the end must not hide.
    fn give_up(&self, index: usize, decision: &mut Decision) {
        if self.steps[index].attempts > 0 {
            decision.abandon.push(index);
        } else {
            decision.skip.push(index);
        }
    }

    fn undo(&self) -> Decision {
        let mut decision = Decision { phase: OperationPhase::Undoing, ..Decision::default() };
        // Whether everything has come to rest: nothing to wait for, nothing left to do.
        let mut at_rest = self.situation.in_flight.is_empty();
        for &index in self.plan.graph().order().iter().rev() {
            let (step, in_flight) = (&self.steps[index], self.in_flight(index));
            match step.state {
                StepState::Waiting => self.give_up(index, &mut decision),
                StepState::Running if in_flight => decision.interrupt.push(index),
                StepState::Running | StepState::Retrying => decision.abandon.push(index),
                _ if !in_flight && may_have_effect(step) && self.is_free_to_undo(index) => {
                    decision.undo.push(index);
                }
                _ => continue,
            }
            at_rest = false;
        }
        decision.undo.truncate(self.places());
        if at_rest {
            let stuck = self.steps.iter().any(|step| step.state == StepState::UndoFailed);
            decision.phase = if stuck { OperationPhase::Failed } else { OperationPhase::Undone };
        }
        decision
    }

    /// Whether nothing that depends on the step is, or may come to be, in effect.
    fn is_free_to_undo(&self, index: usize) -> bool {
        self.plan.graph().dependents(index).iter().all(|&dependent| {
            let step = &self.steps[dependent];
            match step.state {
                StepState::Undone | StepState::Skipped => true,
                StepState::Waiting | StepState::Failed => step.attempts == 0,
                _ => false,
            }
        })
    }

    fn when_due(&self, index: usize, ready: &mut Vec<usize>, wake_at: &mut Option<Timestamp>) {
        match self.situation.retry_at.get(index).copied().flatten() {
            Some(due) if due > self.situation.now => {
                *wake_at = Some(wake_at.map_or(due, |earliest| earliest.min(due)));
            }
            _ => ready.push(index),
        }
    }

    /// As many as there are places for; those on the longest chains first, resumed ones before all.
    fn most_urgent(&self, mut ready: Vec<usize>) -> Vec<usize> {
        ready.sort_by_key(|&index| {
            let resumed = self.steps[index].state == StepState::Running;
            (Reverse(resumed), Reverse(self.plan.graph().tail_seconds(index)), index)
        });
        ready.truncate(self.places());
        ready
    }

    fn places(&self) -> usize {
        let limit = match self.plan.spec().parallelism {
            0 => self.situation.default_parallelism,
            given => usize::try_from(given).unwrap_or(usize::MAX),
        };
        limit.max(1).saturating_sub(self.situation.in_flight.len())
    }

    fn all_ended(&self) -> bool {
        self.situation.in_flight.is_empty()
            && self.steps.iter().all(|step| {
                !matches!(step.state, StepState::Waiting | StepState::Running | StepState::Retrying)
            })
    }

    /// Whether a crash cut a step short.
    fn is_cut_short(&self) -> bool {
        let mut steps = self.steps.iter().enumerate();
        steps.any(|(index, step)| step.state == StepState::Running && !self.in_flight(index))
    }

    fn has_succeeded(&self, index: usize) -> bool {
        self.steps[index].state == StepState::Succeeded
    }

    fn in_flight(&self, index: usize) -> bool {
        self.situation.in_flight.contains(&index)
    }
}

/// Whether a step that is not in flight may have left an effect that has not been undone.
fn may_have_effect(step: &StepStatus) -> bool {
    match step.state {
        StepState::Succeeded | StepState::Undoing => true,
        // An attempt that failed may have gone half the way.
        StepState::Failed => step.attempts > 0,
        _ => false,
    }
}
