//! Node selectors: the `nodeSelector`, node affinity and volume affinity of pods against a node's labels and name.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PodSpec};

/// Labels as objects carry them.
pub type Labels = BTreeMap<String, String>;

/// Whether a node passes the pod's `nodeSelector` and required node affinity.
pub fn matches_pod(spec: &PodSpec, name: &str, labels: &Labels) -> bool {
    let simple = spec.node_selector.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    let affinity = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let required = affinity.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
    simple && required.is_none_or(|selector| matches(selector, name, labels))
}

/// The sum of the weights of the preferred node affinity terms that a node matches.
pub fn preference(spec: &PodSpec, name: &str, labels: &Labels) -> i64 {
    let affinity = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let preferred = affinity.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref());
    let terms = preferred.into_iter().flatten();
    terms.filter(|term| matches_term(&term.preference, name, labels)).map(|term| i64::from(term.weight)).sum()
}

/// Whether any term of a selector matches.
pub fn matches(selector: &NodeSelector, name: &str, labels: &Labels) -> bool {
    selector.node_selector_terms.iter().any(|term| matches_term(term, name, labels))
}

/// Whether all requirements of a term hold. An empty term matches nothing.
fn matches_term(term: &NodeSelectorTerm, name: &str, labels: &Labels) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    expressions.iter().all(|requirement| holds(requirement, labels.get(&requirement.key).map(String::as_str)))
        // The only field there is.
        && fields.iter().all(|requirement| {
            requirement.key == "metadata.name" && holds(requirement, Some(name))
        })
}

fn holds(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let listed = || value.is_some_and(|value| values.iter().any(|listed| listed == value));
    let compared = |test: fn(i64, i64) -> bool| {
        let (Some(value), [bound]) = (value, values) else { return false };
        matches!((value.parse(), bound.parse()), (Ok(value), Ok(bound)) if test(value, bound))
    };
    match requirement.operator.as_str() {
        "In" => listed(),
        "NotIn" => !listed(),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compared(|value, bound| value > bound),
        "Lt" => compared(|value, bound| value < bound),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requirement(key: &str, operator: &str, values: &[&str]) -> NodeSelectorRequirement {
        NodeSelectorRequirement {
            key: key.into(),
            operator: operator.into(),
            values: Some(values.iter().map(|value| (*value).to_owned()).collect()),
        }
    }

    #[test]
    fn operators() {
        let labels =
            Labels::from([("zone".to_owned(), "a".to_owned()), ("cores".to_owned(), "16".to_owned())]);
        for (key, operator, values, expected) in [
            ("zone", "In", &["a", "b"][..], true),
            ("zone", "In", &["b"], false),
            ("rack", "In", &["a"], false),
            ("zone", "NotIn", &["b"], true),
            ("rack", "NotIn", &["b"], true),
            ("zone", "Exists", &[], true),
            ("rack", "Exists", &[], false),
            ("rack", "DoesNotExist", &[], true),
            ("cores", "Gt", &["8"], true),
            ("cores", "Gt", &["16"], false),
            ("cores", "Lt", &["32"], true),
            ("zone", "Lt", &["32"], false),
            ("zone", "Near", &["a"], false),
        ] {
            let term = NodeSelectorTerm {
                match_expressions: Some(vec![requirement(key, operator, values)]),
                ..Default::default()
            };
            assert_eq!(matches_term(&term, "n", &labels), expected, "{key} {operator} {values:?}");
        }
    }

    #[test]
    fn terms_are_alternatives_and_empty_ones_match_nothing() {
        let labels = Labels::new();
        let by_name = NodeSelectorTerm {
            match_fields: Some(vec![requirement("metadata.name", "In", &["n1"])]),
            ..Default::default()
        };
        let selector = |terms: &[NodeSelectorTerm]| NodeSelector { node_selector_terms: terms.to_vec() };
        assert!(matches(&selector(&[NodeSelectorTerm::default(), by_name.clone()]), "n1", &labels));
        assert!(!matches(&selector(&[NodeSelectorTerm::default(), by_name]), "n2", &labels));
        assert!(!matches(&selector(&[]), "n1", &labels));
    }
}
