//! From an HTTP request to an HTTP response: what DSP0266 asks of every service, in its order.

use std::{sync::Arc, time::Duration};

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header, request::Parts};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde_json::Value;

use super::{
    RedfishService, RequestBody, Target, WriteRequest,
    access::{Presented, Principal},
    query::{self, Query},
    reply::{respond, respond_error, stamp},
    route::{Access, RouteTable},
};
use crate::{error::ServiceError, etag::Condition, message};

/// How long a client may take to send its body.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

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
    let path = Path::new(parts.uri.path(), &parts.method);
    let target = path.target(service.routes());
    let access = target.as_ref().and_then(|target| target.route.access(&parts.method));
    let principal = authenticate(service, &parts.headers).await;
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
    check_headers(&parts.headers, is_document(&target))?;
    match parts.method {
        Method::GET | Method::HEAD => read(service, parts, &target).await,
        _ => write(service, parts, target, principal.known(), body).await,
    }
}

async fn read<S: RedfishService>(
    service: &S,
    parts: &Parts,
    target: &Target<'_>,
) -> Result<Response<Body>, ServiceError> {
    let query = Query::parse(parts.uri.query().unwrap_or_default())?;
    let mut body = service.read(target).await?;
    let mut headers = HeaderMap::new();
    headers.insert(header::ALLOW, target.route.allow());
    if let Value::String(document) = body {
        return Ok(xml_document(document, headers));
    }
    if let Some(link) = described_by(&body) {
        headers.insert(header::LINK, link);
    }
    // The tag is that of the resource, not of the view that the query options make of it.
    let etag = stamp(&mut body);
    let condition = Condition::from_headers(&parts.headers, &header::IF_NONE_MATCH);
    if etag.as_ref().is_some_and(|etag| condition.matches(etag)) {
        let mut response = respond(StatusCode::NOT_MODIFIED, headers, None);
        if let Some(value) = etag.and_then(|etag| HeaderValue::from_str(etag.as_str()).ok()) {
            response.headers_mut().insert(header::ETAG, value);
        }
        return Ok(response);
    }
    let body = query::apply(service, &query, body).await?;
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
        let mut current = service.read(&target).await?;
        if let Some(etag) = stamp(&mut current) {
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

async fn authenticate<S: RedfishService>(service: &S, headers: &HeaderMap) -> Caller {
    let found = match Presented::from_headers(headers) {
        Presented::Nothing => return Caller::Anonymous,
        Presented::Token(token) => service.sessions().principal(&token, std::time::Instant::now()),
        Presented::Basic { user, password } => service.verify_password(&user, &password).await,
    };
    found.map_or(Caller::Refused, Caller::Known)
}

fn unauthorized() -> ServiceError {
    ServiceError::new(StatusCode::UNAUTHORIZED, message::no_valid_session())
        .with_header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"Redfish\""))
}

/// `$metadata` is XML and has no JSON to negotiate about.
fn is_document(target: &Target<'_>) -> bool {
    target.segments() == ["$metadata"]
}

fn check_headers(headers: &HeaderMap, document: bool) -> Result<(), ServiceError> {
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
        matches!(range, "" | "*/*" | "application/*")
            || range == if document { "application/xml" } else { "application/json" }
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

/// `Link: <schema>; rel=describedby` for the schemas that DMTF publishes.
fn described_by(body: &Value) -> Option<HeaderValue> {
    let namespaced = body.get("@odata.type")?.as_str()?.strip_prefix('#')?;
    let (schema, _) = namespaced.rsplit_once('.')?;
    if schema.starts_with("Drystone") {
        return None;
    }
    HeaderValue::from_str(&format!("<http://redfish.dmtf.org/schemas/v1/{schema}.json>; rel=describedby"))
        .ok()
}

fn xml_document(document: String, headers: HeaderMap) -> Response<Body> {
    let mut response = respond(StatusCode::OK, headers, None);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    *response.body_mut() = Body::from(document);
    response
}
