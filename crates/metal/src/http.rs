//! The boot listener: serves boot media to management controllers, which can neither log in nor keep secrets.
//!
//! A medium has a path that nobody can guess and that stays the same when Drystone restarts; it is there only while its
//! host is being provisioned. Nothing of the path is logged.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, RwLock},
};

use axum::{
    Router,
    body::Body,
    extract::{Path, State},
    http::{HeaderMap, HeaderValue, Response, StatusCode, header},
    routing::get,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use futures::StreamExt as _;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio_util::io::ReaderStream;
use url::Url;

/// Bytes of a file that are read at a time.
const READ_AT_ONCE: usize = 256 << 10;

/// A file that many hosts boot from, with something of one host's own laid over it.
#[derive(Clone)]
pub struct SharedMedium {
    /// The file.
    pub file: PathBuf,
    /// Its length in bytes.
    pub length: u64,
    /// Where the host's own begins.
    pub at: u64,
    /// The host's own.
    pub own: Arc<[u8]>,
}

#[derive(Clone)]
enum Medium {
    Bytes(Arc<[u8]>),
    Shared(SharedMedium),
}

impl Medium {
    fn length(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Shared(shared) => shared.length,
        }
    }

    async fn body(&self, from: u64, to: u64) -> std::io::Result<Body> {
        match self {
            Self::Bytes(bytes) => {
                let at = |place: u64| usize::try_from(place).unwrap_or(bytes.len()).min(bytes.len());
                Ok(Body::from(bytes[at(from)..at(to)].to_vec()))
            }
            Self::Shared(shared) => shared.body(from, to).await,
        }
    }
}

impl SharedMedium {
    async fn body(&self, from: u64, to: u64) -> std::io::Result<Body> {
        let mut file = tokio::fs::File::open(&self.file).await?;
        file.seek(std::io::SeekFrom::Start(from)).await?;
        let (own, own_at) = (Arc::clone(&self.own), self.at);
        let mut at = from;
        let pieces = ReaderStream::with_capacity(file.take(to - from), READ_AT_ONCE);
        Ok(Body::from_stream(pieces.map(move |piece| {
            let piece = piece?;
            let laid_over = lay_over(piece, at, &own, own_at);
            at += laid_over.len() as u64;
            Ok::<_, std::io::Error>(laid_over)
        })))
    }
}

/// A piece of a file from `at` on, with another text over the part that is the other text's place.
fn lay_over(piece: Bytes, at: u64, own: &[u8], own_at: u64) -> Bytes {
    let (end, own_end) = (at + piece.len() as u64, own_at + own.len() as u64);
    let (first, last) = (at.max(own_at), end.min(own_end));
    if first >= last {
        return piece;
    }
    let within = |place: u64, base: u64| usize::try_from(place - base).unwrap_or(usize::MAX);
    let mut changed = piece.to_vec();
    if let (Some(room), Some(text)) = (
        changed.get_mut(within(first, at)..within(last, at)),
        own.get(within(first, own_at)..within(last, own_at)),
    ) {
        room.copy_from_slice(text);
    }
    changed.into()
}

/// Media by path, and how paths are made. Cheap to clone.
#[derive(Clone)]
pub struct BootMedia {
    base: Url,
    secret: Arc<[u8]>,
    media: Arc<RwLock<HashMap<String, Medium>>>,
}

impl std::fmt::Debug for BootMedia {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BootMedia").field("base", &self.base.as_str()).finish_non_exhaustive()
    }
}

impl BootMedia {
    /// `base` is the listener's URL as management controllers see it; `secret` (32 bytes at least, kept across restarts)
    /// makes paths unguessable.
    pub fn new(base: Url, secret: impl Into<Arc<[u8]>>) -> Self {
        Self { base, secret: secret.into(), media: Arc::default() }
    }

    fn token(&self, host: &str, instance_id: &str) -> String {
        let mut digest = Sha256::new();
        for part in [&self.secret, host.as_bytes(), instance_id.as_bytes(), &self.secret] {
            digest.update((part.len() as u64).to_le_bytes());
            digest.update(part);
        }
        URL_SAFE_NO_PAD.encode(digest.finalize())
    }

    /// Offers a medium; returns its URL. The same host and instance always get the same path.
    pub fn offer(&self, host: &str, instance_id: &str, archive: Vec<u8>) -> Url {
        self.put(host, instance_id, "seed.tar", Medium::Bytes(archive.into()))
    }

    /// Offers a file system in memory; as [`offer`](Self::offer).
    pub fn offer_image(&self, host: &str, instance_id: &str, image: Vec<u8>) -> Url {
        self.put(host, instance_id, "agent.iso", Medium::Bytes(image.into()))
    }

    /// Offers a file with something of the host's own over it; as [`offer`](Self::offer).
    pub fn offer_shared(&self, host: &str, instance_id: &str, medium: SharedMedium) -> Url {
        self.put(host, instance_id, "agent.iso", Medium::Shared(medium))
    }

    fn put(&self, host: &str, instance_id: &str, name: &str, medium: Medium) -> Url {
        let token = self.token(host, instance_id);
        let mut url = self.base.clone();
        url.set_path(&format!("/boot/{token}/{name}"));
        if let Ok(mut media) = self.media.write() {
            media.insert(token, medium);
        }
        url
    }

    /// Stops offering a medium.
    pub fn withdraw(&self, host: &str, instance_id: &str) {
        if let Ok(mut media) = self.media.write() {
            media.remove(&self.token(host, instance_id));
        }
    }

    /// Whether a URL is the one that a host and instance have, whatever port it was offered on.
    pub fn is_url_of(&self, url: &str, host: &str, instance_id: &str) -> bool {
        url.contains(&format!("/boot/{}/", self.token(host, instance_id)))
    }

    fn find(&self, token: &str) -> Option<Medium> {
        self.media.read().ok().and_then(|media| media.get(token).cloned())
    }

    /// The routes of the listener.
    pub fn router(&self) -> Router {
        Router::new()
            .route("/boot/{token}/seed.tar", get(serve))
            .route("/boot/{token}/agent.iso", get(serve))
            .with_state(self.clone())
    }
}

async fn serve(
    State(media): State<BootMedia>,
    Path(token): Path<String>,
    headers: HeaderMap,
) -> Response<Body> {
    let Some(medium) = media.find(&token) else { return empty(StatusCode::NOT_FOUND) };
    let total = medium.length();
    let range = headers.get(header::RANGE).and_then(|value| value.to_str().ok());
    let (status, from, to) = match range.map(|range| parse_range(range, total)) {
        None => (StatusCode::OK, 0, total),
        Some(Some((from, to))) => (StatusCode::PARTIAL_CONTENT, from, to),
        Some(None) => return empty(StatusCode::RANGE_NOT_SATISFIABLE),
    };
    let body = match medium.body(from, to).await {
        Ok(body) => body,
        Err(error) => {
            tracing::error!(%error, "a boot medium cannot be read");
            return empty(StatusCode::INTERNAL_SERVER_ERROR);
        }
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(to - from));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if status == StatusCode::PARTIAL_CONTENT
        && let Ok(value) = HeaderValue::from_str(&format!("bytes {from}-{}/{total}", to.saturating_sub(1)))
    {
        headers.insert(header::CONTENT_RANGE, value);
    }
    response
}

fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// One range of bytes (RFC 9110, section 14.1.2) as a half-open interval; several ranges are not served.
fn parse_range(text: &str, total: u64) -> Option<(u64, u64)> {
    let (from, to) = text.strip_prefix("bytes=")?.split_once('-')?;
    let interval = match (from, to) {
        ("", suffix) => (total.saturating_sub(suffix.parse().ok()?), total),
        (from, "") => (from.parse().ok()?, total),
        (from, to) => (from.parse().ok()?, to.parse::<u64>().ok()?.checked_add(1)?.min(total)),
    };
    (interval.0 < interval.1).then_some(interval)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn media() -> BootMedia {
        BootMedia::new(Url::parse("http://127.0.0.1:8069").expect("valid"), vec![7; 32])
    }

    #[test]
    fn paths_are_stable_and_gone_when_withdrawn() {
        let media = media();
        let url = media.offer("a", "i-1", vec![1, 2, 3]);
        assert_eq!(url, media.offer("a", "i-1", vec![1, 2, 3]));
        assert_ne!(url, media.offer("b", "i-1", vec![]));
        assert!(media.is_url_of(&url.as_str().replace("8069", "9999"), "a", "i-1"));
        assert!(!media.is_url_of(url.as_str(), "a", "i-2"));
        let token = url.path_segments().and_then(|mut parts| parts.nth(1)).expect("a token").to_owned();
        assert!(media.find(&token).is_some());
        media.withdraw("a", "i-1");
        assert!(media.find(&token).is_none());
    }

    #[test]
    fn ranges() {
        assert_eq!(parse_range("bytes=0-3", 10), Some((0, 4)));
        assert_eq!(parse_range("bytes=4-", 10), Some((4, 10)));
        assert_eq!(parse_range("bytes=-3", 10), Some((7, 10)));
        assert_eq!(parse_range("bytes=4-100", 10), Some((4, 10)));
        for wrong in ["bytes=10-", "bytes=4-3", "bytes=", "items=0-1", "bytes=0-1,4-5"] {
            assert_eq!(parse_range(wrong, 10), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_a_host_s_own_lies_over_the_file() {
        let piece = |from: usize, to: usize| Bytes::copy_from_slice(&b"0123456789"[from..to]);
        let own = b"abc";
        for (from, to, expected) in [
            (0, 10, "012abc6789"),
            (0, 4, "012a"),
            (4, 5, "b"),
            (5, 10, "c6789"),
            (0, 3, "012"),
            (6, 10, "6789"),
        ] {
            let found = lay_over(piece(from, to), from as u64, own, 3);
            assert_eq!(found, expected.as_bytes(), "{from}..{to}");
        }
    }

    proptest! {
        #[test]
        fn any_range_is_inside(text in "bytes=[0-9]{0,25}-[0-9]{0,25}", total in 0_u64..100) {
            if let Some((from, to)) = parse_range(&text, total) { prop_assert!(from < to && to <= total); }
        }
    }
}
