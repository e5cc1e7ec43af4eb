//! The address daemon's front end: hosts lease blocks of pod addresses.
//!
//! `POST /fabric/v1alpha1/namespaces/{ns}/addresspools/{pool}/blocks` `{"holder": "<node>"}` → `{"blocks": ["10.42.3.0/24"]}`;
//! `DELETE …/blocks/{holder}` → 204. Authorized as `update` on `addresspools/blocks`. Errors are Kubernetes `Status` objects.

use std::{future::Future, pin::Pin, sync::Arc};

use axum::{
    Json, Router,
    body::Body,
    extract::{Path, State},
    http::{StatusCode, request::Parts},
    response::{IntoResponse, Response},
    routing::{delete, post},
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::addresses::{AddressDaemon, AddressError};

/// Largest body, in bytes.
const MAX_BODY: usize = 16 * 1024;
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
        .route(base, post(lease).fallback(not_served_at_a_pool))
        .route(&format!("{base}/{{*holder}}"), delete(release).fallback(not_served_at_a_holder))
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
    body: Body,
) -> Response {
    if let Err(denied) = front.authorize.authorize(&parts.0, &namespace, &pool).await {
        return refuse(denied);
    }
    // Not read before: strangers are not waited for.
    let Ok(body) = axum::body::to_bytes(body, MAX_BODY).await else {
        let message = format!("the body is cut off, or larger than {MAX_BODY} bytes");
        return status(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", &message);
    };
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

/// Other methods. Whoever has no right here learns no more of them than of those that are served.
async fn not_served_at_a_pool(
    State(front): State<Front>,
    Path((namespace, pool)): Path<(String, String)>,
    parts: RequestParts,
) -> Response {
    match front.authorize.authorize(&parts.0, &namespace, &pool).await {
        Err(denied) => refuse(denied),
        Ok(()) => status(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", "only POST is served here"),
    }
}

async fn not_served_at_a_holder(
    State(front): State<Front>,
    Path((namespace, pool, _)): Path<(String, String, String)>,
    parts: RequestParts,
) -> Response {
    match front.authorize.authorize(&parts.0, &namespace, &pool).await {
        Err(denied) => refuse(denied),
        Ok(()) => status(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", "only DELETE is served here"),
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
    use axum::http::{Method, Request};
    use proptest::prelude::*;
    use tower::ServiceExt as _;

    use super::*;

    /// Knows nobody, or lets everybody do everything.
    struct Everybody(bool);

    impl Authorize for Everybody {
        fn authorize<'a>(
            &'a self,
            _: &'a Parts,
            _: &'a str,
            _: &'a str,
        ) -> Pin<Box<dyn Future<Output = Result<(), Denied>> + Send + 'a>> {
            Box::pin(async { if self.0 { Ok(()) } else { Err(Denied::Unauthenticated) } })
        }
    }

    async fn ask(open: bool, method: &Method, path: &str, body: Vec<u8>) -> StatusCode {
        let api = tower::service_fn(|_: Request<kube::client::Body>| async {
            Err::<axum::http::Response<kube::client::Body>, _>(std::io::Error::other("there is no API"))
        });
        let daemon = AddressDaemon::new(kube::Client::new(api, "default"));
        let request = Request::builder().method(method).uri(path).body(Body::from(body)).expect("a request");
        router(daemon, Arc::new(Everybody(open))).oneshot(request).await.expect("an answer").status()
    }

    #[tokio::test]
    async fn no_route_lets_strangers_in() {
        let base = "/fabric/v1alpha1/namespaces/research/addresspools/pods/blocks";
        for path in
            [base.to_owned(), format!("{base}/rack-01"), format!("{base}/a/b"), format!("{base}/%2e%2e")]
        {
            for method in [
                Method::GET,
                Method::HEAD,
                Method::POST,
                Method::PUT,
                Method::PATCH,
                Method::DELETE,
                Method::OPTIONS,
            ] {
                for body in [b"{}".to_vec(), vec![b' '; 2 * MAX_BODY]] {
                    assert_eq!(
                        ask(false, &method, &path, body).await,
                        StatusCode::UNAUTHORIZED,
                        "{method} {path}"
                    );
                }
            }
        }
        assert_eq!(ask(true, &Method::GET, base, Vec::new()).await, StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(
            ask(true, &Method::POST, base, vec![b' '; 2 * MAX_BODY]).await,
            StatusCode::PAYLOAD_TOO_LARGE
        );
        assert_eq!(ask(true, &Method::POST, base, b"{}".to_vec()).await, StatusCode::UNPROCESSABLE_ENTITY);
    }

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
