//! All routes, in one table. Whatever the path and the method: first the client proves who it is, then it is asked whether it
//! may; only then is anything looked at.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Path, Query, Request, rejection::PathRejection},
    response::{IntoResponse, Response},
    routing::any,
};
use drystone_identity::UserInfo;
use http::{HeaderValue, Method, StatusCode, header::CONTENT_TYPE};
use serde::Deserialize;
use serde_json::json;

use super::{
    Shared,
    access::{Peer, Verb},
    logs,
    refusal::Refusal,
    stats, tunnel,
};

/// What is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Endpoint {
    Health,
    Pods,
    Summary,
    Metrics,
    Logs,
    Exec,
    Attach,
    PortForward,
}

/// A route.
#[derive(Debug, Clone, Copy)]
pub(super) struct Route {
    /// As axum writes paths.
    pub(super) path: &'static str,
    pub(super) endpoint: Endpoint,
    /// Methods that it answers.
    pub(super) methods: &'static [Method],
    /// Subresources of `nodes`; who may use one of them may use the route.
    pub(super) subresources: &'static [&'static str],
}

const READ: &[Method] = &[Method::GET, Method::HEAD];
const TUNNEL: &[Method] = &[Method::GET, Method::POST];

/// Every route that there is.
pub(super) const ROUTES: [Route; 8] = [
    route("/healthz", Endpoint::Health, READ, &["healthz", "proxy"]),
    route("/pods", Endpoint::Pods, READ, &["pods", "proxy"]),
    route("/stats/summary", Endpoint::Summary, READ, &["stats"]),
    route("/metrics/resource", Endpoint::Metrics, READ, &["metrics"]),
    route("/containerLogs/{namespace}/{pod}/{container}", Endpoint::Logs, &[Method::GET], &["proxy"]),
    route("/exec/{namespace}/{pod}/{container}", Endpoint::Exec, TUNNEL, &["proxy"]),
    route("/attach/{namespace}/{pod}/{container}", Endpoint::Attach, TUNNEL, &["proxy"]),
    route("/portForward/{namespace}/{pod}", Endpoint::PortForward, TUNNEL, &["proxy"]),
];

const fn route(
    path: &'static str,
    endpoint: Endpoint,
    methods: &'static [Method],
    subresources: &'static [&'static str],
) -> Route {
    Route { path, endpoint, methods, subresources }
}

/// Names in a path: the pod, and the container if the route has one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Names {
    pub(super) namespace: String,
    pub(super) pod: String,
    pub(super) container: String,
}

/// A query, in order.
pub(super) type Pairs = Vec<(String, String)>;

/// The router over the table.
pub(super) fn router(shared: &Arc<Shared>) -> Router {
    let mut router = Router::new();
    for route in ROUTES {
        let shared = Arc::clone(shared);
        let handler = move |path: Result<Path<Names>, PathRejection>, request: Request| async move {
            answer(shared, route, path, request).await.unwrap_or_else(IntoResponse::into_response)
        };
        router = router.route(route.path, any(handler));
    }
    let shared = Arc::clone(shared);
    // Nobody learns without proof what is not there.
    router.fallback(move |request: Request| async move {
        match authenticate(&shared, request).await {
            Ok(_) => Refusal::not_found("404 page not found"),
            Err(refusal) => refusal,
        }
    })
}

/// The request with its user. Takes the request, for its body cannot be shared between threads.
async fn authenticate(shared: &Shared, request: Request) -> Result<(UserInfo, Request), Refusal> {
    let (parts, body) = request.into_parts();
    let user = shared.access.authenticate(parts.extensions.get::<Peer>(), &parts.headers).await?;
    Ok((user, Request::from_parts(parts, body)))
}

async fn answer(
    shared: Arc<Shared>,
    route: Route,
    path: Result<Path<Names>, PathRejection>,
    request: Request,
) -> Result<Response, Refusal> {
    let (user, request) = authenticate(&shared, request).await?;
    let verb = verb(&route, request.method());
    shared.access.authorize(&user, verb, route.subresources).await?;
    if !route.methods.contains(request.method()) {
        let message = format!("{} is not answered here", request.method());
        return Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, message));
    }
    let Path(names) = path.map_err(|error| Refusal::bad_request(error.body_text()))?;
    let Query(query) = Query::<Pairs>::try_from_uri(request.uri())
        .map_err(|error| Refusal::bad_request(format!("the query cannot be read: {error}")))?;
    match route.endpoint {
        Endpoint::Health => Ok("ok".into_response()),
        Endpoint::Pods => Ok(Json(pod_list(&shared)).into_response()),
        Endpoint::Summary => Ok(Json(stats::summary(&shared).await?).into_response()),
        Endpoint::Metrics => {
            let mut response = stats::metrics(&shared).await?.into_response();
            let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
            response.headers_mut().insert(CONTENT_TYPE, kind);
            Ok(response)
        }
        Endpoint::Logs => logs::answer(&shared, &names, &query).await,
        Endpoint::Exec => tunnel::exec(&shared, &names, &query, request).await,
        Endpoint::Attach => tunnel::attach(&shared, &names, &query, request).await,
        Endpoint::PortForward => tunnel::port_forward(&shared, &names, &query, request).await,
    }
}

/// The verb that a request needs. WebSocket tunnels begin with GET, but whoever may only read must not run commands.
fn verb(route: &Route, method: &Method) -> Verb {
    match route.endpoint {
        Endpoint::Exec | Endpoint::Attach | Endpoint::PortForward => "create",
        _ => match method.as_str() {
            "POST" => "create",
            "PUT" => "update",
            "PATCH" => "patch",
            "DELETE" => "delete",
            _ => "get",
        },
    }
}

fn pod_list(shared: &Shared) -> serde_json::Value {
    let pods = shared.pods.pods();
    let pods: Vec<_> = pods.iter().map(AsRef::as_ref).collect();
    json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": pods})
}

#[cfg(test)]
mod tests;
