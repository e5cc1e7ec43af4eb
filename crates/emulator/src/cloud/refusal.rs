//! Why a request is refused, in the words of OpenStack.

use http::StatusCode;
use serde_json::{Value, json};

use super::hot::HotError;

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    /// Status.
    pub(super) status: StatusCode,
    /// What Heat calls it.
    pub(super) kind: &'static str,
    /// Why.
    pub(super) message: String,
}

impl Refusal {
    /// A refusal.
    pub(super) fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        Self { status, kind, message: message.into() }
    }

    /// What was sent cannot be used.
    pub(super) fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "HTTPBadRequest", message)
    }

    /// There is no such stack, or resource.
    pub(super) fn missing(what: &str, name: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "EntityNotFound", format!("The {what} ({name}) could not be found."))
    }

    /// The state of the stack does not allow it.
    pub(super) fn conflict(kind: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, kind, message)
    }

    /// Something that is no fault of the client.
    pub(super) fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", message)
    }

    fn title(&self) -> &'static str {
        self.status.canonical_reason().unwrap_or("Error")
    }

    /// In the form of Heat.
    pub(super) fn of_heat(&self) -> Value {
        let explanation = match self.status {
            StatusCode::NOT_FOUND => "The resource could not be found.",
            StatusCode::CONFLICT => "There was a conflict when trying to complete your request.",
            StatusCode::BAD_REQUEST => {
                "The server could not comply with the request since it is either malformed or otherwise incorrect."
            }
            _ => "",
        };
        json!({"explanation": explanation, "code": self.status.as_u16(), "title": self.title(),
            "error": {"message": self.message, "traceback": null, "type": self.kind}})
    }

    /// In the form of Keystone and the others.
    pub(super) fn of_identity(&self) -> Value {
        json!({"error": {"code": self.status.as_u16(), "title": self.title(), "message": self.message}})
    }
}

impl From<HotError> for Refusal {
    fn from(error: HotError) -> Self {
        let message = error.to_string();
        Self::new(StatusCode::BAD_REQUEST, "StackValidationFailed", message.trim_start_matches(": "))
    }
}
