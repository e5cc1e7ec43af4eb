//! Reading a request's body.

use axum::body::Body;
use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde_json::Value;

use crate::machinery::status::ApiError;

/// How a body is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// JSON.
    Json,
    /// YAML, of which JSON is a part.
    Yaml,
}

/// Reads a whole body.
///
/// # Errors
/// [`ApiError::RequestEntityTooLarge`] beyond `limit` bytes, [`ApiError::BadRequest`] if the connection fails.
pub async fn read(body: Body, limit: usize) -> Result<Bytes, ApiError> {
    match Limited::new(body, limit).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.downcast_ref::<LengthLimitError>().is_some() => {
            Err(ApiError::RequestEntityTooLarge(format!("Request entity too large: limit is {limit}")))
        }
        Err(error) => Err(ApiError::bad_request(format!("the body cannot be read: {error}"))),
    }
}

/// The media type of the body, without parameters and in lower case; empty if there is none.
pub fn media_type(headers: &HeaderMap) -> String {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// How an object in the body is encoded.
///
/// # Errors
/// [`ApiError::UnsupportedMediaType`] if it is in no form that is read here.
pub fn object_encoding(headers: &HeaderMap) -> Result<Encoding, ApiError> {
    match media_type(headers).as_str() {
        "" | "application/json" | "text/json" | "application/x-www-form-urlencoded" => Ok(Encoding::Json),
        "application/yaml" | "application/x-yaml" | "text/yaml" => Ok(Encoding::Yaml),
        other => Err(ApiError::UnsupportedMediaType(format!(
            "the body of the request was in an unknown format - accepted media types include: application/json, \
             application/yaml; it is {other:?}"
        ))),
    }
}

/// Decodes a body.
///
/// # Errors
/// [`ApiError::BadRequest`] if it is not what it says.
pub fn decode(bytes: &[u8], encoding: Encoding) -> Result<Value, ApiError> {
    let decoded = match encoding {
        Encoding::Json => serde_json::from_slice(bytes).map_err(|error| format!("invalid JSON: {error}")),
        Encoding::Yaml => std::str::from_utf8(bytes)
            .map_err(|error| format!("invalid UTF-8: {error}"))
            .and_then(|text| serde_saphyr::from_str(text).map_err(|error| format!("invalid YAML: {error}"))),
    };
    decoded
        .map_err(|problem| ApiError::bad_request(format!("the object provided is unrecognized: {problem}")))
}

/// Decodes a body that must be a JSON or YAML object.
///
/// # Errors
/// [`ApiError::BadRequest`] if it is not.
pub fn decode_object(bytes: &[u8], encoding: Encoding) -> Result<Value, ApiError> {
    let value = decode(bytes, encoding)?;
    if value.is_object() {
        return Ok(value);
    }
    Err(ApiError::bad_request("the object provided is unrecognized (must be of type Object)"))
}
