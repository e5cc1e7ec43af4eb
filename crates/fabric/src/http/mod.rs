//! The address daemon's front end: hosts lease blocks of pod addresses.
//!
//! `POST /fabric/v1alpha1/namespaces/{ns}/addresspools/{pool}/blocks` `{"holder": "<node>"}` → `{"blocks": ["10.42.3.0/24"]}`;
//! `DELETE …/blocks/{holder}` → 204. Authorized as `update` on `addresspools/blocks`. Errors are Kubernetes `Status` objects.

use std::{future::Future, pin::Pin, sync::Arc};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Path, State},
    http::{StatusCode, request::Parts},
    response::{IntoResponse, Response},
    routing::{delete, post},
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::addresses::{AddressDaemon, AddressError};

/// Longest name of a holder.
const MAX_HOLDER: usize = 253;

/// Why a request is not let through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denied {
    /// Nobody knows who asks.
    Unauthenticated,
    /// Who asks has no right to.
    Forbidden(String),
}

/// Decides whether a request may `update` `addresspools/blocks` of a pool; implemented over the API server's own
/// authentication and authorization.
pub trait Authorize: Send + Sync + 'static {
    /// Decides by the request's headers and what its connection says of the peer.
    fn authorize<'a>(
        &'a self,
        request: &'a Parts,
        namespace: &'a str,
        pool: &'a str,
    ) -> Pin<Box<dyn Future<Output = Result<(), Denied>> + Send + 'a>>;
}

#[derive(Clone)]
struct Front {
    daemon: AddressDaemon,
    authorize: Arc<dyn Authorize>,
}

/// The routes.
pub fn router(daemon: AddressDaemon, authorize: Arc<dyn Authorize>) -> Router {
    let front = Front { daemon, authorize };
    let base = "/fabric/v1alpha1/namespaces/{namespace}/addresspools/{pool}/blocks";
    Router::new()
        .route(base, post(lease))
        .route(&format!("{base}/{{*holder}}"), delete(release))
        .layer(DefaultBodyLimit::max(16 * 1024))
        .with_state(front)
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct LeaseRequest {
    holder: String,
    #[serde(default = "one")]
    count: usize,
}

const fn one() -> usize {
    1
}

/// Reads the body of a lease; the error names the field.
fn parse_lease(body: &[u8]) -> Result<(String, usize), String> {
    let request: LeaseRequest = serde_json::from_slice(body).map_err(|error| format!("body: {error}"))?;
    check_holder(&request.holder)?;
    if request.count == 0 || request.count > 64 {
        return Err(format!("count: {} is not between 1 and 64", request.count));
    }
    Ok((request.holder, request.count))
}

fn check_holder(holder: &str) -> Result<(), String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '/');
    if holder.is_empty() || holder.len() > MAX_HOLDER || !holder.chars().all(allowed) {
        return Err(format!("holder: must be 1 to {MAX_HOLDER} letters, digits, `-`, `.` or `/`"));
    }
    Ok(())
}

async fn lease(
    State(front): State<Front>,
    Path((namespace, pool)): Path<(String, String)>,
    parts: RequestParts,
    body: Bytes,
) -> Response {
    if let Err(denied) = front.authorize.authorize(&parts.0, &namespace, &pool).await {
        return refuse(denied);
    }
    let (holder, count) = match parse_lease(&body) {
        Ok(request) => request,
        Err(why) => return status(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", &why),
    };
    match front.daemon.lease(&namespace, &pool, &holder, count).await {
        Ok(blocks) => Json(json!({"blocks": blocks})).into_response(),
        Err(error) => failure(&error),
    }
}

async fn release(
    State(front): State<Front>,
    Path((namespace, pool, holder)): Path<(String, String, String)>,
    parts: RequestParts,
) -> Response {
    if let Err(denied) = front.authorize.authorize(&parts.0, &namespace, &pool).await {
        return refuse(denied);
    }
    if let Err(why) = check_holder(&holder) {
        return status(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", &why);
    }
    match front.daemon.release(&namespace, &pool, &holder).await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => failure(&error),
    }
}

/// Head of a request, for the authorizer.
struct RequestParts(Parts);

impl<S: Send + Sync> axum::extract::FromRequestParts<S> for RequestParts {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self(parts.clone()))
    }
}

fn failure(error: &AddressError) -> Response {
    let message = error.to_string();
    match error {
        AddressError::NoPool { .. } => status(StatusCode::NOT_FOUND, "NotFound", &message),
        AddressError::Lease { .. } => status(StatusCode::CONFLICT, "Conflict", &message),
        AddressError::Api { .. } | AddressError::Busy { .. } => {
            status(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", &message)
        }
    }
}

fn refuse(denied: Denied) -> Response {
    match denied {
        Denied::Unauthenticated => status(StatusCode::UNAUTHORIZED, "Unauthorized", "Unauthorized"),
        Denied::Forbidden(why) => status(StatusCode::FORBIDDEN, "Forbidden", &why),
    }
}

fn status(code: StatusCode, reason: &str, message: &str) -> Response {
    let body: Value = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code.as_u16(),
    });
    (code, Json(body)).into_response()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bodies_are_checked_by_field() {
        assert_eq!(parse_lease(br#"{"holder": "rack-01"}"#), Ok(("rack-01".to_owned(), 1)));
        let wrong = |body: &str| parse_lease(body.as_bytes()).expect_err(body);
        assert!(wrong(r#"{"holder": ""}"#).starts_with("holder: must be"));
        assert!(wrong(r#"{"holder": "a b"}"#).starts_with("holder: must be"));
        assert!(wrong(r#"{"holder": "a", "count": 0}"#).starts_with("count: 0"));
        assert!(wrong(r#"{"holder": "a", "size": 1}"#).contains("unknown field `size`"));
        assert!(wrong("").starts_with("body:"));
    }

    proptest! {
        #[test]
        fn any_body_is_answered(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse_lease(&body);
        }
    }
}
