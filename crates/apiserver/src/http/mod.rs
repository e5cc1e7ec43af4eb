//! The HTTP face: who asks, whether they may, and which part of the server answers.
//!
//! | module | what it does |
//! |---|---|
//! | [`authn`] | who made a request, impersonation |
//! | [`limits`], [`metrics`] | bounding and counting requests |
//! | [`call`] | a request for a resource, with everything that is known about it |
//! | [`resources`], [`resources_patch`] | create, read, change and delete objects |
//! | [`events`] | the two forms of events |
//! | [`present`] | objects as JSON, YAML, tables or bare metadata |
//! | [`table`] | objects as tables |
//! | [`watch`] | streams of changes |
//! | [`subresources`] | scale, binding, eviction, tokens, approval |
//! | [`reviews`] | who may do what, who is who |
//! | [`kubelet`] | logs of containers, and tunnels into them |
//! | [`documents`] | discovery, OpenAPI, version, health, metrics, OpenID |
//! | [`reply`] | building answers |

pub(crate) mod authn;
pub(crate) mod call;
pub(crate) mod documents;
pub(crate) mod events;
pub(crate) mod kubelet;
pub(crate) mod limits;
pub(crate) mod metrics;
pub(crate) mod present;
pub(crate) mod reply;
pub(crate) mod resources;
pub(crate) mod resources_patch;
pub(crate) mod reviews;
pub(crate) mod subresources;
pub(crate) mod table;
pub(crate) mod watch;

use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use drystone_identity::UserInfo;
use drystone_identity::rbac::{Attributes, ResourceAttributes};
use http::request::Parts;
use http::{Request, Response};

use self::call::Call;
use crate::machinery::group::GroupResource;
use crate::machinery::status::ApiError;
use crate::request::{Query, RequestInfo, ResourcePath};
use crate::server::state::State;

/// Answers a request.
pub(crate) async fn handle(state: Arc<State>, request: Request<Body>) -> Response<Body> {
    let started = Instant::now();
    let (parts, body) = request.into_parts();
    let query = Query::parse(parts.uri.query().unwrap_or_default());
    let info = RequestInfo::parse(&parts.method, parts.uri.path(), &query);
    let (verb, path) = (info.verb, info.resource.clone());
    let mut user = None;
    let response = match answer(&state, parts, body, query, info, &mut user).await {
        Ok(response) => response,
        Err(error) => reply::error(&error),
    };
    let code = response.status().as_u16();
    // Only resources that are served are counted by name: else there would be as many series as there are spellings.
    let served = path.as_ref().filter(|path| {
        state.registry.catalog().resource(&path.group, &path.version, &path.resource).is_some()
    });
    let (group, resource) = served.map_or(("", ""), |path| (path.group.as_str(), path.resource.as_str()));
    state.metrics.count(verb, group, resource, code, started.elapsed());
    if let Some(path) = path.filter(|_| !matches!(verb, "get" | "list" | "watch")) {
        audit(user.as_deref(), verb, &path, code, started);
    }
    response
}

/// One line for each request that changes something, or tried to.
fn audit(user: Option<&UserInfo>, verb: &str, path: &ResourcePath, code: u16, started: Instant) {
    tracing::info!(
        target: "audit",
        user = user.map_or("", |user| user.name.as_str()),
        verb,
        group = path.group,
        resource = path.resource,
        subresource = path.subresource,
        namespace = path.namespace,
        name = path.name,
        code,
        microseconds = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX),
    );
}

async fn answer(
    state: &Arc<State>,
    parts: Parts,
    body: Body,
    query: Query,
    info: RequestInfo,
    caller: &mut Option<Arc<UserInfo>>,
) -> Result<Response<Body>, ApiError> {
    let user = authn::authenticate(state, &parts).await?;
    let user = authn::impersonate(state, user, &parts.headers)?;
    *caller = Some(Arc::clone(&user));
    authorize(state, &user, &info, parts.uri.path())?;
    let Some(path) = info.resource else {
        return bounded(state, false, documents::answer(state, &parts, &query)).await;
    };
    let catalog = state.registry.catalog();
    let resource = catalog.resource(&path.group, &path.version, &path.resource).cloned();
    let resource = resource.ok_or(ApiError::NoSuchResource)?;
    let call = Call { user, path, resource, catalog, query, verb: info.verb, parts };
    call.check_path()?;
    if call.is_long_running() {
        return call.dispatch(state, body).await;
    }
    let mutating = !matches!(info.verb, "get" | "list" | "watch");
    bounded(state, mutating, Box::pin(call.dispatch(state, body))).await
}

/// Runs a request within the limits on number and time.
async fn bounded<T>(
    state: &State,
    mutating: bool,
    work: impl Future<Output = Result<T, ApiError>>,
) -> Result<T, ApiError> {
    let _place = state.in_flight.enter(mutating)?;
    match tokio::time::timeout(state.config.limits.request_timeout, work).await {
        Ok(result) => result,
        Err(_) => Err(ApiError::Timeout("request did not complete within the allotted time".into())),
    }
}

fn authorize(state: &State, user: &UserInfo, info: &RequestInfo, path: &str) -> Result<(), ApiError> {
    let Some(resource) = &info.resource else {
        let attributes = Attributes::path(user, info.verb, path);
        if state.authorize(&attributes).allowed {
            return Ok(());
        }
        return Err(ApiError::ForbiddenPath {
            user: user.name.clone(),
            verb: info.verb.to_owned(),
            path: path.to_owned(),
        });
    };
    let attributes = Attributes::resource(
        user,
        info.verb,
        ResourceAttributes {
            group: &resource.group,
            version: &resource.version,
            resource: &resource.resource,
            subresource: &resource.subresource,
            namespace: &resource.namespace,
            name: &resource.name,
        },
    );
    if state.authorize(&attributes).allowed {
        return Ok(());
    }
    Err(ApiError::Forbidden {
        resource: GroupResource::new(resource.group.clone(), resource.resource.clone()),
        name: resource.name.clone(),
        reason: attributes.to_string(),
    })
}
