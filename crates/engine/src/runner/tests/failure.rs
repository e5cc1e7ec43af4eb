//! Retries, timeouts, cancellation and undoing, one case each.

use std::time::Duration;

use drystone_api::{FailurePolicy, OperationPhase, OperationSpec, StepSpec, StepState};
use tokio_util::sync::CancellationToken;

use super::world::{Bench, DiskJournal, PutParameters};
use crate::{action::StepError, runner::JournalError};

/// Steps in a row, each resting on the one before and taking a second.
fn row(ids: &[&str]) -> OperationSpec {
    let steps = ids.iter().enumerate().map(|(index, id)| {
        let before: Vec<String> =
            index.checked_sub(1).map(|before| ids[before].to_owned()).into_iter().collect();
        step(id, &before, PutParameters { takes: 1_000, rests_on: before.clone(), stubborn: false })
    });
    OperationSpec { title: "Test".to_owned(), steps: steps.collect(), ..OperationSpec::default() }
}

fn step(id: &str, after: &[String], parameters: PutParameters) -> StepSpec {
    StepSpec {
        id: id.to_owned(),
        action: "test.put".to_owned(),
        depends_on: after.to_vec(),
        parameters: serde_json::to_value(parameters).expect("JSON"),
        estimate_seconds: 1,
        ..StepSpec::default()
    }
}

fn fails(bench: &Bench, step: &str, errors: Vec<StepError>) {
    bench.world().script.insert(step.to_owned(), errors);
}

#[tokio::test(start_paused = true)]
async fn a_transient_failure_is_tried_again_after_a_growing_while() {
    let bench = Bench::new(row(&["a"]));
    fails(&bench, "a", vec![StepError::transient("busy"), StepError::transient("still busy")]);
    let status = bench.run().await;
    assert_eq!((status.phase, status.steps[0].attempts), (OperationPhase::Succeeded, 3));
    assert_eq!(status.progress_percent, 100);
    assert_eq!(status.message, "all 1 steps done");
    // 0.5 + 0.5 + 1 s at work; pauses of 0.5..1 s and 1..2 s.
    assert!(
        (Duration::from_millis(3_500)..Duration::from_millis(5_200)).contains(&bench.elapsed()),
        "{:?}",
        bench.elapsed()
    );
    assert_eq!(
        bench.events(),
        [
            "Normal OperationStarted Test: started, 1 steps",
            "Warning StepRetrying a: attempt 1 of 5 failed, will try again: busy",
            "Warning StepRetrying a: attempt 2 of 5 failed, will try again: still busy",
            "Normal OperationSucceeded Test: all 1 steps done",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_given_time_is_waited_for() {
    let bench = Bench::new(row(&["a"]));
    fails(&bench, "a", vec![StepError::retry_after(Duration::from_secs(100), "come back later")]);
    assert_eq!(bench.run().await.phase, OperationPhase::Succeeded);
    assert!(
        (Duration::from_secs(101)..Duration::from_secs(103)).contains(&bench.elapsed()),
        "{:?}",
        bench.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn attempts_are_limited() {
    let mut spec = row(&["a", "b"]);
    spec.steps[1].max_attempts = 3;
    let bench = Bench::new(spec);
    fails(&bench, "b", vec![StepError::transient("busy"); 9]);
    let status = bench.run().await;
    assert_eq!(status.phase, OperationPhase::Undone);
    assert_eq!(bench.states(), [StepState::Undone, StepState::Undone]);
    assert_eq!(bench.world().log, ["run a", "run b", "run b", "run b", "undo b", "undo a"]);
    assert_eq!(status.message, "b: busy (attempt 3 of 3); what was done has been undone");
    assert_eq!(bench.message(1), "busy (attempt 3 of 3)");
    assert_eq!(bench.in_effect(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_permanent_failure_is_not_tried_again() {
    let mut spec = row(&["a", "b", "c"]);
    spec.on_failure = FailurePolicy::Stop;
    let bench = Bench::new(spec);
    fails(&bench, "b", vec![StepError::permanent("refused")]);
    let status = bench.run().await;
    assert_eq!((status.phase, status.message.as_str()), (OperationPhase::Failed, "b: refused"));
    assert_eq!(bench.states(), [StepState::Succeeded, StepState::Failed, StepState::Skipped]);
    assert_eq!(bench.world().log, ["run a", "run b"]);
    assert_eq!(bench.events()[2], "Warning OperationFailed Test: b: refused");
}

#[tokio::test(start_paused = true)]
async fn other_branches_go_on_if_told_to() {
    let mut spec = row(&["a", "b"]);
    spec.steps.push(step("x", &[], PutParameters { takes: 5_000, ..PutParameters::default() }));
    spec.steps.push(step("y", &["x".to_owned()], PutParameters::default()));
    spec.on_failure = FailurePolicy::Continue;
    let bench = Bench::new(spec);
    fails(&bench, "a", vec![StepError::permanent("refused")]);
    assert_eq!(bench.run().await.phase, OperationPhase::Failed);
    assert_eq!(
        bench.states(),
        [StepState::Failed, StepState::Skipped, StepState::Succeeded, StepState::Succeeded]
    );
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_takes_too_long_is_ended() {
    for (stubborn, most) in [(false, 24), (true, 34)] {
        let mut spec = row(&["a"]);
        spec.steps[0] =
            step("a", &[], PutParameters { takes: 3_600_000, stubborn, ..PutParameters::default() });
        spec.steps[0].timeout_seconds = 10;
        spec.steps[0].max_attempts = 2;
        spec.on_failure = FailurePolicy::Stop;
        let bench = Bench::new(spec);
        assert_eq!(bench.run().await.phase, OperationPhase::Failed);
        assert_eq!(bench.message(0), "not done within 10 s (attempt 2 of 2)");
        assert!(bench.elapsed() < Duration::from_secs(most), "{:?}", bench.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_a_failure_of_its_step() {
    let mut spec = row(&["a"]);
    spec.steps[0].action = "test.panic".to_owned();
    spec.steps[0].parameters = serde_json::Value::Null;
    spec.steps[0].max_attempts = 1;
    let bench = Bench::new(spec);
    assert_eq!(bench.run().await.phase, OperationPhase::Undone);
    assert_eq!(bench.message(0), "defect in the action: it panicked: as told");
}

#[tokio::test(start_paused = true)]
async fn parameters_that_cannot_be_read_fail_for_good() {
    let mut spec = row(&["a"]);
    spec.steps[0].parameters = serde_json::json!({"takes": "long"});
    spec.on_failure = FailurePolicy::Stop;
    let bench = Bench::new(spec);
    assert_eq!(bench.run().await.phase, OperationPhase::Failed);
    assert!(bench.message(0).starts_with("parameters of action test.put: invalid type: string \"long\""));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_completed_is_not_begun() {
    let mut unknown = row(&["a", "b"]);
    unknown.steps[1].action = "test.unheard-of".to_owned();
    let mut circle = row(&["a", "b"]);
    circle.steps[0].depends_on = vec!["b".to_owned()];
    let table = [
        (unknown, "step b needs action \"test.unheard-of\", which this engine does not have"),
        (circle, "the plan is not valid: steps depend on each other in a circle: a -> b -> a"),
    ];
    for (spec, message) in table {
        let bench = Bench::new(spec);
        let status = bench.run().await;
        assert_eq!((status.phase, status.message.as_str()), (OperationPhase::Failed, message));
        assert_eq!(bench.world().log, [""; 0]);
        assert_eq!(bench.events(), [format!("Warning OperationFailed Test: {message}")]);
    }
}

async fn cancelled(policy: FailurePolicy, stubborn: bool, after: Duration) -> Bench {
    let mut spec = row(&["a", "b", "c"]);
    spec.on_failure = policy;
    let rests_on = vec!["a".to_owned()];
    spec.steps[1] = step("b", &["a".to_owned()], PutParameters { takes: 60_000, rests_on, stubborn });
    let bench = Bench::new(spec);
    let cancel = CancellationToken::new();
    let cancelling = async {
        tokio::time::sleep(after).await;
        cancel.cancel();
    };
    tokio::join!(bench.run_until(&cancel), cancelling);
    bench
}

#[tokio::test(start_paused = true)]
async fn cancelling_interrupts_what_runs_and_undoes_it() {
    let bench = cancelled(FailurePolicy::Undo, false, Duration::from_secs(10)).await;
    let status = bench.status();
    assert_eq!(
        (status.phase, status.message.as_str()),
        (OperationPhase::Undone, "cancelled; what was done has been undone")
    );
    assert_eq!(bench.world().log, ["run a", "run b", "undo b", "undo a"]);
    assert_eq!(bench.states(), [StepState::Undone, StepState::Undone, StepState::Skipped]);
    assert_eq!(bench.in_effect(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn cancelling_leaves_what_was_done_if_told_to() {
    let bench = cancelled(FailurePolicy::Stop, false, Duration::from_secs(10)).await;
    let status = bench.status();
    assert_eq!((status.phase, status.message.as_str()), (OperationPhase::Cancelled, "cancelled"));
    assert_eq!(bench.states(), [StepState::Succeeded, StepState::Failed, StepState::Skipped]);
    assert_eq!(bench.message(1), "interrupted");
    assert!(bench.elapsed() < Duration::from_secs(11));
}

#[tokio::test(start_paused = true)]
async fn what_does_not_heed_cancellation_is_dropped_after_the_grace_time() {
    let bench = cancelled(FailurePolicy::Undo, true, Duration::from_secs(10)).await;
    assert_eq!(bench.status().phase, OperationPhase::Undone);
    // 10 s until the cancellation, 5 s of grace, half a minute and half a second for undoing.
    assert!(
        (Duration::from_secs(15)..Duration::from_secs(77)).contains(&bench.elapsed()),
        "{:?}",
        bench.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_cancelled_before_it_begins_does_nothing() {
    let bench = Bench::new(row(&["a", "b"]));
    let cancel = CancellationToken::new();
    cancel.cancel();
    assert_eq!(bench.run_until(&cancel).await.phase, OperationPhase::Undone);
    assert_eq!(bench.world().log, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn undoing_is_tried_again_too() {
    let bench = Bench::new(row(&["a", "b"]));
    fails(&bench, "b", vec![StepError::permanent("refused")]);
    bench.world().undo_script.insert("a".to_owned(), vec![StepError::transient("busy"); 4]);
    assert_eq!(bench.run().await.phase, OperationPhase::Undone);
    assert_eq!(bench.in_effect(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn while_undoing_it_is_said_why_and_what_also_after_a_crash() {
    let bench = Bench::new(row(&["a", "b"]));
    fails(&bench, "b", vec![StepError::permanent("refused")]);
    let cancel = CancellationToken::new();
    for lifetime in [1_800, 500] {
        let engine = bench.engine();
        let (operation, mut journal) = (bench.read(), DiskJournal::open(&bench.disk));
        let life = engine.run(&operation, &mut journal, &cancel);
        assert!(tokio::time::timeout(Duration::from_millis(lifetime), life).await.is_err(), "killed");
        assert_eq!(bench.status().message, "b: refused; undoing: b");
    }
    assert_eq!(bench.run().await.message, "b: refused; what was done has been undone");
}

#[tokio::test(start_paused = true)]
async fn a_pause_asked_for_is_not_endless() {
    let bench = Bench::new(row(&["a"]));
    fails(&bench, "a", vec![StepError::retry_after(Duration::MAX, "come back after the end of the world")]);
    assert_eq!(bench.run().await.phase, OperationPhase::Succeeded);
    assert!(bench.elapsed() < Duration::from_secs(3_605));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_undone_is_said_and_keeps_what_it_rests_on() {
    let bench = Bench::new(row(&["a", "b", "c"]));
    fails(&bench, "c", vec![StepError::permanent("refused")]);
    bench.world().undo_script.insert("b".to_owned(), vec![StepError::permanent("stuck")]);
    let status = bench.run().await;
    assert_eq!(status.phase, OperationPhase::Failed);
    assert_eq!(status.message, "c: refused; b: could not be undone: stuck");
    assert_eq!(bench.states(), [StepState::Succeeded, StepState::UndoFailed, StepState::Undone]);
    assert_eq!(bench.in_effect(), ["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn an_outdated_copy_does_nothing() {
    let bench = Bench::new(row(&["a"]));
    let outdated = DiskJournal::open(&bench.disk);
    bench.disk.lock().expect("not poisoned").version += 1;
    // Even one that, by its copy, has only to resume a step.
    let mut operation = bench.read();
    let mut status = crate::plan::transition::aligned(
        &crate::plan::Plan::new(operation.spec.clone()).expect("valid"),
        &operation.status.clone().unwrap_or_default(),
    );
    status.phase = OperationPhase::Running;
    status.steps[0].state = StepState::Running;
    operation.status = Some(status);
    let mut journal = outdated;
    let result = bench.engine().run(&operation, &mut journal, &CancellationToken::new()).await;
    assert_eq!(result, Err(JournalError::Fenced { operation: "test".to_owned() }));
    assert_eq!(bench.world().log, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn without_a_journal_nothing_is_done_and_people_are_told() {
    let bench = Bench::new(row(&["a", "b"]));
    let mut journal = DiskJournal::open(&bench.disk);
    journal.writes_left = 1;
    let cancel = CancellationToken::new();
    let result = bench.engine().run(&bench.read(), &mut journal, &cancel).await;
    assert!(matches!(result, Err(JournalError::Unavailable { .. })), "{result:?}");
    // The end of the first step could not be written, so the second one did not begin.
    assert_eq!(bench.world().log, ["run a"]);
    let told = bench.events().pop().expect("something");
    assert_eq!(
        told,
        "Warning OperationInterrupted journal of operation test could not be written for 60 s: the disk is full; \
         it is taken up again later"
    );
    assert_eq!(bench.run().await.phase, OperationPhase::Succeeded);
    assert_eq!(bench.world().log, ["run a", "run a", "run b"]);
}

#[tokio::test(start_paused = true)]
async fn one_that_has_ended_is_left_alone() {
    let bench = Bench::new(row(&["a"]));
    bench.run().await;
    let writes = bench.disk.lock().expect("not poisoned").writes;
    bench.run().await;
    assert_eq!(bench.disk.lock().expect("not poisoned").writes, writes);
    assert_eq!(bench.world().log, ["run a"]);
}
