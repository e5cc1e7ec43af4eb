//! What a service is asked: where, by whom, with which body.

use http::{HeaderMap, Method};
use serde_json::{Map, Value};

use super::{access::Principal, route::Route};
use crate::{error::ServiceError, message};

/// A URI of a service that has a route.
#[derive(Debug, Clone)]
pub struct Target<'a> {
    /// The path without a slash at the end, doubled slashes collapsed: `/redfish/v1/Systems/1`.
    pub uri: &'a str,
    /// The path in parts.
    pub(super) parts: Vec<&'a str>,
    /// Its route.
    pub route: &'a Route,
}

impl Target<'_> {
    /// The parts after `/redfish/v1`: `["Systems", "1"]`; empty for the service root.
    pub fn segments(&self) -> &[&str] {
        match self.parts.as_slice() {
            ["redfish", "v1", rest @ ..] => rest,
            other => other,
        }
    }
}

/// The body of a request.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum RequestBody {
    /// None was sent.
    #[default]
    Absent,
    /// A JSON object.
    Object(Map<String, Value>),
}

impl RequestBody {
    /// The object; none sent is an empty one, as actions without parameters allow.
    pub fn into_object(self) -> Map<String, Value> {
        match self {
            Self::Absent => Map::new(),
            Self::Object(map) => map,
        }
    }

    /// The object, which must be there and not be empty.
    ///
    /// # Errors
    /// 400 if it is not.
    pub fn required(self) -> Result<Map<String, Value>, ServiceError> {
        match self {
            Self::Absent => Err(ServiceError::bad_request(message::unrecognized_request_body())),
            Self::Object(map) if map.is_empty() => Err(ServiceError::bad_request(message::empty_json())),
            Self::Object(map) => Ok(map),
        }
    }
}

/// A request that may change something.
#[derive(Debug)]
pub struct WriteRequest<'a> {
    /// POST, PATCH, PUT or DELETE.
    pub method: Method,
    /// Where. A POST to `{collection}/Members` comes as one to the collection.
    pub target: Target<'a>,
    /// By whom. A login has nobody yet.
    pub principal: Option<&'a Principal>,
    /// The headers.
    pub headers: &'a HeaderMap,
    /// The body.
    pub body: RequestBody,
}
