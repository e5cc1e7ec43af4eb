//! Building answers.

use axum::body::Body;
use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WARNING, WWW_AUTHENTICATE,
};
use http::{Response, StatusCode};
use serde_json::Value;

use crate::machinery::status::ApiError;
use crate::request::Representation;

/// The most characters of warnings in one answer.
const MOST_WARNING_CHARACTERS: usize = 4096;
/// The longest single warning.
const LONGEST_WARNING: usize = 256;

/// An answer with a body of a media type.
pub(crate) fn bytes(status: StatusCode, media_type: &'static str, body: impl Into<Bytes>) -> Response<Body> {
    streaming(status, media_type, Body::from(body.into()))
}

/// An answer whose body may come in pieces.
pub(crate) fn streaming(status: StatusCode, media_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

/// An answer of JSON that is already encoded, in the form that was asked for.
pub(crate) fn encoded(status: StatusCode, representation: Representation, json: Vec<u8>) -> Response<Body> {
    match representation {
        Representation::Json => bytes(status, "application/json", json),
        Representation::Yaml => match serde_json::from_slice::<Value>(&json) {
            Ok(value) => object(status, representation, &value),
            Err(failure) => error(&ApiError::Internal(failure.to_string())),
        },
    }
}

/// An answer with an object.
pub(crate) fn object(status: StatusCode, representation: Representation, value: &Value) -> Response<Body> {
    match representation {
        Representation::Json => bytes(status, "application/json", value.to_string()),
        Representation::Yaml => match serde_saphyr::to_string(value) {
            Ok(text) => bytes(status, "application/yaml", text),
            Err(failure) => error(&ApiError::Internal(failure.to_string())),
        },
    }
}

/// A text for people.
pub(crate) fn text(status: StatusCode, text: impl Into<String>) -> Response<Body> {
    let mut response = bytes(status, "text/plain; charset=utf-8", text.into());
    let nosniff = HeaderValue::from_static("nosniff");
    response.headers_mut().insert(HeaderName::from_static("x-content-type-options"), nosniff);
    response
}

/// An error, as a `Status`.
pub(crate) fn error(error: &ApiError) -> Response<Body> {
    let status = StatusCode::from_u16(error.code()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = object(status, Representation::Json, &error.to_status());
    if let Some(seconds) = error.retry_after() {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if status == StatusCode::UNAUTHORIZED {
        let challenge = HeaderValue::from_static("Basic realm=\"kubernetes\"");
        response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    }
    response
}

/// Adds warnings, which kubectl shows to its user.
pub(crate) fn warn(response: &mut Response<Body>, warnings: &[String]) {
    let mut room = MOST_WARNING_CHARACTERS;
    for warning in warnings {
        let text: String =
            warning.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST_WARNING).collect();
        let text = text.replace('\\', "\\\\").replace('"', "\\\"");
        if text.len() > room {
            return;
        }
        room -= text.len();
        if let Ok(value) = HeaderValue::from_bytes(format!("299 - \"{text}\"").as_bytes()) {
            response.headers_mut().append(WARNING, value);
        }
    }
}
