//! Aggregated cluster roles: roles made of the rules of others, chosen by label.

use std::collections::BTreeMap;

use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

/// The rules of an aggregated role: those of every other role that one of its selectors matches, in order of their
/// names, each rule once. `None` if the role is not aggregated. Roles may aggregate aggregated ones: repeat until
/// nothing changes.
pub fn aggregate<'a>(
    role: &ClusterRole,
    all: impl IntoIterator<Item = &'a ClusterRole>,
) -> Option<Vec<PolicyRule>> {
    let selectors = role.aggregation_rule.as_ref()?.cluster_role_selectors.as_deref().unwrap_or_default();
    let none = BTreeMap::new();
    let sources: BTreeMap<&str, &ClusterRole> = all
        .into_iter()
        .filter(|other| other.metadata.name != role.metadata.name)
        .filter(|other| {
            let labels = other.metadata.labels.as_ref().unwrap_or(&none);
            selectors.iter().any(|selector| selector_matches(selector, labels))
        })
        .map(|other| (other.metadata.name.as_deref().unwrap_or_default(), other))
        .collect();
    let mut rules: Vec<PolicyRule> = Vec::new();
    for rule in sources.into_values().flat_map(|source| source.rules.iter().flatten()) {
        if !rules.contains(rule) {
            rules.push(rule.clone());
        }
    }
    Some(rules)
}

/// Whether a label selector matches labels; an empty one matches everything, an unknown operator nothing.
pub fn selector_matches(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    let equal = selector.match_labels.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    equal
        && selector
            .match_expressions
            .iter()
            .flatten()
            .all(|requirement| requirement_holds(requirement, labels))
}

fn requirement_holds(requirement: &LabelSelectorRequirement, labels: &BTreeMap<String, String>) -> bool {
    let value = labels.get(&requirement.key);
    let listed = |value| requirement.values.iter().flatten().any(|item| item == value);
    match requirement.operator.as_str() {
        "In" => value.is_some_and(listed),
        "NotIn" => !value.is_some_and(listed),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        _ => false,
    }
}
