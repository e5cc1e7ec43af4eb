//! Errors in the protocol's own form (DSP0266, "Error responses"): a status and a body of messages.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::message::{self, Message};

/// Why a service refuses a request. Nothing has been changed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{status}: {}", .messages.iter().map(|message| message.message.as_str()).collect::<Vec<_>>().join(" "))]
pub struct ServiceError {
    /// Status of the reply.
    pub status: StatusCode,
    /// What is wrong; at least one.
    pub messages: Vec<Message>,
    /// Further headers; boxed, because few errors have any and every reply carries the type.
    headers: Option<Box<HeaderMap>>,
}

impl ServiceError {
    /// An error with one message.
    pub fn new(status: StatusCode, message: Message) -> Self {
        Self { status, messages: vec![message], headers: None }
    }

    /// An error with several messages; none stands for a general error.
    pub fn several(status: StatusCode, messages: Vec<Message>) -> Self {
        let messages = if messages.is_empty() { vec![message::general_error()] } else { messages };
        Self { status, messages, headers: None }
    }

    /// 400 with one message.
    pub fn bad_request(message: Message) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// 409 with one message.
    pub fn conflict(message: Message) -> Self {
        Self::new(StatusCode::CONFLICT, message)
    }

    /// 404 for a URI.
    pub fn not_found(uri: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, message::resource_missing_at_uri(uri))
    }

    /// 500. The reason goes to the log, not to the caller.
    pub fn internal(reason: &dyn std::fmt::Display) -> Self {
        tracing::error!(%reason, "a Redfish request failed inside the service");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, message::internal_error())
    }

    /// 503 with `Retry-After`.
    pub fn unavailable(message: Message, retry_after_seconds: u64) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, message)
            .with_header(header::RETRY_AFTER, HeaderValue::from(retry_after_seconds))
    }

    /// 405 with the methods that are allowed.
    pub fn method_not_allowed(allow: HeaderValue) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, message::operation_not_allowed())
            .with_header(header::ALLOW, allow)
    }

    /// Adds a header to the reply.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.get_or_insert_default().insert(name, value);
        self
    }

    /// Further headers of the reply: `Allow`, `Retry-After` …
    pub fn headers(&self) -> HeaderMap {
        self.headers.as_deref().cloned().unwrap_or_default()
    }

    /// The body: `{"error": {"code", "message", "@Message.ExtendedInfo"}}`.
    pub fn body(&self) -> Value {
        let (code, text) = match self.messages.as_slice() {
            [only] => (only.message_id.clone(), only.message.clone()),
            _ => {
                let general = message::general_error();
                (general.message_id, general.message)
            }
        };
        json!({"error": {"code": code, "message": text, "@Message.ExtendedInfo": self.messages}})
    }
}

/// An error body as a client reads it; lenient, since services differ.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(crate) struct ErrorBody {
    #[serde(default)]
    pub(crate) error: ErrorDetail,
}

/// The inside of an error body.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct ErrorDetail {
    pub(crate) code: String,
    pub(crate) message: String,
    #[serde(rename = "@Message.ExtendedInfo")]
    pub(crate) extended_info: Vec<Message>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_message_gives_the_code_and_several_a_general_one() {
        let one = ServiceError::bad_request(message::property_unknown("Colour"));
        assert_eq!(one.body()["error"]["code"], "Base.1.22.PropertyUnknown");
        let messages = vec![message::property_unknown("Colour"), message::property_not_writable("Id")];
        let two = ServiceError::several(StatusCode::BAD_REQUEST, messages).body();
        assert_eq!(two["error"]["code"], "Base.1.22.GeneralError");
        assert_eq!(two["error"]["@Message.ExtendedInfo"][1]["MessageArgs"][0], "Id");
    }

    #[test]
    fn a_client_reads_what_a_service_writes() {
        let body = ServiceError::not_found("/redfish/v1/Nothing").body();
        let read: ErrorBody = serde_json::from_value(body).unwrap();
        assert_eq!(read.error.extended_info[0].key(), "ResourceMissingAtURI");
    }
}
