//! Everything that is not an object: discovery, OpenAPI, version, health, metrics, OpenID.

mod openapi;

use axum::body::Body;
use drystone_store::{KeyRange, RangeRequest};
use http::header::{ETAG, HeaderValue, IF_NONE_MATCH, VARY};
use http::request::Parts;
use http::{Method, Response, StatusCode};
use serde_json::json;

use super::reply;
use crate::machinery::status::ApiError;
use crate::registry::discovery::Document;
use crate::request::{Accept, Query, Representation, Shape};
use crate::server::state::{State, store_failure};

/// Paths that belong to this server besides those of resources; a trailing `/*` stands for everything below.
pub(crate) const PATHS: &[&str] = &[
    "/api",
    "/apis",
    "/openapi/v2",
    "/openapi/v3",
    "/version",
    "/healthz",
    "/livez",
    "/readyz",
    "/metrics",
    "/.well-known/openid-configuration",
    "/openid/v1/jwks",
];

/// Answers a request for a path that is no resource's.
pub(crate) async fn answer(state: &State, parts: &Parts, query: &Query) -> Result<Response<Body>, ApiError> {
    if !matches!(parts.method, Method::GET | Method::HEAD) {
        return Err(ApiError::MethodNotAllowed("only GET is allowed here".into()));
    }
    let path = parts.uri.path();
    let path = if path.len() > 1 { path.trim_end_matches('/') } else { path };
    match path {
        "/" => Ok(reply::object(StatusCode::OK, Representation::Json, &json!({"paths": PATHS}))),
        "/version" => {
            Ok(reply::object(StatusCode::OK, Representation::Json, &version(&state.config.version)))
        }
        "/metrics" => metrics(state).await,
        "/.well-known/openid-configuration" => {
            let issuer = state.issuer.as_ref().ok_or(ApiError::NoSuchResource)?;
            let jwks = format!("{}/openid/v1/jwks", issuer.issuer().trim_end_matches('/'));
            Ok(reply::object(StatusCode::OK, Representation::Json, &issuer.openid_configuration(&jwks)))
        }
        "/openid/v1/jwks" => {
            let issuer = state.issuer.as_ref().ok_or(ApiError::NoSuchResource)?;
            let body = issuer.jwks().to_string();
            Ok(reply::bytes(StatusCode::OK, "application/jwk-set+json", body))
        }
        _ if path.starts_with("/openapi/") => openapi::answer(state, parts, path, query),
        _ if is_health(path) => health(state, path, query).await,
        _ => discovery(state, parts, path),
    }
}

fn is_health(path: &str) -> bool {
    ["/healthz", "/livez", "/readyz"]
        .iter()
        .any(|root| path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
}

/// The parts of a version such as `v1.35.0+drystone`.
fn version(git_version: &str) -> serde_json::Value {
    let mut numbers = git_version.trim_start_matches('v').split(['.', '+', '-']);
    let (major, minor) = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
    json!({
        "major": major,
        "minor": minor,
        "gitVersion": git_version,
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "none",
        "compiler": "rustc",
        "platform": format!("{}/{}", std::env::consts::OS, platform()),
    })
}

fn platform() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The checks of a health path. A server that stops is alive, but not ready.
async fn health(state: &State, path: &str, query: &Query) -> Result<Response<Body>, ApiError> {
    let stored = state.objects.store().revision().await.map_err(|error| error.to_string());
    let stopping =
        if state.stopping.is_cancelled() { Err("the server is shutting down".to_owned()) } else { Ok(()) };
    let mut checks: Vec<(&str, Result<(), String>)> = vec![("ping", Ok(())), ("store", stored.map(|_| ()))];
    if path.starts_with("/readyz") {
        checks.push(("shutdown", stopping));
    }
    let mut segments = path.trim_start_matches('/').split('/');
    let root = segments.next().unwrap_or_default();
    if let Some(name) = segments.next() {
        checks.retain(|(check, _)| *check == name);
        if checks.is_empty() {
            return Err(ApiError::NoSuchResource);
        }
    }
    let excluded: Vec<_> = query.all("exclude").collect();
    checks.retain(|(check, _)| !excluded.contains(check));
    let failed = checks.iter().any(|(_, result)| result.is_err());
    let mut text = String::new();
    for (name, result) in &checks {
        match result {
            Ok(()) => text.push_str(&format!("[+]{name} ok\n")),
            Err(problem) => text.push_str(&format!("[-]{name} failed: {problem}\n")),
        }
    }
    let verdict = if failed { "failed" } else { "passed" };
    text.push_str(&format!("{root} check {verdict}\n"));
    match (failed, query.flag("verbose") || query.get("verbose").is_some()) {
        (false, false) => Ok(reply::text(StatusCode::OK, "ok")),
        (false, true) => Ok(reply::text(StatusCode::OK, text)),
        (true, _) => Ok(reply::text(StatusCode::INTERNAL_SERVER_ERROR, text)),
    }
}

async fn metrics(state: &State) -> Result<Response<Body>, ApiError> {
    let catalog = state.registry.catalog();
    let mut objects = Vec::new();
    let mut revision = 0;
    for resource in catalog.stored() {
        let range = KeyRange::prefix(resource.key_prefix.clone());
        let request = RangeRequest { count_only: true, ..RangeRequest::new(range) };
        let found = state.objects.store().range(request).await.map_err(store_failure)?;
        revision = found.revision;
        objects.push((resource.qualified(), found.count));
    }
    let text = state.metrics.render(&objects, revision);
    Ok(reply::bytes(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text))
}

fn discovery(state: &State, parts: &Parts, path: &str) -> Result<Response<Body>, ApiError> {
    let catalog = state.registry.catalog();
    let documents = catalog.discovery();
    let has_aggregated = matches!(path, "/api" | "/apis");
    let accept =
        Accept::negotiate(&parts.headers, |shape| has_aggregated && matches!(shape, Shape::Discovery(_)));
    let accept = accept.ok_or_else(|| ApiError::NotAcceptable("application/json".into()))?;
    let (document, media_type) = match accept.shape {
        Shape::Discovery(version) => (
            documents.aggregated(path, version),
            match version.as_str() {
                "v2" => "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
                _ => "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList",
            },
        ),
        _ => (documents.plain(path), "application/json"),
    };
    let document = document.ok_or(ApiError::NoSuchResource)?;
    let mut response = tagged(parts, document, media_type);
    if has_aggregated {
        response.headers_mut().insert(VARY, HeaderValue::from_static("Accept"));
    }
    Ok(response)
}

/// A document, unless the client has it already.
fn tagged(parts: &Parts, document: &Document, media_type: &'static str) -> Response<Body> {
    let known =
        parts.headers.get_all(IF_NONE_MATCH).iter().any(|value| {
            value.to_str().is_ok_and(|tags| tags.split(',').any(|tag| tag.trim() == document.etag))
        });
    let mut response = if known {
        reply::bytes(StatusCode::NOT_MODIFIED, media_type, "")
    } else {
        reply::bytes(StatusCode::OK, media_type, document.body.clone())
    };
    if let Ok(etag) = HeaderValue::from_str(&document.etag) {
        response.headers_mut().insert(ETAG, etag);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_taken_apart() {
        let version = version("v1.35.0+drystone");
        assert_eq!((version["major"].as_str(), version["minor"].as_str()), (Some("1"), Some("35")));
    }

    #[test]
    fn health_paths() {
        assert!(is_health("/healthz") && is_health("/livez/ping"));
        assert!(!is_health("/healthzz"));
    }
}
