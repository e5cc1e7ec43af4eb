//! What is read of a request: its query, what it accepts, its body.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use axum::{
    body::Body,
    http::{StatusCode, header, request::Parts},
};
use bytes::Bytes;
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use serde_json::{Map, Value};

use crate::refusal::Refusal;

/// Bytes of the largest JSON body: the API server keeps no larger objects.
pub(crate) const LARGEST_BODY: usize = 1024 * 1024;
/// How long the next bytes of a body may take.
const IDLE: Duration = Duration::from_secs(60);
/// Most query parameters.
const MOST_PARAMETERS: usize = 10_000;

/// A request on its way.
#[derive(Debug)]
pub(crate) struct Incoming {
    /// Everything but the body.
    pub(crate) parts: Parts,
    /// The body.
    pub(crate) body: Unread,
    /// Query parameters in their order, decoded.
    pub(crate) query: Query,
    /// Path of the document or collection that it is about, below `/v2`.
    pub(crate) path: String,
}

/// A body that nobody has begun to read: it can be shared among threads, which a body itself cannot.
#[derive(Debug)]
pub(crate) struct Unread(Mutex<Body>);

impl Unread {
    /// Of a body.
    pub(crate) fn new(body: Body) -> Self {
        Self(Mutex::new(body))
    }

    /// The bytes as they come; an error if none come for too long.
    pub(crate) fn into_stream(self) -> impl Stream<Item = Result<Bytes, BodyError>> + Send + 'static {
        let body = self.0.into_inner().unwrap_or_else(PoisonError::into_inner).into_data_stream();
        futures::stream::try_unfold(body.boxed(), |mut body| async move {
            match tokio::time::timeout(IDLE, body.next()).await {
                Ok(Some(Ok(bytes))) => Ok(Some((bytes, body))),
                Ok(Some(Err(error))) => Err(BodyError::CutOff(error.to_string())),
                Ok(None) => Ok(None),
                Err(_) => Err(BodyError::Idle),
            }
        })
    }

    /// All bytes, if they are not too many.
    pub(crate) async fn read(self) -> Result<Vec<u8>, Refusal> {
        let mut stream = std::pin::pin!(self.into_stream());
        let mut bytes = Vec::new();
        while let Some(part) = stream.try_next().await? {
            bytes.extend_from_slice(&part);
            if bytes.len() > LARGEST_BODY {
                let text = format!("the body has more than {LARGEST_BODY} bytes");
                return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, text));
            }
        }
        Ok(bytes)
    }
}

/// Why a body cannot be read to its end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BodyError {
    /// Nothing came for too long.
    #[error("no bytes came for {} s", IDLE.as_secs())]
    Idle,
    /// It ended before its end.
    #[error("the body is cut off: {0}")]
    CutOff(String),
}

impl From<BodyError> for Refusal {
    fn from(error: BodyError) -> Self {
        let status = match error {
            BodyError::Idle => StatusCode::REQUEST_TIMEOUT,
            BodyError::CutOff(_) => StatusCode::BAD_REQUEST,
        };
        Self::new(status, error.to_string())
    }
}

/// Query parameters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads a query.
    pub(crate) fn parse(text: Option<&str>) -> Result<Self, Refusal> {
        let pairs: Vec<(String, String)> = url::form_urlencoded::parse(text.unwrap_or_default().as_bytes())
            .take(MOST_PARAMETERS + 1)
            .map(|(name, value)| (name.into_owned(), value.into_owned()))
            .collect();
        if pairs.len() > MOST_PARAMETERS {
            let text = format!("the query has more than {MOST_PARAMETERS} parameters");
            return Err(Refusal::bad_request(text));
        }
        Ok(Self(pairs))
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The first value of one that is not empty.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let mut named = self.iter().filter(|(other, value)| *other == name && !value.is_empty());
        named.next().map(|(_, value)| value)
    }
}

/// What a client wants of a document with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// The body: as EMCO's `application/json`, and if the client does not say.
    Json,
    /// Body and file.
    Multipart,
    /// The file.
    File,
}

/// What a client wants, by its header `Accept`: the best of what it names.
pub(crate) fn wanted(parts: &Parts) -> Result<Wanted, Refusal> {
    let mut found: Option<(f32, Wanted)> = None;
    let mut is_given = false;
    for value in parts.headers.get_all(header::ACCEPT) {
        for part in value.to_str().unwrap_or_default().split(',') {
            is_given = true;
            let mut parameters = part.split(';').map(str::trim);
            let name = parameters.next().unwrap_or_default().to_ascii_lowercase();
            let quality = parameters.find_map(|parameter| parameter.strip_prefix("q="));
            let quality = quality.map_or(1.0, |quality| quality.parse::<f32>().unwrap_or(0.0));
            let meant = match name.as_str() {
                "application/json" | "*/*" | "application/*" => Wanted::Json,
                "multipart/form-data" | "multipart/*" => Wanted::Multipart,
                "application/octet-stream" => Wanted::File,
                _ => continue,
            };
            if quality > 0.0 && found.is_none_or(|(best, _)| quality > best) {
                found = Some((quality, meant));
            }
        }
    }
    match found {
        Some((_, wanted)) => Ok(wanted),
        None if !is_given => Ok(Wanted::Json),
        None => Err(Refusal::new(
            StatusCode::NOT_ACCEPTABLE,
            "set Accept: multipart/form-data, application/json or application/octet-stream",
        )),
    }
}

/// The media type of the body, without parameters, in lower case.
pub(crate) fn media_type(parts: &Parts) -> String {
    let value = parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    value.unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Metadata and specification as a client sent them.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Sent {
    /// `metadata`, its members named as they should be.
    pub(crate) metadata: Map<String, Value>,
    /// `clusterLabel`.
    pub(crate) label: Option<String>,
    /// `spec`.
    pub(crate) spec: Value,
}

impl Sent {
    /// Reads a body.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Err(Refusal::bad_request("Empty body"));
        }
        let value: Value =
            serde_json::from_slice(bytes).map_err(|error| Refusal::unprocessable(error.to_string()))?;
        let Value::Object(members) = value else {
            return Err(Refusal::unprocessable("the body must be an object with metadata and spec"));
        };
        let mut sent = Self::default();
        let text = |place: &str, value: &Value| {
            let wrong = || Refusal::unprocessable(format!("{place}: is not a string"));
            value.as_str().map(str::to_owned).ok_or_else(wrong)
        };
        for (name, value) in members {
            match name.to_ascii_lowercase().as_str() {
                _ if value.is_null() => {}
                "metadata" => {
                    let Value::Object(members) = value else {
                        return Err(Refusal::unprocessable("metadata: is not an object"));
                    };
                    for (name, value) in members.into_iter().filter(|(_, value)| !value.is_null()) {
                        const KNOWN: [&str; 4] = ["name", "description", "userData1", "userData2"];
                        let known = KNOWN.into_iter().find(|known| known.eq_ignore_ascii_case(&name));
                        if let Some(known) = known {
                            let value = text(&format!("metadata.{known}"), &value)?;
                            sent.metadata.insert(known.to_owned(), Value::from(value));
                        }
                    }
                }
                "clusterlabel" => sent.label = Some(text("clusterLabel", &value)?),
                "spec" => sent.spec = value,
                _ => {}
            }
        }
        Ok(sent)
    }

    /// `metadata.name`; empty if there is none.
    pub(crate) fn name(&self) -> &str {
        self.metadata.get("name").and_then(Value::as_str).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn parts(accept: &str) -> Parts {
        axum::http::Request::builder().header(header::ACCEPT, accept).body(()).unwrap().into_parts().0
    }

    #[test]
    fn what_is_wanted_is_read_from_the_header() {
        for (accept, meant) in [
            ("application/json", Wanted::Json),
            ("*/*", Wanted::Json),
            ("application/octet-stream", Wanted::File),
            ("multipart/form-data", Wanted::Multipart),
            ("application/json;q=0.5, Application/Octet-Stream", Wanted::File),
            ("text/html, */*;q=0.1", Wanted::Json),
        ] {
            assert_eq!(wanted(&parts(accept)), Ok(meant), "{accept}");
        }
        for accept in ["text/html", "application/json;q=0"] {
            assert_eq!(wanted(&parts(accept)).unwrap_err().status, 406);
        }
        let none = axum::http::Request::builder().body(()).unwrap().into_parts().0;
        assert_eq!(wanted(&none), Ok(Wanted::Json));
    }

    #[test]
    fn bodies_are_read_as_emco_reads_them() {
        let sent = Sent::parse(br#"{"Metadata": {"NAME": "a", "userdata1": "u", "x": 1, "description": null}, "spec": {"b": 1}, "y": []}"#);
        let sent = sent.unwrap();
        assert_eq!(sent.name(), "a");
        assert_eq!(Value::Object(sent.metadata), json!({"name": "a", "userData1": "u"}));
        assert_eq!(sent.spec, json!({"b": 1}));
        for (bytes, status, told) in [
            (&b""[..], 400, "Empty body"),
            (b" \n", 400, "Empty body"),
            (b"{", 422, "EOF"),
            (b"[]", 422, "object"),
            (br#"{"metadata": 5}"#, 422, "metadata: is not an object"),
            (br#"{"metadata": {"Name": 5}}"#, 422, "metadata.name: is not a string"),
        ] {
            let refused = Sent::parse(bytes).unwrap_err();
            assert_eq!(refused.status, status);
            assert!(refused.text.contains(told), "{}", refused.text);
        }
    }

    proptest! {
        #[test]
        fn any_body_is_read_or_refused(bytes in drystone_hostile::damaged([r#"{"metadata": {"name": "a"}, "spec": {"b": [1, null]}}"#])) {
            if let Err(refused) = Sent::parse(&bytes) {
                prop_assert!(refused.status.is_client_error());
            }
        }
    }
}
