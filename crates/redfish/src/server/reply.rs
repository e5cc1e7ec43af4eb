//! What a service answers to a write.

use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};

use crate::{
    error::ServiceError,
    etag::ETag,
    message::{self, Message},
};

/// Type of most bodies.
pub(super) const JSON: &str = "application/json; charset=utf-8";

/// The answer to a write that was carried out or taken on.
#[derive(Debug, Clone)]
pub struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    body: Option<Value>,
}

impl Reply {
    /// 204.
    pub fn no_content() -> Self {
        Self { status: StatusCode::NO_CONTENT, headers: HeaderMap::new(), body: None }
    }

    /// 200 with the resource as it is now.
    pub fn updated(body: Value) -> Self {
        Self { status: StatusCode::OK, headers: HeaderMap::new(), body: Some(body) }
    }

    /// 201 with the new resource.
    pub fn created(body: Value) -> Self {
        let location = body.get("@odata.id").and_then(Value::as_str).unwrap_or_default().to_owned();
        Self { status: StatusCode::CREATED, headers: HeaderMap::new(), body: Some(body) }
            .with_header(header::LOCATION, &location)
    }

    /// 202 with the task; the monitor's URI tells when it is done.
    pub fn accepted(task: Value, monitor: &str, retry_after_seconds: u64) -> Self {
        Self { status: StatusCode::ACCEPTED, headers: HeaderMap::new(), body: Some(task) }
            .with_header(header::LOCATION, monitor)
            .with_header(header::RETRY_AFTER, &retry_after_seconds.to_string())
    }

    /// 200 with a message: an action was carried out, or there was nothing to do.
    pub fn message(message: &Message) -> Self {
        let body = json!({"error": {
            "code": message.message_id, "message": message.message, "@Message.ExtendedInfo": [message]}});
        Self { status: StatusCode::OK, headers: HeaderMap::new(), body: Some(body) }
    }

    /// 200: there was nothing to do.
    pub fn no_operation() -> Self {
        Self::message(&message::no_operation())
    }

    /// Adds a header. A value that no header can have is left out.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(name, value);
        }
        self
    }

    /// An answer of any kind: of a task's monitor, which answers as the operation would have.
    pub fn with(status: StatusCode, headers: HeaderMap, body: Option<Value>) -> Self {
        Self { status, headers, body }
    }

    /// Adds a message to the body: what the client should know although all went well.
    #[must_use]
    pub fn with_message(mut self, message: &Message) -> Self {
        if let Some(Value::Object(map)) = &mut self.body {
            map.insert("@Message.ExtendedInfo".to_owned(), json!([message]));
        }
        self
    }

    /// Headers beside those that every answer has.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The body.
    pub fn body(&self) -> Option<&Value> {
        self.body.as_ref()
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The whole answer.
    pub fn into_response(self) -> Response<axum::body::Body> {
        respond(self.status, self.headers, self.body)
    }
}

/// A response with the headers that every response has. A resource gets its entity tag.
pub(super) fn respond(
    status: StatusCode,
    headers: HeaderMap,
    body: Option<Value>,
) -> Response<axum::body::Body> {
    let (etag, bytes) = match body {
        Some(mut body) => {
            let etag = stamp(&mut body);
            (etag, body.to_string().into_bytes())
        }
        None => (None, Vec::new()),
    };
    let has_body = !bytes.is_empty();
    let mut response = Response::new(axum::body::Body::from(bytes));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    let headers = response.headers_mut();
    headers.insert("odata-version", HeaderValue::from_static("4.0"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    if has_body {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(JSON));
    }
    if let Some(value) = etag.and_then(|etag| HeaderValue::from_str(etag.as_str()).ok()) {
        headers.insert(header::ETAG, value);
    }
    response
}

/// Gives a resource its `@odata.etag`, unless it has one. What is no resource gets none.
pub(super) fn stamp(body: &mut Value) -> Option<ETag> {
    let etag = match body.get("@odata.etag").and_then(Value::as_str) {
        Some(given) => ETag::from_header(given),
        None => {
            body.get("@odata.id")?;
            ETag::of(body)
        }
    };
    if let Value::Object(map) = body {
        map.insert("@odata.etag".to_owned(), Value::String(etag.as_str().to_owned()));
    }
    Some(etag)
}

/// The response for an error.
pub(super) fn respond_error(error: &ServiceError) -> Response<axum::body::Body> {
    respond(error.status, error.headers(), Some(error.body()))
}
