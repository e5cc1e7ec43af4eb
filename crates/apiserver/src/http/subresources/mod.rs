//! Subresources that have a kind, or rules, of their own.

pub(crate) mod approval;
pub(crate) mod binding;
pub(crate) mod eviction;
pub(crate) mod scale;
pub(crate) mod token;

use axum::body::Body;
use serde_json::Value;

use super::call::Call;
use crate::machinery::status::ApiError;
use crate::operations::metadata;
use crate::request::body::{decode_object, object_encoding};
use crate::server::state::State;

/// Reads a body that must be of a kind.
async fn read(
    state: &State,
    call: &Call,
    body: Body,
    api_version: &str,
    kind: &str,
) -> Result<Value, ApiError> {
    let encoding = object_encoding(&call.parts.headers)?;
    let bytes = call.read_body(state, body).await?;
    let mut object = decode_object(&bytes, encoding)?.value;
    metadata::check_type(&mut object, api_version, kind)?;
    Ok(object)
}
