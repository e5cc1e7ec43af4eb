//! An operation that stopped is told to go on, or to undo what it did; one that runs is asked to stop.

use std::time::Duration;

use drystone_api::{FailurePolicy, OperationPhase, OperationSpec, StepSpec, StepState};

use super::world::{Bench, DiskJournal, PutParameters};
use crate::{action::StepError, runner::Signals};

/// a -> b -> c, of a second each, that stops when a step fails.
fn chain() -> Bench {
    let step = |id: &str, after: Option<&str>| {
        let rests_on: Vec<String> = after.into_iter().map(str::to_owned).collect();
        let parameters = PutParameters { takes: 1_000, rests_on: rests_on.clone(), stubborn: false };
        StepSpec {
            id: id.to_owned(),
            action: "test.put".to_owned(),
            depends_on: rests_on,
            parameters: serde_json::to_value(parameters).expect("JSON"),
            ..StepSpec::default()
        }
    };
    let steps = vec![step("a", None), step("b", Some("a")), step("c", Some("b"))];
    Bench::new(OperationSpec { steps, on_failure: FailurePolicy::Stop, ..OperationSpec::default() })
}

fn fails(bench: &Bench, step: &str, times: usize) {
    bench.world().script.insert(step.to_owned(), vec![StepError::permanent("refused"); times]);
}

/// Runs until it has ended; after `after`, it is asked for what `ask` does with the signals.
async fn run_and_ask(bench: &Bench, after: Duration, ask: impl Fn(&Signals)) {
    let signals = Signals::default();
    let (engine, operation, mut journal) = (bench.engine(), bench.read(), DiskJournal::open(&bench.disk));
    let asking = async {
        tokio::time::sleep(after).await;
        ask(&signals);
    };
    let (phase, ()) = tokio::join!(engine.run_until(&operation, &mut journal, &signals), asking);
    assert!(phase.expect("the journal takes everything").is_final());
    assert_eq!(bench.world().violations, [""; 0]);
}

use OperationPhase::{Cancelled, Failed, Succeeded, Undone};

#[tokio::test(start_paused = true)]
async fn what_is_done_stays_done_and_the_rest_is_tried_again() {
    let mut bench = chain();
    fails(&bench, "b", 2);
    assert_eq!(bench.run().await.phase, Failed);
    assert_eq!(bench.states(), [StepState::Succeeded, StepState::Failed, StepState::Skipped]);
    // Nobody told it to go on: it stays.
    assert_eq!(bench.run().await.phase, Failed);
    bench.operation.spec.retries = 1;
    assert_eq!(bench.run().await.phase, Failed);
    bench.operation.spec.retries = 2;
    let status = bench.run().await;
    assert_eq!((status.phase, status.retries, status.message.as_str()), (Succeeded, 2, "all 3 steps done"));
    assert_eq!(bench.world().log, ["run a", "run b", "run b", "run b", "run c"]);
    let attempts: Vec<_> = status.steps.iter().map(|step| (step.attempts, step.attempts_before)).collect();
    assert_eq!(attempts, [(1, 0), (3, 2), (1, 0)]);
    assert!(
        bench.events().iter().any(|event| event.starts_with("Normal OperationResumed")),
        "{:?}",
        bench.events()
    );
}

#[tokio::test(start_paused = true)]
async fn told_to_go_on_it_has_all_its_attempts_again() {
    let mut bench = chain();
    bench.config.max_attempts = 2;
    bench.world().script.insert("a".to_owned(), vec![StepError::transient("busy"); 3]);
    assert_eq!(bench.run().await.phase, Failed);
    bench.operation.spec.retries = 1;
    assert_eq!(bench.run().await.phase, Succeeded);
    assert_eq!(bench.status().steps[0].attempts, 4);
}

#[tokio::test(start_paused = true)]
async fn it_is_undone_in_reverse_what_failed_included() {
    let mut bench = chain();
    fails(&bench, "c", 1);
    assert_eq!(bench.run().await.phase, Failed);
    bench.operation.spec.rollbacks = 1;
    let status = bench.run().await;
    assert_eq!(status.phase, Undone);
    assert_eq!(status.message, "c: refused; what was done has been undone");
    assert_eq!(bench.world().log[3..], ["undo c", "undo b", "undo a"]);
    assert_eq!(bench.in_effect(), Vec::<String>::new());
    // What is undone is not told to go on any more.
    bench.operation.spec.retries = 1;
    assert_eq!(bench.run().await.phase, Undone);
}

#[tokio::test(start_paused = true)]
async fn undoing_that_failed_is_tried_again_or_the_operation_goes_on() {
    for go_on in [false, true] {
        let mut bench = chain();
        fails(&bench, "c", 1);
        bench.world().undo_script.insert("b".to_owned(), vec![StepError::permanent("busy")]);
        assert_eq!(bench.run().await.phase, Failed);
        bench.operation.spec.rollbacks = 1;
        assert_eq!(bench.run().await.phase, Failed);
        assert_eq!(bench.states(), [StepState::Succeeded, StepState::UndoFailed, StepState::Undone]);
        if go_on {
            bench.operation.spec.retries = 1;
            assert_eq!(bench.run().await.phase, Succeeded);
            assert_eq!(bench.in_effect(), ["a", "b", "c"]);
        } else {
            bench.operation.spec.rollbacks = 2;
            assert_eq!(bench.run().await.phase, Undone);
            assert_eq!(bench.in_effect(), Vec::<String>::new());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_tried_before_and_is_stopped_again_is_still_undone() {
    let mut bench = chain();
    fails(&bench, "b", 1);
    assert_eq!(bench.run().await.phase, Failed);
    bench.operation.spec.retries = 1;
    // Stopped before the step is tried again.
    run_and_ask(&bench, Duration::ZERO, |signals| signals.cancel.cancel()).await;
    assert_eq!(bench.status().phase, Cancelled);
    bench.operation.spec.rollbacks = 1;
    assert_eq!(bench.run().await.phase, Undone);
    assert_eq!(bench.in_effect(), Vec::<String>::new(), "the failed attempt had left its effect");
}

#[tokio::test(start_paused = true)]
async fn asked_to_stop_gently_what_runs_comes_to_its_end() {
    let mut bench = chain();
    run_and_ask(&bench, Duration::from_millis(1_500), |signals| signals.halt.cancel()).await;
    assert_eq!(bench.status().phase, Cancelled);
    assert_eq!(bench.states(), [StepState::Succeeded, StepState::Succeeded, StepState::Skipped]);
    assert_eq!(bench.status().message, "cancelled");
    bench.operation.spec.retries = 1;
    assert_eq!(bench.run().await.phase, Succeeded);
    assert_eq!(bench.world().log, ["run a", "run b", "run c"]);
}

#[tokio::test(start_paused = true)]
async fn asked_to_stop_gently_with_nothing_left_it_succeeds() {
    let bench = chain();
    run_and_ask(&bench, Duration::from_millis(2_900), |signals| signals.halt.cancel()).await;
    assert_eq!(bench.status().phase, Succeeded);
}

#[tokio::test(start_paused = true)]
async fn where_undoing_is_the_policy_stopping_gently_undoes_afterwards() {
    let mut bench = chain();
    bench.operation.spec.on_failure = FailurePolicy::Undo;
    run_and_ask(&bench, Duration::from_millis(1_500), |signals| signals.halt.cancel()).await;
    assert_eq!(bench.status().phase, Undone);
    assert_eq!(bench.world().log, ["run a", "run b", "undo b", "undo a"]);
}

#[tokio::test(start_paused = true)]
async fn undoing_that_was_asked_for_can_be_stopped() {
    for interrupt in [false, true] {
        let mut bench = chain();
        bench.config.grace = Duration::from_millis(10);
        fails(&bench, "c", 1);
        assert_eq!(bench.run().await.phase, Failed);
        bench.operation.spec.rollbacks = 1;
        let ask = |signals: &Signals| if interrupt { signals.cancel.cancel() } else { signals.halt.cancel() };
        run_and_ask(&bench, Duration::from_millis(1_400), ask).await;
        assert_eq!(bench.status().phase, Cancelled);
        let second = if interrupt { StepState::UndoFailed } else { StepState::Undone };
        assert_eq!(bench.states(), [StepState::Succeeded, second, StepState::Undone]);
        bench.operation.spec.rollbacks = 2;
        assert_eq!(bench.run().await.phase, Undone);
        assert_eq!(bench.in_effect(), Vec::<String>::new());
    }
}
