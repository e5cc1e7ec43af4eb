//! Parallelism, places, coalesced writes, progress.

use std::time::Duration;

use drystone_api::{OperationPhase, OperationSpec, StepSpec};
use tokio_util::sync::CancellationToken;

use super::world::{Bench, DiskJournal, PutParameters};

fn side_by_side(steps: usize, takes: u64) -> OperationSpec {
    let steps = (0..steps).map(|step| StepSpec {
        id: step.to_string(),
        action: "test.put".to_owned(),
        parameters: serde_json::to_value(PutParameters { takes, ..PutParameters::default() }).expect("JSON"),
        estimate_seconds: u32::try_from(takes / 1_000).expect("small"),
        ..StepSpec::default()
    });
    OperationSpec { steps: steps.collect(), ..OperationSpec::default() }
}

#[tokio::test(start_paused = true)]
async fn an_operation_keeps_to_its_parallelism() {
    for (parallelism, expected) in [(0, 5), (1, 1), (3, 3)] {
        let mut spec = side_by_side(20, 1_000);
        spec.parallelism = parallelism;
        let mut bench = Bench::new(spec);
        bench.config.parallelism = 5;
        assert_eq!(bench.run().await.phase, OperationPhase::Succeeded);
        assert_eq!(bench.world().most_running, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn all_operations_share_the_places() {
    let mut bench = Bench::new(side_by_side(20, 1_000));
    bench.config.places = 2;
    assert_eq!(bench.run().await.phase, OperationPhase::Succeeded);
    assert_eq!(bench.world().most_running, 2);
    assert!(
        (Duration::from_secs(10)..Duration::from_secs(11)).contains(&bench.elapsed()),
        "{:?}",
        bench.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_others_does_not_keep_them_from_running() {
    let mut spec = side_by_side(1, 1_000);
    for waiter in ["w1", "w2", "w3"] {
        // Urgent by its estimate, so that it starts first.
        spec.steps.push(StepSpec {
            id: waiter.to_owned(),
            action: "test.await-other".to_owned(),
            parameters: serde_json::json!({"step": "0"}),
            estimate_seconds: 100,
            ..StepSpec::default()
        });
    }
    let mut bench = Bench::new(spec);
    bench.config.places = 1;
    assert_eq!(bench.run().await.phase, OperationPhase::Succeeded);
    assert!(bench.elapsed() < Duration::from_secs(2), "{:?}", bench.elapsed());
}

#[tokio::test(start_paused = true)]
async fn transitions_of_one_moment_are_one_write() {
    let mut bench = Bench::new(side_by_side(40, 1_000));
    bench.config.parallelism = 500;
    assert_eq!(bench.run().await.phase, OperationPhase::Succeeded);
    // Begin, and end.
    assert_eq!(bench.disk.lock().expect("not poisoned").writes, 2);
}

#[tokio::test(start_paused = true)]
async fn progress_is_journaled_now_and_then() {
    let bench = Bench::new(side_by_side(1, 100_000));
    let (engine, operation, cancel) = (bench.engine(), bench.read(), CancellationToken::new());
    let mut journal = DiskJournal::open(&bench.disk);
    let looking = async {
        tokio::time::sleep(Duration::from_secs(61)).await;
        bench.status()
    };
    let (phase, status) = tokio::join!(engine.run(&operation, &mut journal, &cancel), looking);
    assert_eq!(phase, Ok(OperationPhase::Succeeded));
    assert!((50..=61).contains(&status.progress_percent), "{}", status.progress_percent);
    assert!((39..=50).contains(&status.remaining_seconds.expect("known")), "{status:?}");
    assert_eq!(status.message, "0 of 1 steps done; now: 0");
    let writes = bench.disk.lock().expect("not poisoned").writes;
    assert!(writes < 12, "{writes} writes in 100 s");
}
