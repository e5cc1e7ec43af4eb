//! What belongs to the cluster as a whole: namespaces, nodes, events, limits, leases, classes.

use std::cmp::Ordering;

use super::field::{Errors, Field, repeated};
use super::quantities::{self, amount};
use super::{scheduling, workload};
use crate::machinery::field_error::FieldError;
use crate::machinery::names;

/// Highest priority that users may give to their pods.
const PRIORITY_MAX: i64 = 1_000_000_000;
/// Most of a node's ranges: one for each family of addresses.
const POD_RANGES_MAX: usize = 2;

/// A Namespace.
pub(super) fn namespace(object: &Field<'_>, errors: &mut Errors) {
    for finalizer in object.at(&["spec", "finalizers"]).items() {
        finalizer.name(names::qualified_name, errors);
    }
}

/// A Node.
pub(super) fn node(object: &Field<'_>, errors: &mut Errors) {
    let spec = object.get("spec");
    let taints = spec.get("taints").items();
    for taint in &taints {
        taint.get("key").name(names::qualified_name, errors);
        taint.get("value").optional_name(names::label_value, errors);
        if taint.get("effect").require(errors) {
            scheduling::effect(&taint.get("effect"), errors);
        }
    }
    let identity =
        |taint: &Field<'_>| Some((taint.get("key").text().to_owned(), taint.get("effect").text().to_owned()));
    for position in repeated(&taints, identity) {
        taints[position].duplicate(errors);
    }
    let ranges = spec.get("podCIDRs");
    for range in ranges.items() {
        if range.text().parse::<ipnet::IpNet>().is_err() {
            range.invalid("must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)", errors);
        }
    }
    if ranges.len() > POD_RANGES_MAX {
        ranges.invalid("may specify no more than one CIDR for each IP family", errors);
    }
    if !ranges.is_empty() && ranges.value[0] != *spec.get("podCIDR").value {
        ranges.invalid("the first value must match `podCIDR`", errors);
    }
    for list in ["capacity", "allocatable"] {
        quantities::amounts(&object.at(&["status", list]), errors);
    }
}

/// A change of a Node.
pub(super) fn node_change(new: &Field<'_>, old: &Field<'_>, errors: &mut Errors) {
    for name in ["podCIDR", "podCIDRs"] {
        let (field, before) = (new.at(&["spec", name]), old.at(&["spec", name]));
        if !before.value.is_null() && field.value != before.value {
            field.forbidden("node updates may not change podCIDR except from \"\" to valid", errors);
        }
    }
    let (field, before) = (new.at(&["spec", "providerID"]), old.at(&["spec", "providerID"]));
    if before.is_present() && field.value != before.value {
        field.forbidden("node updates may not change providerID except from \"\" to valid", errors);
    }
}

/// An Event of the core group.
pub(super) fn event(object: &Field<'_>, errors: &mut Errors) {
    let (namespace, involved) =
        (object.at(&["metadata", "namespace"]), object.at(&["involvedObject", "namespace"]));
    // What is in no namespace has its events in the default one.
    let fits = if involved.is_absent() {
        matches!(namespace.text(), "" | "default" | "kube-system")
    } else {
        namespace.text() == involved.text()
    };
    if !fits {
        involved.invalid("does not match event.namespace", errors);
    }
    object.get("type").optional_one_of(&["Normal", "Warning"], errors);
}

/// A LimitRange.
pub(super) fn limit_range(object: &Field<'_>, errors: &mut Errors) {
    let limits = object.at(&["spec", "limits"]).items();
    for limit in &limits {
        let kind = limit.get("type");
        if kind.require(errors) && !kind.text().contains('/') {
            kind.optional_one_of(&["Container", "PersistentVolumeClaim", "Pod"], errors);
        }
        let lists = ["min", "max", "default", "defaultRequest", "maxLimitRequestRatio"];
        for list in lists {
            quantities::amounts(&limit.get(list), errors);
        }
        if kind.text() == "Pod" {
            for list in ["default", "defaultRequest"] {
                if !limit.get(list).is_empty() {
                    limit.get(list).forbidden("may not be specified when `type` is 'Pod'", errors);
                }
            }
        }
        for (low, high) in
            [("min", "max"), ("min", "defaultRequest"), ("defaultRequest", "default"), ("default", "max")]
        {
            ordered(limit, low, high, errors);
        }
    }
    for position in repeated(&limits, |limit| Some(limit.get("type").text())) {
        limits[position].get("type").duplicate(errors);
    }
}

/// Reports amounts under `low` that are greater than the same under `high`.
fn ordered(limit: &Field<'_>, low: &str, high: &str, errors: &mut Errors) {
    for (resource, least) in limit.get(low).entries() {
        let most = &limit.value[high][resource];
        let (Some(lower), Some(upper)) = (amount(least.value), amount(most)) else { continue };
        if lower.cmp(&upper) == Ordering::Greater {
            least.invalid(format!("{low} value {lower} is greater than {high} value {upper}"), errors);
        }
    }
}

/// A ResourceQuota.
pub(super) fn resource_quota(object: &Field<'_>, errors: &mut Errors) {
    for list in [object.at(&["spec", "hard"]), object.at(&["status", "hard"]), object.at(&["status", "used"])]
    {
        quantities::amounts(&list, errors);
    }
    let scopes = [
        "BestEffort",
        "CrossNamespacePodAffinity",
        "NotBestEffort",
        "NotTerminating",
        "PriorityClass",
        "Terminating",
        "VolumeAttributesClass",
    ];
    let list = object.at(&["spec", "scopes"]);
    for scope in list.items() {
        scope.one_of(&scopes, errors);
    }
    let has = |name: &str| list.items().iter().any(|scope| scope.text() == name);
    if (has("BestEffort") && has("NotBestEffort")) || (has("Terminating") && has("NotTerminating")) {
        list.invalid("conflicting scopes", errors);
    }
    for term in object.at(&["spec", "scopeSelector", "matchExpressions"]).items() {
        term.get("scopeName").one_of(&scopes, errors);
        term.get("operator").one_of(&["DoesNotExist", "Exists", "In", "NotIn"], errors);
    }
}

/// A change of a ResourceQuota: what it counts stays.
pub(super) fn quota_change(new: &Field<'_>, old: &Field<'_>, errors: &mut Errors) {
    for name in ["scopes", "scopeSelector"] {
        new.at(&["spec", name]).unchanged(&old.at(&["spec", name]), errors);
    }
}

/// A Lease.
pub(super) fn lease(object: &Field<'_>, errors: &mut Errors) {
    let spec = object.get("spec");
    spec.get("leaseDurationSeconds").positive(errors);
    spec.get("leaseTransitions").not_negative(errors);
    let holder = spec.get("holderIdentity");
    if holder.value == "" {
        holder.invalid("must not be empty", errors);
    }
}

/// A PriorityClass.
pub(super) fn priority(object: &Field<'_>, errors: &mut Errors) {
    let (name, value) = (object.at(&["metadata", "name"]), object.get("value"));
    let standard = matches!(name.text(), "system-node-critical" | "system-cluster-critical");
    if name.text().starts_with("system-") && !standard {
        name.forbidden("priority class names with 'system-' prefix are reserved for system use only", errors);
    }
    if !standard && value.number().is_some_and(|number| number > PRIORITY_MAX) {
        let message = format!("maximum allowed value of a user defined priority is {PRIORITY_MAX}");
        value.forbidden(message, errors);
    }
    object.get("preemptionPolicy").optional_one_of(&["Never", "PreemptLowerPriority"], errors);
}

/// A change of a PriorityClass: pods have copied what it says.
pub(super) fn priority_change(new: &Field<'_>, old: &Field<'_>, errors: &mut Errors) {
    for name in ["value", "preemptionPolicy"] {
        if new.get(name).value != old.get(name).value {
            errors.push(FieldError::forbidden(name, "may not be changed in an update."));
        }
    }
}

/// A RuntimeClass.
pub(super) fn runtime(object: &Field<'_>, errors: &mut Errors) {
    object.get("handler").name(names::dns1123_label, errors);
    workload::overhead(&object.at(&["overhead", "podFixed"]), errors);
}

/// A change of a RuntimeClass.
pub(super) fn runtime_change(new: &Field<'_>, old: &Field<'_>, errors: &mut Errors) {
    new.get("handler").unchanged(&old.get("handler"), errors);
}
