//! Workloads: everything that keeps pods made from a template, and what watches over them.

use serde_json::Value;

use super::field::{Errors, Field, repeated};
use super::{labels, pod, quantities, storage};
use crate::machinery::names;
use crate::machinery::selector::LabelSelector;

/// A Deployment.
pub(super) fn deployment(object: &Field<'_>, errors: &mut Errors) {
    let spec = object.get("spec");
    scaled(&spec, "Deployment", errors);
    for name in ["revisionHistoryLimit", "progressDeadlineSeconds"] {
        spec.get(name).not_negative(errors);
    }
    let (deadline, ready) = (spec.get("progressDeadlineSeconds"), spec.get("minReadySeconds"));
    if deadline.number().is_some_and(|deadline| deadline <= ready.number().unwrap_or(0)) {
        deadline.invalid("must be greater than minReadySeconds", errors);
    }
    let strategy = spec.get("strategy");
    strategy.get("type").optional_one_of(&["Recreate", "RollingUpdate"], errors);
    let rolling = strategy.get("rollingUpdate");
    if strategy.get("type").text() == "Recreate" && !rolling.value.is_null() {
        rolling.forbidden("may not be specified when strategy `type` is 'Recreate'", errors);
    }
    rolling_update(&rolling, errors);
}

/// `maxSurge` and `maxUnavailable`: numbers or percentages, not both nothing.
fn rolling_update(rolling: &Field<'_>, errors: &mut Errors) {
    if rolling.value.is_null() {
        return;
    }
    let (surge, unavailable) = (rolling.get("maxSurge"), rolling.get("maxUnavailable"));
    number_or_percentage(&surge, errors);
    number_or_percentage(&unavailable, errors);
    if percentage(unavailable.text()).is_some_and(|percent| percent > 100) {
        unavailable.invalid("must not be greater than 100%", errors);
    }
    let is_nothing = |field: &Field<'_>| field.value == 0 || field.value == "0%";
    if is_nothing(&surge) && is_nothing(&unavailable) {
        unavailable.invalid("may not be 0 when `maxSurge` is 0", errors);
    }
}

fn percentage(text: &str) -> Option<u32> {
    text.strip_suffix('%').filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()))?.parse().ok()
}

/// Reports what is neither a number nor a percentage.
pub(super) fn number_or_percentage(field: &Field<'_>, errors: &mut Errors) {
    match field.value {
        Value::String(text) if percentage(text).is_none() => {
            let message = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')";
            field.invalid(message, errors);
        }
        _ => field.not_negative(errors),
    }
}

/// What all have that keep a number of pods of a template.
fn scaled(spec: &Field<'_>, kind: &str, errors: &mut Errors) {
    spec.get("replicas").not_negative(errors);
    spec.get("minReadySeconds").not_negative(errors);
    labels::workload_selector(spec, errors);
    pod::template(&spec.get("template"), errors);
    pod::always_running(&spec.get("template"), kind, errors);
}

/// Selectors decide whose pods are whose, so they stay.
pub(super) fn selector_change(new: &Field<'_>, old: &Field<'_>, errors: &mut Errors) {
    let path = ["spec", "selector"];
    new.at(&path).unchanged(&old.at(&path), errors);
}

/// A change of a Deployment.
pub(super) fn deployment_change(new: &Field<'_>, old: &Field<'_>, errors: &mut Errors) {
    selector_change(new, old, errors);
}

/// A ReplicaSet.
pub(super) fn replica_set(object: &Field<'_>, errors: &mut Errors) {
    scaled(&object.get("spec"), "ReplicaSet", errors);
}

/// A ReplicationController.
pub(super) fn replication_controller(object: &Field<'_>, errors: &mut Errors) {
    let spec = object.get("spec");
    spec.get("replicas").not_negative(errors);
    spec.get("minReadySeconds").not_negative(errors);
    let selector = spec.get("selector");
    if selector.is_empty() {
        selector.missing("", errors);
    }
    if spec.get("template").value.is_null() {
        spec.get("template").missing("", errors);
        return;
    }
    labels::matches_template(Some(LabelSelector::from_labels(selector.value)), &spec, errors);
    pod::template(&spec.get("template"), errors);
    pod::always_running(&spec.get("template"), "ReplicationController", errors);
}

/// A DaemonSet.
pub(super) fn daemon_set(object: &Field<'_>, errors: &mut Errors) {
    let spec = object.get("spec");
    labels::workload_selector(&spec, errors);
    pod::template(&spec.get("template"), errors);
    pod::always_running(&spec.get("template"), "DaemonSet", errors);
    spec.get("minReadySeconds").not_negative(errors);
    spec.get("revisionHistoryLimit").not_negative(errors);
    let strategy = spec.get("updateStrategy");
    strategy.get("type").one_of(&["OnDelete", "RollingUpdate"], errors);
    rolling_update(&strategy.get("rollingUpdate"), errors);
}

/// A StatefulSet.
pub(super) fn stateful_set(object: &Field<'_>, errors: &mut Errors) {
    let spec = object.get("spec");
    scaled(&spec, "StatefulSet", errors);
    spec.get("revisionHistoryLimit").not_negative(errors);
    spec.get("podManagementPolicy").one_of(&["OrderedReady", "Parallel"], errors);
    spec.at(&["ordinals", "start"]).not_negative(errors);
    let strategy = spec.get("updateStrategy");
    strategy.get("type").one_of(&["OnDelete", "RollingUpdate"], errors);
    let rolling = strategy.get("rollingUpdate");
    if strategy.get("type").text() == "OnDelete" && !rolling.value.is_null() {
        rolling.invalid("only allowed for updateStrategy 'RollingUpdate'", errors);
    }
    rolling.get("partition").not_negative(errors);
    let retention = spec.get("persistentVolumeClaimRetentionPolicy");
    for name in ["whenDeleted", "whenScaled"] {
        retention.get(name).optional_one_of(&["Delete", "Retain"], errors);
    }
    let claims = spec.get("volumeClaimTemplates").items();
    for claim in &claims {
        claim.at(&["metadata", "name"]).name(names::dns1123_subdomain, errors);
        storage::claim_spec(&claim.get("spec"), errors);
    }
    for position in repeated(&claims, |claim| Some(claim.at(&["metadata", "name"]).text())) {
        claims[position].at(&["metadata", "name"]).duplicate(errors);
    }
}

/// What may change in a StatefulSet.
const STATEFUL_MUTABLE: [&str; 8] = [
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
    "volumeClaimTemplates",
];

/// A change of a StatefulSet.
pub(super) fn stateful_set_change(new: &Field<'_>, old: &Field<'_>, errors: &mut Errors) {
    let (new_spec, old_spec) = (new.get("spec"), old.get("spec"));
    let fixed = |spec: &Field<'_>| {
        let mut fields = spec.value.as_object().cloned().unwrap_or_default();
        // The claims may not change either; their status, which defaults fill in, is not what is meant by that.
        fields.retain(|name, _| !STATEFUL_MUTABLE.contains(&name.as_str()));
        fields
    };
    let claims = |spec: &Field<'_>| -> Vec<Value> {
        let templates = spec.get("volumeClaimTemplates").items();
        templates
            .iter()
            .map(|claim| serde_json::json!([claim.value["metadata"]["name"], claim.value["spec"]]))
            .collect()
    };
    if fixed(&new_spec) != fixed(&old_spec) || claims(&new_spec) != claims(&old_spec) {
        let message = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";
        new_spec.forbidden(message, errors);
    }
}

/// A ControllerRevision.
pub(super) fn revision(object: &Field<'_>, errors: &mut Errors) {
    object.get("revision").not_negative(errors);
    let data = object.get("data");
    if !data.value.is_object() {
        data.missing("data is mandatory", errors);
    }
}

/// A revision is what it was.
pub(super) fn revision_change(new: &Field<'_>, old: &Field<'_>, errors: &mut Errors) {
    new.get("data").unchanged(&old.get("data"), errors);
}

/// A HorizontalPodAutoscaler.
pub(super) fn autoscaler(object: &Field<'_>, errors: &mut Errors) {
    let spec = object.get("spec");
    let (least, most) = (spec.get("minReplicas"), spec.get("maxReplicas"));
    least.positive(errors);
    if most.number().is_none_or(|number| number < 1) {
        most.invalid("must be greater than 0", errors);
    }
    if let (Some(low), Some(high)) = (least.number(), most.number())
        && high < low
    {
        most.invalid("must be greater than or equal to `minReplicas`", errors);
    }
    let target = spec.get("scaleTargetRef");
    target.get("kind").name(names::path_segment, errors);
    target.get("name").name(names::path_segment, errors);
    let kinds = ["ContainerResource", "External", "Object", "Pods", "Resource"];
    for metric in spec.get("metrics").items() {
        let kind = metric.get("type");
        kind.one_of(&kinds, errors);
        let source = match kind.text() {
            "ContainerResource" => "containerResource",
            "External" => "external",
            "Object" => "object",
            "Pods" => "pods",
            "Resource" => "resource",
            _ => continue,
        };
        if metric.get(source).value.is_null() {
            metric.get(source).missing("must populate information for the given metric source", errors);
        }
    }
}

/// A PodDisruptionBudget.
pub(super) fn disruption_budget(object: &Field<'_>, errors: &mut Errors) {
    let spec = object.get("spec");
    let (available, unavailable) = (spec.get("minAvailable"), spec.get("maxUnavailable"));
    if available.is_present() && unavailable.is_present() {
        spec.invalid("minAvailable and maxUnavailable cannot be both set", errors);
    }
    for field in [available, unavailable] {
        number_or_percentage(&field, errors);
        if percentage(field.text()).is_some_and(|percent| percent > 100) {
            field.invalid("must not be greater than 100%", errors);
        }
    }
    labels::selector(&spec.get("selector"), errors);
    spec.get("unhealthyPodEvictionPolicy").optional_one_of(&["AlwaysAllow", "IfHealthyBudget"], errors);
}

/// An overhead or other list of amounts must not be negative.
pub(super) fn overhead(amounts: &Field<'_>, errors: &mut Errors) {
    quantities::amounts(amounts, errors);
}
