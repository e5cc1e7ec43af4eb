//! What a service answered.

use http::{HeaderMap, StatusCode, header};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::time::Duration;

use super::{error::RedfishError, retry::retry_after};
use crate::{etag::ETag, types::from_body};

/// A resource as it was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Resource {
    /// Where it was read.
    pub uri: String,
    /// Its entity tag, if the service has them.
    pub etag: Option<ETag>,
    /// Its body.
    pub body: Value,
}

impl Resource {
    /// Reads the body as a type.
    ///
    /// # Errors
    /// [`RedfishError::Malformed`] if it does not fit.
    pub fn parse<T: DeserializeOwned>(self) -> Result<Fetched<T>, RedfishError> {
        let value = from_body(self.body).map_err(|error| RedfishError::malformed(&self.uri, error))?;
        Ok(Fetched { uri: self.uri, etag: self.etag, value })
    }
}

/// A resource as it was read, as a type.
#[derive(Debug, Clone, PartialEq)]
pub struct Fetched<T> {
    /// Where it was read.
    pub uri: String,
    /// Its entity tag, if the service has them.
    pub etag: Option<ETag>,
    /// The resource.
    pub value: T,
}

/// What became of a write.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// It is done.
    Done {
        /// HTTP status.
        status: u16,
        /// URI of what was created.
        location: Option<String>,
        /// The resource, or what the action returns.
        body: Option<Value>,
    },
    /// It goes on; see [`super::Client::complete`].
    Accepted {
        /// URI that tells when it is done.
        monitor: String,
        /// When the service wants to be asked.
        retry_after: Option<Duration>,
    },
}

impl Outcome {
    pub(super) fn done() -> Self {
        Self::Done { status: StatusCode::NO_CONTENT.as_u16(), location: None, body: None }
    }

    /// URI of what was created.
    pub fn location(&self) -> Option<&str> {
        match self {
            Self::Done { location, .. } => location.as_deref(),
            Self::Accepted { .. } => None,
        }
    }

    /// What came back.
    pub fn body(&self) -> Option<&Value> {
        match self {
            Self::Done { body, .. } => body.as_ref(),
            Self::Accepted { .. } => None,
        }
    }
}

/// A successful answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Option<Value>,
}

impl Answer {
    pub(super) fn into_resource(self, uri: &str) -> Result<Resource, RedfishError> {
        let body = self.body.ok_or_else(|| RedfishError::malformed(uri, "the resource has no body"))?;
        if !body.is_object() {
            return Err(RedfishError::malformed(uri, "the body is no JSON object"));
        }
        // The header goes first: some services forget the property.
        let header = self.headers.get(header::ETAG).and_then(|value| value.to_str().ok());
        let etag = header.or_else(|| body.get("@odata.etag").and_then(Value::as_str)).map(ETag::from_header);
        Ok(Resource { uri: uri.to_owned(), etag, body })
    }

    pub(super) fn into_outcome(self) -> Outcome {
        let location = self.headers.get(header::LOCATION).and_then(|value| value.to_str().ok()).map(path_of);
        match (self.status, location) {
            (StatusCode::ACCEPTED, Some(monitor)) => {
                Outcome::Accepted { monitor, retry_after: retry_after(&self.headers) }
            }
            (status, location) => Outcome::Done { status: status.as_u16(), location, body: self.body },
        }
    }
}

/// The path of a `Location`, which may be a whole URL.
fn path_of(location: &str) -> String {
    match url::Url::parse(location) {
        Ok(url) => url.path().to_owned(),
        Err(_) => location.to_owned(),
    }
}
