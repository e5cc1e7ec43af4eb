//! Asks Redfish services without a network, for tests of what they serve.

use std::{
    collections::{BTreeSet, VecDeque},
    path::Path,
    sync::Arc,
};

use axum::body::Body;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use drystone_redfish::server::{Access, RedfishService, dispatch};
use http::{Request, StatusCode, header};
use http_body_util::BodyExt as _;
use serde_json::Value;

use crate::{
    credentials::Credentials,
    fabric::{FabricLinks, FabricService, FabricSetup, Hosts},
    hardware::{Hardware, HardwareFiles},
    sim::SimBackend,
    site::{SiteFile, Timing},
};

/// The example rack, without delays.
pub(crate) fn rack() -> SiteFile {
    let mut site = SiteFile::parse(include_str!("../../../examples/sites/rack.yaml")).unwrap();
    site.timing = Timing { scale: 0.0, ..site.timing };
    site
}

pub(crate) fn credentials() -> Arc<Credentials> {
    Arc::new(Credentials { user: "admin".to_owned(), password: "secret:1".to_owned() })
}

/// The hosts of a site over a simulated backend, with their files in a directory.
pub(crate) fn hosts(site: &SiteFile, backend: &Arc<SimBackend>, directory: &Path) -> Arc<Hosts> {
    let files = HardwareFiles {
        records: directory.to_owned(),
        media: directory.to_owned(),
        detours: drystone_agent::download::Detours::default(),
    };
    let make = |spec: &crate::site::HostSpec| {
        let record = files.load(spec).unwrap();
        let backend: Arc<dyn crate::backend::Backend> = Arc::clone(backend) as _;
        (spec.name.clone(), Hardware::new(Arc::new(spec.clone()), site.timing, backend, &files, record))
    };
    Arc::new(site.hosts.iter().map(make).collect())
}

/// A service of a fabric: a switch, or the agent.
pub(crate) fn fabric_service(
    site: SiteFile,
    fabric: usize,
    switch: Option<usize>,
    hosts: Arc<Hosts>,
    backend: Arc<dyn crate::backend::Backend>,
    directory: &Path,
) -> Arc<FabricService> {
    let links = FabricLinks::new(Arc::new(site), fabric, hosts, backend, directory).unwrap();
    let (directory, credentials) = (directory.to_owned(), credentials());
    FabricService::new(FabricSetup { links, switch, directory, credentials }).unwrap()
}

/// Asks as somebody, or as nobody.
pub(crate) async fn ask<S: RedfishService>(
    service: &S,
    known: bool,
    method: &str,
    uri: &str,
    headers: &[(header::HeaderName, &str)],
    body: &Value,
) -> (StatusCode, Value) {
    let mut request = Request::builder().method(method).uri(uri);
    if known {
        request =
            request.header(header::AUTHORIZATION, format!("Basic {}", STANDARD.encode("admin:secret:1")));
    }
    for (name, value) in headers {
        request = request.header(name, *value);
    }
    let text = if body.is_null() { String::new() } else { body.to_string() };
    let response = dispatch(service, request.body(Body::from(text)).unwrap()).await;
    let status = response.status();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}

/// Every route refuses whoever shows no credentials, unless it is one of the few that the protocol opens.
pub(crate) async fn check_routes_are_closed<S: RedfishService>(service: &S) {
    let open = [
        ("GET", "/redfish"),
        ("GET", "/redfish/v1"),
        ("GET", "/redfish/v1/odata"),
        ("GET", "/redfish/v1/$metadata"),
        ("POST", "/redfish/v1/SessionService/Sessions"),
    ];
    let mut checked = 0;
    for route in service.routes().iter() {
        let uri = route.pattern().replace(['{', '}'], "");
        for (method, access) in route.methods() {
            let is_open = open.contains(&(method.as_str(), route.pattern()));
            assert_eq!(*access == Access::Open, is_open, "{method} {}", route.pattern());
            let (status, _) = ask(service, false, method.as_str(), &uri, &[], &serde_json::json!({})).await;
            assert_eq!(status == StatusCode::UNAUTHORIZED, !is_open, "{method} {uri}: {status}");
            checked += 1;
        }
    }
    assert!(checked > 40, "{checked} methods of routes");
}

/// Every route that can be read leads to something that the service links to. What has no members yet is named.
pub(crate) async fn check_routes_are_linked<S: RedfishService>(service: &S, without_members: &[&str]) {
    let mut seen = BTreeSet::from(["/redfish/v1".to_owned()]);
    let mut waiting = VecDeque::from(["/redfish/v1".to_owned()]);
    while let Some(uri) = waiting.pop_front() {
        let (status, body) = ask(service, true, "GET", &uri, &[], &Value::Null).await;
        assert_eq!(status, StatusCode::OK, "{uri}");
        collect(&body, &mut |link| {
            if seen.insert(link.to_owned()) {
                waiting.push_back(link.to_owned());
            }
        });
    }
    for route in
        service.routes().iter().filter(|route| route.access(&http::Method::GET) != Some(Access::Open))
    {
        if route.access(&http::Method::GET).is_none() || without_members.contains(&route.pattern()) {
            continue;
        }
        let fits = |uri: &String| {
            service
                .routes()
                .find(&uri.split('/').skip(1).collect::<Vec<_>>())
                .map(drystone_redfish::server::Route::pattern)
        };
        assert!(
            seen.iter().any(|uri| fits(uri) == Some(route.pattern())),
            "nothing links to {}",
            route.pattern()
        );
    }
}

fn collect(value: &Value, found: &mut impl FnMut(&str)) {
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                match value {
                    Value::String(uri) if name == "@odata.id" => found(uri),
                    _ => collect(value, found),
                }
            }
        }
        Value::Array(list) => list.iter().for_each(|value| collect(value, found)),
        _ => {}
    }
}
