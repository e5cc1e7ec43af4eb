//! What a CronJob does now: start a Job, clear away old ones. Pure.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use k8s_openapi::{
    api::{
        batch::v1::{CronJob, CronJobStatus, Job},
        core::v1::ObjectReference,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::api::ObjectMeta;

use super::schedule::Schedule;
use crate::{
    job::plan::{holds, is_finished},
    kind::{self, reference, uid},
    owner::controller_reference,
    template::generated_prefix,
};

/// Annotation of a Job: the time it was scheduled for.
const SCHEDULED_AT: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";
/// Missed times counted at most; more mean that the CronJob was asleep and only the last one matters.
const MISSED_LIMIT: usize = 100;

/// What to do.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// The status to show.
    pub status: CronJobStatus,
    /// The Job to start.
    pub start: Option<Box<Job>>,
    /// Jobs to delete: replaced by the one to start, or beyond the history limits.
    pub delete: Vec<Arc<Job>>,
    /// When to look again.
    pub again_after: Option<Duration>,
    /// Events: whether a warning, reason, message.
    pub events: Vec<(bool, &'static str, String)>,
}

/// Plans for a CronJob with these Jobs (all it controls).
///
/// # Errors
/// If the schedule or the time zone cannot be read; the message is for users.
pub fn plan(cron: &CronJob, jobs: &[Arc<Job>], now: Timestamp) -> Result<Plan, String> {
    let spec = cron.spec.clone().unwrap_or_default();
    let mut plan = Plan { status: cron.status.clone().unwrap_or_default(), ..Plan::default() };
    let active = note_active(jobs, &mut plan);
    plan.delete = expired(jobs, spec.successful_jobs_history_limit, spec.failed_jobs_history_limit);
    if kind::is_deleting(cron) {
        return Ok(plan);
    }
    let schedule = Schedule::parse(&spec.schedule).map_err(|error| error.to_string())?;
    let zone = match &spec.time_zone {
        None => TimeZone::UTC,
        Some(name) => TimeZone::get(name).map_err(|error| format!("unknown time zone {name:?}: {error}"))?,
    };
    if spec.suspend.unwrap_or(false) {
        return Ok(plan);
    }
    plan.again_after = schedule.next(now, &zone).map(|next| next.duration_since(now).unsigned_abs());
    let Some(due) = last_due(cron, &schedule, &zone, now, &mut plan) else { return Ok(plan) };
    if plan.status.last_schedule_time.as_ref().is_some_and(|last| last.0 >= due) {
        return Ok(plan);
    }
    let late = now.duration_since(due);
    if spec.starting_deadline_seconds.is_some_and(|limit| late > SignedDuration::from_secs(limit)) {
        plan.events.push((true, "MissSchedule", format!("Missed scheduled time to start a job: {due}")));
        return Ok(plan);
    }
    match spec.concurrency_policy.as_deref() {
        Some("Forbid") if !active.is_empty() => {
            let message =
                "Not starting job because prior execution is running and concurrency policy is Forbid";
            plan.events.push((false, "JobAlreadyActive", message.into()));
            return Ok(plan);
        }
        Some("Replace") => plan.delete.extend(active),
        _ => {}
    }
    plan.status.last_schedule_time = Some(Time(due));
    plan.start = Some(Box::new(new_job(cron, due)));
    Ok(plan)
}

/// The latest time that has come since the last start (or since the CronJob exists).
fn last_due(
    cron: &CronJob,
    schedule: &Schedule,
    zone: &TimeZone,
    now: Timestamp,
    plan: &mut Plan,
) -> Option<Timestamp> {
    let created = cron.metadata.creation_timestamp.as_ref().map_or(now, |time| time.0);
    let mut from = plan.status.last_schedule_time.as_ref().map_or(created, |time| time.0);
    if let Some(limit) = cron.spec.as_ref().and_then(|spec| spec.starting_deadline_seconds) {
        // Starts too late to be made need not be counted.
        from = from.max(now.checked_sub(SignedDuration::from_secs(limit.saturating_add(1))).unwrap_or(from));
    }
    let mut due = None;
    for missed in 0.. {
        let Some(next) = schedule.next(from, zone).filter(|next| *next <= now) else { break };
        due = Some(next);
        from = next;
        if missed >= MISSED_LIMIT {
            let message = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew";
            plan.events.push((true, "TooManyMissedTimes", message.into()));
            // Skips ahead to the recent past.
            from = from.max(now.checked_sub(SignedDuration::from_hours(24 * 366)).unwrap_or(from));
            due = latest_before(schedule, zone, from, now).or(due);
            break;
        }
    }
    due
}

/// The latest time up to `now`, found by looking back over growing spans.
fn latest_before(schedule: &Schedule, zone: &TimeZone, from: Timestamp, now: Timestamp) -> Option<Timestamp> {
    let mut span = SignedDuration::from_mins(2);
    loop {
        let start = now.checked_sub(span).unwrap_or(from).max(from);
        let mut found = None;
        let mut time = start;
        while let Some(next) = schedule.next(time, zone).filter(|next| *next <= now) {
            found = Some(next);
            time = next;
        }
        if found.is_some() || start == from {
            return found;
        }
        span *= 4;
    }
}

/// Lists the running Jobs in the status, and takes note of those that ended.
fn note_active(jobs: &[Arc<Job>], plan: &mut Plan) -> Vec<Arc<Job>> {
    let before: BTreeSet<String> =
        plan.status.active.iter().flatten().filter_map(|reference| reference.uid.clone()).collect();
    let (ended, active): (Vec<&Arc<Job>>, Vec<&Arc<Job>>) = jobs.iter().partition(|job| is_finished(job));
    for job in ended.iter().filter(|job| before.contains(uid(job.as_ref()))) {
        let name = kind::name(job.as_ref());
        let complete = job.status.as_ref().is_some_and(|status| holds(status, "Complete"));
        let outcome = if complete { "Complete" } else { "Failed" };
        plan.events.push((
            false,
            "SawCompletedJob",
            format!("Saw completed job: {name}, condition: {outcome}"),
        ));
    }
    let successes =
        ended.iter().filter_map(|job| job.status.as_ref()?.completion_time.as_ref().map(|time| time.0));
    if let Some(latest) = successes.max()
        && plan.status.last_successful_time.as_ref().is_none_or(|known| known.0 < latest)
    {
        plan.status.last_successful_time = Some(Time(latest));
    }
    let mut references: Vec<ObjectReference> = active.iter().map(|job| reference(job.as_ref())).collect();
    for reference in &mut references {
        // Would change with every status of the Job.
        reference.resource_version = None;
    }
    plan.status.active = Some(references).filter(|list| !list.is_empty());
    active.into_iter().cloned().collect()
}

/// Ended Jobs beyond the limits, the oldest first.
fn expired(jobs: &[Arc<Job>], keep_successful: Option<i32>, keep_failed: Option<i32>) -> Vec<Arc<Job>> {
    let mut expired = Vec::new();
    for (outcome, keep) in [("Complete", keep_successful.unwrap_or(3)), ("Failed", keep_failed.unwrap_or(1))]
    {
        let ended = |job: &&Arc<Job>| job.status.as_ref().is_some_and(|status| holds(status, outcome));
        let mut ended: Vec<&Arc<Job>> =
            jobs.iter().filter(ended).filter(|job| !kind::is_deleting(job.as_ref())).collect();
        ended.sort_by_key(|job| {
            job.status.as_ref().and_then(|status| status.start_time.clone()).map(|time| time.0)
        });
        let surplus = ended.len().saturating_sub(usize::try_from(keep).unwrap_or(0));
        expired.extend(ended.into_iter().take(surplus).cloned());
    }
    expired
}

/// The Job of a scheduled time. Its name is computed from that, so no time is ever started twice.
fn new_job(cron: &CronJob, due: Timestamp) -> Job {
    let template = cron.spec.as_ref().map(|spec| spec.job_template.clone()).unwrap_or_default();
    let meta = template.metadata.unwrap_or_default();
    let mut annotations = meta.annotations.unwrap_or_default();
    annotations.insert(SCHEDULED_AT.into(), due.to_string());
    Job {
        metadata: ObjectMeta {
            name: Some(format!("{}{}", generated_prefix(kind::name(cron)), due.as_second() / 60)),
            namespace: cron.metadata.namespace.clone(),
            labels: meta.labels,
            annotations: Some(annotations),
            owner_references: Some(vec![controller_reference(cron)]),
            ..Default::default()
        },
        spec: template.spec,
        status: None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn cron(extra: &serde_json::Value) -> CronJob {
        let mut spec = json!({"schedule": "*/10 * * * *", "jobTemplate": {"spec": {"template": {}}}});
        for (key, value) in extra.as_object().unwrap() {
            spec[key] = value.clone();
        }
        serde_json::from_value(json!({"metadata": {"name": "tick", "namespace": "d", "uid": "c",
            "creationTimestamp": "2026-01-01T00:00:00Z"}, "spec": spec}))
        .unwrap()
    }

    fn job(name: &str, condition: &str, started: &str) -> Arc<Job> {
        let conditions =
            if condition.is_empty() { json!([]) } else { json!([{"type": condition, "status": "True"}]) };
        Arc::new(
            serde_json::from_value(json!({"metadata": {"name": name, "uid": name},
                "status": {"startTime": started, "conditions": conditions}}))
            .unwrap(),
        )
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn started(plan: &Plan) -> Option<&str> {
        plan.start.as_ref().map(|job| kind::name(job.as_ref()))
    }

    #[test]
    fn starts_once_per_time_under_a_computed_name() {
        let mut cron = cron(&json!({}));
        let early = plan(&cron, &[], at("2026-01-01T00:09:59Z")).unwrap();
        assert_eq!((started(&early), early.again_after), (None, Some(Duration::from_secs(1))));
        let due = plan(&cron, &[], at("2026-01-01T00:10:02Z")).unwrap();
        assert_eq!(started(&due), Some("tick-29453770"));
        cron.status = Some(due.status);
        assert_eq!(started(&plan(&cron, &[], at("2026-01-01T00:10:03Z")).unwrap()), None);
        let next = plan(&cron, &[], at("2026-01-01T00:20:00Z")).unwrap();
        assert_eq!(started(&next), Some("tick-29453780"));
    }

    #[test]
    fn after_a_long_sleep_only_the_last_time_counts() {
        let every_minute = cron(&json!({"schedule": "* * * * *"}));
        let late = plan(&every_minute, &[], at("2026-02-01T12:34:30Z")).unwrap();
        assert_eq!(late.status.last_schedule_time, Some(Time(at("2026-02-01T12:34:00Z"))));
        assert_eq!(late.events[0].1, "TooManyMissedTimes");
        let strict = cron(&json!({"startingDeadlineSeconds": 60}));
        let missed = plan(&strict, &[], at("2026-01-01T00:15:00Z")).unwrap();
        assert_eq!(started(&missed), None);
    }

    #[test]
    fn policies_history_and_suspension() {
        let now = at("2026-01-01T00:10:00Z");
        let running = [job("r", "", "2026-01-01T00:00:00Z")];
        let forbid = plan(&cron(&json!({"concurrencyPolicy": "Forbid"})), &running, now).unwrap();
        assert_eq!((started(&forbid), forbid.events[0].1), (None, "JobAlreadyActive"));
        let replace = plan(&cron(&json!({"concurrencyPolicy": "Replace"})), &running, now).unwrap();
        assert_eq!((started(&replace).is_some(), replace.delete.len()), (true, 1));
        assert_eq!(started(&plan(&cron(&json!({"suspend": true})), &[], now).unwrap()), None);
        let ended: Vec<_> =
            (1..=5).map(|n| job(&format!("j{n}"), "Complete", &format!("2026-01-01T00:0{n}:00Z"))).collect();
        let cleared = plan(&cron(&json!({"suspend": true})), &ended, now).unwrap();
        let names: Vec<_> = cleared.delete.iter().map(|job| kind::name(job.as_ref())).collect();
        assert_eq!(names, ["j1", "j2"]);
    }

    #[test]
    fn mistakes_are_reported() {
        let now = at("2026-01-01T00:10:00Z");
        assert!(
            plan(&cron(&json!({"schedule": "often"})), &[], now)
                .unwrap_err()
                .contains("1 fields instead of 5")
        );
        assert!(
            plan(&cron(&json!({"timeZone": "Nowhere/Land"})), &[], now).unwrap_err().contains("Nowhere/Land")
        );
    }
}
