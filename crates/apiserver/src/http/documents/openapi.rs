//! OpenAPI documents, which tell clients the shape of every kind.

use axum::body::Body;
use http::Response;
use http::request::Parts;

use crate::machinery::status::ApiError;
use crate::request::Query;
use crate::server::state::State;

/// Answers a request below `/openapi/`.
pub(super) fn answer(
    state: &State,
    parts: &Parts,
    path: &str,
    query: &Query,
) -> Result<Response<Body>, ApiError> {
    let _ = (state, parts, path, query);
    Err(ApiError::NoSuchResource)
}
