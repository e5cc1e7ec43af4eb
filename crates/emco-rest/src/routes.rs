//! What is served, as data: tests walk it, OpenAPI is made of it, and requests are matched against it.

use axum::http::Method;
use drystone_api::emco::LifecycleAction;

use crate::kinds::{self, FileRule, Kind};

/// What an endpoint does.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Endpoint {
    List(&'static dyn Kind),
    Create(&'static dyn Kind),
    Read(&'static dyn Kind),
    Replace(&'static dyn Kind),
    Delete(&'static dyn Kind),
    /// Something is done with a document of a kind.
    Lifecycle(&'static dyn Kind, LifecycleAction),
    /// Where a document of a kind stands.
    Status(&'static dyn Kind),
    /// The kubeconfig of a logical cloud's user at a cluster.
    UserKubeconfig(&'static dyn Kind),
    OpenApi,
}

/// A method of a path.
#[derive(Debug, Clone)]
pub struct Route {
    /// Method.
    pub method: Method,
    /// Path; `{name}` stands for a name.
    pub pattern: String,
    /// What it does, for people.
    pub summary: String,
    /// Status of success.
    pub success: u16,
    /// Media type of the body, if it takes one.
    pub body: Option<&'static str>,
    /// The right that it needs: verb, kind in plural, and part of it.
    pub right: (&'static str, &'static str, &'static str),
    pub(crate) endpoint: Endpoint,
}

impl Route {
    /// Whether the pattern fits, and how many of its parts are fixed.
    fn fit(&self, path: &[&str]) -> Option<usize> {
        let mut parts = path.iter();
        let mut fixed = 0;
        for pattern in self.pattern.split('/').filter(|part| !part.is_empty()) {
            let part = *parts.next()?;
            if !pattern.starts_with('{') {
                if pattern != part {
                    return None;
                }
                fixed += 1;
            }
        }
        parts.next().is_none().then_some(fixed)
    }

    /// Of the parts of a path, those that name the document or collection that it is about.
    pub(crate) fn subject<'a>(&self, path: &'a [&'a str]) -> &'a [&'a str] {
        let below = path.get(1..).unwrap_or_default();
        match self.endpoint {
            Endpoint::Lifecycle(..) | Endpoint::Status(_) | Endpoint::UserKubeconfig(_) => {
                below.get(..below.len().saturating_sub(1)).unwrap_or_default()
            }
            _ => below,
        }
    }
}

/// What was found for a path.
pub(crate) enum Found<'a> {
    /// A route.
    Route(&'a Route),
    /// The path is known, the method is not; these are.
    OtherMethods(Vec<Method>),
    /// Nothing.
    Nothing,
}

/// All routes.
#[derive(Debug, Clone)]
pub struct RouteTable(Vec<Route>);

impl Default for RouteTable {
    fn default() -> Self {
        Self(routes())
    }
}

impl RouteTable {
    /// Every route.
    pub fn iter(&self) -> impl Iterator<Item = &Route> {
        self.0.iter()
    }

    /// The route of a method and a path, in decoded parts.
    pub(crate) fn find(&self, method: &Method, path: &[&str]) -> Found<'_> {
        let method = if *method == Method::HEAD { &Method::GET } else { method };
        let fitting = self.0.iter().filter_map(|route| route.fit(path).map(|fixed| (fixed, route)));
        let mut fitting: Vec<_> = fitting.collect();
        let Some(best) = fitting.iter().map(|(fixed, _)| *fixed).max() else { return Found::Nothing };
        fitting.retain(|(fixed, _)| *fixed == best);
        match fitting.iter().find(|(_, route)| route.method == *method) {
            Some((_, route)) => Found::Route(route),
            None => Found::OtherMethods(fitting.iter().map(|(_, route)| route.method.clone()).collect()),
        }
    }
}

const JSON: &str = "application/json";
const MULTIPART: &str = "multipart/form-data";

fn routes() -> Vec<Route> {
    let mut table = Vec::new();
    for kind in kinds::all() {
        documents(&mut table, kind.as_ref());
    }
    table.push(Route {
        method: Method::GET,
        pattern: "/v2/openapi.json".to_owned(),
        summary: "This description (OpenAPI)".to_owned(),
        success: 200,
        body: None,
        right: ("list", "projects", ""),
        endpoint: Endpoint::OpenApi,
    });
    table
}

/// Pattern of a kind's collection.
pub(crate) fn collection_of(kind: &dyn Kind) -> &'static str {
    let pattern = kind.pattern();
    let own = if kind.name() == "CompositeApp" { 2 } else { 1 };
    let mut ends = pattern.rmatch_indices('/').map(|(at, _)| at);
    ends.nth(own - 1).and_then(|end| pattern.get(..end)).unwrap_or(pattern)
}

fn documents(table: &mut Vec<Route>, kind: &'static dyn Kind) {
    let plural = kind.plural();
    let (all, one) = (format!("/v2/{}", collection_of(kind)), format!("/v2/{}", kind.pattern()));
    let body = Some(if kind.files().is_multipart() { MULTIPART } else { JSON });
    let name = kind.name();
    let mut add = |method, pattern: &str, summary, success, body, right, endpoint| {
        table.push(Route { method, pattern: pattern.to_owned(), summary, success, body, right, endpoint });
    };
    let right = |verb| (verb, plural, "");
    add(
        Method::GET,
        &all,
        format!("List all of kind {name}"),
        200,
        None,
        right("list"),
        Endpoint::List(kind),
    );
    add(Method::POST, &all, format!("Create a {name}"), 201, body, right("create"), Endpoint::Create(kind));
    add(Method::GET, &one, format!("Read a {name}"), 200, None, right("get"), Endpoint::Read(kind));
    let (replaced, replace) = (kind.replaced().as_u16(), Endpoint::Replace(kind));
    add(Method::PUT, &one, format!("Replace or create a {name}"), replaced, body, right("update"), replace);
    add(Method::DELETE, &one, format!("Delete a {name}"), 204, None, right("delete"), Endpoint::Delete(kind));
    for (action, path, success, summary, body) in actions(name) {
        let pattern = format!("{one}/{path}");
        let endpoint = Endpoint::Lifecycle(kind, *action);
        let right = ("create", "lifecycleoperations", "");
        add(Method::POST, &pattern, (*summary).to_owned(), *success, body.then_some(JSON), right, endpoint);
    }
    if matches!(name, "DeploymentIntentGroup" | "LogicalCloud" | "Cluster") {
        let summary = format!("Where a {name} stands");
        let pattern = format!("{one}/status");
        add(Method::GET, &pattern, summary, 200, None, right("get"), Endpoint::Status(kind));
    }
    if name == "ClusterReference" {
        let summary = "Kubeconfig of the logical cloud's user at the cluster".to_owned();
        let pattern = format!("{one}/kubeconfig");
        let right = ("get", plural, "kubeconfig");
        add(Method::GET, &pattern, summary, 200, None, right, Endpoint::UserKubeconfig(kind));
    }
    debug_assert!(kind.files() != FileRule::Kubeconfig || name == "Cluster");
}

type Action = (LifecycleAction, &'static str, u16, &'static str, bool);

/// What is done with documents of a kind: action, last part of the path, status of success, for people, whether it takes a body.
fn actions(kind: &str) -> &'static [Action] {
    use LifecycleAction::{
        ApplyNetworks, Approve, Instantiate, Migrate, Rollback, Stop, StopNetworks, Terminate,
        TerminateNetworks, Update,
    };
    match kind {
        "DeploymentIntentGroup" => &[
            (Approve, "approve", 202, "Approve a deployment intent group", false),
            (Instantiate, "instantiate", 202, "Deploy a deployment intent group", false),
            (Update, "update", 202, "Make what is deployed what is declared now", false),
            (Migrate, "migrate", 202, "Make what is deployed another group's", true),
            (Rollback, "rollback", 202, "Make what is deployed what it was at a revision", true),
            (Terminate, "terminate", 202, "Take away what is deployed", false),
            (Stop, "stop", 202, "Interrupt an instantiation or termination", false),
        ],
        "LogicalCloud" => &[
            (Instantiate, "instantiate", 202, "Make a logical cloud on its clusters", false),
            (Update, "update", 202, "Make a logical cloud on its clusters what is declared now", false),
            (Terminate, "terminate", 202, "Take a logical cloud away from its clusters", false),
            (Stop, "stop", 200, "Interrupt an instantiation or termination", false),
        ],
        "Cluster" => &[
            (ApplyNetworks, "apply", 204, "Make the networks of a cluster", false),
            (TerminateNetworks, "terminate", 204, "Take the networks of a cluster away", false),
            (StopNetworks, "stop", 204, "Interrupt the making or taking away of networks", false),
        ],
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use regex::Regex;

    use super::*;

    fn found(method: &Method, path: &str) -> Option<(String, String)> {
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        match RouteTable::default().find(method, &parts) {
            Found::Route(route) => Some((format!("{:?}", route.endpoint), route.subject(&parts).join("/"))),
            _ => None,
        }
    }

    #[test]
    fn paths_find_their_endpoints() {
        let is = |method: &Method, path: &str, endpoint: &str, subject: &str| {
            let (found, about) = found(method, path).unwrap();
            assert!(found.starts_with(endpoint), "{path}: {found}");
            assert_eq!(about, subject);
        };
        is(&Method::GET, "/v2/projects", "List", "projects");
        is(&Method::POST, "/v2/projects/p/composite-apps", "Create", "projects/p/composite-apps");
        is(&Method::PUT, "/v2/projects/p/composite-apps/c/v1", "Replace", "projects/p/composite-apps/c/v1");
        let group = "projects/p/composite-apps/c/v1/deployment-intent-groups/d";
        is(&Method::POST, &format!("/v2/{group}/rollback"), "Lifecycle", group);
        is(&Method::GET, &format!("/v2/{group}/status"), "Status", group);
        is(&Method::GET, &format!("/v2/{group}/intents/"), "List", &format!("{group}/intents"));
        is(
            &Method::HEAD,
            "/v2/cluster-providers/p/clusters/c/networks",
            "List",
            "cluster-providers/p/clusters/c/networks",
        );
        is(
            &Method::POST,
            "/v2/cluster-providers/p/clusters/c/apply",
            "Lifecycle",
            "cluster-providers/p/clusters/c",
        );
        assert!(found(&Method::GET, "/v2/projects/p/composite-apps/c").is_none());
        assert!(found(&Method::PATCH, "/v2/projects/p").is_none());
    }

    /// Collections and what is in them, of the services orchestrator, clm, dcm, ncm, gac and ovnaction in release 22.09; `{}` stands for a name.
    /// `*`: POST and GET on the collection, GET, PUT and DELETE on what is in it; `+`: the same without PUT.
    const COLLECTIONS: [&str; 30] = [
        "projects*",
        "P/composite-apps/{}/{}*",
        "CA/apps*",
        "CA/apps/{}/dependency*",
        "CA/composite-profiles*",
        "CA/composite-profiles/{}/profiles*",
        "CA/deployment-intent-groups*",
        "DIG/intents*",
        "DIG/generic-placement-intents*",
        "DIG/generic-placement-intents/{}/app-intents*",
        "controllers*",
        "cluster-providers*",
        "CP/clusters+",
        "CL/labels*",
        "CL/kv-pairs*",
        "CP/cluster-sync-objects*",
        "clm-controllers*",
        "P/logical-clouds*",
        "LC/cluster-references+",
        "LC/user-permissions+",
        "LC/cluster-quotas+",
        "LC/kv-pairs+",
        "CL/networks*",
        "CL/provider-networks*",
        "DIG/network-controller-intent*",
        "DIG/network-controller-intent/{}/workload-intents*",
        "DIG/network-controller-intent/{}/workload-intents/{}/interfaces*",
        "DIG/generic-k8s-intents*",
        "DIG/generic-k8s-intents/{}/resources*",
        "DIG/generic-k8s-intents/{}/resources/{}/customizations*",
    ];
    /// What else these services have.
    const OTHERS: [&str; 18] = [
        "POST DIG/approve",
        "POST DIG/instantiate",
        "POST DIG/terminate",
        "POST DIG/stop",
        "POST DIG/update",
        "POST DIG/migrate",
        "POST DIG/rollback",
        "GET DIG/status",
        "POST LC/instantiate",
        "POST LC/terminate",
        "POST LC/update",
        "POST LC/stop",
        "GET LC/status",
        "GET LC/cluster-references/{}/kubeconfig",
        "POST CL/apply",
        "POST CL/terminate",
        "POST CL/stop",
        "GET CL/status",
    ];
    /// What Drystone has besides.
    const ADDED: [&str; 6] = [
        "GET openapi.json",
        "PUT CL",
        "PUT LC/cluster-references/{}",
        "PUT LC/user-permissions/{}",
        "PUT LC/cluster-quotas/{}",
        "PUT LC/kv-pairs/{}",
    ];

    /// A path without its abbreviations.
    fn whole(path: &str) -> String {
        const SHORT: [(&str, &str); 6] = [
            ("DIG", "CA/deployment-intent-groups/{}"),
            ("CA", "P/composite-apps/{}/{}"),
            ("LC", "P/logical-clouds/{}"),
            ("P", "projects/{}"),
            ("CL", "CP/clusters/{}"),
            ("CP", "cluster-providers/{}"),
        ];
        let mut path = path.to_owned();
        for (short, long) in SHORT {
            let (first, rest) =
                path.split_once('/').map_or((path.as_str(), ""), |(first, rest)| (first, rest));
            if first == short {
                path = if rest.is_empty() { long.to_owned() } else { format!("{long}/{rest}") };
            }
        }
        format!("/v2/{path}")
    }

    /// Methods and paths of collections, and of what is in them.
    fn of_collections() -> Vec<(String, String)> {
        let mut all = Vec::new();
        for line in COLLECTIONS {
            let Some(kind) = line.chars().last() else { continue };
            let path = &line[..line.len() - 1];
            let (collection, item) = match path.strip_suffix("/{}/{}") {
                // A version is part of the name.
                Some(collection) => (collection.to_owned(), path.to_owned()),
                None => (path.to_owned(), format!("{path}/{{}}")),
            };
            let mut add = |method: &str, path: &str| all.push((method.to_owned(), whole(path)));
            add("POST", &collection);
            add("GET", &collection);
            add("GET", &item);
            add("DELETE", &item);
            if kind == '*' {
                add("PUT", &item);
            }
        }
        all
    }

    #[test]
    fn everything_of_the_services_is_served_and_what_is_more_is_known() {
        let split = |line: &str| {
            let (method, path) = line.split_once(' ').unwrap();
            (method.to_owned(), whole(path))
        };
        let expected: BTreeSet<(String, String)> =
            of_collections().into_iter().chain(OTHERS.map(split)).collect();
        let added: BTreeSet<(String, String)> = ADDED.into_iter().map(split).collect();
        let name = Regex::new(r"\{[^}]*\}").unwrap();
        let served: BTreeSet<(String, String)> = RouteTable::default()
            .iter()
            .map(|route| (route.method.to_string(), name.replace_all(&route.pattern, "{}").into_owned()))
            .collect();
        let missing: Vec<_> = expected.difference(&served).collect();
        assert!(missing.is_empty(), "not served: {missing:?}");
        let more: BTreeSet<_> = served.difference(&expected).cloned().collect();
        assert_eq!(more, added);
    }
}
