//! What the service serves, as data: tests walk it, OpenAPI is made of it, and requests are matched against it.

use axum::http::Method;
use drystone_sol003::{
    types::{ApiVersion, LcmOperationType},
    version,
};

/// Versions that are served of version 1 of the life cycle interface.
pub const V1: version::ApiVersion = version::ApiVersion::new(1, 3, 0);
/// Versions that are served of version 2 of it.
pub const V2: version::ApiVersion = version::ApiVersion::new(2, 0, 0);

/// What an endpoint does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Versions(Option<ApiVersion>),
    Instances(ApiVersion),
    NewInstance(ApiVersion),
    Instance(ApiVersion),
    ModifyInstance(ApiVersion),
    DeleteInstance,
    Task(ApiVersion, LcmOperationType),
    Operations(ApiVersion),
    Operation(ApiVersion),
    Decide(ApiVersion, Verdict),
    Subscriptions(ApiVersion),
    NewSubscription(ApiVersion),
    Subscription(ApiVersion),
    DeleteSubscription,
    Packages,
    NewPackage,
    Package,
    ModifyPackage,
    DeletePackage,
    UploadContent,
    UploadFromUri,
    Content,
    Vnfd,
    Artifact,
    Vims,
    NewVim,
    Vim,
    ChangeVim,
    DeleteVim,
    OpenApi,
}

/// What is said of an operation that has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Retry,
    Rollback,
    Fail,
    Cancel,
}

/// Family of an endpoint: how versions are asked for and errors are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    /// Tells which versions there are.
    Versions,
    /// VNF life cycle management.
    Lcm(ApiVersion),
    /// VNF packages.
    Packages,
    /// Registration of VIMs.
    Vims,
}

/// A method of a path.
#[derive(Debug, Clone)]
pub struct Route {
    /// Method.
    pub method: Method,
    /// Path; `{name}` stands for one part, and `{*name}` at the end for all that are left.
    pub pattern: String,
    /// What it does, for people.
    pub summary: &'static str,
    /// Status of success.
    pub success: u16,
    /// Media type of the body, if it takes one.
    pub body: Option<&'static str>,
    /// The right that it needs: verb and kind.
    pub right: (&'static str, &'static str),
    pub(crate) endpoint: Endpoint,
    pub(crate) family: Family,
}

impl Route {
    /// What stands in a path where the pattern leaves it open, if it fits; closed parts that fit make it better.
    fn fit(&self, path: &[&str]) -> Option<(usize, Vec<String>)> {
        let mut open = Vec::new();
        let mut fixed = 0;
        let mut parts = path.iter();
        for pattern in self.pattern.split('/').filter(|part| !part.is_empty()) {
            if pattern.starts_with("{*") {
                let rest: Vec<&str> = parts.by_ref().copied().collect();
                open.push(rest.join("/"));
                return (!rest.is_empty()).then_some((fixed, open));
            }
            let part = *parts.next()?;
            if pattern.starts_with('{') {
                // The client of VIMs always puts `.json` behind.
                let part = if pattern == "{vim}.json" { part.strip_suffix(".json")? } else { part };
                open.push(part.to_owned());
            } else if pattern == part {
                fixed += 1;
            } else {
                return None;
            }
        }
        parts.next().is_none().then_some((fixed, open))
    }
}

/// What was found for a path.
pub(crate) enum Found<'a> {
    /// A route, and what stands in the path where it is open.
    Route(&'a Route, Vec<String>),
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
        let fitting =
            self.0.iter().filter_map(|route| route.fit(path).map(|(fixed, open)| (fixed, route, open)));
        let mut fitting: Vec<_> = fitting.collect();
        let Some(best) = fitting.iter().map(|(fixed, ..)| *fixed).max() else { return Found::Nothing };
        fitting.retain(|(fixed, ..)| *fixed == best);
        let methods: Vec<Method> = fitting.iter().map(|(_, route, _)| route.method.clone()).collect();
        match fitting.into_iter().find(|(_, route, _)| route.method == *method) {
            Some((_, route, open)) => Found::Route(route, open),
            None => Found::OtherMethods(methods),
        }
    }
}

struct Table {
    routes: Vec<Route>,
    family: Family,
}

impl Table {
    fn add(
        &mut self,
        method: Method,
        pattern: &str,
        right: (&'static str, &'static str),
        endpoint: Endpoint,
        (success, summary): (u16, &'static str),
    ) {
        let body = match (&method, endpoint) {
            (_, Endpoint::UploadContent) => Some("application/zip"),
            (_, Endpoint::Decide(_, Verdict::Retry | Verdict::Rollback | Verdict::Fail)) => None,
            (&Method::POST | &Method::PUT, _) => Some("application/json"),
            (&Method::PATCH, _) => Some("application/merge-patch+json"),
            _ => None,
        };
        let family = self.family;
        self.routes.push(Route {
            method,
            pattern: pattern.to_owned(),
            summary,
            success,
            body,
            right,
            endpoint,
            family,
        });
    }
}

const INSTANCES: &str = "vnfinstances";
const OPERATIONS: &str = "vnflcmoperations";
const SUBSCRIPTIONS: &str = "vnfsubscriptions";
const PACKAGES: &str = "vnfpackages";
const VIMS: &str = "vims";

fn routes() -> Vec<Route> {
    let mut table = Table { routes: Vec::new(), family: Family::Versions };
    let versions = ("list", INSTANCES);
    for (path, which) in [
        ("/vnflcm/api_versions", None),
        ("/vnflcm/v1/api_versions", Some(ApiVersion::V1)),
        ("/vnflcm/v2/api_versions", Some(ApiVersion::V2)),
    ] {
        let told = (200, "Versions of the life cycle interface");
        table.add(Method::GET, path, versions, Endpoint::Versions(which), told);
    }
    table.add(
        Method::GET,
        "/vnflcm/openapi.json",
        versions,
        Endpoint::OpenApi,
        (200, "This description (OpenAPI)"),
    );
    for (number, version) in [("v1", ApiVersion::V1), ("v2", ApiVersion::V2)] {
        table.family = Family::Lcm(version);
        lcm(&mut table, &format!("/vnflcm/{number}"), version);
    }
    table.family = Family::Packages;
    packages(&mut table);
    table.family = Family::Vims;
    vims(&mut table);
    table.routes
}

fn lcm(table: &mut Table, root: &str, version: ApiVersion) {
    let instances = format!("{root}/vnf_instances");
    let instance = format!("{instances}/{{vnfInstanceId}}");
    table.add(
        Method::GET,
        &instances,
        ("list", INSTANCES),
        Endpoint::Instances(version),
        (200, "Query VNF instances"),
    );
    table.add(
        Method::POST,
        &instances,
        ("create", INSTANCES),
        Endpoint::NewInstance(version),
        (201, "Create a VNF instance"),
    );
    table.add(
        Method::GET,
        &instance,
        ("get", INSTANCES),
        Endpoint::Instance(version),
        (200, "Read a VNF instance"),
    );
    table.add(
        Method::PATCH,
        &instance,
        ("create", OPERATIONS),
        Endpoint::ModifyInstance(version),
        (202, "Modify the information of a VNF instance"),
    );
    let deleted = (204, "Delete a VNF instance that is not instantiated");
    table.add(Method::DELETE, &instance, ("delete", INSTANCES), Endpoint::DeleteInstance, deleted);
    let tasks: &[(&str, LcmOperationType, &'static str)] = &[
        ("instantiate", LcmOperationType::Instantiate, "Instantiate a VNF"),
        ("scale", LcmOperationType::Scale, "Scale a VNF by steps"),
        ("scale_to_level", LcmOperationType::ScaleToLevel, "Scale a VNF to a level"),
        ("change_flavour", LcmOperationType::ChangeFlavour, "Change the flavour of a VNF"),
        ("terminate", LcmOperationType::Terminate, "Terminate a VNF"),
        ("heal", LcmOperationType::Heal, "Heal a VNF"),
        ("operate", LcmOperationType::Operate, "Start or stop a VNF"),
        ("change_ext_conn", LcmOperationType::ChangeExtConn, "Change the external connectivity of a VNF"),
        ("change_vnfpkg", LcmOperationType::ChangeVnfPackage, "Change the package of a VNF"),
    ];
    for (name, operation, summary) in tasks {
        // Version 1 does not have it.
        if *operation == LcmOperationType::ChangeVnfPackage && version == ApiVersion::V1 {
            continue;
        }
        let endpoint = Endpoint::Task(version, *operation);
        table.add(
            Method::POST,
            &format!("{instance}/{name}"),
            ("create", OPERATIONS),
            endpoint,
            (202, summary),
        );
    }
    occurrences(table, root, version);
    let subscriptions = format!("{root}/subscriptions");
    let subscription = format!("{subscriptions}/{{subscriptionId}}");
    let (list, all) = (Endpoint::Subscriptions(version), (200, "Query subscriptions"));
    table.add(Method::GET, &subscriptions, ("list", SUBSCRIPTIONS), list, all);
    let (new, made) = (Endpoint::NewSubscription(version), (201, "Subscribe to notifications"));
    table.add(Method::POST, &subscriptions, ("create", SUBSCRIPTIONS), new, made);
    let (one, told) = (Endpoint::Subscription(version), (200, "Read a subscription"));
    table.add(Method::GET, &subscription, ("get", SUBSCRIPTIONS), one, told);
    let ended = (204, "End a subscription");
    table.add(Method::DELETE, &subscription, ("delete", SUBSCRIPTIONS), Endpoint::DeleteSubscription, ended);
}

fn occurrences(table: &mut Table, root: &str, version: ApiVersion) {
    let all = format!("{root}/vnf_lcm_op_occs");
    let one = format!("{all}/{{vnfLcmOpOccId}}");
    let told = (200, "Query operation occurrences");
    table.add(Method::GET, &all, ("list", OPERATIONS), Endpoint::Operations(version), told);
    let told = (200, "Read an operation occurrence");
    table.add(Method::GET, &one, ("get", OPERATIONS), Endpoint::Operation(version), told);
    for (name, verdict, success, summary) in [
        ("retry", Verdict::Retry, 202, "Try an operation again that failed"),
        ("rollback", Verdict::Rollback, 202, "Roll an operation back that failed"),
        ("fail", Verdict::Fail, 200, "Give an operation up that failed"),
        ("cancel", Verdict::Cancel, 202, "Cancel an operation"),
    ] {
        let endpoint = Endpoint::Decide(version, verdict);
        table.add(
            Method::POST,
            &format!("{one}/{name}"),
            ("update", OPERATIONS),
            endpoint,
            (success, summary),
        );
    }
}

fn packages(table: &mut Table) {
    const ALL: &str = "/vnfpkgm/v1/vnf_packages";
    const ONE: &str = "/vnfpkgm/v1/vnf_packages/{vnfPkgId}";
    const CONTENT: &str = "/vnfpkgm/v1/vnf_packages/{vnfPkgId}/package_content";
    let mut add =
        |method, path: &str, verb, endpoint, told| table.add(method, path, (verb, PACKAGES), endpoint, told);
    add(Method::GET, ALL, "list", Endpoint::Packages, (200, "Query VNF packages"));
    add(Method::POST, ALL, "create", Endpoint::NewPackage, (201, "Create a VNF package"));
    add(Method::GET, ONE, "get", Endpoint::Package, (200, "Read a VNF package"));
    add(
        Method::PATCH,
        ONE,
        "patch",
        Endpoint::ModifyPackage,
        (200, "Enable, disable or describe a VNF package"),
    );
    add(Method::DELETE, ONE, "delete", Endpoint::DeletePackage, (204, "Delete a VNF package"));
    add(
        Method::PUT,
        CONTENT,
        "update",
        Endpoint::UploadContent,
        (202, "Upload the content of a VNF package"),
    );
    add(Method::GET, CONTENT, "get", Endpoint::Content, (200, "Fetch the content of a VNF package"));
    let fetch = format!("{CONTENT}/upload_from_uri");
    add(
        Method::POST,
        &fetch,
        "update",
        Endpoint::UploadFromUri,
        (202, "Have the content of a VNF package fetched"),
    );
    add(Method::GET, &format!("{ONE}/vnfd"), "get", Endpoint::Vnfd, (200, "Fetch the VNFD of a VNF package"));
    let artifact = format!("{ONE}/artifacts/{{*artifactPath}}");
    add(Method::GET, &artifact, "get", Endpoint::Artifact, (200, "Fetch an artifact of a VNF package"));
}

fn vims(table: &mut Table) {
    for (all, one) in [("/v1.0/vims.json", "/v1.0/vims/{vim}.json"), ("/v1.0/vims", "/v1.0/vims/{vim}")] {
        let mut add =
            |method, path: &str, verb, endpoint, told| table.add(method, path, (verb, VIMS), endpoint, told);
        add(Method::GET, all, "list", Endpoint::Vims, (200, "Query VIMs"));
        add(Method::POST, all, "create", Endpoint::NewVim, (201, "Register a VIM"));
        add(Method::GET, one, "get", Endpoint::Vim, (200, "Read a VIM"));
        add(Method::PUT, one, "update", Endpoint::ChangeVim, (200, "Change a VIM"));
        add(Method::DELETE, one, "delete", Endpoint::DeleteVim, (204, "Remove a VIM"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(method: &Method, path: &str) -> Option<(Endpoint, Vec<String>)> {
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        match RouteTable::default().find(method, &parts) {
            Found::Route(route, open) => Some((route.endpoint, open)),
            _ => None,
        }
    }

    #[test]
    fn paths_find_their_endpoints() {
        let one = |text: &str| vec![text.to_owned()];
        assert_eq!(
            found(&Method::GET, "/vnflcm/v1/vnf_instances/a"),
            Some((Endpoint::Instance(ApiVersion::V1), one("a")))
        );
        assert_eq!(found(&Method::GET, "/v1.0/vims/a.json"), Some((Endpoint::Vim, one("a"))));
        assert_eq!(found(&Method::HEAD, "/v1.0/vims/a"), Some((Endpoint::Vim, one("a"))));
        let artifact = found(&Method::GET, "/vnfpkgm/v1/vnf_packages/p/artifacts/Files/x/y.yaml");
        assert_eq!(artifact, Some((Endpoint::Artifact, vec!["p".to_owned(), "Files/x/y.yaml".to_owned()])));
        assert_eq!(found(&Method::GET, "/vnfpkgm/v1/vnf_packages/p/artifacts"), None);
        assert_eq!(found(&Method::POST, "/vnflcm/v1/vnf_instances/a/change_vnfpkg"), None);
        let methods = RouteTable::default();
        let Found::OtherMethods(methods) = methods.find(&Method::PUT, &["vnflcm", "v2", "vnf_instances"])
        else {
            panic!("no methods")
        };
        assert_eq!(methods, [Method::GET, Method::POST]);
    }
}
