//! What a request is about, read off its method and path: the `RequestInfo` of Kubernetes.

use http::Method;

use super::query::{Query, percent_decode};
use crate::machinery::selector::FieldSelector;

/// A request's target and verb.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RequestInfo {
    /// The verb as authorization sees it.
    pub(crate) verb: &'static str,
    /// The resource, if the path is one's.
    pub(crate) resource: Option<ResourcePath>,
}

/// The parts of a resource's path; what is not there is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ResourcePath {
    /// API group, empty for core.
    pub(crate) group: String,
    /// API version.
    pub(crate) version: String,
    /// Namespace.
    pub(crate) namespace: String,
    /// Plural name.
    pub(crate) resource: String,
    /// Name of the object.
    pub(crate) name: String,
    /// Subresource.
    pub(crate) subresource: String,
    /// What follows the subresource, for proxies.
    pub(crate) rest: String,
}

impl RequestInfo {
    /// Reads method, path and query.
    pub(crate) fn parse(method: &Method, path: &str, query: &Query) -> Self {
        match resource_path(path) {
            Some(resource) => {
                let verb = resource_verb(method, &resource, query);
                let mut info = Self { verb, resource: Some(resource) };
                info.take_name_from_selector(query);
                info
            }
            None => Self { verb: path_verb(method), resource: None },
        }
    }

    /// A list or watch of one object by name counts as one of that name, so that a role can grant just that.
    fn take_name_from_selector(&mut self, query: &Query) {
        let Some(resource) = &mut self.resource else { return };
        if !resource.name.is_empty() || !matches!(self.verb, "list" | "watch" | "deletecollection") {
            return;
        }
        // Read as the list itself reads it: a name that the list would not go by must not open it.
        let selector = query.get("fieldSelector").and_then(|text| FieldSelector::parse(text).ok());
        if let Some(name) = selector.as_ref().and_then(|selector| selector.exact("metadata.name")) {
            resource.name = name.to_owned();
        }
    }
}

fn resource_path(path: &str) -> Option<ResourcePath> {
    let path = path.strip_prefix('/')?;
    let mut segments = path.split('/').filter(|segment| !segment.is_empty());
    let mut next = || segments.next().map(percent_decode);
    let root = next()?;
    let group = match root.as_str() {
        "api" => String::new(),
        "apis" => next()?,
        _ => return None,
    };
    let mut parsed = ResourcePath { group, version: next()?, ..ResourcePath::default() };
    let first = next()?;
    // `/namespaces/N/pods` is in a namespace, `/namespaces/N` and its subresources are about the namespace itself.
    if first == "namespaces" {
        let Some(namespace) = next() else { return Some(ResourcePath { resource: first, ..parsed }) };
        match next() {
            Some(resource) if !is_namespace_subresource(&parsed.group, &resource) => {
                parsed.namespace = namespace;
                parsed.resource = resource;
                parsed.name = next().unwrap_or_default();
                parsed.subresource = next().unwrap_or_default();
            }
            subresource => {
                // As in Kubernetes, a namespace is in itself: so a Role in it can grant to read it.
                parsed.namespace.clone_from(&namespace);
                parsed.resource = first;
                parsed.name = namespace;
                parsed.subresource = subresource.unwrap_or_default();
            }
        }
    } else {
        parsed.resource = first;
        parsed.name = next().unwrap_or_default();
        parsed.subresource = next().unwrap_or_default();
    }
    let rest: Vec<_> = segments.collect();
    parsed.rest = rest.join("/");
    Some(parsed)
}

fn is_namespace_subresource(group: &str, segment: &str) -> bool {
    group.is_empty() && matches!(segment, "status" | "finalize")
}

fn resource_verb(method: &Method, resource: &ResourcePath, query: &Query) -> &'static str {
    match *method {
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE if resource.name.is_empty() => "deletecollection",
        Method::DELETE => "delete",
        Method::GET | Method::HEAD if query.flag("watch") && resource.subresource.is_empty() => "watch",
        Method::GET | Method::HEAD if resource.name.is_empty() => "list",
        Method::GET | Method::HEAD => "get",
        _ => NO_VERB,
    }
}

/// What is done by a method that nothing is served by. No role grants it by name.
const NO_VERB: &str = "none";

fn path_verb(method: &Method) -> &'static str {
    match *method {
        Method::POST => "post",
        Method::PUT => "put",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        Method::HEAD => "head",
        Method::OPTIONS => "options",
        Method::GET => "get",
        _ => NO_VERB,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(method: &Method, uri: &str) -> RequestInfo {
        let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
        RequestInfo::parse(method, path, &Query::parse(query))
    }

    #[test]
    fn resources() {
        // Method, URI, verb, and group/version/namespace/resource/name/subresource.
        let cases = [
            (Method::GET, "/api/v1/pods", "list", ["", "v1", "", "pods", "", ""]),
            (Method::GET, "/api/v1/namespaces", "list", ["", "v1", "", "namespaces", "", ""]),
            (Method::GET, "/api/v1/namespaces/n", "get", ["", "v1", "n", "namespaces", "n", ""]),
            (
                Method::PUT,
                "/api/v1/namespaces/n/finalize",
                "update",
                ["", "v1", "n", "namespaces", "n", "finalize"],
            ),
            (Method::GET, "/api/v1/namespaces/n/pods/p/log", "get", ["", "v1", "n", "pods", "p", "log"]),
            (
                Method::DELETE,
                "/api/v1/namespaces/n/pods",
                "deletecollection",
                ["", "v1", "n", "pods", "", ""],
            ),
            (
                Method::GET,
                "/apis/apps/v1/deployments?watch=true",
                "watch",
                ["apps", "v1", "", "deployments", "", ""],
            ),
            (
                Method::GET,
                "/apis/a.b/v1/namespaces/n/xs?fieldSelector=metadata.name%3Dx1",
                "list",
                ["a.b", "v1", "n", "xs", "x1", ""],
            ),
            (
                Method::PATCH,
                "/apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Anode",
                "patch",
                ["rbac.authorization.k8s.io", "v1", "", "clusterroles", "system:node", ""],
            ),
        ];
        for (method, uri, verb, [group, version, namespace, resource, name, subresource]) in cases {
            let info = parse(&method, uri);
            let expected = ResourcePath {
                group: group.into(),
                version: version.into(),
                namespace: namespace.into(),
                resource: resource.into(),
                name: name.into(),
                subresource: subresource.into(),
                rest: String::new(),
            };
            assert_eq!(info, RequestInfo { verb, resource: Some(expected) }, "{uri}");
        }
    }

    #[test]
    fn only_a_name_that_the_list_goes_by_counts() {
        for selector in
            ["spec.a=b%5C,metadata.name=x", "metadata.name!=x", "metadata.namespace=x", "metadata.name="]
        {
            let info = parse(&Method::GET, &format!("/api/v1/namespaces/n/secrets?fieldSelector={selector}"));
            assert_eq!(info.resource.unwrap().name, "", "{selector}");
        }
    }

    #[test]
    fn methods_that_nothing_is_served_by_are_no_reading() {
        for (method, uri) in [
            (Method::OPTIONS, "/api/v1/pods"),
            (Method::TRACE, "/api/v1/namespaces/n/pods/p"),
            (Method::TRACE, "/version"),
        ] {
            assert_eq!(parse(&method, uri).verb, NO_VERB, "{method} {uri}");
        }
    }

    #[test]
    fn other_paths() {
        for (uri, verb) in
            [("/healthz", "get"), ("/api", "get"), ("/apis/apps", "get"), ("/apis/apps/v1", "get")]
        {
            assert_eq!(parse(&Method::GET, uri), RequestInfo { verb, resource: None }, "{uri}");
        }
    }
}
