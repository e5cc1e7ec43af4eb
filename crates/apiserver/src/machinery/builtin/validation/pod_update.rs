//! What may change in a pod: little, since it has a place and may be running.

use serde_json::Value;

use super::field::{Errors, Field};

const MUTABLE: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// A change of a pod. Binding it to a node is no update, and does not come here.
pub(super) fn pod(new: &Field<'_>, old: &Field<'_>, errors: &mut Errors) {
    let (new_spec, old_spec) = (new.get("spec"), old.get("spec"));
    if new_spec.value == old_spec.value {
        return;
    }
    for list in ["containers", "initContainers"] {
        if new_spec.get(list).len() != old_spec.get(list).len() {
            new_spec.get(list).forbidden("pod updates may not add or remove containers", errors);
            return;
        }
    }
    deadline(&new_spec, &old_spec, errors);
    tolerations(&new_spec, &old_spec, errors);
    gates(&new_spec, &old_spec, errors);
    if with_mutable_fields_of(new_spec.value, old_spec.value) != *new_spec.value {
        new_spec.forbidden(MUTABLE, errors);
    }
}

/// The old pod with those fields of the new one that may differ.
fn with_mutable_fields_of(new: &Value, old: &Value) -> Value {
    let mut expected = old.clone();
    for list in ["containers", "initContainers"] {
        // Not by index, which would add the list where there is none.
        let containers = expected.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten();
        for (index, container) in containers.enumerate() {
            copy("image", &new[list][index], container);
        }
    }
    for field in ["activeDeadlineSeconds", "tolerations", "schedulingGates"] {
        copy(field, new, &mut expected);
    }
    let negative = old["terminationGracePeriodSeconds"].as_i64().is_some_and(|seconds| seconds < 0);
    if negative && new["terminationGracePeriodSeconds"] == 1 {
        copy("terminationGracePeriodSeconds", new, &mut expected);
    }
    // Before it may be scheduled, a pod's place may be narrowed.
    if old["schedulingGates"].as_array().is_some_and(|gates| !gates.is_empty()) {
        copy("nodeSelector", new, &mut expected);
        copy("affinity", new, &mut expected);
    }
    expected
}

fn copy(field: &str, from: &Value, to: &mut Value) {
    let Value::Object(fields) = to else { return };
    match from.get(field) {
        Some(value) => drop(fields.insert(field.to_owned(), value.clone())),
        None => drop(fields.remove(field)),
    }
}

/// The deadline may come nearer.
fn deadline(new: &Field<'_>, old: &Field<'_>, errors: &mut Errors) {
    let (field, before) = (new.get("activeDeadlineSeconds"), old.get("activeDeadlineSeconds"));
    match (field.number(), before.number()) {
        (Some(now), Some(before)) if now > before => {
            field.invalid(format!("must be less than or equal to previous value {before}"), errors);
        }
        (None, Some(_)) => field.invalid("must not update from a positive integer to nil value", errors),
        _ => {}
    }
}

/// Tolerations may be added.
fn tolerations(new: &Field<'_>, old: &Field<'_>, errors: &mut Errors) {
    let field = new.get("tolerations");
    let entries = field.items();
    let kept = |before: &Field<'_>| {
        entries.iter().any(|now| {
            // How long it tolerates may change.
            ["key", "operator", "value", "effect"].iter().all(|name| now.value[*name] == before.value[*name])
        })
    };
    if !old.get("tolerations").items().iter().all(kept) {
        field.forbidden("existing toleration can not be modified except its tolerationSeconds", errors);
    }
}

/// Gates may be taken away.
fn gates(new: &Field<'_>, old: &Field<'_>, errors: &mut Errors) {
    let before: Vec<&Value> = old.get("schedulingGates").items().iter().map(|gate| gate.value).collect();
    let field = new.get("schedulingGates");
    if field.items().iter().any(|gate| !before.contains(&gate.value)) {
        field.forbidden("only deletion is allowed, but found new scheduling gates", errors);
    }
}
