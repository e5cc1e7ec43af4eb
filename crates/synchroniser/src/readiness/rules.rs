//! Readiness by kind; for kinds that nobody here knows, the conventions of the Kubernetes API: `observedGeneration`, and the
//! conditions `Ready`, `Available`, `Reconciling`, `Stalled` and `Failed`.

use serde_json::Value;

use super::workloads;

/// What an object has come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// What was declared.
    Ready,
    /// On the way; how far.
    Waiting(String),
    /// It will not without help; why.
    Failed(String),
}

impl Readiness {
    /// Whether it is ready.
    pub fn is_ready(&self) -> bool {
        *self == Self::Ready
    }

    /// What is missing; empty if nothing.
    pub fn detail(&self) -> &str {
        match self {
            Self::Ready => "",
            Self::Waiting(detail) | Self::Failed(detail) => detail,
        }
    }
}

/// The group of an `apiVersion`.
fn group(api_version: &str) -> &str {
    api_version.split_once('/').map_or("", |(group, _)| group)
}

pub(super) fn text<'a>(object: &'a Value, path: &str) -> &'a str {
    object.pointer(path).and_then(Value::as_str).unwrap_or_default()
}

pub(super) fn waiting(detail: impl Into<String>) -> Readiness {
    Readiness::Waiting(detail.into())
}

/// A condition of an object.
pub(super) fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    let conditions = object.pointer("/status/conditions").and_then(Value::as_array)?;
    conditions.iter().find(|condition| condition["type"] == kind)
}

pub(super) fn is_true(object: &Value, kind: &str) -> bool {
    condition(object, kind).is_some_and(|condition| condition["status"] == "True")
}

/// What a condition says, in words.
pub(super) fn words(condition: &Value) -> String {
    let of = |field: &str| condition[field].as_str().unwrap_or_default();
    match (of("reason"), of("message")) {
        ("", "") => format!("{} is {}", of("type"), of("status")),
        (reason, "") => reason.to_owned(),
        ("", message) => message.to_owned(),
        (reason, message) => format!("{reason}: {message}"),
    }
}

/// Groups whose objects only say that they are there.
const SILENT: [&str; 8] = [
    "rbac.authorization.k8s.io",
    "scheduling.k8s.io",
    "storage.k8s.io",
    "node.k8s.io",
    "policy",
    "discovery.k8s.io",
    "admissionregistration.k8s.io",
    "coordination.k8s.io",
];

/// Whether objects of a kind say more than that they are there: of the others, nobody need be asked what they have come to.
pub fn tells(api_version: &str, kind: &str) -> bool {
    let group = group(api_version);
    let is_silent = matches!(
        (group, kind),
        (
            "",
            "ConfigMap"
                | "Secret"
                | "ServiceAccount"
                | "LimitRange"
                | "ResourceQuota"
                | "Endpoints"
                | "Event",
        ) | ("networking.k8s.io", "NetworkPolicy" | "IngressClass" | "Ingress")
            | ("autoscaling", "HorizontalPodAutoscaler")
            | ("batch", "CronJob")
    );
    !is_silent && !SILENT.contains(&group)
}

/// What an object has come to, as its cluster shows it.
pub fn judge(object: &Value) -> Readiness {
    if object.pointer("/metadata/deletionTimestamp").is_some() {
        return waiting("it is being deleted");
    }
    let (api_version, kind) = (text(object, "/apiVersion"), text(object, "/kind"));
    if !tells(api_version, kind) {
        return Readiness::Ready;
    }
    match (group(api_version), kind) {
        ("apps", "Deployment") => workloads::deployment(object),
        ("apps", "StatefulSet") => workloads::stateful_set(object),
        ("apps", "DaemonSet") => workloads::daemon_set(object),
        ("apps", "ReplicaSet") | ("", "ReplicationController") => workloads::replica_set(object),
        ("", "Pod") => workloads::pod(object),
        ("batch", "Job") => workloads::job(object),
        ("", "Service") => service(object),
        ("", "PersistentVolumeClaim") => phase(object, &["Bound"], &["Lost"]),
        ("", "PersistentVolume") => phase(object, &["Available", "Bound"], &["Failed"]),
        ("", "Namespace") => phase(object, &["Active"], &[]),
        ("apiextensions.k8s.io", "CustomResourceDefinition") => definition(object),
        ("apiregistration.k8s.io", "APIService") => must(object, "Available"),
        ("certificates.k8s.io", "CertificateSigningRequest") => signing_request(object),
        _ => by_convention(object),
    }
}

/// Whether an object that is a hook has done what it is for.
pub fn has_run(object: &Value) -> Readiness {
    if text(object, "/kind") == "Pod" && text(object, "/apiVersion") == "v1" {
        return match text(object, "/status/phase") {
            "Succeeded" => Readiness::Ready,
            "Failed" => Readiness::Failed("the pod failed".to_owned()),
            other => waiting(format!("the pod is {}", if other.is_empty() { "Pending" } else { other })),
        };
    }
    judge(object)
}

fn phase(object: &Value, good: &[&str], bad: &[&str]) -> Readiness {
    let phase = text(object, "/status/phase");
    if good.contains(&phase) {
        return Readiness::Ready;
    }
    if bad.contains(&phase) {
        let message = text(object, "/status/message");
        return Readiness::Failed(format!("it is {phase} {message}").trim_end().to_owned());
    }
    waiting(format!("it is {}", if phase.is_empty() { "Pending" } else { phase }))
}

fn must(object: &Value, kind: &str) -> Readiness {
    match condition(object, kind) {
        Some(condition) if condition["status"] == "True" => Readiness::Ready,
        Some(condition) => waiting(words(condition)),
        None => waiting(format!("it is not {kind} yet")),
    }
}

/// A Service has the addresses that its type promises.
fn service(object: &Value) -> Readiness {
    let kind = text(object, "/spec/type");
    if kind == "ExternalName" {
        return Readiness::Ready;
    }
    if text(object, "/spec/clusterIP").is_empty() {
        return waiting("it has no cluster address yet");
    }
    let external = object.pointer("/spec/externalIPs").and_then(Value::as_array);
    let ingress = object.pointer("/status/loadBalancer/ingress").and_then(Value::as_array);
    let reached = external.into_iter().chain(ingress).any(|addresses| !addresses.is_empty());
    if kind == "LoadBalancer" && !reached {
        return waiting("it has no external address yet");
    }
    Readiness::Ready
}

fn definition(object: &Value) -> Readiness {
    if let Some(names) = condition(object, "NamesAccepted").filter(|names| names["status"] == "False") {
        return Readiness::Failed(words(names));
    }
    must(object, "Established")
}

fn signing_request(object: &Value) -> Readiness {
    for kind in ["Denied", "Failed"] {
        if let Some(condition) = condition(object, kind).filter(|condition| condition["status"] == "True") {
            return Readiness::Failed(format!("{kind}: {}", words(condition)));
        }
    }
    if !text(object, "/status/certificate").is_empty() {
        return Readiness::Ready;
    }
    let approved = is_true(object, "Approved");
    waiting(if approved { "it is approved, and not signed yet" } else { "it is not approved yet" })
}

/// Whether whoever looks after an object has seen it as it is now.
pub(super) fn is_seen(object: &Value) -> bool {
    let number = |path: &str| object.pointer(path).and_then(Value::as_i64);
    match (number("/status/observedGeneration"), number("/metadata/generation")) {
        (Some(seen), Some(generation)) => seen >= generation,
        _ => true,
    }
}

fn by_convention(object: &Value) -> Readiness {
    if !is_seen(object) {
        return waiting("its controller has not seen it as it is now");
    }
    for kind in ["Stalled", "Failed"] {
        if let Some(condition) = condition(object, kind).filter(|condition| condition["status"] == "True") {
            return Readiness::Failed(words(condition));
        }
    }
    if let Some(condition) =
        condition(object, "Reconciling").filter(|condition| condition["status"] == "True")
    {
        return waiting(words(condition));
    }
    let told = ["Ready", "Available"].iter().find_map(|kind| condition(object, kind));
    match told {
        Some(condition) if condition["status"] != "True" => waiting(words(condition)),
        _ => Readiness::Ready,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn custom(generation: i64, status: &Value) -> Readiness {
        judge(&json!({"apiVersion": "example.com/v1", "kind": "Widget",
            "metadata": {"generation": generation}, "status": status}))
    }

    #[test]
    fn kinds_that_nobody_knows_speak_by_conventions() {
        assert_eq!(custom(1, &Value::Null), Readiness::Ready);
        assert!(matches!(custom(2, &json!({"observedGeneration": 1})), Readiness::Waiting(_)));
        let with = |kind: &str, status: &str| {
            json!({"observedGeneration": 2, "conditions":
            [{"type": kind, "status": status, "reason": "Because", "message": "of it"}]})
        };
        assert_eq!(custom(2, &with("Ready", "True")), Readiness::Ready);
        assert_eq!(custom(2, &with("Ready", "False")), Readiness::Waiting("Because: of it".into()));
        assert_eq!(custom(2, &with("Available", "Unknown")), Readiness::Waiting("Because: of it".into()));
        assert_eq!(custom(2, &with("Stalled", "True")), Readiness::Failed("Because: of it".into()));
        assert_eq!(custom(2, &with("Reconciling", "True")), Readiness::Waiting("Because: of it".into()));
        assert_eq!(custom(2, &with("Anything", "False")), Readiness::Ready);
    }

    #[test]
    fn a_service_has_what_its_type_promises() {
        let service = |spec: Value, status: Value| {
            judge(&json!({"apiVersion": "v1", "kind": "Service", "spec": spec, "status": status})).is_ready()
        };
        assert!(service(json!({"type": "ClusterIP", "clusterIP": "None"}), json!({})));
        assert!(!service(json!({"type": "ClusterIP"}), json!({})));
        assert!(service(json!({"type": "ExternalName"}), json!({})));
        let balanced = json!({"type": "LoadBalancer", "clusterIP": "10.0.0.1"});
        assert!(!service(balanced.clone(), json!({"loadBalancer": {}})));
        assert!(service(balanced, json!({"loadBalancer": {"ingress": [{"ip": "203.0.113.9"}]}})));
    }

    #[test]
    fn definitions_requests_and_claims() {
        let of = |api_version: &str, kind: &str, status: Value| {
            judge(&json!({"apiVersion": api_version, "kind": kind, "status": status}))
        };
        let crd = |status: Value| of("apiextensions.k8s.io/v1", "CustomResourceDefinition", status);
        assert!(!crd(json!({})).is_ready());
        assert!(crd(json!({"conditions": [{"type": "Established", "status": "True"}]})).is_ready());
        let taken =
            json!({"conditions": [{"type": "NamesAccepted", "status": "False", "reason": "Conflict"}]});
        assert_eq!(crd(taken), Readiness::Failed("Conflict".into()));
        let csr = |status: Value| of("certificates.k8s.io/v1", "CertificateSigningRequest", status);
        assert!(!csr(json!({"conditions": [{"type": "Approved", "status": "True"}]})).is_ready());
        assert!(csr(json!({"certificate": "LS0t"})).is_ready());
        assert!(matches!(
            csr(json!({"conditions": [{"type": "Denied", "status": "True"}]})),
            Readiness::Failed(_)
        ));
        let claim = |phase: &str| of("v1", "PersistentVolumeClaim", json!({"phase": phase}));
        assert!(claim("Bound").is_ready() && !claim("").is_ready());
        assert!(matches!(claim("Lost"), Readiness::Failed(_)));
    }

    #[test]
    fn what_is_being_deleted_is_not_ready() {
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
        assert!(!judge(&secret).is_ready());
    }
}
