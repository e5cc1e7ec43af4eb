//! Whether an object has become what it was declared to be. Pure.

use serde_json::Value;

/// What an object has come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// What was declared.
    Ready,
    /// On the way; how far.
    Waiting(String),
    /// It will not; why.
    Failed(String),
}

fn number(object: &Value, path: &str) -> u64 {
    object.pointer(path).and_then(Value::as_u64).unwrap_or_default()
}

fn text<'a>(object: &'a Value, path: &str) -> &'a str {
    object.pointer(path).and_then(Value::as_str).unwrap_or_default()
}

fn has_condition(object: &Value, kind: &str) -> bool {
    let conditions = object.pointer("/status/conditions").and_then(Value::as_array);
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition["type"] == kind && condition["status"] == "True")
}

/// What an object of the cluster has come to.
pub fn readiness(object: &Value) -> Readiness {
    let wanted = object.pointer("/spec/replicas").and_then(Value::as_u64).unwrap_or(1);
    match (text(object, "/apiVersion"), text(object, "/kind")) {
        ("apps/v1", "Deployment") => {
            let failed = object.pointer("/status/conditions").and_then(Value::as_array).into_iter().flatten();
            let mut failed = failed.filter(|condition| condition["reason"] == "ProgressDeadlineExceeded");
            if let Some(condition) = failed.next() {
                return Readiness::Failed(
                    condition["message"].as_str().unwrap_or("it makes no progress").to_owned(),
                );
            }
            let status = |name: &str| number(object, &format!("/status/{name}"));
            let good = status("updatedReplicas") == wanted
                && status("availableReplicas") == wanted
                && status("replicas") == wanted;
            counted(object, good, status("availableReplicas"), wanted)
        }
        ("apps/v1", "StatefulSet") => {
            let ready = number(object, "/status/readyReplicas");
            let rolls = text(object, "/spec/updateStrategy/type") != "OnDelete";
            let current = text(object, "/status/currentRevision") == text(object, "/status/updateRevision");
            let good = ready == wanted && number(object, "/status/replicas") == wanted && (current || !rolls);
            counted(object, good, ready, wanted)
        }
        ("apps/v1", "ReplicaSet") => {
            let ready = number(object, "/status/readyReplicas");
            let good = ready == wanted && number(object, "/status/replicas") == wanted;
            counted(object, good, ready, wanted)
        }
        ("apps/v1", "DaemonSet") => {
            let wanted = number(object, "/status/desiredNumberScheduled");
            let ready = number(object, "/status/numberAvailable");
            let updated = number(object, "/status/updatedNumberScheduled");
            counted(object, ready == wanted && updated == wanted, ready, wanted)
        }
        ("v1", "Pod") => pod(object),
        ("batch/v1", "Job") => {
            if has_condition(object, "Failed") {
                Readiness::Failed("the job failed".to_owned())
            } else if has_condition(object, "Complete") {
                Readiness::Ready
            } else {
                Readiness::Waiting("the job is not complete".to_owned())
            }
        }
        ("v1", "PersistentVolumeClaim") => phase(object, &["Bound"], &["Lost"]),
        ("v1", "PersistentVolume") => phase(object, &["Available", "Bound"], &["Failed"]),
        ("v1", "Namespace") => phase(object, &["Active"], &[]),
        (_, "CustomResourceDefinition") if !has_condition(object, "Established") => {
            Readiness::Waiting("not established".to_owned())
        }
        _ => Readiness::Ready,
    }
}

/// A controller must have seen the object as it is, or its counts are those of before.
fn counted(object: &Value, good: bool, ready: u64, wanted: u64) -> Readiness {
    let seen = number(object, "/status/observedGeneration") >= number(object, "/metadata/generation");
    if good && seen {
        Readiness::Ready
    } else {
        Readiness::Waiting(format!("{ready} of {wanted} pods are ready"))
    }
}

fn phase(object: &Value, good: &[&str], bad: &[&str]) -> Readiness {
    let phase = text(object, "/status/phase");
    if good.contains(&phase) {
        Readiness::Ready
    } else if bad.contains(&phase) {
        let message = text(object, "/status/message");
        Readiness::Failed(format!("it is {phase} {message}").trim_end().to_owned())
    } else {
        let phase = if phase.is_empty() { "Pending" } else { phase };
        Readiness::Waiting(format!("it is {phase}"))
    }
}

fn pod(object: &Value) -> Readiness {
    match text(object, "/status/phase") {
        "Succeeded" => Readiness::Ready,
        "Failed" => Readiness::Failed(
            format!("the pod failed {}", text(object, "/status/message")).trim_end().to_owned(),
        ),
        _ if has_condition(object, "Ready") => Readiness::Ready,
        phase => Readiness::Waiting(format!("it is {}", if phase.is_empty() { "Pending" } else { phase })),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn deployment(generation: u64, status: &Value) -> Value {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"generation": generation},
            "spec": {"replicas": 2}, "status": status})
    }

    #[test]
    fn a_deployment_is_ready_when_all_of_it_is_new_and_available() {
        let good =
            json!({"observedGeneration": 3, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2});
        assert_eq!(readiness(&deployment(3, &good)), Readiness::Ready);
        assert!(matches!(readiness(&deployment(4, &good)), Readiness::Waiting(_)), "not seen yet");
        let old =
            json!({"observedGeneration": 3, "replicas": 3, "updatedReplicas": 2, "availableReplicas": 2});
        assert!(matches!(readiness(&deployment(3, &old)), Readiness::Waiting(_)), "an old pod is left");
        assert!(matches!(readiness(&deployment(1, &json!({}))), Readiness::Waiting(_)));
        let late = json!({"conditions": [{"type": "Progressing", "reason": "ProgressDeadlineExceeded", "message": "late"}]});
        assert_eq!(readiness(&deployment(1, &late)), Readiness::Failed("late".into()));
    }

    #[test]
    fn claims_pods_and_the_unknown() {
        let claim = |phase: &str| {
            readiness(
                &json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "status": {"phase": phase}}),
            )
        };
        assert_eq!(claim("Bound"), Readiness::Ready);
        assert_eq!(claim("Pending"), Readiness::Waiting("it is Pending".into()));
        assert!(matches!(claim("Lost"), Readiness::Failed(_)));
        let pod = |status: Value| readiness(&json!({"apiVersion": "v1", "kind": "Pod", "status": status}));
        assert_eq!(
            pod(json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]})),
            Readiness::Ready
        );
        assert!(matches!(pod(json!({"phase": "Running"})), Readiness::Waiting(_)));
        assert_eq!(readiness(&json!({"apiVersion": "example.com/v1", "kind": "Any"})), Readiness::Ready);
    }
}
