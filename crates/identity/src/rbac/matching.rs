//! Whether a rule allows a request.

use k8s_openapi::api::rbac::v1::PolicyRule;

use super::attributes::{Attributes, ResourceAttributes, Target};

/// Stands for everything.
pub(super) const ALL: &str = "*";

/// Whether `rule` allows the request.
pub fn rule_allows(rule: &PolicyRule, attributes: &Attributes<'_>) -> bool {
    if !has(&rule.verbs, attributes.verb) {
        return false;
    }
    match attributes.target {
        Target::Resource(resource) => allows_resource(rule, &resource),
        Target::NonResource { path } => {
            list(rule.non_resource_urls.as_ref()).iter().any(|url| url_covers(url, path))
        }
    }
}

fn allows_resource(rule: &PolicyRule, wanted: &ResourceAttributes<'_>) -> bool {
    let names = list(rule.resource_names.as_ref());
    has(list(rule.api_groups.as_ref()), wanted.group)
        && list(rule.resources.as_ref())
            .iter()
            .any(|resource| resource_covers(resource, wanted.resource, wanted.subresource))
        && (names.is_empty() || names.iter().any(|name| name == wanted.name))
}

/// The items of an optional list.
pub(super) fn list(items: Option<&Vec<String>>) -> &[String] {
    items.map_or(&[], Vec::as_slice)
}

/// Whether a list contains an item, or `*`.
pub(super) fn has(items: &[String], wanted: &str) -> bool {
    items.iter().any(|item| item == ALL || item == wanted)
}

/// Whether a rule's resource (`pods`, `pods/log`, `*/scale`, `*`) covers a resource with a subresource, if any.
pub(super) fn resource_covers(rule: &str, resource: &str, subresource: &str) -> bool {
    if rule == ALL {
        return true;
    }
    match rule.split_once('/') {
        None => subresource.is_empty() && rule == resource,
        Some((kind, sub)) => {
            !subresource.is_empty() && sub == subresource && (kind == ALL || kind == resource)
        }
    }
}

/// Whether a rule's URL (exact, `*`, or with a trailing `*`) covers a path, or another rule's URL.
pub(super) fn url_covers(rule: &str, path: &str) -> bool {
    rule == ALL || rule == path || rule.strip_suffix(ALL).is_some_and(|prefix| path.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources() {
        for (rule, resource, subresource, expected) in [
            ("*", "pods", "", true),
            ("*", "pods", "log", true),
            ("pods", "pods", "", true),
            ("pods", "pods", "log", false),
            ("pods/log", "pods", "log", true),
            ("pods/log", "pods", "", false),
            ("*/scale", "deployments", "scale", true),
            ("*/scale", "deployments", "status", false),
            ("*/scale", "deployments", "", false),
            ("services", "pods", "", false),
        ] {
            assert_eq!(
                resource_covers(rule, resource, subresource),
                expected,
                "{rule} {resource}/{subresource}"
            );
        }
    }

    #[test]
    fn urls() {
        for (rule, path, expected) in [
            ("*", "/metrics", true),
            ("/metrics", "/metrics", true),
            ("/metrics", "/metrics/slis", false),
            ("/healthz/*", "/healthz/etcd", true),
            ("/healthz/*", "/healthz", false),
            ("/healthz*", "/healthz", true),
        ] {
            assert_eq!(url_covers(rule, path), expected, "{rule} {path}");
        }
    }
}
