//! Amounts of resources: that they parse has been seen when they were read.

use serde_json::Value;

use super::field::{Errors, Field};
use crate::machinery::field_error::FieldError;
use crate::machinery::names;
use drystone_quantity::Quantity;

/// The amount in a field, if there is one.
pub(super) fn amount(value: &Value) -> Option<Quantity> {
    Quantity::from_json(value).ok()
}

/// Reports an amount below zero, and one of a countable resource with a fraction.
pub(super) fn amount_of(resource: &str, field: &Field<'_>, errors: &mut Errors) {
    let Some(quantity) = amount(field.value) else { return };
    if quantity.is_negative() {
        field.invalid("must be greater than or equal to 0", errors);
    }
    if is_countable(resource) && !quantity.is_whole() {
        field.invalid("must be an integer", errors);
    }
}

/// What comes in wholes only: objects, and devices of extended resources.
fn is_countable(resource: &str) -> bool {
    let object = matches!(
        resource,
        "pods"
            | "services"
            | "replicationcontrollers"
            | "resourcequotas"
            | "secrets"
            | "configmaps"
            | "persistentvolumeclaims"
            | "services.nodeports"
            | "services.loadbalancers"
    );
    object || resource.starts_with("count/") || is_extended(resource)
}

/// Resources of others than Kubernetes: a name with a domain.
pub(super) fn is_extended(resource: &str) -> bool {
    resource.contains('/')
        && !resource.contains("kubernetes.io/")
        && !resource.starts_with("requests.")
        && !resource.starts_with("count/")
}

/// A map of amounts by resource.
pub(super) fn amounts(field: &Field<'_>, errors: &mut Errors) {
    for (resource, amount) in field.entries() {
        for message in names::qualified_name(resource) {
            errors.push(FieldError::invalid(field.path.as_str(), resource, message));
        }
        amount_of(resource, &amount, errors);
    }
}

/// `resources` of a container: requests and limits.
pub(super) fn requirements(resources: &Field<'_>, errors: &mut Errors) {
    let (limits, requests) = (resources.get("limits"), resources.get("requests"));
    for (list, name) in [(&limits, "limits"), (&requests, "requests")] {
        for (resource, amount) in list.entries() {
            container_resource(resource, &amount, name, errors);
        }
    }
    for (resource, request) in requests.entries() {
        let (Some(wanted), limit) = (amount(request.value), &limits.value[resource]) else { continue };
        match amount(limit) {
            Some(limit) if is_extended(resource) && wanted != limit => {
                request.invalid(format!("must be equal to {resource} limit of {limit}"), errors);
            }
            Some(limit) if wanted > limit => {
                request.invalid(format!("must be less than or equal to {resource} limit of {limit}"), errors);
            }
            None if is_extended(resource) || resource.starts_with("hugepages-") => {
                limits.missing("Limit must be set for non overcommitable resources", errors);
            }
            _ => {}
        }
    }
}

fn container_resource(resource: &str, amount: &Field<'_>, list: &str, errors: &mut Errors) {
    for message in names::qualified_name(resource) {
        errors.push(FieldError::invalid(amount.path.as_str(), resource, message));
    }
    let standard =
        matches!(resource, "cpu" | "memory" | "ephemeral-storage") || resource.starts_with("hugepages-");
    if !standard && !resource.contains('/') {
        let message = format!("must be a standard resource for containers ({list}), or have a domain");
        errors.push(FieldError::invalid(amount.path.as_str(), resource, message));
    }
    amount_of(resource, amount, errors);
}
