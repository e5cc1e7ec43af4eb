//! Why a request is not carried out, as EMCO tells it: plain text.

use axum::{
    body::Body,
    http::{HeaderName, HeaderValue, Response, StatusCode, header},
};
use drystone_engine::reference::describe_kube_error;

/// What EMCO says where what a document belongs to or refers to is missing.
pub(crate) const PARENT_MISSING: &str = "Cannot perform requested operation. Parent resource not found";
/// What EMCO says where something is left below a document.
pub(crate) const CHILDREN_LEFT: &str = "Cannot delete parent without deleting child references first";
/// What EMCO says where something refers to a document.
pub(crate) const REFERENCES_LEFT: &str =
    "Cannot delete without deleting or updating referencing resources first";

/// Why a request is not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{status}: {text}")]
pub struct Refusal {
    /// Status of the reply.
    pub status: StatusCode,
    /// What is wrong, where, and what to do.
    pub text: String,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Refusal {
    /// With this status.
    pub fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Self { status, text: text.into(), headers: Vec::new() }
    }

    /// 400: the request is wrong.
    pub fn bad_request(text: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, text)
    }

    /// 400: these lines are wrong with a body.
    pub(crate) fn invalid(lines: &[String]) -> Self {
        let mut text = "Invalid Input:".to_owned();
        for line in lines {
            text.push_str("\n- ");
            text.push_str(line);
        }
        Self::bad_request(text)
    }

    /// 404: a document is not there.
    pub fn not_found(thing: &str, path: &str) -> Self {
        let path: String = path.chars().take(300).collect();
        Self::new(StatusCode::NOT_FOUND, format!("{thing} not found: {path}"))
    }

    /// 409: not in this state.
    pub fn conflict(text: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, text)
    }

    /// 422: it cannot be read as what it should be.
    pub fn unprocessable(text: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, text)
    }

    /// 500, of which only the log says more.
    pub fn internal(error: &dyn std::fmt::Display) -> Self {
        tracing::error!("a request failed: {error}");
        let text = "The server encountered an internal error and was unable to complete your request.";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, text)
    }

    /// 503: try again.
    pub fn unavailable(text: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, text)
            .with(header::RETRY_AFTER, HeaderValue::from_static("1"))
    }

    /// With a header.
    #[must_use]
    pub(crate) fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// The reply: the text, and a line feed.
    pub(crate) fn into_response(self) -> Response<Body> {
        let mut response = Response::new(Body::from(format!("{}\n", self.text)));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        for (name, value) in self.headers {
            headers.append(name, value);
        }
        response
    }
}

impl From<kube::Error> for Refusal {
    /// What the API server says of a write that the service made: its refusal of a value is the client's mistake.
    fn from(error: kube::Error) -> Self {
        match &error {
            kube::Error::Api(status) if status.code == 422 || status.code == 400 => {
                Self::bad_request(format!("Invalid Input:\n- {}", describe_kube_error(&error)))
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
