//! A service that notes what it is asked, and always agrees.

use std::sync::{Arc, Mutex};

use axum::{Router, body::Bytes, extract::State, http::StatusCode, response::IntoResponse};
use http::{HeaderMap, Method, Uri, header};
use serde_json::Value;

/// A request, without what is of no consequence.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Asked {
    pub(crate) line: String,
    pub(crate) body: Sent,
}

/// What was sent.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Sent {
    Nothing,
    Json(Value),
    /// `metadata`, and the fields and contents of files.
    Form(Value, Vec<(String, Vec<u8>)>),
}

#[derive(Clone, Default)]
pub(crate) struct Recorder(Arc<Mutex<Vec<Asked>>>);

impl Recorder {
    /// Serves on a port of 127.0.0.1.
    pub(crate) async fn start() -> (Self, u16) {
        let recorder = Self::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let router = Router::new().fallback(note).with_state(recorder.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (recorder, port)
    }

    pub(crate) fn take(&self) -> Vec<Asked> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

async fn note(
    State(recorder): State<Recorder>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> impl IntoResponse {
    let kind =
        headers.get(header::CONTENT_TYPE).map(|kind| kind.to_str().unwrap().to_owned()).unwrap_or_default();
    let body = match kind.strip_prefix("multipart/form-data; boundary=") {
        _ if body.is_empty() => Sent::Nothing,
        None => Sent::Json(serde_json::from_slice(&body).unwrap()),
        Some(boundary) => form(&body, boundary),
    };
    recorder.0.lock().unwrap().push(Asked { line: format!("{method} {uri}"), body });
    let last = uri.path().rsplit('/').next().unwrap_or_default();
    let status = match method {
        Method::POST if ["instantiate", "terminate", "approve"].contains(&last) => StatusCode::ACCEPTED,
        Method::POST => StatusCode::CREATED,
        Method::DELETE => StatusCode::NO_CONTENT,
        _ => StatusCode::OK,
    };
    (status, if status == StatusCode::OK { "{}" } else { "" })
}

fn form(body: &[u8], boundary: &str) -> Sent {
    let mark = format!("--{boundary}");
    let mut metadata = Value::Null;
    let mut files = Vec::new();
    let mut rest = body;
    while let Some(at) = find(rest, mark.as_bytes()) {
        let part = rest[..at].strip_suffix(b"\r\n").unwrap_or(&rest[..at]);
        rest = &rest[at + mark.len()..];
        let Some(split) = find(part, b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&part[..split]).into_owned();
        let contents = part[split + 4..].to_vec();
        let name = head.split("name=\"").nth(1).and_then(|text| text.split('"').next()).unwrap().to_owned();
        if name == "metadata" {
            metadata = serde_json::from_slice(&contents).unwrap();
        } else {
            assert!(head.contains("filename=\""), "{head}");
            files.push((name, contents));
        }
    }
    assert!(rest.starts_with(b"--"), "the form ends");
    Sent::Form(metadata, files)
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}
