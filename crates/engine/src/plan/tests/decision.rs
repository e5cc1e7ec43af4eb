//! What the decision guarantees.

use std::collections::BTreeSet;

use drystone_api::{FailurePolicy, OperationPhase, OperationSpec, OperationStatus, StepSpec, StepState};
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use super::model::{Model, happenings, plans};
use crate::plan::{Decision, Plan, Situation, decide, transition};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]

    /// Through every sequence of outcomes, crashes and cancellation: order, limits, undoing in reverse, an end.
    #[test]
    fn every_course_of_events_keeps_the_guarantees(plan in plans(), happenings in happenings()) {
        Model::new(plan).run(&happenings);
    }

    /// With nothing going wrong, everything is done.
    #[test]
    fn without_failures_everything_is_done(plan in plans()) {
        let mut model = Model::new(plan);
        model.run(&[]);
        prop_assert_eq!(model.status.phase, OperationPhase::Succeeded);
        prop_assert!(model.status.steps.iter().all(|step| step.attempts == 1));
    }
}

/// a -> b -> c, and d on its own.
fn chain(on_failure: FailurePolicy) -> Plan {
    let step = |id: &str, after: &[&str]| StepSpec {
        id: id.to_owned(),
        action: "test.act".to_owned(),
        depends_on: after.iter().map(|&id| id.to_owned()).collect(),
        estimate_seconds: 10,
        ..StepSpec::default()
    };
    let steps = vec![step("a", &[]), step("b", &["a"]), step("c", &["b"]), step("d", &[])];
    Plan::new(OperationSpec { steps, on_failure, ..OperationSpec::default() }).expect("valid")
}

fn status(plan: &Plan, phase: OperationPhase, states: &[StepState]) -> OperationStatus {
    let mut status = transition::aligned(plan, &OperationStatus { phase, ..OperationStatus::default() });
    for (step, &state) in status.steps.iter_mut().zip(states) {
        step.state = state;
        step.attempts = u32::from(!matches!(state, StepState::Waiting | StepState::Skipped));
    }
    status
}

fn decide_on(policy: FailurePolicy, states: [StepState; 4], in_flight: &[usize], cancel: bool) -> Decision {
    let plan = chain(policy);
    let in_flight: BTreeSet<usize> = in_flight.iter().copied().collect();
    let situation = Situation {
        in_flight: &in_flight,
        retry_at: &[],
        cancel,
        halt: false,
        default_parallelism: 8,
        now: Timestamp::UNIX_EPOCH,
    };
    decide(&plan, &status(&plan, OperationPhase::Running, &states), &situation)
}

use FailurePolicy::{Continue, Stop, Undo};
use OperationPhase::{
    Cancelled, Failed as OperationFailed, Running as OperationRunning, Undoing as OperationUndoing,
    Undone as OperationUndone,
};
use StepState::{Failed, Retrying, Running, Skipped, Succeeded, UndoFailed, Undone, Waiting};

#[test]
fn what_can_run_runs_the_longest_chain_first() {
    let decision = decide_on(Undo, [Waiting; 4], &[], false);
    assert_eq!((decision.phase, decision.start), (OperationRunning, vec![0, 3]));
}

#[test]
fn what_a_crash_cut_short_is_begun_again() {
    let decision = decide_on(Undo, [Succeeded, Running, Waiting, Running], &[3], false);
    assert_eq!(decision.start, [1]);
}

#[test]
fn a_retry_waits_for_its_time() {
    let plan = chain(Undo);
    let due = Timestamp::from_second(50).expect("in range");
    let (in_flight, retry_at) = (BTreeSet::new(), [Some(due)]);
    let situation = |now: i64| Situation {
        in_flight: &in_flight,
        retry_at: &retry_at,
        cancel: false,
        halt: false,
        default_parallelism: 8,
        now: Timestamp::from_second(now).expect("in range"),
    };
    let status = status(&plan, OperationRunning, &[Retrying, Waiting, Waiting, Succeeded]);
    let early = decide(&plan, &status, &situation(49));
    assert_eq!((early.start, early.wake_at), (vec![], Some(due)));
    let in_time = decide(&plan, &status, &situation(50));
    assert_eq!((in_time.start, in_time.wake_at), (vec![0], None));
}

#[test]
fn after_a_failure_the_policy_decides() {
    let states = [Succeeded, Failed, Waiting, Running];
    let undo = decide_on(Undo, states, &[3], false);
    assert_eq!(
        (undo.phase, undo.undo, undo.skip, undo.interrupt),
        (OperationUndoing, vec![1], vec![2], vec![3])
    );
    let stop = decide_on(Stop, states, &[3], false);
    assert_eq!((stop.phase, stop.skip, stop.interrupt), (OperationRunning, vec![2], vec![]));
    let go_on = decide_on(Continue, states, &[3], false);
    assert_eq!((go_on.phase, go_on.skip, go_on.interrupt), (OperationRunning, vec![2], vec![]));
}

#[test]
fn undoing_goes_backwards_and_includes_what_failed_half_way() {
    let first = decide_on(Undo, [Succeeded, Failed, Skipped, Succeeded], &[], false);
    assert_eq!(first.undo, [3, 1]);
    let then = decide_on(Undo, [Succeeded, Undone, Skipped, Undone], &[], true);
    assert_eq!(then.undo, [0]);
    let end = decide_on(Undo, [Undone, Undone, Skipped, Undone], &[], true);
    assert_eq!(end.phase, OperationUndone);
}

#[test]
fn what_cannot_be_undone_keeps_what_it_rests_on() {
    let plan = chain(Undo);
    let status = status(&plan, OperationUndoing, &[Succeeded, UndoFailed, Skipped, Undone]);
    let in_flight = BTreeSet::new();
    let situation = Situation {
        in_flight: &in_flight,
        retry_at: &[],
        cancel: false,
        halt: false,
        default_parallelism: 8,
        now: Timestamp::UNIX_EPOCH,
    };
    let decision = decide(&plan, &status, &situation);
    assert_eq!((decision.phase, decision.undo), (OperationFailed, vec![]));
}

#[test]
fn cancelling_interrupts_and_keeps_or_undoes_as_the_policy_says() {
    let states = [Succeeded, Running, Waiting, Retrying];
    let stop = decide_on(Stop, states, &[1], true);
    assert_eq!((stop.interrupt, stop.skip, stop.abandon), (vec![1], vec![2], vec![3]));
    assert_eq!(decide_on(Stop, [Succeeded, Failed, Skipped, Failed], &[], true).phase, Cancelled);
    assert_eq!(decide_on(Undo, states, &[1], true).phase, OperationUndoing);
    // Too late: everything is done.
    assert_eq!(decide_on(Undo, [Succeeded; 4], &[], true).phase, OperationPhase::Succeeded);
}

#[test]
fn the_time_of_a_retry_is_not_lost_among_several() {
    let plan = chain(Continue);
    let at = |second: i64| Timestamp::UNIX_EPOCH + SignedDuration::from_secs(second);
    let in_flight = BTreeSet::new();
    let situation = Situation {
        in_flight: &in_flight,
        retry_at: &[Some(at(9)), None, None, Some(at(4))],
        cancel: false,
        halt: false,
        default_parallelism: 8,
        now: at(1),
    };
    let status = status(&plan, OperationRunning, &[Retrying, Waiting, Waiting, Retrying]);
    assert_eq!(decide(&plan, &status, &situation).wake_at, Some(at(4)));
}
