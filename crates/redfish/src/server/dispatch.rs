//! From an HTTP request to an HTTP response: what DSP0266 asks of every service, in its order.

use std::{sync::Arc, time::Duration};

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header, request::Parts};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde_json::Value;

use super::{
    RedfishService, RequestBody, Target, Vouched, WriteRequest,
    access::{Presented, Principal},
    query::{self, Query},
    reply::{JSON, respond, respond_error, stamp},
    route::{Access, RouteTable},
};
use crate::{
    error::ServiceError,
    etag::{Condition, ETag},
    message,
    tree::{Ready, described_by},
};

/// How long a client may take to send its body.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// Methods that a resource could have; others are 501.
const KNOWN_METHODS: [Method; 7] =
    [Method::GET, Method::HEAD, Method::POST, Method::PATCH, Method::PUT, Method::DELETE, Method::OPTIONS];

/// A router that serves a Redfish service, for those that have other routes beside it.
pub fn router<S: RedfishService>(service: Arc<S>) -> axum::Router {
    axum::Router::new().fallback(move |request: Request<Body>| {
        let service = Arc::clone(&service);
        async move { dispatch(service.as_ref(), request).await }
    })
}

/// Answers one request.
pub async fn dispatch<S, B>(service: &S, request: Request<B>) -> Response<Body>
where
    S: RedfishService,
    B: http_body::Body<Data = Bytes> + Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (parts, body) = request.into_parts();
    match answer(service, &parts, body).await {
        Ok(response) => response,
        Err(error) => respond_error(&error),
    }
}

async fn answer<S, B>(service: &S, parts: &Parts, body: B) -> Result<Response<Body>, ServiceError>
where
    S: RedfishService,
    B: http_body::Body<Data = Bytes> + Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    if !KNOWN_METHODS.contains(&parts.method) {
        let error = ServiceError::new(StatusCode::NOT_IMPLEMENTED, message::operation_not_allowed());
        return Err(error);
    }
    let path = Path::new(parts.uri.path(), &parts.method);
    let target = path.target(service.routes());
    let access = target.as_ref().and_then(|target| target.route.access(&parts.method));
    let principal = authenticate(service, parts).await;
    // Whoever is not known learns nothing, not even what there is. A wrong password is refused even where none is needed.
    match (access, &principal) {
        (_, Caller::Refused) => return Err(unauthorized()),
        (Some(Access::Open), _) | (_, Caller::Known(_)) => {}
        (_, Caller::Anonymous) => return Err(unauthorized()),
    }
    let target = target.ok_or_else(|| ServiceError::not_found(&path.text))?;
    let access = access.ok_or_else(|| ServiceError::method_not_allowed(target.route.allow()))?;
    if let (Access::AnyOf(privileges), Caller::Known(principal)) = (access, &principal)
        && !principal.has_any(privileges)
    {
        return Err(ServiceError::new(StatusCode::FORBIDDEN, message::insufficient_privilege()));
    }
    if let (Access::AnyOf(_), Caller::Known(principal)) = (access, &principal) {
        service.check(principal, &parts.method, &target)?;
    }
    let kind = service.media_type(&target);
    check_headers(&parts.headers, kind)?;
    match parts.method {
        Method::GET | Method::HEAD => {
            if let Some(reply) = service.raw(parts, &target, principal.known()) {
                return reply.map(|reply| complete(reply, &target));
            }
            read(service, parts, &target, kind).await
        }
        _ => write(service, parts, target, principal.known(), body).await,
    }
}

async fn read<S: RedfishService>(
    service: &S,
    parts: &Parts,
    target: &Target<'_>,
    kind: &'static str,
) -> Result<Response<Body>, ServiceError> {
    if parts.uri.query().is_none_or(str::is_empty)
        && let Some(ready) = service.ready(target)
    {
        return Ok(serve_ready(parts, target, &ready));
    }
    let query = Query::parse(parts.uri.query().unwrap_or_default())?;
    let mut headers = HeaderMap::new();
    headers.insert(header::ALLOW, target.route.allow());
    let condition = Condition::from_headers(&parts.headers, &header::IF_NONE_MATCH);
    if matches!(condition, Condition::OneOf(_))
        && let Some(etag) = service.etag(target).filter(|etag| condition.matches(etag))
    {
        return Ok(not_modified(headers, &etag));
    }
    let stretch = query.stretch().and_then(|(skip, limit)| service.stretch(target, skip, limit));
    let (mut body, total) = match stretch {
        Some(stretch) => (stretch.body, Some(stretch.total)),
        None => (service.read(target).await?, None),
    };
    if let Value::String(document) = body {
        let mut response = respond(StatusCode::OK, headers, None);
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        if parts.method == Method::HEAD {
            response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(document.len()));
        } else {
            *response.body_mut() = Body::from(document);
        }
        return Ok(response);
    }
    if let Some(link) = body.get("@odata.type").and_then(Value::as_str).and_then(described_by) {
        headers.insert(header::LINK, link);
    }
    // The tag is that of the resource, not of the view that the query options make of it.
    let etag = stamp(&mut body);
    if let Some(etag) = etag.filter(|etag| condition.matches(etag)) {
        return Ok(not_modified(headers, &etag));
    }
    let body = query::apply(service, &query, body, total).await?;
    let mut response = respond(StatusCode::OK, headers, Some(body));
    if parts.method == Method::HEAD {
        let length = http_body::Body::size_hint(response.body()).exact();
        if let Some(length) = length {
            response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
        *response.body_mut() = Body::empty();
    }
    Ok(response)
}

/// 304 with the tag of what the client has already.
fn not_modified(headers: HeaderMap, etag: &ETag) -> Response<Body> {
    let mut response = respond(StatusCode::NOT_MODIFIED, headers, None);
    if let Ok(value) = HeaderValue::from_str(etag.as_str()) {
        response.headers_mut().insert(header::ETAG, value);
    }
    response
}

async fn write<S, B>(
    service: &S,
    parts: &Parts,
    target: Target<'_>,
    principal: Option<&Principal>,
    body: B,
) -> Result<Response<Body>, ServiceError>
where
    S: RedfishService,
    B: http_body::Body<Data = Bytes> + Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    Query::refuse(parts.uri.query().unwrap_or_default())?;
    let body = read_body(&parts.headers, body, S::MAX_BODY).await?;
    // The gate belongs to the service, the target to the request: the lock is taken before the target moves.
    let gate = match service.write_gate(&target) {
        Some(gate) => Some(gate.lock().await),
        None => None,
    };
    let changes = matches!(parts.method, Method::PATCH | Method::PUT | Method::DELETE);
    let condition = Condition::from_headers(&parts.headers, &header::IF_MATCH);
    let required = target.route.needs_if_match() && parts.method != Method::DELETE;
    if changes && (required || condition != Condition::None) {
        let known = service.etag(&target);
        let etag = if known.is_some() { known } else { stamp(&mut service.read(&target).await?) };
        if let Some(etag) = etag {
            condition.check(&etag, required)?;
        }
    }
    let request =
        WriteRequest { method: parts.method.clone(), target, principal, headers: &parts.headers, body };
    let reply = service.write(request).await?;
    drop(gate);
    Ok(reply.into_response())
}

/// A path, tidied up.
struct Path {
    text: String,
}

impl Path {
    /// Collapses doubled slashes, drops the one at the end, and takes a POST to `{collection}/Members` to the collection.
    fn new(path: &str, method: &Method) -> Self {
        let mut parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        if *method == Method::POST && parts.last() == Some(&"Members") {
            parts.pop();
        }
        Self { text: format!("/{}", parts.join("/")) }
    }

    fn target<'a>(&'a self, routes: &'a RouteTable) -> Option<Target<'a>> {
        find_target(&self.text, routes)
    }
}

/// The target of a tidy path.
pub(super) fn find_target<'a>(uri: &'a str, routes: &'a RouteTable) -> Option<Target<'a>> {
    let parts: Vec<&str> = uri.split('/').filter(|part| !part.is_empty()).collect();
    let route = routes.find(&parts)?;
    Some(Target { uri, parts, route })
}

/// Who calls.
enum Caller {
    /// Somebody with good credentials.
    Known(Principal),
    /// Somebody without credentials.
    Anonymous,
    /// Somebody with wrong ones.
    Refused,
}

impl Caller {
    fn known(&self) -> Option<&Principal> {
        match self {
            Self::Known(principal) => Some(principal),
            Self::Anonymous | Self::Refused => None,
        }
    }
}

async fn authenticate<S: RedfishService>(service: &S, parts: &Parts) -> Caller {
    let presented = Presented::from_headers(&parts.headers);
    if !matches!(presented, Presented::Nothing) && !service.is_confidential(parts) {
        return Caller::Refused;
    }
    let found = match presented {
        Presented::Nothing => {
            return match service.vouch(parts).await {
                Vouched::Nobody => Caller::Anonymous,
                Vouched::For(principal) => Caller::Known(principal),
                Vouched::Refused => Caller::Refused,
            };
        }
        Presented::Token(token) => service.sessions().principal(&token, std::time::Instant::now()),
        Presented::Basic { user, password } => service.verify_password(&user, &password).await,
    };
    found.map_or(Caller::Refused, Caller::Known)
}

fn unauthorized() -> ServiceError {
    ServiceError::new(StatusCode::UNAUTHORIZED, message::no_valid_session())
        .with_header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"Redfish\""))
}

fn check_headers(headers: &HeaderMap, kind: &str) -> Result<(), ServiceError> {
    if headers.get("odata-version").is_some_and(|version| version != "4.0") {
        return Err(ServiceError::new(
            StatusCode::PRECONDITION_FAILED,
            message::header_invalid("OData-Version"),
        ));
    }
    let accepted: Vec<&str> =
        headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    let fits = |range: &str| {
        let range = range.split(';').next().unwrap_or_default().trim();
        matches!(range, "" | "*/*")
            || range == kind.split(';').next().unwrap_or_default()
            || range
                .strip_suffix("/*")
                .is_some_and(|main| kind.starts_with(main) && kind[main.len()..].starts_with('/'))
    };
    let acceptable = accepted.is_empty() || accepted.iter().flat_map(|value| value.split(',')).any(fits);
    if acceptable {
        Ok(())
    } else {
        Err(ServiceError::new(StatusCode::NOT_ACCEPTABLE, message::header_invalid("Accept")))
    }
}

async fn read_body<B>(headers: &HeaderMap, body: B, limit: usize) -> Result<RequestBody, ServiceError>
where
    B: http_body::Body<Data = Bytes> + Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let collected = tokio::time::timeout(BODY_TIMEOUT, Box::pin(Limited::new(body, limit).collect())).await;
    let bytes = match collected {
        Err(_) => return Err(ServiceError::new(StatusCode::REQUEST_TIMEOUT, message::malformed_json())),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            return Err(ServiceError::new(StatusCode::PAYLOAD_TOO_LARGE, message::malformed_json()));
        }
        Ok(Err(_)) => return Err(ServiceError::bad_request(message::malformed_json())),
        Ok(Ok(collected)) => collected.to_bytes(),
    };
    if bytes.is_empty() {
        return Ok(RequestBody::Absent);
    }
    let content_type =
        headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("application/json");
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/json") {
        return Err(ServiceError::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            message::header_invalid("Content-Type"),
        ));
    }
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(map)) => Ok(RequestBody::Object(map)),
        Ok(_) => Err(ServiceError::bad_request(message::unrecognized_request_body())),
        Err(_) => Err(ServiceError::bad_request(message::malformed_json())),
    }
}

/// Serves a finished resource: nothing is parsed, made or hashed.
fn serve_ready(parts: &Parts, target: &Target<'_>, ready: &Ready) -> Response<Body> {
    let etag = ready.etag();
    let condition = Condition::from_headers(&parts.headers, &header::IF_NONE_MATCH);
    let unchanged = condition != Condition::None
        && etag.as_ref().is_some_and(|etag| condition.matches(&ETag::from_header(etag)));
    let mut headers = HeaderMap::with_capacity(10);
    headers.insert(header::ALLOW, target.route.allow());
    if let Some(link) = &ready.kind.described_by {
        headers.insert(header::LINK, link.clone());
    }
    if let Some(value) = etag.and_then(|etag| HeaderValue::try_from(etag).ok()) {
        headers.insert(header::ETAG, value);
    }
    if unchanged {
        return respond(StatusCode::NOT_MODIFIED, headers, None);
    }
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(JSON));
    if parts.method == Method::HEAD {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(ready.body.len()));
        return respond(StatusCode::OK, headers, None);
    }
    let mut response = respond(StatusCode::OK, headers, None);
    *response.body_mut() = Body::from(ready.bytes());
    response
}

/// Gives a reply that the service has made by itself the headers that every reply has.
fn complete(reply: Response<Body>, target: &Target<'_>) -> Response<Body> {
    let (parts, body) = reply.into_parts();
    let mut response = respond(parts.status, parts.headers, None);
    response.headers_mut().entry(header::ALLOW).or_insert_with(|| target.route.allow());
    *response.body_mut() = body;
    response
}
