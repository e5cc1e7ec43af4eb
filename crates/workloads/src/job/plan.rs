//! What a Job does next. Pure.
//!
//! Ended pods are counted exactly once, whatever crashes when: (1) the pod's UID goes into the status as *uncounted*; (2) once
//! the API shows it there, the pod loses the Job's finalizer; (3) once the API shows the pod without finalizer (or gone), the
//! UID moves into the counter. Each stage looks only at what the previous one stored.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::{
        batch::v1::{Job, JobCondition, JobStatus, UncountedTerminatedPods},
        core::v1::Pod,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};

use super::indexes;
use crate::{
    kind::{self, uid},
    pod,
    replicaset::plan::saturated,
};

/// Finalizer that keeps an ended pod until it is counted.
pub const TRACKING: &str = "batch.kubernetes.io/job-tracking";
/// Delay before a failed pod is replaced; doubled for each further failure.
const BACKOFF_BASE: i64 = 10;
/// The longest such delay, in seconds.
const BACKOFF_LIMIT: i64 = 600;
/// Uncounted UIDs kept in the status at a time.
const UNCOUNTED_LIMIT: usize = 500;

/// What to do.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// The status to show; written before anything else is done.
    pub status: JobStatus,
    /// Pods that lose the finalizer: the stored status has them.
    pub release: Vec<Arc<Pod>>,
    /// Pods to delete.
    pub delete: Vec<Arc<Pod>>,
    /// Pods to create: their indexes, or nothing particular.
    pub create: Vec<Option<i32>>,
    /// Delete the Job itself: its time to live is over.
    pub delete_job: bool,
    /// Look again after this time.
    pub again_after: Option<Duration>,
    /// Events to report: whether a warning, reason, message.
    pub events: Vec<(bool, &'static str, String)>,
}

struct Parameters {
    completions: Option<i32>,
    parallelism: i32,
    backoff_limit: i32,
    indexed: bool,
    suspended: bool,
}

impl Parameters {
    fn of(job: &Job) -> Self {
        let spec = job.spec.clone().unwrap_or_default();
        let parallelism = spec.parallelism.unwrap_or(1).max(0);
        // Neither given: one pod that must succeed.
        let single = spec.completions.is_none() && spec.parallelism.is_none();
        Self {
            completions: spec.completions.or(single.then_some(1)),
            parallelism,
            backoff_limit: spec.backoff_limit.unwrap_or(6),
            indexed: spec.completion_mode.as_deref() == Some("Indexed"),
            suspended: spec.suspend.unwrap_or(false),
        }
    }
}

/// A condition of a Job that holds.
pub fn holds(status: &JobStatus, type_: &str) -> bool {
    status.conditions.iter().flatten().any(|condition| condition.type_ == type_ && condition.status == "True")
}

/// Whether the Job has ended, one way or the other.
pub fn is_finished(job: &Job) -> bool {
    job.status.as_ref().is_some_and(|status| holds(status, "Complete") || holds(status, "Failed"))
}

fn is_tracked(pod: &Pod) -> bool {
    pod.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == TRACKING)
}

/// Plans the next stage for a Job with these pods (all it controls).
pub fn plan(job: &Job, pods: &[Arc<Pod>], now: Timestamp) -> Plan {
    let mut plan = Plan { status: job.status.clone().unwrap_or_default(), ..Plan::default() };
    if is_finished(job) {
        finish_off(job, pods, now, &mut plan);
        return plan;
    }
    if kind::is_deleting(job) {
        plan.release = pods.iter().filter(|pod| is_tracked(pod)).cloned().collect();
        return plan;
    }
    let parameters = Parameters::of(job);
    track(job, pods, &parameters, &mut plan);
    let active: Vec<Arc<Pod>> = pods.iter().filter(|pod| pod::is_active(pod)).cloned().collect();
    set_suspended(&parameters, now, &mut plan);
    if plan.status.start_time.is_none() && !parameters.suspended {
        plan.status.start_time = Some(Time(now));
    }
    judge(job, &active, &parameters, now, &mut plan);
    if is_decided(&plan.status) || parameters.suspended {
        plan.delete.extend(active.iter().cloned());
    } else {
        balance(&active, pods, &parameters, now, &mut plan);
    }
    count_present(pods, &mut plan.status);
    conclude(pods, now, &mut plan);
    plan
}

/// Whether success or failure is certain, although pods may still have to end.
fn is_decided(status: &JobStatus) -> bool {
    holds(status, "FailureTarget") || holds(status, "SuccessCriteriaMet")
}

/// Nothing is left but to let pods go and, after its time to live, the Job itself.
fn finish_off(job: &Job, pods: &[Arc<Pod>], now: Timestamp, plan: &mut Plan) {
    plan.release = pods.iter().filter(|pod| is_tracked(pod)).cloned().collect();
    let Some(ttl) = job.spec.as_ref().and_then(|spec| spec.ttl_seconds_after_finished) else { return };
    let ends = ["Complete", "Failed"].iter().find_map(|type_| {
        let conditions = plan.status.conditions.iter().flatten();
        let ended = conditions.into_iter().find(|c| c.type_ == *type_ && c.status == "True")?;
        ended.last_transition_time.as_ref().map(|time| time.0)
    });
    let Some(ended) = ends else { return };
    let left = SignedDuration::from_secs(ttl.into()) - now.duration_since(ended);
    if left > SignedDuration::ZERO {
        plan.again_after = Some(left.unsigned_abs());
    } else if !kind::is_deleting(job) {
        plan.delete_job = true;
    }
}

/// Moves ended pods one stage on their way into the counters.
fn track(job: &Job, pods: &[Arc<Pod>], parameters: &Parameters, plan: &mut Plan) {
    let stored =
        job.status.as_ref().and_then(|status| status.uncounted_terminated_pods.clone()).unwrap_or_default();
    let by_uid: HashMap<&str, &Arc<Pod>> = pods.iter().map(|pod| (uid(pod.as_ref()), pod)).collect();
    let limit = parameters.completions.unwrap_or(0);
    let mut completed = indexes::parse(plan.status.completed_indexes.as_deref().unwrap_or_default(), limit);
    let mut uncounted: [BTreeSet<String>; 2] =
        [stored.succeeded.into_iter().flatten().collect(), stored.failed.into_iter().flatten().collect()];
    let mut counted = [0, 0];
    for (waiting, counted) in uncounted.iter_mut().zip(&mut counted) {
        waiting.retain(|uid| match by_uid.get(uid.as_str()) {
            Some(pod) if is_tracked(pod) => {
                plan.release.push((*pod).clone());
                true
            }
            _ => {
                *counted += 1;
                false
            }
        });
    }
    plan.status.succeeded = added(plan.status.succeeded, counted[0]);
    plan.status.failed = added(plan.status.failed, counted[1]);
    for pod in pods.iter().filter(|pod| is_tracked(pod)) {
        let uid = uid(pod.as_ref());
        let known = uncounted.iter().any(|waiting| waiting.contains(uid));
        let full = uncounted.iter().map(BTreeSet::len).sum::<usize>() >= UNCOUNTED_LIMIT;
        if known || full {
            continue;
        }
        if pod::phase(pod) == "Succeeded" {
            // Of two pods that completed the same index one counts.
            let fresh = indexes::index(pod).is_none_or(|index| index < limit && completed.insert(index));
            uncounted[usize::from(parameters.indexed && !fresh)].insert(uid.to_owned());
        } else if pod::is_finished(pod) || kind::is_deleting(pod.as_ref()) {
            uncounted[1].insert(uid.to_owned());
        }
    }
    if parameters.indexed {
        let text = indexes::format(&completed);
        plan.status.completed_indexes = Some(text).filter(|text| !text.is_empty());
    }
    let list = |set: &BTreeSet<String>| {
        Some(set.iter().cloned().collect::<Vec<_>>()).filter(|list| !list.is_empty())
    };
    plan.status.uncounted_terminated_pods =
        Some(UncountedTerminatedPods { succeeded: list(&uncounted[0]), failed: list(&uncounted[1]) });
}

fn added(count: Option<i32>, more: i32) -> Option<i32> {
    Some(count.unwrap_or(0).saturating_add(more)).filter(|count| *count != 0)
}

/// Pods that succeeded and failed, counted or about to be.
fn totals(status: &JobStatus, parameters: &Parameters) -> (i32, i32) {
    let waiting = status.uncounted_terminated_pods.clone().unwrap_or_default();
    let length = |list: &Option<Vec<String>>| saturated(list.as_ref().map_or(0, Vec::len));
    let succeeded = if parameters.indexed {
        let limit = parameters.completions.unwrap_or(0);
        saturated(indexes::parse(status.completed_indexes.as_deref().unwrap_or_default(), limit).len())
    } else {
        status.succeeded.unwrap_or(0).saturating_add(length(&waiting.succeeded))
    };
    (succeeded, status.failed.unwrap_or(0).saturating_add(length(&waiting.failed)))
}

fn set_suspended(parameters: &Parameters, now: Timestamp, plan: &mut Plan) {
    let was_suspended = holds(&plan.status, "Suspended");
    if parameters.suspended && !was_suspended {
        set_condition(&mut plan.status, "Suspended", "True", "JobSuspended", "Job suspended", now);
        plan.status.start_time = None;
        plan.events.push((false, "Suspended", "Job suspended".into()));
    } else if !parameters.suspended && was_suspended {
        set_condition(&mut plan.status, "Suspended", "False", "JobResumed", "Job resumed", now);
        plan.status.start_time = Some(Time(now));
        plan.events.push((false, "Resumed", "Job resumed".into()));
    }
}

/// Decides whether the Job has succeeded or failed.
fn judge(job: &Job, active: &[Arc<Pod>], parameters: &Parameters, now: Timestamp, plan: &mut Plan) {
    if is_decided(&plan.status) {
        return;
    }
    let (succeeded, failed) = totals(&plan.status, parameters);
    let restarts: i32 = active.iter().map(|pod| restarts(pod)).sum();
    let on_failure = job
        .spec
        .as_ref()
        .and_then(|spec| spec.template.spec.as_ref())
        .and_then(|s| s.restart_policy.as_deref())
        == Some("OnFailure");
    let restarted_too_often = on_failure
        && restarts > 0
        && if parameters.backoff_limit == 0 { true } else { restarts >= parameters.backoff_limit };
    let complete = match parameters.completions {
        Some(wanted) => succeeded >= wanted,
        None => succeeded > 0 && active.is_empty(),
    };
    if complete && !parameters.suspended {
        let message = "Reached expected number of succeeded pods";
        set_condition(&mut plan.status, "SuccessCriteriaMet", "True", "CompletionsReached", message, now);
        return;
    }
    let fail = |status: &mut JobStatus, reason: &str, message: &str| {
        set_condition(status, "FailureTarget", "True", reason, message, now);
    };
    if failed > parameters.backoff_limit || restarted_too_often {
        return fail(&mut plan.status, "BackoffLimitExceeded", "Job has reached the specified backoff limit");
    }
    let deadline =
        job.spec.as_ref().and_then(|spec| spec.active_deadline_seconds).filter(|_| !parameters.suspended);
    if let (Some(seconds), Some(start)) = (deadline, plan.status.start_time.clone()) {
        let left = SignedDuration::from_secs(seconds) - now.duration_since(start.0);
        if left <= SignedDuration::ZERO {
            return fail(
                &mut plan.status,
                "DeadlineExceeded",
                "Job was active longer than specified deadline",
            );
        }
        plan.again_after = Some(left.unsigned_abs());
    }
}

fn restarts(pod: &Pod) -> i32 {
    let Some(status) = &pod.status else { return 0 };
    let containers = status.container_statuses.iter().chain(&status.init_container_statuses).flatten();
    containers.map(|container| container.restart_count).sum()
}

/// Creates or deletes pods towards the wanted number.
fn balance(active: &[Arc<Pod>], all: &[Arc<Pod>], parameters: &Parameters, now: Timestamp, plan: &mut Plan) {
    let (succeeded, _) = totals(&plan.status, parameters);
    let running = saturated(active.len());
    let wanted = match parameters.completions {
        Some(completions) => parameters.parallelism.min(completions - succeeded).max(0),
        // Any success means that the work is done: no new pod, but those at work finish.
        None if succeeded > 0 => running.min(parameters.parallelism),
        None => parameters.parallelism,
    };
    let mut doomed =
        if parameters.indexed { duplicates(active, parameters, &plan.status) } else { Vec::new() };
    let kept: Vec<Arc<Pod>> = active.iter().filter(|pod| !doomed.contains(*pod)).cloned().collect();
    let surplus = kept.len().saturating_sub(usize::try_from(wanted).unwrap_or(0));
    if surplus > 0 {
        let mut ranked: Vec<&Arc<Pod>> = kept.iter().collect();
        ranked.sort_by(|a, b| pod::deletion_order((a, 0), (b, 0), now));
        doomed.extend(ranked.into_iter().take(surplus).cloned());
    }
    plan.delete = doomed;
    let missing = usize::try_from(wanted).unwrap_or(0).saturating_sub(kept.len());
    if missing == 0 {
        return;
    }
    if let Some(delay) = failure_delay(all, &plan.status, now) {
        plan.again_after = Some(plan.again_after.map_or(delay, |again| again.min(delay)));
        return;
    }
    plan.create = if parameters.indexed {
        free_indexes(&kept, parameters, &plan.status).into_iter().take(missing).map(Some).collect()
    } else {
        vec![None; missing]
    };
}

/// Active pods whose index is out of range, done, or worked on by another.
fn duplicates(active: &[Arc<Pod>], parameters: &Parameters, status: &JobStatus) -> Vec<Arc<Pod>> {
    let limit = parameters.completions.unwrap_or(0);
    let mut taken = indexes::parse(status.completed_indexes.as_deref().unwrap_or_default(), limit);
    let superfluous = active.iter().filter(|pod| match indexes::index(pod) {
        Some(index) => index >= limit || !taken.insert(index),
        None => true,
    });
    superfluous.cloned().collect()
}

fn free_indexes(active: &[Arc<Pod>], parameters: &Parameters, status: &JobStatus) -> Vec<i32> {
    let limit = parameters.completions.unwrap_or(0);
    let mut taken = indexes::parse(status.completed_indexes.as_deref().unwrap_or_default(), limit);
    taken.extend(active.iter().filter_map(|pod| indexes::index(pod)));
    (0..limit).filter(|index| !taken.contains(index)).collect()
}

/// How long to wait before replacing a failed pod: longer with every failure since the last success.
fn failure_delay(pods: &[Arc<Pod>], status: &JobStatus, now: Timestamp) -> Option<Duration> {
    let ends = |phase: &str| {
        let ended = pods.iter().filter(|pod| pod::phase(pod) == phase).filter_map(|pod| ended_at(pod));
        ended.collect::<Vec<Timestamp>>()
    };
    let last_success = ends("Succeeded").into_iter().max();
    let failures: Vec<Timestamp> =
        ends("Failed").into_iter().filter(|at| last_success.is_none_or(|success| *at > success)).collect();
    let last = failures.iter().max()?;
    // Failed pods may have been deleted; the counter remembers them.
    let count = if last_success.is_none() { status.failed.unwrap_or(0).max(1) } else { 1 };
    let count = count.max(saturated(failures.len()));
    let seconds = BACKOFF_BASE.saturating_mul(1i64 << (count - 1).clamp(0, 20)).min(BACKOFF_LIMIT);
    let left = SignedDuration::from_secs(seconds) - now.duration_since(*last);
    (left > SignedDuration::ZERO).then(|| left.unsigned_abs())
}

/// When the last container of a pod ended; a pod without such a record ended when its condition changed last.
fn ended_at(pod: &Pod) -> Option<Timestamp> {
    let status = pod.status.as_ref()?;
    let containers = status.container_statuses.iter().flatten();
    let finished = containers.filter_map(|container| {
        container.state.as_ref()?.terminated.as_ref()?.finished_at.as_ref().map(|time| time.0)
    });
    let changed =
        status.conditions.iter().flatten().filter_map(|c| c.last_transition_time.as_ref().map(|time| time.0));
    finished.max().or_else(|| changed.max())
}

fn count_present(pods: &[Arc<Pod>], status: &mut JobStatus) {
    let active: Vec<_> = pods.iter().filter(|pod| pod::is_active(pod)).collect();
    status.active = Some(saturated(active.len())).filter(|count| *count != 0);
    status.ready = Some(saturated(active.iter().filter(|pod| pod::is_ready(pod)).count()));
    let terminating = pods.iter().filter(|pod| kind::is_deleting(pod.as_ref()) && !pod::is_finished(pod));
    status.terminating = Some(saturated(terminating.count()));
}

/// Makes a decision final once every pod has ended and is counted.
fn conclude(pods: &[Arc<Pod>], now: Timestamp, plan: &mut Plan) {
    let waiting = plan.status.uncounted_terminated_pods.clone().unwrap_or_default();
    let uncounted = waiting.succeeded.is_some() || waiting.failed.is_some();
    let at_work = pods.iter().any(|pod| !pod::is_finished(pod));
    if uncounted || at_work {
        return;
    }
    let decided = |type_: &str| {
        let conditions = plan.status.conditions.iter().flatten();
        let found = conditions.into_iter().find(|c| c.type_ == type_ && c.status == "True")?;
        Some((found.reason.clone().unwrap_or_default(), found.message.clone().unwrap_or_default()))
    };
    if let Some((reason, message)) = decided("FailureTarget") {
        set_condition(&mut plan.status, "Failed", "True", &reason, &message, now);
        plan.status.ready = Some(0);
        let reason = if reason == "DeadlineExceeded" { "DeadlineExceeded" } else { "BackoffLimitExceeded" };
        plan.events.push((true, reason, message));
        plan.status.uncounted_terminated_pods = Some(UncountedTerminatedPods::default());
    } else if let Some((reason, message)) = decided("SuccessCriteriaMet") {
        set_condition(&mut plan.status, "Complete", "True", &reason, &message, now);
        plan.status.completion_time = Some(Time(now));
        plan.events.push((false, "Completed", "Job completed".into()));
        plan.status.uncounted_terminated_pods = Some(UncountedTerminatedPods::default());
    }
}

fn set_condition(
    status: &mut JobStatus,
    type_: &str,
    value: &str,
    reason: &str,
    message: &str,
    now: Timestamp,
) {
    let condition = JobCondition {
        type_: type_.into(),
        status: value.into(),
        reason: Some(reason.into()),
        message: Some(message.into()),
        last_probe_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    };
    let conditions = status.conditions.get_or_insert_default();
    match conditions.iter_mut().find(|known| known.type_ == type_) {
        Some(known) => *known = condition,
        None => conditions.push(condition),
    }
}
