//! The boot listener: serves boot media to management controllers, which can neither log in nor keep secrets.
//!
//! A medium has a path that nobody can guess and that stays the same when Drystone restarts; it is there only while its
//! host is being provisioned. Nothing of the path is logged.

use std::{
    collections::HashMap,
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
use sha2::{Digest as _, Sha256};
use url::Url;

/// Media by path, and how paths are made. Cheap to clone.
#[derive(Clone)]
pub struct BootMedia {
    base: Url,
    secret: Arc<[u8]>,
    media: Arc<RwLock<HashMap<String, Arc<[u8]>>>>,
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
        let token = self.token(host, instance_id);
        let mut url = self.base.clone();
        url.set_path(&format!("/boot/{token}/seed.tar"));
        if let Ok(mut media) = self.media.write() {
            media.insert(token, archive.into());
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

    fn find(&self, token: &str) -> Option<Arc<[u8]>> {
        self.media.read().ok().and_then(|media| media.get(token).cloned())
    }

    /// The routes of the listener.
    pub fn router(&self) -> Router {
        Router::new().route("/boot/{token}/seed.tar", get(serve)).with_state(self.clone())
    }
}

async fn serve(
    State(media): State<BootMedia>,
    Path(token): Path<String>,
    headers: HeaderMap,
) -> Response<Body> {
    let Some(bytes) = media.find(&token) else { return empty(StatusCode::NOT_FOUND) };
    let total = bytes.len();
    let range = headers.get(header::RANGE).and_then(|value| value.to_str().ok());
    let (status, from, to) = match range.map(|range| parse_range(range, total)) {
        None => (StatusCode::OK, 0, total),
        Some(Some((from, to))) => (StatusCode::PARTIAL_CONTENT, from, to),
        Some(None) => return empty(StatusCode::RANGE_NOT_SATISFIABLE),
    };
    let mut response = Response::new(Body::from(bytes[from..to].to_vec()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-tar"));
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
fn parse_range(text: &str, total: usize) -> Option<(usize, usize)> {
    let (from, to) = text.strip_prefix("bytes=")?.split_once('-')?;
    let interval = match (from, to) {
        ("", suffix) => (total.saturating_sub(suffix.parse().ok()?), total),
        (from, "") => (from.parse().ok()?, total),
        (from, to) => (from.parse().ok()?, to.parse::<usize>().ok()?.checked_add(1)?.min(total)),
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

    proptest! {
        #[test]
        fn any_range_is_inside(text in "bytes=[0-9]{0,25}-[0-9]{0,25}", total in 0_usize..100) {
            if let Some((from, to)) = parse_range(&text, total) { prop_assert!(from < to && to <= total); }
        }
    }
}
