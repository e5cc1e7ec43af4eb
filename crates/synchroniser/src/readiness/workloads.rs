//! Readiness of what runs: as Helm understands it when it is told to wait.

use serde_json::Value;

use super::rules::{Readiness, condition, is_seen, is_true, text, waiting, words};

fn number(object: &Value, path: &str) -> u64 {
    object.pointer(path).and_then(Value::as_u64).unwrap_or_default()
}

fn status(object: &Value, field: &str) -> u64 {
    object.pointer("/status").map_or(0, |status| status[field].as_u64().unwrap_or_default())
}

/// How many of it there are to be; the API server fills in one.
fn wanted(object: &Value) -> u64 {
    object.pointer("/spec/replicas").and_then(Value::as_u64).unwrap_or(1)
}

fn is_unseen(object: &Value) -> bool {
    let generation = number(object, "/metadata/generation");
    generation > 0 && status(object, "observedGeneration") < generation || !is_seen(object)
}

fn counted(good: bool, ready: u64, wanted: u64) -> Readiness {
    if good { Readiness::Ready } else { waiting(format!("{ready} of {wanted} pods are ready")) }
}

/// A Deployment; one that is paused is as it is to be.
pub(super) fn deployment(object: &Value) -> Readiness {
    if object.pointer("/spec/paused") == Some(&Value::Bool(true)) {
        return Readiness::Ready;
    }
    if is_unseen(object) {
        return waiting("its controller has not seen it as it is now");
    }
    let late = condition(object, "Progressing")
        .filter(|condition| condition["reason"] == "ProgressDeadlineExceeded");
    if let Some(condition) = late {
        return Readiness::Failed(words(condition));
    }
    let wanted = wanted(object);
    let (updated, available) = (status(object, "updatedReplicas"), status(object, "availableReplicas"));
    counted(
        updated >= wanted && available >= wanted && status(object, "replicas") == updated,
        available,
        wanted,
    )
}

/// A StatefulSet; of one that rolls only a partition out, that partition.
pub(super) fn stateful_set(object: &Value) -> Readiness {
    if is_unseen(object) {
        return waiting("its controller has not seen it as it is now");
    }
    let (wanted, ready) = (wanted(object), status(object, "readyReplicas"));
    if text(object, "/spec/updateStrategy/type") == "OnDelete" {
        return counted(ready >= wanted, ready, wanted);
    }
    let partition = number(object, "/spec/updateStrategy/rollingUpdate/partition");
    let updated = status(object, "updatedReplicas");
    if updated < wanted.saturating_sub(partition) {
        return waiting(format!("{updated} of {} pods are new", wanted.saturating_sub(partition)));
    }
    let same = text(object, "/status/currentRevision") == text(object, "/status/updateRevision");
    counted(ready >= wanted && (partition > 0 || same), ready, wanted)
}

/// A DaemonSet.
pub(super) fn daemon_set(object: &Value) -> Readiness {
    if is_unseen(object) {
        return waiting("its controller has not seen it as it is now");
    }
    let wanted = status(object, "desiredNumberScheduled");
    let ready = status(object, "numberReady");
    let rolls = text(object, "/spec/updateStrategy/type") != "OnDelete";
    let updated = status(object, "updatedNumberScheduled");
    counted(ready >= wanted && (updated >= wanted || !rolls), ready, wanted)
}

/// A ReplicaSet or ReplicationController.
pub(super) fn replica_set(object: &Value) -> Readiness {
    if is_unseen(object) {
        return waiting("its controller has not seen it as it is now");
    }
    let (wanted, ready) = (wanted(object), status(object, "readyReplicas"));
    counted(ready >= wanted, ready, wanted)
}

/// A Pod: ready, or done.
pub(super) fn pod(object: &Value) -> Readiness {
    match text(object, "/status/phase") {
        "Succeeded" => Readiness::Ready,
        "Failed" => Readiness::Failed(
            format!("the pod failed {}", text(object, "/status/message")).trim_end().to_owned(),
        ),
        _ if is_true(object, "Ready") => Readiness::Ready,
        phase => waiting(match condition(object, "Ready") {
            Some(condition) => words(condition),
            None => format!("the pod is {}", if phase.is_empty() { "Pending" } else { phase }),
        }),
    }
}

/// A Job: complete. One that is suspended is as it is to be.
pub(super) fn job(object: &Value) -> Readiness {
    if let Some(condition) = condition(object, "Failed").filter(|condition| condition["status"] == "True") {
        return Readiness::Failed(words(condition));
    }
    if is_true(object, "Complete") || object.pointer("/spec/suspend") == Some(&Value::Bool(true)) {
        return Readiness::Ready;
    }
    let completions = object.pointer("/spec/completions").and_then(Value::as_u64).unwrap_or(1);
    waiting(format!("{} of {completions} pods have succeeded", status(object, "succeeded")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::judge;
    use super::*;

    #[allow(clippy::needless_pass_by_value, reason = "tests are easier to read so")]
    fn of(kind: &str, spec: Value, status: Value) -> Readiness {
        let group = if kind == "Job" { "batch/v1" } else { "apps/v1" };
        judge(
            &json!({"apiVersion": group, "kind": kind, "metadata": {"generation": 3}, "spec": spec, "status": status}),
        )
    }

    #[test]
    fn a_deployment_is_ready_when_all_of_it_is_new_and_available() {
        let spec = json!({"replicas": 2});
        let with = |seen: u64, replicas: u64, updated: u64, available: u64| {
            of(
                "Deployment",
                spec.clone(),
                json!({"observedGeneration": seen, "replicas": replicas,
                "updatedReplicas": updated, "availableReplicas": available}),
            )
        };
        assert_eq!(with(3, 2, 2, 2), Readiness::Ready);
        assert!(!with(2, 2, 2, 2).is_ready(), "not seen yet");
        assert!(!with(3, 3, 2, 2).is_ready(), "an old pod is left");
        assert_eq!(with(3, 2, 2, 1), Readiness::Waiting("1 of 2 pods are ready".into()));
        assert!(!of("Deployment", spec.clone(), json!({})).is_ready());
        assert!(of("Deployment", json!({"paused": true}), json!({})).is_ready());
        let late = json!({"observedGeneration": 3, "conditions":
            [{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}]});
        assert!(matches!(of("Deployment", spec, late), Readiness::Failed(_)));
    }

    #[test]
    fn a_stateful_set_rolls_its_partition() {
        let status = |updated: u64, ready: u64, current: &str| {
            json!({"observedGeneration": 3, "replicas": 3, "updatedReplicas": updated, "readyReplicas": ready,
                "currentRevision": current, "updateRevision": "b"})
        };
        let all = json!({"replicas": 3});
        assert!(of("StatefulSet", all.clone(), status(3, 3, "b")).is_ready());
        assert!(!of("StatefulSet", all.clone(), status(3, 3, "a")).is_ready());
        assert!(!of("StatefulSet", all, status(1, 3, "a")).is_ready());
        let part = json!({"replicas": 3, "updateStrategy": {"rollingUpdate": {"partition": 2}}});
        assert!(of("StatefulSet", part, status(1, 3, "a")).is_ready());
        let by_hand = json!({"replicas": 3, "updateStrategy": {"type": "OnDelete"}});
        assert!(of("StatefulSet", by_hand, status(0, 3, "a")).is_ready());
    }

    #[test]
    fn daemon_sets_jobs_and_pods() {
        let daemon = |ready: u64, updated: u64| {
            of(
                "DaemonSet",
                json!({}),
                json!({"observedGeneration": 3, "desiredNumberScheduled": 2,
                "numberReady": ready, "updatedNumberScheduled": updated}),
            )
        };
        assert!(daemon(2, 2).is_ready() && !daemon(1, 2).is_ready() && !daemon(2, 1).is_ready());
        let job = |kind: &str| {
            of(
                "Job",
                json!({"completions": 2}),
                json!({"succeeded": 1,
            "conditions": [{"type": kind, "status": "True", "reason": "r"}]}),
            )
        };
        assert!(job("Complete").is_ready());
        assert_eq!(job("Failed"), Readiness::Failed("r".into()));
        assert_eq!(job("Other"), Readiness::Waiting("1 of 2 pods have succeeded".into()));
        let pod = |status: Value| judge(&json!({"apiVersion": "v1", "kind": "Pod", "status": status}));
        assert!(
            pod(json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]})).is_ready()
        );
        assert!(!pod(json!({"phase": "Running"})).is_ready());
        assert!(pod(json!({"phase": "Succeeded"})).is_ready());
        assert!(matches!(pod(json!({"phase": "Failed"})), Readiness::Failed(_)));
    }
}
