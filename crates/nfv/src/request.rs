//! What is read of a request: its query, what it accepts, its body.

use axum::{
    body::{Body, BodyDataStream},
    http::{StatusCode, header, request::Parts},
};
use futures::StreamExt as _;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use crate::problem::Problem;

/// Bytes of the largest JSON body: the API server keeps no larger objects.
const LARGEST_BODY: usize = 1024 * 1024;
/// How long the next bytes of a body may take.
pub(crate) const IDLE: Duration = Duration::from_secs(60);
/// Most query parameters.
const MOST_PARAMETERS: usize = 64;

/// Media type of bodies.
pub(crate) const JSON: &str = "application/json";
/// Media type of changes.
pub(crate) const MERGE_PATCH: &str = "application/merge-patch+json";

/// A request on its way.
#[derive(Debug)]
pub(crate) struct Incoming {
    /// Everything but the body.
    pub(crate) parts: Parts,
    /// The body.
    pub(crate) body: Unread,
    /// Query parameters in their order, decoded.
    pub(crate) query: Query,
    /// What stands in the path where the pattern leaves it open.
    pub(crate) ids: Vec<String>,
    /// `https://host:port`, by which the client knows this service.
    pub(crate) base: String,
}

/// A body that nobody has begun to read: it can be shared among threads, which a body itself cannot.
#[derive(Debug)]
pub(crate) struct Unread(Mutex<Body>);

impl Unread {
    /// Of a body.
    pub(crate) fn new(body: Body) -> Self {
        Self(Mutex::new(body))
    }

    /// The bytes as they come.
    pub(crate) fn into_stream(self) -> BodyDataStream {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner).into_data_stream()
    }
}

impl Incoming {
    /// The first open part of the path.
    pub(crate) fn id(&self) -> &str {
        self.ids.first().map_or("", String::as_str)
    }

    /// The URL without the query.
    pub(crate) fn url(&self) -> String {
        format!("{}{}", self.base, self.parts.uri.path())
    }
}

/// Query parameters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads a query.
    pub(crate) fn parse(text: Option<&str>) -> Result<Self, Problem> {
        let pairs: Vec<(String, String)> = url::form_urlencoded::parse(text.unwrap_or_default().as_bytes())
            .take(MOST_PARAMETERS + 1)
            .map(|(name, value)| (name.into_owned(), value.into_owned()))
            .collect();
        if pairs.len() > MOST_PARAMETERS {
            return Err(Problem::bad_request(format!(
                "the query has more than {MOST_PARAMETERS} parameters"
            )));
        }
        for (index, (name, _)) in pairs.iter().enumerate() {
            if pairs.iter().take(index).any(|(other, _)| other == name) && name != "fields" {
                return Err(Problem::bad_request(format!("query parameter {name:?} is given twice")));
            }
        }
        Ok(Self(pairs))
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The value of one.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(other, _)| *other == name).map(|(_, value)| value)
    }
}

/// Whether a client takes a media type, by its header `Accept`.
pub(crate) fn accepts(parts: &Parts, media: &str) -> bool {
    let mut is_given = false;
    let family = media.split('/').next().unwrap_or_default();
    for value in parts.headers.get_all(header::ACCEPT) {
        for part in value.to_str().unwrap_or_default().split(',') {
            is_given = true;
            let (name, parameters) = part.split_once(';').unwrap_or((part, ""));
            let refused = parameters.split(';').any(|parameter| {
                let quality = parameter.trim().strip_prefix("q=");
                quality
                    .is_some_and(|quality| quality.trim().parse::<f32>().is_ok_and(|quality| quality <= 0.0))
            });
            let name = name.trim();
            let fits = name == "*/*"
                || name.eq_ignore_ascii_case(media)
                || name.strip_suffix("/*").is_some_and(|given| given.eq_ignore_ascii_case(family));
            if fits && !refused {
                return true;
            }
        }
    }
    !is_given
}

/// Refuses clients that take no JSON.
pub(crate) fn check_accepts_json(parts: &Parts) -> Result<(), Problem> {
    if accepts(parts, JSON) {
        return Ok(());
    }
    Err(Problem::new(StatusCode::NOT_ACCEPTABLE, format!("header Accept: only {JSON} is served here")))
}

/// The media type of the body, without parameters.
pub(crate) fn media_type(parts: &Parts) -> Option<&str> {
    let value = parts.headers.get(header::CONTENT_TYPE)?.to_str().unwrap_or("unreadable");
    Some(value.split(';').next().unwrap_or_default().trim())
}

/// Refuses a body that is not of a media type.
pub(crate) fn check_media(parts: &Parts, media: &str) -> Result<(), Problem> {
    match media_type(parts) {
        Some(given) if given.eq_ignore_ascii_case(media) => Ok(()),
        given => Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            format!("header Content-Type: {media} is expected, not {}", given.unwrap_or("nothing")),
        )),
    }
}

/// Reads a body that is JSON.
pub(crate) async fn read_json(parts: &Parts, body: Unread, media: &str) -> Result<Value, Problem> {
    check_media(parts, media)?;
    let bytes = read(body.into_stream()).await?;
    serde_json::from_slice(&bytes)
        .map_err(|error| Problem::bad_request(format!("the body is no JSON: {error}")))
}

/// Reads a body that is JSON, or nothing at all.
pub(crate) async fn read_optional_json(parts: &Parts, body: Unread) -> Result<Value, Problem> {
    let bytes = read(body.into_stream()).await?;
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(Value::Object(serde_json::Map::new()));
    }
    check_media(parts, JSON)?;
    serde_json::from_slice(&bytes)
        .map_err(|error| Problem::bad_request(format!("the body is no JSON: {error}")))
}

async fn read(mut stream: BodyDataStream) -> Result<Vec<u8>, Problem> {
    let mut bytes = Vec::new();
    loop {
        match tokio::time::timeout(IDLE, stream.next()).await {
            Ok(Some(Ok(part))) => bytes.extend_from_slice(&part),
            Ok(Some(Err(error))) => {
                return Err(Problem::bad_request(format!("the body is cut off: {error}")));
            }
            Ok(None) => return Ok(bytes),
            Err(_) => {
                let detail = format!("no bytes came for {} s", IDLE.as_secs());
                return Err(Problem::new(StatusCode::REQUEST_TIMEOUT, detail));
            }
        }
        if bytes.len() > LARGEST_BODY {
            let detail = format!("the body has more than {LARGEST_BODY} bytes");
            return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail));
        }
    }
}

/// Reads a value as a type; the attribute that is wrong is named.
pub(crate) fn typed<T: DeserializeOwned>(value: Value) -> Result<T, Problem> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string().replace('.', "/");
        let place = if path == "/" || path.is_empty() { "the body".to_owned() } else { path };
        Problem::bad_request(format!("{place}: {}", error.inner()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(accept: &str) -> Parts {
        axum::http::Request::builder().header(header::ACCEPT, accept).body(()).unwrap().into_parts().0
    }

    #[test]
    fn what_is_accepted_is_read_from_the_header() {
        for good in ["application/json", "*/*", "text/html, application/*;q=0.5", "APPLICATION/JSON"] {
            assert!(accepts(&parts(good), JSON), "{good}");
        }
        for bad in ["text/plain", "application/json;q=0", "application/zip, text/*"] {
            assert!(!accepts(&parts(bad), JSON), "{bad}");
        }
        let none = axum::http::Request::builder().body(()).unwrap().into_parts().0;
        assert!(accepts(&none, JSON));
    }

    #[test]
    fn a_wrong_attribute_is_named() {
        #[derive(Debug, serde::Deserialize)]
        struct Inner {
            #[serde(rename = "b")]
            _b: Vec<u32>,
        }
        #[derive(Debug, serde::Deserialize)]
        struct Outer {
            #[serde(rename = "a")]
            _a: Inner,
        }
        let problem = typed::<Outer>(serde_json::json!({"a": {"b": [1, "x"]}})).unwrap_err();
        assert!(problem.detail.starts_with("a/b[1]: "), "{}", problem.detail);
    }

    #[test]
    fn a_query_is_decoded_and_nothing_is_given_twice() {
        let query = Query::parse(Some("filter=%28eq%2Cid%2Ca+b%29&all_fields")).unwrap();
        assert_eq!(query.get("filter"), Some("(eq,id,a b)"));
        assert_eq!(query.get("all_fields"), Some(""));
        assert!(Query::parse(Some("filter=a&filter=b")).is_err());
    }
}
