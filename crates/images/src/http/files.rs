//! Fetching images, at paths that nobody can guess: whoever boots or installs a host can neither log in nor keep a secret.
//!
//! A path has the upload's name and a code (HMAC-SHA-256) over it and the digest under a secret of this Drystone, so it stays the same for as
//! long as the image does, and is worthless when the image is deleted or becomes another one.

use std::{fs::File, io, os::unix::fs::FileExt as _, sync::Arc};

use aws_lc_rs::hmac;
use axum::{
    body::Body,
    extract::{Path, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    response::Response,
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream};
use rand::{Rng as _, distr::Alphanumeric};

use super::ranges::{ByteRange, Ranges, parse};
use crate::{
    digest::Digest,
    store::{Store, UploadId},
};

/// Bytes that are read at a time.
const PIECE: u64 = 128 * 1024;
/// Pieces that are read ahead.
const AHEAD: usize = 3;
/// Bytes of a code.
const CODE: usize = 32;
/// Digest of what is sent, whatever part of it this is (RFC 9530).
const REPR_DIGEST: HeaderName = HeaderName::from_static("repr-digest");

/// Serves images. Cheap to clone.
#[derive(Clone)]
pub struct Files {
    store: Store,
    key: Arc<hmac::Key>,
}

impl std::fmt::Debug for Files {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Files").field("store", &self.store.identity()).finish_non_exhaustive()
    }
}

impl Files {
    /// Of a store. `secret` (32 bytes at least, kept across restarts) makes paths unguessable; it may be used for other things too.
    pub fn new(store: Store, secret: &[u8]) -> Self {
        // A key of its own, so that a code for one thing is never good for another.
        let derived = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), b"drystone image capability");
        Self { store, key: Arc::new(hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref())) }
    }

    fn message(id: &UploadId, digest: &Digest) -> Vec<u8> {
        let mut message = digest.bytes().to_vec();
        message.extend_from_slice(id.as_str().as_bytes());
        message
    }

    /// Path of an image.
    pub fn path(&self, id: &UploadId, digest: &Digest) -> String {
        let mut token = hmac::sign(&self.key, &Self::message(id, digest)).as_ref().to_vec();
        token.extend_from_slice(id.as_str().as_bytes());
        format!("/images/{}/{digest}", URL_SAFE_NO_PAD.encode(token))
    }

    /// The image that a path leads to.
    fn find(&self, token: &str, digest: &str) -> Option<Digest> {
        let digest: Digest = digest.parse().ok()?;
        let token = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (code, id) = token.split_at_checked(CODE)?;
        let id = UploadId::new(std::str::from_utf8(id).ok()?).ok()?;
        hmac::verify(&self.key, &Self::message(&id, &digest), code).ok()?;
        let finished = self.store.look(&id)?.finished?;
        (finished.digest == digest).then_some(digest)
    }
}

/// Answers GET and HEAD.
pub(super) async fn serve(
    State(files): State<Files>,
    Path((token, digest)): Path<(String, String)>,
    request: Request,
) -> Response {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = bare(StatusCode::METHOD_NOT_ALLOWED);
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let store = files.store.clone();
    let opened = tokio::task::spawn_blocking(move || {
        let digest = files.find(&token, &digest)?;
        Some((digest, store.read(&digest)))
    });
    match opened.await {
        Ok(Some((digest, Ok((file, length))))) => {
            answer(request.method(), request.headers(), &digest, file, length)
        }
        Ok(Some((digest, Err(error)))) => {
            tracing::error!(%digest, "an image cannot be read: {error}");
            bare(StatusCode::INTERNAL_SERVER_ERROR)
        }
        Ok(None) => bare(StatusCode::NOT_FOUND),
        Err(error) => {
            tracing::error!("a worker of the image store ended early: {error}");
            bare(StatusCode::INTERNAL_SERVER_ERROR)
        }
    }
}

fn bare(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// A header's value; those made here are always valid.
fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// Whether a list of entity tags has this one, or is `*`.
fn has_tag(list: &HeaderValue, tag: &str, weakly: bool) -> bool {
    let Ok(list) = list.to_str() else { return false };
    list.split(',').map(str::trim).any(|item| {
        let item = if weakly { item.strip_prefix("W/").unwrap_or(item) } else { item };
        item == "*" || item == tag
    })
}

fn answer(method: &Method, request: &HeaderMap, digest: &Digest, file: File, length: u64) -> Response {
    let tag = format!("\"{digest}\"");
    let mut response = if request.get(header::IF_MATCH).is_some_and(|list| !has_tag(list, &tag, false)) {
        bare(StatusCode::PRECONDITION_FAILED)
    } else if request.get(header::IF_NONE_MATCH).is_some_and(|list| has_tag(list, &tag, true)) {
        bare(StatusCode::NOT_MODIFIED)
    } else {
        // What was changed since is sent as a whole. A date is never that of an image: it has none.
        let current = request.get(header::IF_RANGE).is_none_or(|known| known.as_bytes() == tag.as_bytes());
        let asked = request.get(header::RANGE).filter(|_| current && *method == Method::GET);
        let ranges = asked.map_or(Ranges::Whole, |range| {
            range.to_str().map_or(Ranges::Unsatisfiable, |range| parse(range, length))
        });
        content(method, ranges, file, length)
    };
    let headers = response.headers_mut();
    set(headers, header::ETAG, &tag);
    set(headers, header::ACCEPT_RANGES, "bytes");
    // What a digest names never changes; but who may read it is not for shared caches to decide.
    set(headers, header::CACHE_CONTROL, "private, max-age=31536000, immutable");
    set(headers, REPR_DIGEST, &format!("sha-256=:{}:", STANDARD.encode(digest.bytes())));
    response
}

fn content(method: &Method, ranges: Ranges, file: File, length: u64) -> Response {
    let file = Arc::new(file);
    let whole = ByteRange { start: 0, end: length };
    let (status, range) = match ranges {
        Ranges::Unsatisfiable => {
            let mut response = bare(StatusCode::RANGE_NOT_SATISFIABLE);
            set(response.headers_mut(), header::CONTENT_RANGE, &format!("bytes */{length}"));
            return response;
        }
        Ranges::Parts(parts) => match parts.as_slice() {
            [range] => (StatusCode::PARTIAL_CONTENT, *range),
            _ => return several(&file, &parts, length),
        },
        Ranges::Whole => (StatusCode::OK, whole),
    };
    let mut response = bare(status);
    let headers = response.headers_mut();
    set(headers, header::CONTENT_TYPE, "application/octet-stream");
    set(headers, header::CONTENT_LENGTH, &range.length().to_string());
    if status == StatusCode::PARTIAL_CONTENT {
        set(headers, header::CONTENT_RANGE, &range.content_range(length));
    }
    if *method == Method::GET {
        *response.body_mut() = Body::from_stream(pieces(file, range));
    }
    response
}

/// Several ranges, as parts of one body (RFC 9110, section 14.6).
fn several(file: &Arc<File>, parts: &[ByteRange], length: u64) -> Response {
    let letters = rand::rng().sample_iter(&Alphanumeric).take(32).map(char::from);
    let boundary: String = letters.collect();
    let mut total = 0;
    let mut body = Vec::new();
    for (number, part) in parts.iter().enumerate() {
        let before = if number == 0 { "" } else { "\r\n" };
        let head = format!(
            "{before}--{boundary}\r\nContent-Type: application/octet-stream\r\nContent-Range: {}\r\n\r\n",
            part.content_range(length)
        );
        total += head.len() as u64 + part.length();
        body.push(text(head).chain(pieces(Arc::clone(file), *part)).boxed());
    }
    let end = format!("\r\n--{boundary}--\r\n");
    total += end.len() as u64;
    body.push(text(end).boxed());
    let mut response = Response::new(Body::from_stream(stream::iter(body).flatten()));
    *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    let headers = response.headers_mut();
    set(headers, header::CONTENT_TYPE, &format!("multipart/byteranges; boundary={boundary}"));
    set(headers, header::CONTENT_LENGTH, &total.to_string());
    response
}

fn text(text: String) -> impl Stream<Item = io::Result<Bytes>> + Send {
    stream::iter([Ok(Bytes::from(text))])
}

/// The bytes of a range, a few pieces read ahead.
fn pieces(file: Arc<File>, range: ByteRange) -> impl Stream<Item = io::Result<Bytes>> + Send {
    let starts = stream::unfold(range.start, move |at| async move {
        (at < range.end).then(|| (at, at.saturating_add(PIECE)))
    });
    let read = move |start: u64| {
        let file = Arc::clone(&file);
        let length = usize::try_from(PIECE.min(range.end - start)).unwrap_or_default();
        async move {
            let work = tokio::task::spawn_blocking(move || {
                let mut piece = vec![0; length];
                file.read_exact_at(&mut piece, start)?;
                Ok(Bytes::from(piece))
            });
            work.await.map_err(io::Error::other)?
        }
    };
    starts.map(read).buffered(AHEAD)
}
