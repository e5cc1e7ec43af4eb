//! Killed at any point and started again, an operation comes to the end that it would have come to.

use std::time::Duration;

use drystone_api::{FailurePolicy, OperationPhase, OperationSpec, StepSpec};
use proptest::prelude::*;
use tokio_util::sync::CancellationToken;

use super::world::{Bench, DiskJournal, PutParameters};
use crate::action::StepError;

#[derive(Debug, Clone)]
struct Case {
    spec: OperationSpec,
    /// Lifetimes of the processes that run the operation, in milliseconds; the last one lives for ever.
    lifetimes: Vec<u64>,
    cancel_after: Option<u64>,
    /// Steps that fail for good.
    failing: Vec<usize>,
    /// If it stops: whether it is then undone, instead of going on.
    roll_back: bool,
}

prop_compose! {
    fn cases()(size in 1..8_usize)(
        edges in prop::collection::vec(prop::collection::vec(any::<bool>(), size), size),
        takes in prop::collection::vec(0..40_u64, size),
        parallelism in 0..3_u32,
        policy in prop_oneof![
            Just(FailurePolicy::Undo), Just(FailurePolicy::Stop), Just(FailurePolicy::Continue)
        ],
        lifetimes in prop::collection::vec(0..60_u64, 0..12),
        cancel_after in prop::option::weighted(0.3, 0..100_u64),
        failing in prop::collection::vec(0..size, 0..2),
        roll_back in any::<bool>(),
    ) -> Case {
        let steps = (0..takes.len()).map(|step| {
            let rests_on: Vec<String> =
                (0..step).filter(|&other| edges[step][other]).map(|other| other.to_string()).collect();
            let parameters = PutParameters { takes: takes[step], rests_on: rests_on.clone(), stubborn: false };
            StepSpec {
                id: step.to_string(),
                action: "test.put".to_owned(),
                depends_on: rests_on,
                parameters: serde_json::to_value(parameters).expect("JSON"),
                ..StepSpec::default()
            }
        });
        let spec = OperationSpec { steps: steps.collect(), on_failure: policy, parallelism, ..OperationSpec::default() };
        Case { spec, lifetimes, cancel_after, failing, roll_back }
    }
}

/// Runs the case; every process but the last is killed when its time has come.
async fn run(case: &Case) -> Bench {
    let bench = Bench::new(case.spec.clone());
    for step in &case.failing {
        let refusals = vec![StepError::permanent("refused"); 20];
        bench.world().script.insert(step.to_string(), refusals);
    }
    let cancel = CancellationToken::new();
    if let Some(after) = case.cancel_after {
        let cancel = cancel.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(after)).await;
            cancel.cancel();
        });
    }
    live(&bench, &case.lifetimes, &cancel).await;
    bench
}

/// Processes with these lifetimes, and one that comes to the end.
async fn live(bench: &Bench, lifetimes: &[u64], cancel: &CancellationToken) {
    for &lifetime in lifetimes {
        let engine = bench.engine();
        let (operation, mut journal) = (bench.read(), DiskJournal::open(&bench.disk));
        let life = engine.run(&operation, &mut journal, cancel);
        // A timeout drops the run wherever it is: that is the kill.
        let _ = tokio::time::timeout(Duration::from_millis(lifetime), life).await;
        // Dropped tasks end at their next step of execution.
        tokio::task::yield_now().await;
    }
    bench.run_until(cancel).await;
}

/// What made it stop is over; it is told to go on, or to undo what it did, through as many kills.
async fn resume(mut bench: Bench, case: &Case) -> Bench {
    bench.world().script.clear();
    if case.roll_back {
        bench.operation.spec.rollbacks += 1;
    } else {
        bench.operation.spec.retries += 1;
    }
    live(&bench, &case.lifetimes, &CancellationToken::new()).await;
    bench
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_killed_engine_resumes(case in cases()) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        let bench = runtime.block_on(run(&case));
        let status = bench.status();
        let all: Vec<String> = case.spec.steps.iter().map(|step| step.id.clone()).collect();
        match status.phase {
            OperationPhase::Succeeded => {
                prop_assert!(case.failing.is_empty());
                prop_assert_eq!(bench.in_effect(), all.clone());
            }
            OperationPhase::Undone => prop_assert_eq!(bench.in_effect(), Vec::<String>::new()),
            OperationPhase::Cancelled => prop_assert!(case.cancel_after.is_some()),
            OperationPhase::Failed => {
                prop_assert!(!case.failing.is_empty());
                prop_assert!(case.spec.on_failure != FailurePolicy::Undo);
            }
            other => prop_assert!(false, "{:?} is not final", other),
        }
        if case.cancel_after.is_none() && case.failing.is_empty() {
            prop_assert_eq!(status.phase, OperationPhase::Succeeded);
        }
        if status.phase.is_resumable() {
            let bench = runtime.block_on(resume(bench, &case));
            let (phase, left) = if case.roll_back {
                (OperationPhase::Undone, Vec::new())
            } else {
                (OperationPhase::Succeeded, all)
            };
            prop_assert_eq!(bench.status().phase, phase);
            prop_assert_eq!(bench.in_effect(), left);
        }
    }
}
