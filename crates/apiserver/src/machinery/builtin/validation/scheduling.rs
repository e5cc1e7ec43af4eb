//! Where pods may run: node selectors, affinity, tolerations, spread.

use super::field::{Errors, Field, repeated};
use super::labels;
use crate::machinery::field_error::FieldError;
use crate::machinery::names;

/// Most that a preference can weigh.
const WEIGHT_MAX: i64 = 100;

/// What a pod says about its place.
pub(super) fn placement(spec: &Field<'_>, errors: &mut Errors) {
    labels::labels(&spec.get("nodeSelector"), errors);
    for toleration in spec.get("tolerations").items() {
        tolerates(&toleration, errors);
    }
    let affinity = spec.get("affinity");
    node_affinity(&affinity.get("nodeAffinity"), errors);
    pod_affinity(&affinity.get("podAffinity"), errors);
    pod_affinity(&affinity.get("podAntiAffinity"), errors);
    spread(&spec.get("topologySpreadConstraints"), errors);
}

fn tolerates(toleration: &Field<'_>, errors: &mut Errors) {
    let (key, operator) = (toleration.get("key"), toleration.get("operator"));
    key.optional_name(names::qualified_name, errors);
    if key.is_absent() && operator.text() != "Exists" {
        operator.invalid(
            "operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
            errors,
        );
    }
    match operator.text() {
        "Exists" if toleration.get("value").is_present() => {
            operator.invalid("value must be empty when `operator` is 'Exists'", errors);
        }
        "" | "Equal" => toleration.get("value").optional_name(names::label_value, errors),
        _ => operator.optional_one_of(&["Equal", "Exists", "Gt", "Lt"], errors),
    }
    effect(&toleration.get("effect"), errors);
    let seconds = toleration.get("tolerationSeconds");
    if seconds.is_present() && toleration.get("effect").text() != "NoExecute" {
        toleration
            .get("effect")
            .invalid("effect must be 'NoExecute' when `tolerationSeconds` is set", errors);
    }
}

/// What a taint does.
pub(super) fn effect(effect: &Field<'_>, errors: &mut Errors) {
    effect.optional_one_of(&["NoSchedule", "PreferNoSchedule", "NoExecute"], errors);
}

fn node_affinity(affinity: &Field<'_>, errors: &mut Errors) {
    let required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution");
    if !required.value.is_null() {
        node_selector(&required, errors);
    }
    for term in affinity.get("preferredDuringSchedulingIgnoredDuringExecution").items() {
        weight(&term.get("weight"), errors);
        node_term(&term.get("preference"), errors);
    }
}

/// A selector of nodes: one of its terms must match.
pub(super) fn node_selector(selector: &Field<'_>, errors: &mut Errors) {
    let terms = selector.get("nodeSelectorTerms");
    if terms.is_empty() {
        terms.missing("must have at least one node selector term", errors);
    }
    for term in terms.items() {
        node_term(&term, errors);
    }
}

fn node_term(term: &Field<'_>, errors: &mut Errors) {
    for expression in term.get("matchExpressions").items() {
        expression.get("key").name(names::qualified_name, errors);
        requirement(&expression, errors);
    }
    for expression in term.get("matchFields").items() {
        let key = expression.get("key");
        if key.text() != "metadata.name" {
            key.invalid("not a valid field selector key", errors);
        }
        requirement(&expression, errors);
    }
}

fn requirement(expression: &Field<'_>, errors: &mut Errors) {
    let (operator, values) = (expression.get("operator"), expression.get("values"));
    match operator.text() {
        "In" | "NotIn" if values.is_empty() => {
            values.missing("must be specified when `operator` is 'In' or 'NotIn'", errors);
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            values.forbidden("may not be specified when `operator` is 'Exists' or 'DoesNotExist'", errors);
        }
        "Gt" | "Lt" if values.len() != 1 => {
            values.missing("must be specified single value when `operator` is 'Lt' or 'Gt'", errors);
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
        _ => operator.invalid("not a valid selector operator", errors),
    }
}

fn weight(weight: &Field<'_>, errors: &mut Errors) {
    if weight.number().is_none_or(|number| !(1..=WEIGHT_MAX).contains(&number)) {
        weight.invalid("must be in the range 1-100", errors);
    }
}

fn pod_affinity(affinity: &Field<'_>, errors: &mut Errors) {
    for term in affinity.get("requiredDuringSchedulingIgnoredDuringExecution").items() {
        pod_term(&term, errors);
    }
    for term in affinity.get("preferredDuringSchedulingIgnoredDuringExecution").items() {
        weight(&term.get("weight"), errors);
        pod_term(&term.get("podAffinityTerm"), errors);
    }
}

fn pod_term(term: &Field<'_>, errors: &mut Errors) {
    labels::selector(&term.get("labelSelector"), errors);
    labels::selector(&term.get("namespaceSelector"), errors);
    for namespace in term.get("namespaces").items() {
        namespace.optional_name(names::dns1123_label, errors);
    }
    topology_key(&term.get("topologyKey"), errors);
}

fn topology_key(key: &Field<'_>, errors: &mut Errors) {
    if key.is_absent() {
        key.missing("can not be empty", errors);
        return;
    }
    key.optional_name(names::qualified_name, errors);
}

fn spread(constraints: &Field<'_>, errors: &mut Errors) {
    let constraints = constraints.items();
    for constraint in &constraints {
        let skew = constraint.get("maxSkew");
        if skew.number().is_none_or(|skew| skew <= 0) {
            skew.invalid("must be greater than zero", errors);
        }
        topology_key(&constraint.get("topologyKey"), errors);
        constraint.get("whenUnsatisfiable").one_of(&["DoNotSchedule", "ScheduleAnyway"], errors);
        labels::selector(&constraint.get("labelSelector"), errors);
        let domains = constraint.get("minDomains");
        domains.positive(errors);
        if domains.is_present() && constraint.get("whenUnsatisfiable").text() != "DoNotSchedule" {
            domains.invalid("can only use minDomains if whenUnsatisfiable=DoNotSchedule", errors);
        }
    }
    let identity = |constraint: &Field<'_>| {
        Some((
            constraint.get("topologyKey").text().to_owned(),
            constraint.get("whenUnsatisfiable").text().to_owned(),
        ))
    };
    for position in repeated(&constraints, identity) {
        let constraint = &constraints[position];
        let pair = format!(
            "{{{}, {}}}",
            constraint.get("topologyKey").text(),
            constraint.get("whenUnsatisfiable").text()
        );
        errors.push(FieldError::duplicate(
            format!("{}.{{topologyKey, whenUnsatisfiable}}", constraint.path),
            pair,
        ));
    }
}
