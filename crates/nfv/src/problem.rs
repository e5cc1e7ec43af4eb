//! Errors as clients see them: `ProblemDetails` (SOL013, 6.3), and `TackerError` below `/v1.0`.

use axum::{
    body::Body,
    http::{HeaderName, HeaderValue, Response, StatusCode, header},
};
use drystone_engine::reference::describe_kube_error;
use drystone_sol003::{
    filter::FilterError, selector::SelectorError, types::ProblemDetails, version::VersionError,
};
use serde_json::json;

/// Why a request is not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{status}: {detail}")]
pub(crate) struct Problem {
    /// Status of the reply.
    pub(crate) status: StatusCode,
    /// What is wrong, where, and what to do.
    pub(crate) detail: String,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Problem {
    /// A problem with this status.
    pub(crate) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), headers: Vec::new() }
    }

    /// 400: the request is wrong.
    pub(crate) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    /// 404: what is named is not there.
    pub(crate) fn not_found(what: &str, id: &str) -> Self {
        let id: String = id.chars().take(200).collect();
        Self::new(StatusCode::NOT_FOUND, format!("there is no {what} {id}"))
    }

    /// 409: not in this state.
    pub(crate) fn conflict(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, detail)
    }

    /// 422: well formed, and yet it cannot be done.
    pub(crate) fn unprocessable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
    }

    /// 500, of which only the log says more.
    pub(crate) fn internal(error: &dyn std::fmt::Display) -> Self {
        tracing::error!("a request failed: {error}");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "the request could not be carried out; the log says why")
    }

    /// 503: try again.
    pub(crate) fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, detail)
            .with(header::RETRY_AFTER, HeaderValue::from_static("1"))
    }

    /// With a header.
    #[must_use]
    pub(crate) fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// As `ProblemDetails`.
    pub(crate) fn details(&self) -> ProblemDetails {
        ProblemDetails {
            title: self.status.canonical_reason().map(str::to_owned),
            status: self.status.as_u16(),
            detail: self.detail.clone(),
            ..ProblemDetails::default()
        }
    }

    /// The reply.
    pub(crate) fn into_response(self) -> Response<Body> {
        let body = serde_json::to_vec(&self.details()).unwrap_or_default();
        self.response("application/problem+json", body)
    }

    /// The reply of the registration of VIMs.
    pub(crate) fn into_tacker_response(self) -> Response<Body> {
        let kind = match self.status {
            StatusCode::BAD_REQUEST => "HTTPBadRequest",
            StatusCode::UNAUTHORIZED => "HTTPUnauthorized",
            StatusCode::FORBIDDEN => "Forbidden",
            StatusCode::NOT_FOUND => "VimNotFoundException",
            StatusCode::CONFLICT => "Conflict",
            _ => "HTTPError",
        };
        let body = json!({"TackerError": {"type": kind, "message": self.detail, "detail": ""}});
        self.response("application/json", body.to_string().into_bytes())
    }

    fn response(self, media: &'static str, body: Vec<u8>) -> Response<Body> {
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.status;
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        for (name, value) in self.headers {
            response.headers_mut().append(name, value);
        }
        response
    }
}

impl From<ProblemDetails> for Problem {
    fn from(details: ProblemDetails) -> Self {
        let status = StatusCode::from_u16(details.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self::new(status, details.detail)
    }
}

impl From<FilterError> for Problem {
    fn from(error: FilterError) -> Self {
        Self::bad_request(error.to_string())
    }
}

impl From<SelectorError> for Problem {
    fn from(error: SelectorError) -> Self {
        Self::bad_request(error.to_string())
    }
}

impl From<VersionError> for Problem {
    fn from(error: VersionError) -> Self {
        let status = match error {
            VersionError::Missing { .. } | VersionError::Malformed { .. } => StatusCode::BAD_REQUEST,
            VersionError::Unsupported { .. } => StatusCode::NOT_ACCEPTABLE,
        };
        Self::new(status, error.to_string())
    }
}

impl From<kube::Error> for Problem {
    /// What the API server says of a write that the service made: its refusal of a value is the client's mistake.
    fn from(error: kube::Error) -> Self {
        match &error {
            kube::Error::Api(status) if status.code == 422 || status.code == 400 => {
                Self::bad_request(describe_kube_error(&error))
            }
            kube::Error::Api(status) if status.code == 413 => {
                Self::new(StatusCode::PAYLOAD_TOO_LARGE, describe_kube_error(&error))
            }
            kube::Error::Api(status) if status.code == 429 || status.code == 503 => {
                Self::unavailable("the API server is busy; try again")
            }
            _ => Self::internal(&describe_kube_error(&error)),
        }
    }
}
