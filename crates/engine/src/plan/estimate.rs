//! Progress and remaining time, from the journal.

use drystone_api::{OperationPhase, OperationStatus, StepState, StepStatus};
use jiff::Timestamp;

use super::Plan;

/// Share of its estimate that a running step which tells nothing is taken to have done at most.
const SILENT_LIMIT_PERCENT: u64 = 90;

/// Progress in percent: steps weigh as much as their estimate. 100 only for a complete operation; never less than the
/// journal said before, since a retry is no reason to show people a bar that goes backwards.
pub fn progress_percent(plan: &Plan, status: &OperationStatus, now: Timestamp) -> u8 {
    if status.phase == OperationPhase::Succeeded {
        return 100;
    }
    if status.phase.is_final() || status.phase == OperationPhase::Undoing {
        return status.progress_percent.min(99);
    }
    let (mut done, mut all) = (0_u64, 0_u64);
    for (spec, step) in plan.spec().steps.iter().zip(&status.steps) {
        let weight = u64::from(spec.estimate_seconds.max(1));
        all += weight * 100;
        done += weight * done_percent(spec.estimate_seconds, step, now);
    }
    let percent = u8::try_from(done * 100 / all.max(1)).unwrap_or(100).min(99);
    percent.max(status.progress_percent.min(99))
}

/// Expected remaining time in seconds: along the critical path of what is left, or, if that is longer, the whole work left
/// divided among as many steps as run at the same time. `None` when nothing is expected: final, undoing.
pub fn remaining_seconds(
    plan: &Plan,
    status: &OperationStatus,
    default_parallelism: usize,
    now: Timestamp,
) -> Option<u32> {
    if status.phase.is_final() || status.phase == OperationPhase::Undoing {
        return None;
    }
    let left: Vec<u64> = plan
        .spec()
        .steps
        .iter()
        .zip(&status.steps)
        .map(|(spec, step)| match step.state {
            StepState::Waiting | StepState::Running | StepState::Retrying => {
                // In hundredths of a second, rounded up once at the end.
                u64::from(spec.estimate_seconds.max(1))
                    * (100 - done_percent(spec.estimate_seconds, step, now))
            }
            _ => 0,
        })
        .collect();
    let path = plan.graph().longest_tails(|index| left[index]).into_iter().max().unwrap_or(0);
    let lanes = match plan.spec().parallelism {
        0 => u64::try_from(default_parallelism).unwrap_or(u64::MAX),
        given => u64::from(given),
    };
    let work = left.iter().sum::<u64>().div_ceil(lanes.max(1));
    Some(u32::try_from(path.max(work).div_ceil(100)).unwrap_or(u32::MAX))
}

/// How much of a step is done, in percent: what it tells, or what the clock lets expect.
fn done_percent(estimate_seconds: u32, step: &StepStatus, now: Timestamp) -> u64 {
    match step.state {
        StepState::Succeeded => 100,
        StepState::Running => {
            let elapsed = step.started_at.as_ref().map_or(0, |started| elapsed_seconds(started.0, now));
            let by_clock = (elapsed * 100 / u64::from(estimate_seconds.max(1))).min(SILENT_LIMIT_PERCENT);
            if step.progress_percent > 0 { u64::from(step.progress_percent.min(99)) } else { by_clock }
        }
        _ => 0,
    }
}

/// Whole seconds from `start` to `now`; 0 if the clock was set back.
pub fn elapsed_seconds(start: Timestamp, now: Timestamp) -> u64 {
    u64::try_from(now.duration_since(start).as_secs()).unwrap_or(0)
}
