//! Answers to requests that cannot be fulfilled: `Status` objects, as everywhere on Drystone's port.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use drystone_engine::reference::describe_kube_error;
use serde_json::json;

use super::{Denied, UPLOAD_OFFSET};
use crate::store::StoreError;

/// Why a request is not fulfilled.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    reason: &'static str,
    message: String,
    /// Where the upload is.
    offset: Option<u64>,
}

impl Problem {
    pub(super) fn new(status: StatusCode, reason: &'static str, message: impl Into<String>) -> Self {
        Self { status, reason, message: message.into(), offset: None }
    }

    /// Also says where the upload is.
    pub(super) fn at(mut self, offset: u64) -> Self {
        self.offset = Some(offset);
        self
    }

    pub(super) fn message(&self) -> &str {
        &self.message
    }

    /// Whether it is worth being shown with the image, until the next upload: neither the request nor the connection was the matter.
    pub(super) fn is_about_the_image(&self) -> bool {
        self.status == StatusCode::UNPROCESSABLE_ENTITY || self.status.is_server_error()
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequest", message)
    }

    pub(super) fn unprocessable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message)
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "NotFound", message)
    }

    pub(super) fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "Conflict", message)
    }
}

impl From<Denied> for Problem {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Unauthenticated => Self::new(StatusCode::UNAUTHORIZED, "Unauthorized", "Unauthorized"),
            Denied::Forbidden(why) => Self::new(StatusCode::FORBIDDEN, "Forbidden", why),
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        let message = error.to_string();
        match error {
            StoreError::Full { .. } => {
                tracing::error!("{message}");
                Self::new(StatusCode::INSUFFICIENT_STORAGE, "InsufficientStorage", message)
            }
            StoreError::TooLong { .. } => Self::bad_request(message),
            StoreError::Superseded | StoreError::LengthChanged { .. } | StoreError::Beyond { .. } => {
                Self::conflict(message)
            }
            StoreError::Gone => Self::not_found(message),
            StoreError::Complete | StoreError::Digest { .. } | StoreError::Refused(_) => {
                Self::unprocessable(message)
            }
            StoreError::Busy => Self::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", message),
            StoreError::Io { .. } | StoreError::InUse(_) | StoreError::Name(_) | StoreError::Worker(_) => {
                tracing::error!("{message}");
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", message)
            }
        }
    }
}

impl From<kube::Error> for Problem {
    fn from(error: kube::Error) -> Self {
        let message = describe_kube_error(&error);
        match error {
            kube::Error::Api(status) if status.code == 404 => Self::not_found(message),
            kube::Error::Api(status) if status.code == 409 => Self::conflict(message),
            kube::Error::Api(status) if status.code == 422 => Self::unprocessable(message),
            kube::Error::Api(status) if status.code == 403 => {
                Self::new(StatusCode::FORBIDDEN, "Forbidden", message)
            }
            _ => Self::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", message),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason, "code": self.status.as_u16(),
        });
        let mut response = (self.status, Json(body)).into_response();
        let headers = response.headers_mut();
        if let Some(offset) = self.offset {
            headers.insert(UPLOAD_OFFSET, offset.into());
        }
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
        }
        response
    }
}
