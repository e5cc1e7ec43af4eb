//! Operations for people's eyes: what `drystone ops` prints. Pure rendering; drawing is the binary's.

use drystone_api::{Operation, StepSpec, StepState, StepStatus};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

use crate::plan::estimate::elapsed_seconds;

/// One line of a progress display: the operation as a whole, or one of its steps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgressLine {
    /// The step's id; empty for the line of the operation.
    pub id: String,
    /// What people call it.
    pub title: String,
    /// `Running`, `Succeeded`, …
    pub state: String,
    /// Progress in percent.
    pub percent: u8,
    /// How long it has taken so far, or took, in seconds; `None` if it has not begun.
    pub elapsed_seconds: Option<u64>,
    /// How much longer it is expected to take, in seconds, if that is known.
    pub remaining_seconds: Option<u64>,
    /// What it is doing, or why it failed.
    pub message: String,
    /// Whether nothing more will happen to it.
    pub ended: bool,
}

/// The operation, then its steps in the order of the plan.
pub fn progress_lines(operation: &Operation, now: Timestamp) -> Vec<ProgressLine> {
    let status = operation.status.clone().unwrap_or_default();
    let whole = ProgressLine {
        id: String::new(),
        title: printable(&operation.spec.title),
        state: format!("{:?}", status.phase),
        percent: status.progress_percent,
        elapsed_seconds: elapsed(status.started_at.as_ref(), status.finished_at.as_ref(), now),
        remaining_seconds: status.remaining_seconds.map(u64::from),
        message: printable(&status.message),
        ended: status.phase.is_final(),
    };
    let steps = operation.spec.steps.iter().map(|spec| {
        let fresh = StepStatus::default();
        let step = status.steps.iter().find(|step| step.id == spec.id).unwrap_or(&fresh);
        step_line(spec, step, now)
    });
    std::iter::once(whole).chain(steps).collect()
}

fn step_line(spec: &StepSpec, step: &StepStatus, now: Timestamp) -> ProgressLine {
    let ended = !matches!(
        step.state,
        StepState::Waiting | StepState::Running | StepState::Retrying | StepState::Undoing
    );
    let elapsed = elapsed(step.started_at.as_ref(), step.finished_at.as_ref().filter(|_| ended), now);
    let remaining = u64::from(spec.estimate_seconds).saturating_sub(elapsed.unwrap_or(0));
    let expects = matches!(step.state, StepState::Waiting | StepState::Running) && spec.estimate_seconds > 0;
    ProgressLine {
        id: spec.id.clone(),
        title: printable(if spec.title.is_empty() { &spec.id } else { &spec.title }),
        state: format!("{:?}", step.state),
        percent: step.progress_percent,
        elapsed_seconds: elapsed,
        remaining_seconds: expects.then_some(remaining),
        message: printable(&step.message),
        ended,
    }
}

fn elapsed(started: Option<&Time>, finished: Option<&Time>, now: Timestamp) -> Option<u64> {
    started.map(|started| elapsed_seconds(started.0, finished.map_or(now, |finished| finished.0)))
}

/// A table of operations, newest first, with a heading; ends with a line break.
pub fn render_table(operations: &[Operation], now: Timestamp) -> String {
    let mut sorted: Vec<&Operation> = operations.iter().collect();
    let created = |operation: &Operation| operation.creation_timestamp().map(|time| time.0);
    sorted.sort_by(|a, b| created(b).cmp(&created(a)).then_with(|| a.name_any().cmp(&b.name_any())));
    let heading = ["NAMESPACE", "NAME", "PHASE", "PROGRESS", "REMAINING", "AGE", "TITLE", "MESSAGE"];
    let mut rows = vec![heading.map(str::to_owned)];
    rows.extend(sorted.into_iter().map(|operation| row(operation, now)));
    aligned(&rows)
}

fn row(operation: &Operation, now: Timestamp) -> [String; 8] {
    let status = operation.status.clone().unwrap_or_default();
    let created = operation.creation_timestamp();
    [
        operation.namespace().unwrap_or_default(),
        operation.name_any(),
        format!("{:?}", status.phase),
        format!("{}%", status.progress_percent),
        status.remaining_seconds.map_or_else(|| "-".to_owned(), |seconds| duration(u64::from(seconds))),
        created.map_or_else(|| "-".to_owned(), |created| duration(elapsed_seconds(created.0, now))),
        printable(&operation.spec.title),
        printable(&status.message),
    ]
}

/// One line without control characters: messages quote what devices answer, and a terminal obeys escape sequences.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Columns three spaces apart, as kubectl prints them; no spaces at the end of a line.
fn aligned<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0) + 3;
    let widths: Vec<usize> = (0..N).map(width).collect();
    let mut table = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', width.saturating_sub(cell.chars().count())));
        }
        table.push_str(line.trim_end());
        table.push('\n');
    }
    table
}

/// A duration as kubectl prints it: `45s`, `3m20s`, `5h12m`, `9d`.
pub fn duration(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..600 if !seconds.is_multiple_of(60) => format!("{minutes}m{}s", seconds % 60),
        120..10_800 => format!("{minutes}m"),
        10_800..28_800 if !minutes.is_multiple_of(60) => format!("{hours}h{}m", minutes % 60),
        10_800..172_800 => format!("{hours}h"),
        _ => format!("{days}d"),
    }
}

#[cfg(test)]
mod tests {
    use drystone_api::{OperationPhase, OperationSpec, OperationStatus};

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).expect("in range")
    }

    fn operation(name: &str, created: i64) -> Operation {
        let step = |id: &str, title: &str| StepSpec {
            id: id.to_owned(),
            title: title.to_owned(),
            estimate_seconds: 60,
            ..StepSpec::default()
        };
        let steps = vec![step("zone", "Create zone"), step("power", "")];
        let spec = OperationSpec { title: format!("Create {name}"), steps, ..OperationSpec::default() };
        let mut operation = Operation::new(name, spec);
        operation.metadata.namespace = Some("research".to_owned());
        operation.metadata.creation_timestamp = Some(Time(at(created)));
        operation
    }

    fn running() -> Operation {
        let mut operation = operation("mlops", 0);
        let step = |id: &str, state: StepState, finished: Option<i64>| StepStatus {
            id: id.to_owned(),
            state,
            started_at: Some(Time(at(10))),
            finished_at: finished.map(|finished| Time(at(finished))),
            message: "working".to_owned(),
            ..StepStatus::default()
        };
        operation.status = Some(OperationStatus {
            phase: OperationPhase::Running,
            steps: vec![
                step("zone", StepState::Succeeded, Some(15)),
                step("power", StepState::Running, None),
            ],
            progress_percent: 50,
            remaining_seconds: Some(200),
            started_at: Some(Time(at(10))),
            message: "1 of 2 steps done; now: power".to_owned(),
            ..OperationStatus::default()
        });
        operation
    }

    #[test]
    fn a_table_is_aligned_and_newest_first() {
        let table = render_table(&[operation("older", -7_200), running()], at(45));
        let expected = "\
NAMESPACE   NAME    PHASE     PROGRESS   REMAINING   AGE    TITLE          MESSAGE
research    mlops   Running   50%        3m20s       45s    Create mlops   1 of 2 steps done; now: power
research    older   Pending   0%         -           120m   Create older
";
        assert_eq!(table, expected);
    }

    #[test]
    fn what_devices_say_does_not_reach_the_terminal_raw() {
        let mut operation = running();
        operation.status.as_mut().expect("has one").message = "BMC said:\n\u{1b}[2Jboo".to_owned();
        assert!(render_table(std::slice::from_ref(&operation), at(0)).contains("BMC said:  [2Jboo\n"));
        assert_eq!(progress_lines(&operation, at(0))[0].message, "BMC said:  [2Jboo");
    }

    #[test]
    fn nothing_is_a_heading() {
        assert_eq!(render_table(&[], at(0)).lines().count(), 1);
    }

    #[test]
    fn lines_tell_of_the_whole_and_of_each_step() {
        let lines = progress_lines(&running(), at(40));
        let of = |line: &ProgressLine| {
            (line.title.clone(), line.state.clone(), line.elapsed_seconds, line.remaining_seconds, line.ended)
        };
        assert_eq!(
            of(&lines[0]),
            ("Create mlops".to_owned(), "Running".to_owned(), Some(30), Some(200), false)
        );
        assert_eq!(of(&lines[1]), ("Create zone".to_owned(), "Succeeded".to_owned(), Some(5), None, true));
        assert_eq!(of(&lines[2]), ("power".to_owned(), "Running".to_owned(), Some(30), Some(30), false));
    }

    #[test]
    fn one_that_nobody_has_begun_has_lines_too() {
        let lines = progress_lines(&operation("new", 0), at(0));
        assert_eq!((lines.len(), lines[1].state.as_str(), lines[1].elapsed_seconds), (3, "Waiting", None));
    }

    #[test]
    fn durations_are_as_kubectl_prints_them() {
        let table = [
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (599, "9m59s"),
            (600, "10m"),
            (10_799, "179m"),
            (10_800, "3h"),
            (11_000, "3h3m"),
            (28_800, "8h"),
            (172_799, "47h"),
            (172_800, "2d"),
        ];
        for (seconds, expected) in table {
            assert_eq!(duration(seconds), expected, "{seconds}");
        }
    }
}
