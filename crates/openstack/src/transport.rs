//! Sends requests and reads bounded answers; sorts failures.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use tokio::sync::Semaphore;
use url::Url;

use crate::{Access, CertificateCheck, OpenStackError};

/// Most bytes of an answer: the files of a stack with all its nested templates are far below.
const LARGEST_BODY: usize = 32 << 20;

/// Requests to one cloud at one time.
const MOST_REQUESTS: usize = 64;

/// Most characters of a reason that are shown.
const LONGEST_REASON: usize = 1000;

/// The way to a cloud's services.
#[derive(Debug)]
pub(crate) struct Transport {
    http: reqwest::Client,
    timeout: Duration,
    places: Semaphore,
}

/// An answer, whatever its status.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) call: String,
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    /// The body as a type.
    pub(crate) fn parse<T: DeserializeOwned>(&self) -> Result<T, OpenStackError> {
        serde_json::from_slice(&self.body).map_err(|error| OpenStackError::malformed(&self.call, error))
    }

    /// The error that this answer is. `secrets` are blacked out in what the service says.
    pub(crate) fn error(&self, secrets: &[&str]) -> OpenStackError {
        let (kind, reason) = explanation(&self.body);
        let reason = black_out(&reason, secrets);
        let call = self.call.clone();
        if self.status == StatusCode::UNAUTHORIZED {
            return OpenStackError::Unauthorized { call, reason };
        }
        OpenStackError::Status { call, code: self.status.as_u16(), kind, reason }
    }
}

impl Transport {
    pub(crate) fn new(access: &Access, base: &Url) -> Result<Self, OpenStackError> {
        let bad = |reason: String| OpenStackError::Configuration { address: base.to_string(), reason };
        drystone_identity::tls::install_crypto_provider();
        let mut builder = reqwest::Client::builder()
            .no_proxy()
            // A token goes nowhere but where the catalog says.
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(access.connect_timeout)
            .timeout(access.request_timeout)
            .user_agent("drystone");
        builder = match &access.certificates {
            CertificateCheck::Disabled => builder.tls_danger_accept_invalid_certs(true),
            CertificateCheck::Authorities(pem) => {
                let certificates = reqwest::Certificate::from_pem_bundle(pem.as_bytes());
                let certificates = certificates
                    .map_err(|error| bad(format!("the certificate authority cannot be read: {error}")))?;
                if certificates.is_empty() {
                    return Err(bad("the certificate authority has no certificate in PEM".to_owned()));
                }
                builder.tls_certs_only(certificates)
            }
            // Reading the machine's authorities takes tens of milliseconds; plain HTTP needs none.
            CertificateCheck::Platform if base.scheme() == "http" => builder.tls_certs_only([]),
            CertificateCheck::Platform => builder,
        };
        let http = builder.build().map_err(|error| bad(innermost(&error)))?;
        Ok(Self { http, timeout: access.request_timeout, places: Semaphore::new(MOST_REQUESTS) })
    }

    /// Sends one request, once.
    pub(crate) async fn send(
        &self,
        method: Method,
        url: Url,
        token: Option<&str>,
        body: Option<&Value>,
    ) -> Result<Answer, OpenStackError> {
        let call = format!("{method} {}", without_credentials(&url));
        let mut request = self.http.request(method, url).header(header::ACCEPT, "application/json");
        if let Some(token) = token {
            let mut value = HeaderValue::from_str(token)
                .map_err(|_| OpenStackError::malformed(&call, "Keystone's token is no header value"))?;
            value.set_sensitive(true);
            request = request.header(HeaderName::from_static("x-auth-token"), value);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        // The semaphore is never closed.
        let _place = self.places.acquire().await;
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) => return Err(self.lost(call, &error)),
        };
        let (status, headers) = (response.status(), response.headers().clone());
        let mut stream = response.bytes_stream();
        let mut body = BytesMut::new();
        while let Some(chunk) = stream.next().await {
            let chunk = match chunk {
                Ok(chunk) => chunk,
                Err(error) => return Err(self.lost(call, &error)),
            };
            if body.len() + chunk.len() > LARGEST_BODY {
                let reason = format!("it is larger than {LARGEST_BODY} bytes");
                return Err(OpenStackError::Malformed { call, reason });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer { call, status, headers, body: body.freeze() })
    }

    fn lost(&self, call: String, error: &reqwest::Error) -> OpenStackError {
        if error.is_timeout() && !error.is_connect() {
            return OpenStackError::Timeout { call, after: self.timeout };
        }
        OpenStackError::Unreachable { call, reason: innermost(error), not_sent: error.is_connect() }
    }
}

/// The innermost cause says most.
fn innermost(error: &reqwest::Error) -> String {
    let mut source: &dyn std::error::Error = error;
    while let Some(inner) = source.source() {
        source = inner;
    }
    source.to_string()
}

/// A URL without user name, password and query.
pub(crate) fn without_credentials(url: &Url) -> String {
    let mut url = url.clone();
    // Fails only for URLs that cannot have any.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.to_string()
}

/// What Heat (`{"error": {"message", "type"}, "explanation"}`) or Keystone (`{"error": {"message", "title"}}`) says of an error.
fn explanation(body: &[u8]) -> (String, String) {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Body {
        error: Value,
        explanation: Value,
    }
    let parsed: Body = serde_json::from_slice(body).unwrap_or_default();
    let kind = parsed.error["type"].as_str().unwrap_or_default().to_owned();
    let said = [&parsed.error["message"], &parsed.explanation, &parsed.error["title"], &parsed.error];
    let said = said.into_iter().find_map(|text| text.as_str().filter(|text| !text.is_empty()));
    let said = said.map_or_else(|| String::from_utf8_lossy(body).trim().to_owned(), str::to_owned);
    (kind, if said.is_empty() { "no reason given".to_owned() } else { said })
}

/// The text in one line and within bounds, the secrets replaced.
pub(crate) fn black_out(text: &str, secrets: &[&str]) -> String {
    let mut text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    // Shorter ones would tear words apart that have nothing to do with them.
    for secret in secrets.iter().filter(|secret| secret.len() >= 4) {
        text = text.replace(secret, "[redacted]");
    }
    text.chars().take(LONGEST_REASON).collect()
}

#[cfg(test)]
mod tests {
    use drystone_hostile::{damaged, text};
    use proptest::prelude::*;

    use super::*;

    const HEAT: &str = r#"{"code": 409, "error": {"message": "The Stack (a) already exists.", "traceback": null, "type": "StackExists"},
        "explanation": "There was a conflict when trying to complete your request.", "title": "Conflict"}"#;
    const KEYSTONE: &str = r#"{"error": {"code": 401, "message": "The request you have made requires authentication.", "title": "Unauthorized"}}"#;

    #[test]
    fn errors_say_what_the_service_says() {
        assert_eq!(
            explanation(HEAT.as_bytes()),
            ("StackExists".into(), "The Stack (a) already exists.".into())
        );
        assert_eq!(explanation(KEYSTONE.as_bytes()).1, "The request you have made requires authentication.");
        assert_eq!(explanation(b"<html>"), (String::new(), "<html>".into()));
        assert_eq!(explanation(b"").1, "no reason given");
        assert_eq!(explanation(br#"{"error": "plain"}"#).1, "plain");
    }

    #[test]
    fn secrets_are_blacked_out() {
        assert_eq!(
            black_out("user u with\n hunter2 is wrong", &["hunter2", "u"]),
            "user u with [redacted] is wrong"
        );
    }

    proptest! {
        #[test]
        fn any_error_is_shown_within_bounds(body in damaged([HEAT, KEYSTONE]), secret in text()) {
            let (_, reason) = explanation(&body);
            let shown = black_out(&reason, &[&secret]);
            prop_assert!(shown.chars().count() <= LONGEST_REASON);
        }
    }
}
