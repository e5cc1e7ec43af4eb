//! Fetches an image: as a stream that goes on where a connection broke, and in pieces.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use reqwest::{
    Client, Response, StatusCode,
    header::{CONTENT_RANGE, ETAG, IF_RANGE, RANGE},
};
use url::Url;

use crate::client::{backoff, innermost};

/// Failures in a row after which a fetch is given up.
const ATTEMPTS: u32 = 10;

/// Why an image cannot be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The server refuses.
    #[error("{url} answers {status}")]
    Status {
        /// What was fetched.
        url: Url,
        /// Its answer.
        status: u16,
    },
    /// It cannot be reached, or breaks off again and again.
    #[error("{url} cannot be fetched: {reason} ({attempts} times in a row)")]
    Broken {
        /// What was fetched.
        url: Url,
        /// The last reason.
        reason: String,
        /// How often.
        attempts: u32,
    },
    /// It changed while it was fetched.
    #[error("{0} changed while it was fetched")]
    Changed(Url),
    /// The server does not serve ranges.
    #[error(
        "the server of {0} does not serve ranges of bytes, which images of format qcow2 need; serve it elsewhere or convert it to raw"
    )]
    NoRanges(Url),
    /// Something that should be small is not.
    #[error("{url} has more than {limit} bytes")]
    TooLarge {
        /// What was fetched.
        url: Url,
        /// The limit.
        limit: usize,
    },
    /// Whoever takes the bytes has stopped.
    #[error("what was fetched could not be taken in")]
    Stopped,
}

/// Where addresses are reached that cannot be reached as they are; an emulated host is not where its network is.
#[derive(Debug, Clone, Default)]
pub struct Detours(Vec<(SocketAddr, SocketAddr)>);

impl Detours {
    /// `named` is dialled at `real`.
    pub fn with(mut self, named: SocketAddr, real: SocketAddr) -> Self {
        self.0.push((named, real));
        self
    }

    /// The URL to dial.
    pub fn apply(&self, url: &Url) -> Url {
        let mut url = url.clone();
        let named = url.host_str().and_then(|host| host.trim_matches(['[', ']']).parse().ok());
        let named = named.zip(url.port_or_known_default()).map(|(ip, port)| SocketAddr::new(ip, port));
        if let Some((_, real)) = self.0.iter().find(|(from, _)| Some(*from) == named) {
            // Neither can fail for a URL with a host.
            let _ = url.set_ip_host(real.ip());
            let _ = url.set_port(Some(real.port()));
        }
        url
    }
}

/// Fetches from one URL.
#[derive(Debug, Clone)]
pub struct Fetcher {
    http: Client,
    /// As it is told to people.
    url: Url,
    /// As it is dialled.
    dialled: Url,
}

impl Fetcher {
    /// A fetcher for a URL.
    pub fn new(http: Client, url: Url, detours: &Detours) -> Self {
        let dialled = detours.apply(&url);
        Self { http, url, dialled }
    }

    async fn get(&self, range: Option<String>, if_range: Option<&str>) -> Result<Response, Retry> {
        let mut request = self.http.get(self.dialled.clone());
        if let Some(range) = range {
            request = request.header(RANGE, range);
        }
        if let Some(tag) = if_range {
            request = request.header(IF_RANGE, tag);
        }
        let response = request.send().await.map_err(|error| Retry::Again(innermost(&error)))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        if status.is_server_error()
            || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT)
        {
            return Err(Retry::Again(format!("it answers {status}")));
        }
        Err(Retry::Never(FetchError::Status { url: self.url.clone(), status: status.as_u16() }))
    }

    fn broken(&self, reason: String) -> FetchError {
        FetchError::Broken { url: self.url.clone(), reason, attempts: ATTEMPTS }
    }

    /// Begins, and says how many bytes there are if the server does.
    ///
    /// # Errors
    /// It cannot be fetched.
    pub async fn start(&self) -> Result<Download, FetchError> {
        let mut failures = 0;
        let response = loop {
            match self.get(None, None).await {
                Ok(response) => break response,
                Err(retry) => self.pause(retry, &mut failures).await?,
            }
        };
        let total = response.content_length();
        // Only a strong tag says that the bytes are the same.
        let tag = response.headers().get(ETAG).and_then(|tag| tag.to_str().ok());
        let tag = tag.filter(|tag| !tag.starts_with("W/")).map(str::to_owned);
        Ok(Download {
            fetcher: self.clone(),
            response: Some(response),
            tag,
            total,
            at: 0,
            skip: 0,
            failures: 0,
        })
    }

    async fn pause(&self, retry: Retry, failures: &mut u32) -> Result<(), FetchError> {
        match retry {
            Retry::Never(error) => Err(error),
            Retry::Again(reason) => {
                *failures += 1;
                if *failures >= ATTEMPTS {
                    return Err(self.broken(reason));
                }
                tracing::warn!(url = %self.url, reason, failures, "fetching again");
                tokio::time::sleep(backoff(*failures, Duration::from_secs(10))).await;
                Ok(())
            }
        }
    }

    /// Fetches a piece.
    ///
    /// # Errors
    /// It cannot be fetched, or the server does not serve pieces.
    pub async fn piece(&self, from: u64, length: usize) -> Result<Bytes, FetchError> {
        let range = format!("bytes={from}-{}", from + (length as u64).saturating_sub(1));
        let mut failures = 0;
        loop {
            let retry = match self.get(Some(range.clone()), None).await {
                Ok(response) if response.status() != StatusCode::PARTIAL_CONTENT => {
                    return Err(FetchError::NoRanges(self.url.clone()));
                }
                Ok(response) => match response.bytes().await {
                    Ok(bytes) if bytes.len() <= length => return Ok(bytes),
                    Ok(_) => return Err(FetchError::NoRanges(self.url.clone())),
                    Err(error) => Retry::Again(innermost(&error)),
                },
                Err(retry) => retry,
            };
            self.pause(retry, &mut failures).await?;
        }
    }

    /// Fetches something small, such as a file of checksums.
    ///
    /// # Errors
    /// It cannot be fetched, or is larger.
    pub async fn small(&self, limit: usize) -> Result<Vec<u8>, FetchError> {
        let mut download = self.start().await?;
        let mut content = Vec::new();
        while let Some(bytes) = download.next().await? {
            content.extend_from_slice(&bytes);
            if content.len() > limit {
                return Err(FetchError::TooLarge { url: self.url.clone(), limit });
            }
        }
        Ok(content)
    }
}

/// Whether a failure is worth another attempt.
enum Retry {
    Again(String),
    Never(FetchError),
}

/// A stream of bytes under way.
pub struct Download {
    fetcher: Fetcher,
    response: Option<Response>,
    tag: Option<String>,
    total: Option<u64>,
    at: u64,
    /// Bytes of the present response that are known already.
    skip: u64,
    failures: u32,
}

impl Download {
    /// All bytes, if the server says.
    pub const fn total(&self) -> Option<u64> {
        self.total
    }

    /// The next bytes, in order, each once; `None` at the end.
    ///
    /// # Errors
    /// It breaks off again and again, or has changed.
    pub async fn next(&mut self) -> Result<Option<Bytes>, FetchError> {
        loop {
            let Some(response) = &mut self.response else {
                self.go_on().await?;
                continue;
            };
            match response.chunk().await {
                Ok(Some(mut bytes)) => {
                    let known = usize::try_from(self.skip).unwrap_or(usize::MAX).min(bytes.len());
                    self.skip -= known as u64;
                    let _ = bytes.split_to(known);
                    if bytes.is_empty() {
                        continue;
                    }
                    self.at += bytes.len() as u64;
                    self.failures = 0;
                    return Ok(Some(bytes));
                }
                // The end, unless more was promised.
                Ok(None) if self.total.is_none_or(|total| self.at >= total) => return Ok(None),
                Ok(None) => self.lost("it ended early".to_owned()).await?,
                Err(error) => {
                    let reason = innermost(&error);
                    self.lost(reason).await?;
                }
            }
        }
    }

    async fn lost(&mut self, reason: String) -> Result<(), FetchError> {
        self.response = None;
        self.fetcher.pause(Retry::Again(reason), &mut self.failures).await
    }

    /// Asks for the rest.
    async fn go_on(&mut self) -> Result<(), FetchError> {
        let range = (self.at > 0).then(|| format!("bytes={}-", self.at));
        let response = match self.fetcher.get(range, self.tag.as_deref()).await {
            Ok(response) => response,
            Err(retry) => return self.fetcher.pause(retry, &mut self.failures).await,
        };
        let tag = response.headers().get(ETAG).and_then(|tag| tag.to_str().ok());
        let changed = self.tag.is_some() && tag.is_some() && tag != self.tag.as_deref();
        if response.status() == StatusCode::PARTIAL_CONTENT {
            let begins = response.headers().get(CONTENT_RANGE).and_then(|range| range.to_str().ok());
            let wanted = format!("bytes {}-", self.at);
            if changed || !begins.is_some_and(|range| range.starts_with(&wanted)) {
                return Err(FetchError::Changed(self.fetcher.url.clone()));
            }
            self.skip = 0;
        } else {
            // The whole again: the digest would find out if it is another, but not in good time.
            if changed || (self.total.is_some() && response.content_length() != self.total) {
                return Err(FetchError::Changed(self.fetcher.url.clone()));
            }
            self.skip = self.at;
        }
        self.response = Some(response);
        Ok(())
    }

    /// Hands everything over to a channel; `told` hears how many bytes there are so far.
    ///
    /// # Errors
    /// As [`Download::next`]; or nobody takes it any more.
    pub async fn send_all(
        mut self,
        into: tokio::sync::mpsc::Sender<Bytes>,
        mut told: impl FnMut(u64) + Send,
    ) -> Result<u64, FetchError> {
        while let Some(bytes) = self.next().await? {
            into.send(bytes).await.map_err(|_| FetchError::Stopped)?;
            told(self.at);
        }
        Ok(self.at)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use axum::{Router, body::Body, extract::State, http::HeaderMap, response::Response, routing::get};

    use super::*;

    const CONTENT: &[u8] = b"0123456789abcdefghijklmnopqrstuvwxyz";

    /// How the server of a test misbehaves.
    #[derive(Clone)]
    struct Server {
        requests: Arc<AtomicUsize>,
        ranges: bool,
        tags: [&'static str; 2],
    }

    /// Breaks off every ten bytes; without ranges ten bytes later each time.
    async fn serve(State(server): State<Server>, headers: HeaderMap) -> Response {
        let number = server.requests.fetch_add(1, Ordering::SeqCst);
        let range = headers.get("range").and_then(|range| range.to_str().ok());
        let from = range.filter(|_| server.ranges).map_or(0, |range| {
            range.trim_start_matches("bytes=").split('-').next().unwrap().parse().unwrap()
        });
        let rest = &CONTENT[from..];
        let limit = if server.ranges { 10 } else { 10 * (number + 1) };
        let cut = rest.len().min(limit);
        let whole = cut == rest.len();
        let begun = futures::stream::iter([Ok(Bytes::copy_from_slice(&rest[..cut]))]);
        // What has begun is on its way before it breaks off.
        let broken = futures::stream::once(async move {
            tokio::time::sleep(Duration::from_millis(20)).await;
            if whole { Ok(Bytes::new()) } else { Err(std::io::Error::other("cut")) }
        });
        let chunks = futures::StreamExt::chain(begun, broken);
        let status = if from > 0 { 206 } else { 200 };
        Response::builder()
            .status(status)
            .header("content-length", rest.len())
            .header("content-range", format!("bytes {from}-{}/{}", CONTENT.len() - 1, CONTENT.len()))
            .header("etag", server.tags[number.min(1)])
            .body(Body::from_stream(chunks))
            .unwrap()
    }

    async fn fetch(ranges: bool, tags: [&'static str; 2]) -> Result<Vec<u8>, FetchError> {
        let server = Server { requests: Arc::default(), ranges, tags };
        let router = Router::new().route("/image", get(serve)).with_state(server);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let real = listener.local_addr().unwrap();
        let serving = tokio::spawn(async move { axum::serve(listener, router).await });
        let http = crate::client::http_client("").unwrap();
        let named = SocketAddr::from(([10, 20, 0, 1], 80));
        let url = Url::parse("http://10.20.0.1/image").unwrap();
        let fetcher = Fetcher::new(http, url, &Detours::default().with(named, real));
        let result = fetcher.small(1000).await;
        serving.abort();
        result
    }

    #[tokio::test]
    async fn broken_connections_are_gone_on_with() {
        assert_eq!(fetch(true, ["\"a\"", "\"a\""]).await.unwrap(), CONTENT);
    }

    #[tokio::test]
    async fn without_ranges_what_is_known_is_skipped() {
        assert_eq!(fetch(false, ["W/\"a\"", "W/\"b\""]).await.unwrap(), CONTENT);
    }

    #[tokio::test]
    async fn a_change_is_noticed() {
        let error = fetch(true, ["\"a\"", "\"b\""]).await.unwrap_err();
        assert!(matches!(error, FetchError::Changed(_)), "{error}");
    }
}
