//! OpenAPI documents, which tell clients the shape of every kind: one per group and version, and a root that lists them.

use std::collections::BTreeMap;

use axum::body::Body;
use bytes::Bytes;
use http::header::{ACCEPT, CACHE_CONTROL, EXPIRES, HeaderValue, LOCATION, VARY};
use http::request::Parts;
use http::{HeaderMap, Response, StatusCode};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value};

use super::tagged;
use crate::http::reply;
use crate::machinery::builtin;
use crate::machinery::openapi::{self, Gvk, Resource, Schema, Subresource, names};
use crate::machinery::status::ApiError;
use crate::registry::catalog::Resources;
use crate::registry::discovery::Document;
use crate::registry::{Catalog, Source};
use crate::request::Query;
use crate::server::state::State;

/// A document with its hash never changes.
const KEEP_FOR: SignedDuration = SignedDuration::from_hours(365 * 24);

/// Answers a request below `/openapi/`.
pub(super) fn answer(
    state: &State,
    parts: &Parts,
    path: &str,
    query: &Query,
) -> Result<Response<Body>, ApiError> {
    let catalog = state.registry.catalog();
    let name = match path.strip_prefix("/openapi/v3") {
        Some("") => return Ok(root(state, &catalog, parts)),
        Some(rest) => rest.trim_start_matches('/'),
        None if path == "/openapi/v2" => return v2(&catalog, &parts.headers),
        None => return Err(ApiError::NoSuchResource),
    };
    accepts_json(&parts.headers)?;
    let (group, version) = split(name).ok_or(ApiError::NoSuchResource)?;
    let resources = catalog.version(group, version).ok_or(ApiError::NoSuchResource)?;
    let hash = fingerprint(state, resources);
    match query.get("hash") {
        Some(asked) if asked != hash => Ok(moved(name, &hash)),
        asked => {
            let body = catalog.openapi(name, || document(group, version, resources));
            let mut response =
                tagged(parts, &Document { body, etag: format!("\"{hash}\"") }, "application/json");
            if asked.is_some() {
                keep(&mut response);
            }
            Ok(response)
        }
    }
}

/// Group and version of a path such as `api/v1` and `apis/apps/v1`.
fn split(name: &str) -> Option<(&str, &str)> {
    match name.split('/').collect::<Vec<_>>().as_slice() {
        ["api", version] => Some(("", version)),
        ["apis", group, version] => Some((group, version)),
        _ => None,
    }
}

/// There is a form in Protocol Buffers too, which is not written here; every client that asks for it takes JSON as well.
fn accepts_json(headers: &HeaderMap) -> Result<(), ApiError> {
    let mut accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).peekable();
    if accepted.peek().is_none() {
        return Ok(());
    }
    let is_json = |alternative: &str| {
        let media_type = alternative.split(';').next().unwrap_or_default().trim();
        matches!(media_type, "application/json" | "application/*" | "*/*")
    };
    if accepted.flat_map(|value| value.split(',')).any(is_json) {
        Ok(())
    } else {
        Err(ApiError::NotAcceptable("application/json".into()))
    }
}

/// The document in the older form, which has everything in one. It is made anew each time: only old clients ask for it, and
/// they keep what they get.
fn v2(catalog: &Catalog, headers: &HeaderMap) -> Result<Response<Body>, ApiError> {
    let mut accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let wanted = |alternative: &str| openapi::v2::ACCEPTED.contains(&alternative.trim());
    if !accepted.any(|value| value.split(',').any(wanted)) {
        return Err(ApiError::NotAcceptable(openapi::v2::CONTENT_TYPE.into()));
    }
    let mut documents = Vec::new();
    for group in catalog.groups() {
        for (version, resources) in &group.versions {
            let name = names::document_path(&group.name, version);
            let document = catalog.openapi(&name, || document(&group.name, version, resources));
            let document: Value =
                serde_json::from_slice(&document).map_err(|error| ApiError::Internal(error.to_string()))?;
            documents.push(document);
        }
    }
    let body = openapi::v2::document(&documents);
    Ok(reply::bytes(StatusCode::OK, openapi::v2::CONTENT_TYPE, body))
}

fn root(state: &State, catalog: &Catalog, parts: &Parts) -> Response<Body> {
    let mut documents = BTreeMap::new();
    for group in catalog.groups() {
        for (version, resources) in &group.versions {
            documents.insert(names::document_path(&group.name, version), fingerprint(state, resources));
        }
    }
    let root = openapi::root(documents.iter().map(|(path, hash)| (path.as_str(), hash.as_str())));
    let body = Bytes::from(root.to_string());
    let etag = format!("\"{}\"", openapi::hash(&body));
    let mut response = tagged(parts, &Document { body, etag }, "application/json");
    response.headers_mut().insert(VARY, HeaderValue::from_static("Accept"));
    response
}

/// A hash that changes whenever the document does, found without writing the document.
fn fingerprint(state: &State, resources: &Resources) -> String {
    let mut facts = state.config.version.clone();
    for resource in resources.values() {
        let subresources: Vec<_> =
            resource.subresources.iter().map(|subresource| subresource.name()).collect();
        facts.push_str(&format!(
            "\n{} {} {} {:?} {subresources:?} ",
            resource.plural, resource.kind, resource.list_kind, resource.scope
        ));
        if let Some(custom) = resource.custom() {
            facts.push_str(&openapi::hash(&custom.open_api_schema));
        }
    }
    openapi::hash(facts.as_bytes())
}

fn document(group: &str, version: &str, resources: &Resources) -> Bytes {
    let schemas: BTreeMap<&str, Value> = resources
        .values()
        .filter_map(|resource| Some((resource.plural.as_str(), resource.custom()?)))
        .map(|(plural, custom)| (plural, serde_json::from_slice(&custom.open_api_schema).unwrap_or_default()))
        .collect();
    let described: Vec<Resource<'_>> = resources
        .values()
        .map(|resource| Resource {
            plural: &resource.plural,
            kind: &resource.kind,
            list_kind: &resource.list_kind,
            namespaced: resource.namespaced(),
            verbs: resource.verbs.iter().map(|verb| verb.as_str()).collect(),
            subresources: resource
                .subresources
                .iter()
                .map(|subresource| Subresource {
                    name: subresource.name(),
                    verbs: subresource.verbs().iter().map(|verb| verb.as_str()).collect(),
                    kind: subresource.own_kind().map(|(group, version, kind)| Gvk { group, version, kind }),
                })
                .collect(),
            schema: match (&resource.source, schemas.get(resource.plural.as_str())) {
                (Source::Custom(_), Some(schema)) => Schema::Custom(schema),
                _ => Schema::BuiltIn,
            },
        })
        .collect();
    let definitions = if schemas.len() == resources.len() { Map::new() } else { builtin::definitions() };
    openapi::document(group, version, &described, &definitions).to_string().into()
}

/// The document has another hash now.
fn moved(name: &str, hash: &str) -> Response<Body> {
    let mut response = reply::text(StatusCode::MOVED_PERMANENTLY, "");
    if let Ok(location) = HeaderValue::from_str(&format!("/openapi/v3/{name}?hash={hash}")) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

/// Lets the client keep the document.
fn keep(response: &mut Response<Body>) {
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, immutable"));
    let expires = Timestamp::now().checked_add(KEEP_FOR).unwrap_or(Timestamp::MAX);
    let expires = expires.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    if let Ok(expires) = HeaderValue::from_str(&expires) {
        headers.insert(EXPIRES, expires);
    }
}
