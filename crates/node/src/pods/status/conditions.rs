//! Conditions of a pod.

use k8s_openapi::{
    api::core::v1::{PodCondition, PodSpec, PodStatus},
    apimachinery::pkg::apis::meta::v1::Time,
};

use super::{Input, Stage, has_passed_init, is_initialized, whole_seconds};
use crate::pods::plan::{Role, role};

/// The conditions that the node is responsible for. Those of others are left to them.
const OWN: [&str; 4] = ["PodReadyToStartContainers", "Initialized", "ContainersReady", "Ready"];

/// What a condition says, before it is known since when.
struct Finding {
    met: bool,
    reason: Option<&'static str>,
    message: Option<String>,
}

const MET: Finding = Finding { met: true, reason: None, message: None };

/// The node's conditions, and unchanged the ones that others told.
pub(super) fn conditions(input: Input<'_>, spec: &PodSpec, status: &PodStatus) -> Vec<PodCondition> {
    let before = input.pod.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
    let containers_ready = containers_ready(spec, status);
    let ready = ready(spec, &containers_ready, &before);
    let findings = [
        (OWN[0], sandbox_ready(input)),
        (OWN[1], initialized(input, spec, status)),
        (OWN[2], containers_ready),
        (OWN[3], ready),
    ];
    let mut conditions: Vec<PodCondition> =
        before.iter().filter(|condition| !OWN.contains(&condition.type_.as_str())).cloned().collect();
    for (kind, finding) in findings {
        let last = before.iter().find(|condition| condition.type_ == kind);
        conditions.push(condition(input, kind, finding, last));
    }
    conditions
}

fn condition(input: Input<'_>, kind: &str, finding: Finding, before: Option<&PodCondition>) -> PodCondition {
    let status = if finding.met { "True" } else { "False" };
    let since = before
        .filter(|before| before.status == status)
        .and_then(|before| before.last_transition_time.clone())
        .unwrap_or(Time(whole_seconds(input.now)));
    PodCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: finding.reason.map(str::to_owned),
        message: finding.message,
        last_transition_time: Some(since),
        observed_generation: input.pod.metadata.generation,
        ..PodCondition::default()
    }
}

fn sandbox_ready(input: Input<'_>) -> Finding {
    let met = *input.stage == Stage::Active && input.observed.ready_sandbox().is_some();
    Finding { met, ..MET }
}

fn initialized(input: Input<'_>, spec: &PodSpec, status: &PodStatus) -> Finding {
    let statuses = status.init_container_statuses.as_deref().unwrap_or_default();
    if has_passed_init(input, spec) || is_initialized(spec, statuses) {
        return Finding { reason: completed(status), ..MET };
    }
    let inits = spec.init_containers.as_deref().unwrap_or_default();
    let incomplete = inits.iter().zip(statuses).filter(|(container, status)| match role(container, true) {
        Role::Sidecar => status.started != Some(true),
        _ => !status.ready,
    });
    let names: Vec<&str> = incomplete.map(|(container, _)| container.name.as_str()).collect();
    Finding {
        met: false,
        reason: Some("ContainersNotInitialized"),
        message: Some(format!("containers with incomplete status: [{}]", names.join(" "))),
    }
}

fn containers_ready(spec: &PodSpec, status: &PodStatus) -> Finding {
    if let Some(finding) = over(status) {
        return finding;
    }
    let inits = spec.init_containers.as_deref().unwrap_or_default();
    let init_statuses = status.init_container_statuses.as_deref().unwrap_or_default();
    let sidecars = inits
        .iter()
        .zip(init_statuses)
        .filter(|(container, _)| role(container, true) == Role::Sidecar)
        .map(|(_, status)| status);
    let unready: Vec<&str> = sidecars
        .chain(status.container_statuses.iter().flatten())
        .filter(|status| !status.ready)
        .map(|status| status.name.as_str())
        .collect();
    if unready.is_empty() {
        return MET;
    }
    Finding {
        met: false,
        reason: Some("ContainersNotReady"),
        message: Some(format!("containers with unready status: [{}]", unready.join(" "))),
    }
}

fn ready(spec: &PodSpec, containers: &Finding, conditions: &[PodCondition]) -> Finding {
    if !containers.met {
        return Finding { met: false, reason: containers.reason, message: containers.message.clone() };
    }
    let is_true = |kind: &str| conditions.iter().any(|other| other.type_ == kind && other.status == "True");
    let gates = spec.readiness_gates.iter().flatten().map(|gate| gate.condition_type.as_str());
    let missing: Vec<&str> = gates.filter(|kind| !is_true(kind)).collect();
    if missing.is_empty() {
        return MET;
    }
    Finding {
        met: false,
        reason: Some("ReadinessGatesNotReady"),
        message: Some(format!("readiness gates that are not met: [{}]", missing.join(" "))),
    }
}

/// A pod that has ended is not ready, whatever its containers were.
fn over(status: &PodStatus) -> Option<Finding> {
    let reason = match status.phase.as_deref() {
        Some("Succeeded") => "PodCompleted",
        Some("Failed") => "PodFailed",
        _ => return None,
    };
    Some(Finding { met: false, reason: Some(reason), message: None })
}

fn completed(status: &PodStatus) -> Option<&'static str> {
    (status.phase.as_deref() == Some("Succeeded")).then_some("PodCompleted")
}
