//! Sends requests: resolves URIs, logs in, repeats, reads bounded bodies, sorts failures.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde_json::Value;
use url::Url;

use super::{
    authentication::Authentication,
    error::RedfishError,
    options::{CertificateCheck, Options, RetryPolicy},
    resource::Answer,
    retry::{self, Failure},
    tls,
};
use crate::{error::ErrorBody, etag::ETag};

/// How long ending a session may take.
const LOG_OUT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a stream may last: its listener watches over it.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// The way to one service.
#[derive(Debug)]
pub(super) struct Transport {
    http: reqwest::Client,
    base: Url,
    authentication: Authentication,
    retry: RetryPolicy,
    request_timeout: Duration,
    largest_body: usize,
}

/// What a request depends on.
#[derive(Debug, Clone, Copy)]
pub(super) enum Condition<'a> {
    /// Nothing.
    None,
    /// The resource is still this one.
    IfMatch(&'a ETag),
    /// The resource is another one by now; if not the answer is 304.
    IfNoneMatch(&'a ETag),
}

/// A successful answer, or 304 where the request asked for it; the body as it came.
#[derive(Debug)]
pub(super) struct RawAnswer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl RawAnswer {
    /// The entity tag that the answer's header names.
    pub(super) fn etag(&self) -> Option<ETag> {
        self.headers.get(header::ETAG).and_then(|value| value.to_str().ok()).map(ETag::from_header)
    }

    /// The answer with its body as JSON.
    pub(super) fn parse(self, uri: &str) -> Result<Answer, RedfishError> {
        let body = parse(uri, self.status, &self.body)?;
        Ok(Answer { status: self.status, headers: self.headers, body })
    }
}

/// A request with everything but the way to the service.
pub(super) struct Attempt<'a> {
    pub(super) method: Method,
    pub(super) uri: &'a str,
    pub(super) body: Option<&'a Value>,
    pub(super) headers: HeaderMap,
}

impl Transport {
    pub(super) fn new(options: Options) -> Result<Self, RedfishError> {
        let address = without_credentials(&options.address);
        let bad = |reason: String| RedfishError::Configuration { address: address.clone(), reason };
        let base = Url::parse(&address).map_err(|error| bad(error.to_string()))?;
        if !matches!(base.scheme(), "http" | "https") || !base.has_host() {
            return Err(bad("the address must be an http:// or https:// URL".to_owned()));
        }
        let mut builder = tls::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(options.connect_timeout)
            .timeout(options.request_timeout)
            .user_agent("drystone");
        builder = match &options.certificates {
            // Reading the machine's authorities takes tens of milliseconds; plain HTTP needs none.
            _ if base.scheme() == "http" => builder.tls_certs_only([]),
            CertificateCheck::Platform => builder,
            CertificateCheck::Authorities(pem) => {
                let certificates = reqwest::Certificate::from_pem_bundle(pem.as_bytes())
                    .map_err(|error| bad(error.to_string()))?;
                builder.tls_certs_only(certificates)
            }
            CertificateCheck::Disabled => builder.tls_danger_accept_invalid_certs(true),
        };
        Ok(Self {
            http: builder.build().map_err(|error| bad(chain(&error)))?,
            base,
            authentication: Authentication::new(options.credentials, options.authentication),
            retry: options.retry,
            request_timeout: options.request_timeout,
            largest_body: options.largest_body,
        })
    }

    pub(super) fn base(&self) -> &Url {
        &self.base
    }

    /// Sends a request until it succeeds or cannot, and reads the answer's JSON.
    pub(super) async fn send(
        &self,
        method: Method,
        uri: &str,
        body: Option<&Value>,
        etag: Option<&ETag>,
    ) -> Result<Answer, RedfishError> {
        let condition = etag.map_or(Condition::None, Condition::IfMatch);
        self.send_raw(method, uri, body, condition).await?.parse(uri)
    }

    /// Sends a request until it succeeds or cannot.
    pub(super) async fn send_raw(
        &self,
        method: Method,
        uri: &str,
        body: Option<&Value>,
        condition: Condition<'_>,
    ) -> Result<RawAnswer, RedfishError> {
        let mut logged_in_again = false;
        loop {
            let credentials = self.authentication.headers(self).await?;
            let mut headers = credentials.clone();
            let (name, etag) = match condition {
                Condition::None => (header::IF_MATCH, None),
                Condition::IfMatch(etag) => (header::IF_MATCH, Some(etag)),
                Condition::IfNoneMatch(etag) => (header::IF_NONE_MATCH, Some(etag)),
            };
            if let Some(value) = etag.and_then(|etag| HeaderValue::from_str(etag.as_str()).ok()) {
                headers.insert(name, value);
            }
            match self.repeat(Attempt { method: method.clone(), uri, body, headers }).await {
                Err(RedfishError::Unauthorized { .. })
                    if !logged_in_again && self.authentication.refused(&credentials).await =>
                {
                    logged_in_again = true;
                }
                other => return other,
            }
        }
    }

    pub(super) async fn log_out(&self) {
        if let Some((location, headers)) = self.authentication.take_session().await {
            let attempt = Attempt { method: Method::DELETE, uri: &location, body: None, headers };
            // The session ends by itself if this does not end it.
            drop(self.once(&attempt).await);
        }
    }

    /// Sends a request with fixed headers, again where that is safe.
    pub(super) async fn repeat(&self, attempt: Attempt<'_>) -> Result<RawAnswer, RedfishError> {
        let mut number = 1;
        loop {
            let (error, failure, asked) = match self.once(&attempt).await {
                Ok(answer) => return Ok(answer),
                Err(failed) => *failed,
            };
            if number >= self.retry.attempts || !retry::may_repeat(&attempt.method, failure) {
                return Err(error);
            }
            tokio::time::sleep(retry::pause(&self.retry, number, asked, rand::random())).await;
            number += 1;
        }
    }

    async fn once(
        &self,
        attempt: &Attempt<'_>,
    ) -> Result<RawAnswer, Box<(RedfishError, Failure, Option<Duration>)>> {
        let uri = attempt.uri;
        let url = self
            .resolve(uri)
            .map_err(|error| Box::new((error, Failure::Status(StatusCode::BAD_REQUEST), None)))?;
        let mut request = self.http.request(attempt.method.clone(), url).headers(attempt.headers.clone());
        request = request.header(header::ACCEPT, "application/json").header("odata-version", "4.0");
        if let Some(body) = attempt.body {
            request = request.json(body);
        }
        let lost = |error: &reqwest::Error| {
            let failure = if error.is_connect() { Failure::NotSent } else { Failure::Unknown };
            Box::new((self.sort(uri, error), failure, None))
        };
        let response = request.send().await.map_err(|error| lost(&error))?;
        let (status, headers) = (response.status(), response.headers().clone());
        let body = match self.read_body(uri, response).await {
            Ok(body) => body,
            Err(Broken::Lost(error)) => return Err(lost(&error)),
            Err(Broken::TooLarge(error)) => return Err(Box::new((error, Failure::Status(status), None))),
        };
        let conditional = attempt.headers.contains_key(header::IF_NONE_MATCH);
        if status.is_success() || (status == StatusCode::NOT_MODIFIED && conditional) {
            return Ok(RawAnswer { status, headers, body });
        }
        let error = if status == StatusCode::UNAUTHORIZED {
            RedfishError::Unauthorized { uri: uri.to_owned() }
        } else {
            let messages = serde_json::from_slice::<ErrorBody>(&body).unwrap_or_default().error.extended_info;
            RedfishError::Status { uri: uri.to_owned(), code: status.as_u16(), messages }
        };
        Err(Box::new((error, Failure::Status(status), retry::retry_after(&headers))))
    }

    async fn read_body(&self, uri: &str, response: reqwest::Response) -> Result<Bytes, Broken> {
        let mut stream = response.bytes_stream();
        let mut body = BytesMut::new();
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(Broken::Lost)?;
            if body.len() + chunk.len() > self.largest_body {
                let reason = format!("the body is larger than {} bytes", self.largest_body);
                return Err(Broken::TooLarge(RedfishError::malformed(uri, reason)));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body.freeze())
    }

    /// The URL of a URI of this service. Credentials never go anywhere else.
    pub(super) fn resolve(&self, uri: &str) -> Result<Url, RedfishError> {
        // Sunfish writes its own URIs like this; a host of that name is none of ours.
        let tidied = uri.starts_with("//redfish/").then(|| super::crawl::tidy(uri));
        let url = self
            .base
            .join(tidied.as_deref().unwrap_or(uri))
            .map_err(|error| RedfishError::malformed(uri, error))?;
        if url.origin() == self.base.origin() {
            Ok(url)
        } else {
            Err(RedfishError::malformed(uri, "the link leads to another service"))
        }
    }

    /// A GET of a URL without limit of time.
    pub(super) fn streaming(&self, url: Url) -> reqwest::RequestBuilder {
        self.http.get(url).timeout(FOREVER)
    }

    pub(super) fn authentication(&self) -> &Authentication {
        &self.authentication
    }

    pub(super) fn sort(&self, uri: &str, error: &reqwest::Error) -> RedfishError {
        if error.is_timeout() {
            RedfishError::Timeout { uri: uri.to_owned(), after: self.request_timeout }
        } else {
            RedfishError::Unreachable { uri: uri.to_owned(), reason: chain(error) }
        }
    }
}

/// A client that goes away ends its session: services have few, and one made for each task would soon use them up.
impl Drop for Transport {
    fn drop(&mut self) {
        let Some((location, headers)) = self.authentication.take_session_at_last() else { return };
        let (Ok(runtime), Ok(url)) = (tokio::runtime::Handle::try_current(), self.resolve(&location)) else {
            return;
        };
        let request = self.http.delete(url).headers(headers).timeout(LOG_OUT_TIMEOUT);
        // If it fails the session ends by itself, later.
        runtime.spawn(async move { drop(request.send().await) });
    }
}

enum Broken {
    Lost(reqwest::Error),
    TooLarge(RedfishError),
}

/// A body is JSON or nothing. With 204 it is nothing whatever was sent.
fn parse(uri: &str, status: StatusCode, body: &[u8]) -> Result<Option<Value>, RedfishError> {
    if body.is_empty() || status == StatusCode::NO_CONTENT {
        return Ok(None);
    }
    serde_json::from_slice(body).map(Some).map_err(|error| RedfishError::malformed(uri, error))
}

/// The innermost cause says most; the URL, which `reqwest` adds, is known already.
fn chain(error: &reqwest::Error) -> String {
    let mut source: &dyn std::error::Error = error;
    while let Some(inner) = source.source() {
        source = inner;
    }
    source.to_string()
}

/// An address without user name and password.
pub(super) fn without_credentials(address: &str) -> String {
    match Url::parse(address) {
        Ok(mut url) => {
            // Fails only for URLs that cannot have any.
            let _ = url.set_username("");
            let _ = url.set_password(None);
            url.to_string()
        }
        Err(_) => address.to_owned(),
    }
}
