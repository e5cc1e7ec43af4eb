//! Reading a request's body.

use axum::body::Body;
use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use http_body_util::{BodyExt, LengthLimitError, Limited};

use super::protobuf::{self, ProtobufError};
use crate::machinery::document::Document;
use crate::machinery::status::ApiError;

/// How a body is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// JSON.
    Json,
    /// YAML, of which JSON is a part.
    Yaml,
    /// Protocol Buffers, for the built-in kinds.
    Protobuf,
}

/// Reads a whole body.
///
/// # Errors
/// [`ApiError::RequestEntityTooLarge`] beyond `limit` bytes, [`ApiError::BadRequest`] if the connection fails.
pub(crate) async fn read(body: Body, limit: usize) -> Result<Bytes, ApiError> {
    match Limited::new(body, limit).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.downcast_ref::<LengthLimitError>().is_some() => {
            Err(ApiError::RequestEntityTooLarge(format!("Request entity too large: limit is {limit}")))
        }
        Err(error) => Err(ApiError::bad_request(format!("the body cannot be read: {error}"))),
    }
}

/// The media type of the body, without parameters and in lower case; empty if there is none.
pub(crate) fn media_type(headers: &HeaderMap) -> String {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// How an object in the body is encoded.
///
/// # Errors
/// [`ApiError::UnsupportedMediaType`] if it is in no form that is read here.
pub(crate) fn object_encoding(headers: &HeaderMap) -> Result<Encoding, ApiError> {
    match media_type(headers).as_str() {
        "" | "application/json" | "text/json" | "application/x-www-form-urlencoded" => Ok(Encoding::Json),
        "application/yaml" | "application/x-yaml" | "text/yaml" => Ok(Encoding::Yaml),
        protobuf::MEDIA_TYPE => Ok(Encoding::Protobuf),
        other => Err(ApiError::UnsupportedMediaType(format!(
            "the body of the request was in an unknown format - accepted media types include: application/json, \
             application/yaml, {}; it is {other:?}",
            protobuf::MEDIA_TYPE
        ))),
    }
}

/// Decodes a body.
///
/// # Errors
/// [`ApiError::BadRequest`] if it is not what it says.
pub(crate) fn decode(bytes: &[u8], encoding: Encoding) -> Result<Document, ApiError> {
    let unrecognized = |problem: &dyn std::fmt::Display| {
        ApiError::bad_request(format!("the object provided is unrecognized: {problem}"))
    };
    match encoding {
        Encoding::Json => Document::from_json(bytes).map_err(|problem| unrecognized(&problem)),
        Encoding::Yaml => Document::from_yaml(bytes).map_err(|problem| unrecognized(&problem)),
        Encoding::Protobuf => match protobuf::decode(bytes) {
            Ok(value) => Ok(Document { value, duplicates: Vec::new() }),
            Err(problem @ ProtobufError::UnknownKind { .. }) => {
                Err(ApiError::UnsupportedMediaType(problem.to_string()))
            }
            Err(problem) => Err(unrecognized(&problem)),
        },
    }
}

/// Decodes a body that must be a JSON or YAML object.
///
/// # Errors
/// [`ApiError::BadRequest`] if it is not.
pub(crate) fn decode_object(bytes: &[u8], encoding: Encoding) -> Result<Document, ApiError> {
    let document = decode(bytes, encoding)?;
    if document.value.is_object() {
        return Ok(document);
    }
    Err(ApiError::bad_request("the object provided is unrecognized (must be of type Object)"))
}
