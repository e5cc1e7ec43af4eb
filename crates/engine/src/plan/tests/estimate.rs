//! Progress and remaining time.

use std::time::Duration;

use drystone_api::{ObjectReference, OperationPhase, OperationStatus, StepState};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use proptest::prelude::*;

use super::model::{DEFAULT_PARALLELISM, Model, happenings, plans};
use crate::plan::{Plan, PlanBuilder, estimate, transition};

/// first (10 s), then two times 30 s and once 60 s side by side.
fn plan(parallelism: u32) -> Plan {
    let mut plan = PlanBuilder::new("Test", ObjectReference::default());
    plan.parallelism(parallelism);
    plan.step("first", "test.act", &()).estimate(Duration::from_secs(10));
    for (id, seconds) in [("x", 30), ("y", 30), ("z", 60)] {
        plan.step(id, "test.act", &()).after("first").estimate(Duration::from_secs(seconds));
    }
    Plan::new(plan.build().expect("valid")).expect("valid")
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds)
}

/// So many of all 130 seconds, in percent.
fn share(seconds: u32) -> u8 {
    u8::try_from(seconds * 100 / 130).expect("at most 100")
}

fn running(plan: &Plan) -> OperationStatus {
    let status = OperationStatus { phase: OperationPhase::Running, ..OperationStatus::default() };
    transition::aligned(plan, &status)
}

#[test]
fn remaining_time_is_the_critical_path_or_the_work_per_lane() {
    let wide = plan(0);
    assert_eq!(estimate::remaining_seconds(&wide, &running(&wide), 8, at(0)), Some(70));
    let narrow = plan(1);
    assert_eq!(estimate::remaining_seconds(&narrow, &running(&narrow), 8, at(0)), Some(130));
}

#[test]
fn running_steps_count_by_what_they_tell_or_by_the_clock() {
    let plan = plan(0);
    let mut status = running(&plan);
    status.steps[0].state = StepState::Succeeded;
    status.steps[3].state = StepState::Running;
    status.steps[3].started_at = Some(Time(at(100)));
    assert_eq!(estimate::remaining_seconds(&plan, &status, 8, at(130)), Some(30));
    assert_eq!(estimate::progress_percent(&plan, &status, at(130)), share(10 + 30));
    // One that should be done but is not holds at nine tenths.
    assert_eq!(estimate::progress_percent(&plan, &status, at(9_999)), share(10 + 54));
    status.steps[3].progress_percent = 25;
    assert_eq!(estimate::progress_percent(&plan, &status, at(9_999)), share(10 + 15));
    // The clock was set back.
    status.steps[3].progress_percent = 0;
    assert_eq!(estimate::progress_percent(&plan, &status, at(0)), share(10));
}

#[test]
fn a_hundred_percent_is_for_what_is_complete() {
    let plan = plan(0);
    let mut status = running(&plan);
    for step in &mut status.steps {
        step.state = StepState::Succeeded;
    }
    assert_eq!(estimate::progress_percent(&plan, &status, at(0)), 99);
    status.phase = OperationPhase::Succeeded;
    assert_eq!(estimate::progress_percent(&plan, &status, at(0)), 100);
    assert_eq!(estimate::remaining_seconds(&plan, &status, 8, at(0)), None);
}

#[test]
fn progress_does_not_go_backwards() {
    let plan = plan(0);
    let mut status = running(&plan);
    status.progress_percent = 42;
    assert_eq!(estimate::progress_percent(&plan, &status, at(0)), 42);
}

#[test]
fn journals_are_aligned_with_their_plan() {
    let plan = plan(0);
    let mut status = running(&plan);
    status.steps[1].attempts = 7;
    status.steps.swap(0, 1);
    status.steps.remove(3);
    let aligned = transition::aligned(&plan, &status);
    let ids: Vec<&str> = aligned.steps.iter().map(|step| step.id.as_str()).collect();
    assert_eq!(ids, ["first", "x", "y", "z"]);
    assert_eq!(aligned.steps[1].attempts, 7);
}

#[test]
fn messages_are_cut_between_characters() {
    let long = "ü".repeat(2_000);
    assert_eq!(transition::shortened(&long).chars().count(), 1_001);
    assert_eq!(transition::shortened("short"), "short");
}

proptest! {
    /// Whatever happened, the figures are within bounds, and something remains exactly while something is left.
    #[test]
    fn figures_are_within_bounds(plan in plans(), happenings in happenings(), later in 0..10_000_i64) {
        let mut model = Model::new(plan);
        model.run(&happenings);
        let percent = estimate::progress_percent(&model.plan, &model.status, at(later));
        prop_assert_eq!(percent == 100, model.status.phase == OperationPhase::Succeeded);
        prop_assert_eq!(estimate::remaining_seconds(&model.plan, &model.status, DEFAULT_PARALLELISM, at(later)), None);
    }
}
