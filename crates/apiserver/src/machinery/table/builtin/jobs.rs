//! Jobs and cron jobs.

use super::Printer;
use crate::machinery::table::column::Column;
use crate::machinery::table::object::{NONE, Object, containers, selector};

pub(super) const JOB: Printer = Printer::new(
    &[
        Column::NAME,
        Column::text("Status"),
        Column::text("Completions"),
        Column::text("Duration"),
        Column::AGE,
        Column::wide("Containers"),
        Column::wide("Images"),
        Column::wide("Selector"),
    ],
    |job| {
        let [names, images] = containers(job, "/spec/template/spec");
        vec![
            job.name(),
            status(job).into(),
            completions(job).into(),
            duration(job).into(),
            job.age(),
            names,
            images,
            selector(job, "/spec/selector").into(),
        ]
    },
);

pub(super) const CRON_JOB: Printer = Printer::new(
    &[
        Column::NAME,
        Column::text("Schedule"),
        Column::text("Timezone"),
        Column::boolean("Suspend"),
        Column::integer("Active"),
        Column::text("Last Schedule"),
        Column::AGE,
        Column::wide("Containers"),
        Column::wide("Images"),
        Column::wide("Selector"),
    ],
    |job| {
        let last = if job.has("/status/lastScheduleTime") {
            job.since("/status/lastScheduleTime")
        } else {
            NONE.to_owned()
        };
        let [names, images] = containers(job, "/spec/jobTemplate/spec/template/spec");
        vec![
            job.name(),
            job.text("/spec/schedule").into(),
            job.text_or("/spec/timeZone", NONE).into(),
            job.is_true("/spec/suspend").into(),
            job.count("/status/active").into(),
            last.into(),
            job.age(),
            names,
            images,
            selector(job, "/spec/jobTemplate/spec/selector").into(),
        ]
    },
);

fn status(job: Object<'_>) -> &'static str {
    let is = |condition: &str| {
        job.condition(condition).is_some_and(|condition| condition.text("/status") == "True")
    };
    if is("Complete") {
        "Complete"
    } else if is("Failed") {
        "Failed"
    } else if job.has("/metadata/deletionTimestamp") {
        "Terminating"
    } else if is("Suspended") {
        "Suspended"
    } else if is("FailureTarget") {
        "FailureTarget"
    } else if is("SuccessCriteriaMet") {
        "SuccessCriteriaMet"
    } else {
        "Running"
    }
}

fn completions(job: Object<'_>) -> String {
    let succeeded = job.number("/status/succeeded");
    if job.has("/spec/completions") {
        return format!("{succeeded}/{}", job.number("/spec/completions"));
    }
    // A work queue is done with the first success.
    match job.number("/spec/parallelism") {
        parallelism if parallelism > 1 => format!("{succeeded}/1 of {parallelism}"),
        _ => format!("{succeeded}/1"),
    }
}

fn duration(job: Object<'_>) -> String {
    job.time("/status/startTime")
        .map_or_else(String::new, |start| job.duration(start, job.time("/status/completionTime")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn completions_of_a_work_queue_are_of_its_workers() {
        let show = |job: Value| completions(Object::new(&job, jiff::Timestamp::UNIX_EPOCH));
        assert_eq!(show(json!({"spec": {"completions": 3}, "status": {"succeeded": 2}})), "2/3");
        assert_eq!(show(json!({"spec": {"parallelism": 4}})), "0/1 of 4");
        assert_eq!(show(json!({})), "0/1");
    }
}
