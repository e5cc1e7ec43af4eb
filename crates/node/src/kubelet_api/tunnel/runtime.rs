//! Connections to the runtime's streaming server.

use std::time::Duration;

use axum::body::Body;
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri,
    header::{CONNECTION, HOST, UPGRADE},
};
use http_body_util::{BodyExt, Collected, Limited};
use hyper::{body::Incoming, upgrade::Upgraded};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};

use super::super::refusal::Refusal;

/// The newest protocol of streams over SPDY.
pub(super) const STREAM_PROTOCOL: &str = "v4.channel.k8s.io";
/// Names it in requests.
const STREAM_PROTOCOL_HEADER: &str = "x-stream-protocol-version";
/// How long the runtime may take to answer.
const DEADLINE: Duration = Duration::from_secs(30);
/// What is read of the text of a refusal, in bytes.
const MAX_REFUSAL: usize = 8 << 10;

/// Where a stream can be fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// Host and port.
    authority: String,
    /// Path and query.
    target: Uri,
}

impl Endpoint {
    /// Reads the URL that the runtime gave.
    pub(super) fn parse(url: &str) -> Result<Self, Refusal> {
        let unusable = |problem: &str| {
            Refusal::internal(format!("the container runtime serves streams at a URL that {problem}"))
        };
        let url: Uri = url.parse().map_err(|_| unusable("cannot be read"))?;
        if url.scheme_str() != Some("http") {
            return Err(unusable(
                "is not plain HTTP; turn off TLS for its streaming server, which listens on loopback",
            ));
        }
        let authority = url.authority().ok_or_else(|| unusable("has no host"))?;
        let host = authority.host();
        let port = authority.port_u16().unwrap_or(80);
        let target = url.path_and_query().map_or("/", |target| target.as_str());
        let target = target.parse().map_err(|_| unusable("cannot be read"))?;
        Ok(Self { authority: format!("{host}:{port}"), target })
    }
}

/// Sends a request over a connection of its own, which lives as long as the answer.
pub(super) async fn send(
    endpoint: &Endpoint,
    method: Method,
    headers: HeaderMap,
) -> Result<Response<Incoming>, Refusal> {
    let failed = |error: &dyn std::fmt::Display| {
        Refusal::internal(format!("the streaming server of the container runtime does not answer: {error}"))
    };
    let mut request = Request::new(Body::empty());
    *request.method_mut() = method;
    *request.uri_mut() = endpoint.target.clone();
    *request.headers_mut() = headers;
    let host = HeaderValue::try_from(&endpoint.authority).map_err(|error| failed(&error))?;
    request.headers_mut().insert(HOST, host);
    let answer = async {
        let stream = TcpStream::connect(&endpoint.authority).await.map_err(|error| failed(&error))?;
        // Without it, keystrokes wait for more to send.
        let _ = stream.set_nodelay(true);
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|error| failed(&error))?;
        tokio::spawn(connection.with_upgrades());
        sender.send_request(request).await.map_err(|error| failed(&error))
    };
    timeout(DEADLINE, answer).await.unwrap_or_else(|_| Err(failed(&"it takes too long")))
}

/// What the runtime said instead of switching protocols.
pub(super) async fn refusal(answer: Response<Incoming>) -> Refusal {
    let status = answer.status();
    let text = Limited::new(answer.into_body(), MAX_REFUSAL).collect().await;
    let text = text.map(Collected::to_bytes).unwrap_or_default();
    let text = String::from_utf8_lossy(&text).trim().to_owned();
    // A success that is none would be taken for an answer.
    let status = if status.is_client_error() { status } else { StatusCode::INTERNAL_SERVER_ERROR };
    Refusal::new(status, format!("the container runtime refuses the tunnel: {text}"))
}

/// A connection that speaks SPDY/3.1, and on it this protocol.
pub(super) async fn connect_spdy(
    endpoint: &Endpoint,
    protocol: &'static str,
) -> Result<TokioIo<Upgraded>, Refusal> {
    let mut headers = HeaderMap::new();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("SPDY/3.1"));
    headers.insert(STREAM_PROTOCOL_HEADER, HeaderValue::from_static(protocol));
    let answer = send(endpoint, Method::POST, headers).await?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(refusal(answer).await);
    }
    let connection = hyper::upgrade::on(answer).await.map_err(|error| {
        Refusal::internal(format!("the container runtime did not switch protocols: {error}"))
    })?;
    Ok(TokioIo::new(connection))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_runtimes_are_read() {
        let endpoint = Endpoint::parse("http://127.0.0.1:39393/exec/Ab_c?x=1").unwrap();
        assert_eq!(endpoint.authority, "127.0.0.1:39393");
        assert_eq!(endpoint.target, "/exec/Ab_c?x=1");
        assert_eq!(Endpoint::parse("http://[::1]:1/exec/a").unwrap().authority, "[::1]:1");
        assert!(Endpoint::parse("https://127.0.0.1:1/exec/a").unwrap_err().message.contains("TLS"));
        for wrong in ["", "/exec/a", "::"] {
            assert!(Endpoint::parse(wrong).is_err(), "{wrong}");
        }
    }
}
