//! Where an operation occurrence goes from where it is (SOL003, clause 5.6.2.2). Pure.

use drystone_api::{
    Operation, OperationPhase, StepState,
    nfv::{OperationStateTransition, VnfLcmOperation, VnfLcmOperationProgress, VnfLcmOperationStatus},
};
use drystone_sol003::types::{CancelMode, LcmOperationState, LcmOperationType, ProblemDetails};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};

/// What is to be done next about an occurrence.
#[derive(Debug, Clone, PartialEq)]
pub enum Next {
    /// Nothing, until something changes.
    Wait,
    /// Check it, plan it, and begin to carry it out.
    Prepare,
    /// It was planned, and its plan is there: it is being carried out.
    Begun,
    /// It was cancelled before it began.
    Withdraw,
    /// Tell how far it is.
    Progress,
    /// Ask the engine to stop.
    Cancel(CancelMode),
    /// All is done: write down what there is now.
    Complete,
    /// It stopped: tell why.
    Stopped(ProblemDetails),
    /// It was to be cancelled when it had stopped already: forget that, lest it stop what goes on later.
    ForgetCancel,
    /// Have the engine go on; for the given time.
    GoOn(u32),
    /// Have the engine undo what it did; for the given time.
    RollBack(u32),
    /// The engine's Operation is not there: it was deleted, or has not been seen yet.
    Missing,
    /// It is given up.
    GiveUp,
    /// Everything was undone.
    Undone,
}

/// What is to be done next about an occurrence. `engine` is the Operation that carries it out, as far as it is known to be there.
pub fn next(occurrence: &VnfLcmOperation, engine: Option<&Operation>) -> Next {
    let nothing = VnfLcmOperationStatus::default();
    let status = occurrence.status.as_ref().unwrap_or(&nothing);
    let spec = &occurrence.spec;
    match status.operation_state {
        LcmOperationState::Starting => match (engine, spec.cancel) {
            (Some(_), _) => Next::Begun,
            (None, Some(_)) => Next::Withdraw,
            (None, None) => Next::Prepare,
        },
        LcmOperationState::Processing => match engine {
            None => nobody_carries_it_out(status),
            Some(engine) if engine.spec.retries < status.observed_retries => {
                Next::GoOn(status.observed_retries)
            }
            Some(engine) => under_way(occurrence, status, engine),
        },
        LcmOperationState::RollingBack => match engine {
            None => nobody_carries_it_out(status),
            Some(engine) if engine.spec.rollbacks < status.observed_rollbacks => {
                Next::RollBack(status.observed_rollbacks)
            }
            Some(engine) => under_way(occurrence, status, engine),
        },
        LcmOperationState::FailedTemp => {
            if spec.fail {
                Next::GiveUp
            } else if spec.cancel.is_some() {
                Next::ForgetCancel
            } else if spec.rollbacks > status.observed_rollbacks {
                Next::RollBack(spec.rollbacks)
            } else if spec.retries > status.observed_retries {
                Next::GoOn(spec.retries)
            } else {
                Next::Wait
            }
        }
        LcmOperationState::Completed | LcmOperationState::Failed | LcmOperationState::RolledBack => {
            Next::Wait
        }
    }
}

/// The engine's Operation is gone, or has not been seen yet.
fn nobody_carries_it_out(status: &VnfLcmOperationStatus) -> Next {
    if status.engine_operation.is_some() { Next::Missing } else { Next::Complete }
}

fn under_way(occurrence: &VnfLcmOperation, status: &VnfLcmOperationStatus, engine: &Operation) -> Next {
    let phase = engine.status.as_ref().map(|status| status.phase).unwrap_or_default();
    if engine.is_told_to_resume() {
        return Next::Wait;
    }
    match phase {
        OperationPhase::Succeeded => Next::Complete,
        OperationPhase::Undone => Next::Undone,
        OperationPhase::Failed | OperationPhase::Cancelled => Next::Stopped(failure(engine)),
        _ => match occurrence.spec.cancel {
            Some(mode) if asks_for_more(status.cancelling, mode) => Next::Cancel(mode),
            _ => Next::Progress,
        },
    }
}

/// A forceful cancellation may follow a graceful one.
fn asks_for_more(taken: Option<CancelMode>, asked: CancelMode) -> bool {
    match taken {
        None => true,
        Some(CancelMode::Graceful) => asked == CancelMode::Forceful,
        Some(CancelMode::Forceful) => false,
    }
}

/// Why the engine stopped, as SOL003 shows it.
pub fn failure(engine: &Operation) -> ProblemDetails {
    let Some(status) = &engine.status else { return ProblemDetails::default() };
    let cancelled = status.phase == OperationPhase::Cancelled;
    let failed = status.steps.iter().zip(&engine.spec.steps).find(|(step, _)| {
        matches!(step.state, StepState::Failed | StepState::UndoFailed) && !step.message.is_empty()
    });
    let detail = match failed {
        Some((step, spec)) if !cancelled => {
            let title = if spec.title.is_empty() { &spec.id } else { &spec.title };
            format!("{title} ({}): {}", spec.id, step.message)
        }
        _ => status.message.clone(),
    };
    ProblemDetails {
        title: Some(if cancelled { "Cancelled" } else { "Failed" }.to_owned()),
        status: if cancelled { 409 } else { 500 },
        detail,
        ..ProblemDetails::default()
    }
}

/// The state that an operation enters when it is begun: a modification needs no grant.
pub fn first_states(operation: LcmOperationType) -> &'static [LcmOperationState] {
    if operation == LcmOperationType::ModifyInfo {
        &[LcmOperationState::Processing]
    } else {
        &[LcmOperationState::Starting, LcmOperationState::Processing]
    }
}

/// Enters a state, if the occurrence is still in `from`. Whether it was.
pub fn enter(
    status: &mut VnfLcmOperationStatus,
    from: LcmOperationState,
    state: LcmOperationState,
    error: Option<ProblemDetails>,
    now: Timestamp,
) -> bool {
    if status.operation_state != from {
        return false;
    }
    status.operation_state = state;
    status.state_entered_time = Some(MicroTime(now));
    status.start_time.get_or_insert(MicroTime(now));
    status.error.clone_from(&error);
    if !matches!(state, LcmOperationState::Processing | LcmOperationState::RollingBack) {
        status.cancelling = None;
    }
    record(status, state, error, now);
    true
}

/// Writes down that a state was entered.
pub fn record(
    status: &mut VnfLcmOperationStatus,
    state: LcmOperationState,
    error: Option<ProblemDetails>,
    now: Timestamp,
) {
    let sequence = status.transitions.last().map_or(0, |last| last.sequence) + 1;
    status.transitions.push(OperationStateTransition { sequence, state, time: Some(MicroTime(now)), error });
}

/// How far the engine is.
pub fn progress(engine: &Operation, now: Timestamp) -> Option<VnfLcmOperationProgress> {
    let status = engine.status.as_ref()?;
    Some(VnfLcmOperationProgress {
        percent: status.progress_percent,
        remaining_seconds: status.remaining_seconds,
        message: status.message.clone(),
        time: Some(Time(now)),
    })
}

#[cfg(test)]
mod tests {
    use drystone_api::{OperationSpec, OperationStatus, StepSpec, StepStatus, nfv::VnfLcmOperationSpec};

    use super::*;

    use LcmOperationState::{Completed, Failed, FailedTemp, Processing, RolledBack, RollingBack, Starting};

    fn occurrence(state: LcmOperationState) -> VnfLcmOperation {
        let mut occurrence = VnfLcmOperation::new("op", VnfLcmOperationSpec::default());
        occurrence.status = Some(VnfLcmOperationStatus {
            operation_state: state,
            engine_operation: Some("op".to_owned()),
            ..VnfLcmOperationStatus::default()
        });
        occurrence
    }

    fn engine(phase: OperationPhase) -> Operation {
        let step =
            StepSpec { id: "stack".to_owned(), title: "Make the stack".to_owned(), ..StepSpec::default() };
        let mut engine =
            Operation::new("op", OperationSpec { steps: vec![step], ..OperationSpec::default() });
        let failed = StepStatus {
            id: "stack".to_owned(),
            state: if phase == OperationPhase::Failed { StepState::Failed } else { StepState::Running },
            message: "no host".to_owned(),
            ..StepStatus::default()
        };
        engine.status = Some(OperationStatus {
            phase,
            steps: vec![failed],
            message: "whatever".to_owned(),
            ..OperationStatus::default()
        });
        engine
    }

    fn next_of(state: LcmOperationState, phase: OperationPhase) -> Next {
        next(&occurrence(state), Some(&engine(phase)))
    }

    #[test]
    fn the_way_through_without_trouble() {
        assert_eq!(next(&occurrence(Starting), None), Next::Prepare);
        assert_eq!(next_of(Starting, OperationPhase::Pending), Next::Begun);
        assert_eq!(next_of(Processing, OperationPhase::Running), Next::Progress);
        assert_eq!(next_of(Processing, OperationPhase::Succeeded), Next::Complete);
        for state in [Completed, Failed, RolledBack] {
            let mut ended = occurrence(state);
            (ended.spec.retries, ended.spec.rollbacks, ended.spec.fail) = (7, 7, true);
            ended.spec.cancel = Some(CancelMode::Forceful);
            assert_eq!(next(&ended, Some(&engine(OperationPhase::Failed))), Next::Wait, "{state:?} is final");
        }
    }

    #[test]
    fn what_stops_waits_for_an_order() {
        let Next::Stopped(problem) = next_of(Processing, OperationPhase::Failed) else {
            panic!("it stopped")
        };
        assert_eq!((problem.status, problem.detail.as_str()), (500, "Make the stack (stack): no host"));
        let mut stopped = occurrence(FailedTemp);
        assert_eq!(next(&stopped, None), Next::Wait);
        stopped.spec.retries = 2;
        assert_eq!(next(&stopped, None), Next::GoOn(2));
        stopped.spec.rollbacks = 1;
        assert_eq!(next(&stopped, None), Next::RollBack(1));
        stopped.spec.fail = true;
        assert_eq!(next(&stopped, None), Next::GiveUp);
    }

    #[test]
    fn a_cancellation_that_came_too_late_is_forgotten_before_it_goes_on() {
        let mut stopped = occurrence(FailedTemp);
        stopped.spec.cancel = Some(CancelMode::Forceful);
        assert_eq!(next(&stopped, None), Next::ForgetCancel);
        (stopped.spec.retries, stopped.spec.rollbacks) = (1, 1);
        assert_eq!(next(&stopped, None), Next::ForgetCancel);
        stopped.spec.cancel = None;
        assert_eq!(next(&stopped, None), Next::RollBack(1));
    }

    #[test]
    fn an_order_that_the_engine_has_not_taken_yet_is_waited_for() {
        let mut told = occurrence(Processing);
        told.status.as_mut().expect("has one").observed_retries = 1;
        let mut stopped = engine(OperationPhase::Failed);
        assert_eq!(next(&told, Some(&stopped)), Next::GoOn(1), "a copy from before, or the order was lost");
        stopped.spec.retries = 1;
        assert_eq!(next(&told, Some(&stopped)), Next::Wait);
        stopped.status.as_mut().expect("has one").retries = 1;
        assert!(matches!(next(&told, Some(&stopped)), Next::Stopped(_)));
    }

    #[test]
    fn rolling_back_ends_undone_or_stops_again() {
        assert_eq!(next_of(RollingBack, OperationPhase::Undoing), Next::Progress);
        assert_eq!(next_of(RollingBack, OperationPhase::Undone), Next::Undone);
        assert!(matches!(next_of(RollingBack, OperationPhase::Failed), Next::Stopped(_)));
    }

    #[test]
    fn cancelling_is_asked_for_once_and_may_become_forceful() {
        let mut cancelled = occurrence(Starting);
        cancelled.spec.cancel = Some(CancelMode::Graceful);
        assert_eq!(next(&cancelled, None), Next::Withdraw);
        for state in [Processing, RollingBack] {
            let mut cancelled = occurrence(state);
            cancelled.spec.cancel = Some(CancelMode::Graceful);
            let running = engine(OperationPhase::Running);
            assert_eq!(next(&cancelled, Some(&running)), Next::Cancel(CancelMode::Graceful));
            cancelled.status.as_mut().expect("has one").cancelling = Some(CancelMode::Graceful);
            assert_eq!(next(&cancelled, Some(&running)), Next::Progress);
            cancelled.spec.cancel = Some(CancelMode::Forceful);
            assert_eq!(next(&cancelled, Some(&running)), Next::Cancel(CancelMode::Forceful));
            let done =
                engine(if state == Processing { OperationPhase::Succeeded } else { OperationPhase::Undone });
            assert!(matches!(next(&cancelled, Some(&done)), Next::Complete | Next::Undone), "too late");
        }
    }

    #[test]
    fn every_state_that_is_entered_is_written_down_once() {
        let (mut status, now) = (VnfLcmOperationStatus::default(), Timestamp::UNIX_EPOCH);
        record(&mut status, Starting, None, now);
        assert!(enter(&mut status, Starting, Processing, None, now));
        assert!(!enter(&mut status, Starting, Processing, None, now), "a second writer comes too late");
        assert!(enter(&mut status, Processing, FailedTemp, Some(ProblemDetails::default()), now));
        let written: Vec<_> =
            status.transitions.iter().map(|change| (change.sequence, change.state)).collect();
        assert_eq!(written, [(1, Starting), (2, Processing), (3, FailedTemp)]);
        assert!(status.error.is_some() && status.transitions[2].error.is_some());
    }
}
