//! Workloads: everything that makes pods from a template, and the autoscaler.

use serde_json::{Value, json};

use super::fields::{Fields, absent, each, object, set, text, within, within_made};
use super::{pod, storage};

/// Retries of a Job whose indexes have limits of their own: without end.
const BACKOFF_WITHOUT_LIMIT: i64 = i32::MAX as i64;

/// A Deployment.
pub(super) fn deployment(deployment: &mut Fields) {
    within(deployment, "spec", |spec| {
        within(spec, "template", pod::template);
        set(spec, "replicas", 1);
        set(spec, "revisionHistoryLimit", 10);
        set(spec, "progressDeadlineSeconds", 600);
        within_made(spec, "strategy", |strategy| {
            set(strategy, "type", "RollingUpdate");
            if text(strategy, "type") == "RollingUpdate" {
                within_made(strategy, "rollingUpdate", |update| {
                    set(update, "maxSurge", "25%");
                    set(update, "maxUnavailable", "25%");
                });
            }
        });
    });
}

/// A ReplicaSet.
pub(super) fn replica_set(set_of_pods: &mut Fields) {
    within(set_of_pods, "spec", |spec| {
        within(spec, "template", pod::template);
        set(spec, "replicas", 1);
    });
}

/// A ReplicationController, whose selector and labels come from its template.
pub(super) fn replication_controller(controller: &mut Fields) {
    pod::labels_from_template(controller);
    within(controller, "spec", |spec| {
        within(spec, "template", pod::template);
        set(spec, "replicas", 1);
        if spec.get("selector").and_then(Value::as_object).is_none_or(serde_json::Map::is_empty)
            && let Some(labels) = pod::template_labels(spec)
        {
            spec.insert("selector".into(), labels);
        }
    });
}

/// A StatefulSet.
pub(super) fn stateful_set(set_of_pods: &mut Fields) {
    within(set_of_pods, "spec", |spec| {
        within(spec, "template", pod::template);
        set(spec, "replicas", 1);
        set(spec, "revisionHistoryLimit", 10);
        set(spec, "podManagementPolicy", "OrderedReady");
        within_made(spec, "updateStrategy", |strategy| {
            set(strategy, "type", "RollingUpdate");
            if text(strategy, "type") == "RollingUpdate" {
                within_made(strategy, "rollingUpdate", |update| set(update, "partition", 0));
            }
        });
        within_made(spec, "persistentVolumeClaimRetentionPolicy", |policy| {
            set(policy, "whenDeleted", "Retain");
            set(policy, "whenScaled", "Retain");
        });
        each(spec, "volumeClaimTemplates", |claim| {
            set(claim, "apiVersion", "v1");
            set(claim, "kind", "PersistentVolumeClaim");
            storage::persistent_volume_claim(claim);
        });
    });
}

/// A DaemonSet.
pub(super) fn daemon_set(set_of_pods: &mut Fields) {
    within(set_of_pods, "spec", |spec| {
        within(spec, "template", pod::template);
        set(spec, "revisionHistoryLimit", 10);
        within_made(spec, "updateStrategy", |strategy| {
            set(strategy, "type", "RollingUpdate");
            if text(strategy, "type") == "RollingUpdate" {
                within_made(strategy, "rollingUpdate", |update| {
                    set(update, "maxUnavailable", 1);
                    set(update, "maxSurge", 0);
                });
            }
        });
    });
}

/// A Job.
pub(super) fn job(job: &mut Fields) {
    pod::labels_from_template(job);
    within(job, "spec", job_spec);
}

fn job_spec(spec: &mut Fields) {
    within(spec, "template", pod::template);
    // Parallelism without completions is a work queue: done when one pod has succeeded and all have ended.
    if absent(spec, "completions") && absent(spec, "parallelism") {
        set(spec, "completions", 1);
    }
    set(spec, "parallelism", 1);
    let per_index = !absent(spec, "backoffLimitPerIndex");
    set(spec, "backoffLimit", if per_index { BACKOFF_WITHOUT_LIMIT } else { 6 });
    set(spec, "completionMode", "NonIndexed");
    set(spec, "suspend", false);
    let replacement = if absent(spec, "podFailurePolicy") { "TerminatingOrFailed" } else { "Failed" };
    set(spec, "podReplacementPolicy", replacement);
    within(spec, "podFailurePolicy", |policy| {
        each(policy, "rules", |rule| each(rule, "onPodConditions", |pattern| set(pattern, "status", "True")));
    });
}

/// A CronJob.
pub(super) fn cron_job(cron: &mut Fields) {
    within(cron, "spec", |spec| {
        set(spec, "concurrencyPolicy", "Allow");
        set(spec, "suspend", false);
        set(spec, "successfulJobsHistoryLimit", 3);
        set(spec, "failedJobsHistoryLimit", 1);
        // The jobs made later get the rest of the defaults themselves; the pods' are set here, as upstream does.
        within(spec, "jobTemplate", |job| {
            within(job, "spec", |spec| within(spec, "template", pod::template));
        });
    });
}

/// A HorizontalPodAutoscaler: without metrics it keeps the processors of its pods at 80 %.
pub(super) fn horizontal_pod_autoscaler(autoscaler: &mut Fields) {
    let Some(spec) = object(autoscaler, "spec") else { return };
    set(spec, "minReplicas", 1);
    if spec.get("metrics").and_then(Value::as_array).is_none_or(Vec::is_empty) {
        let target = json!({"type": "Utilization", "averageUtilization": 80});
        let metric = json!({"type": "Resource", "resource": {"name": "cpu", "target": target}});
        spec.insert("metrics".into(), json!([metric]));
    }
    within(spec, "behavior", |behavior| {
        within(behavior, "scaleUp", |rules| set(rules, "selectPolicy", "Max"));
        within(behavior, "scaleDown", |rules| set(rules, "selectPolicy", "Max"));
    });
}
