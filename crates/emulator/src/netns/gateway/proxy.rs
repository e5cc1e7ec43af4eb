//! The site's HTTP proxy: `CONNECT` (RFC 9110, 9.3.6) and requests in absolute form, with basic authentication
//! (RFC 9110, 11.7), dialling from the site's campus network. Destinations are addresses: the campus has no name service.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use base64::Engine;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{Either, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use subtle::ConstantTimeEq;
use tokio::{io::copy_bidirectional, net::TcpListener, sync::Semaphore, task::JoinSet, time::sleep};
use tokio_util::sync::CancellationToken;

use super::sockets::NamespaceSockets;

/// Connections at a time; more wait to be accepted.
const CONNECTIONS_MAX: usize = 4096;
/// How long a client may take to send the head of a request.
const HEAD_DEADLINE: Duration = Duration::from_secs(30);
/// Headers that concern one connection only and are not passed on (RFC 9110, 7.6.1).
const HOP_BY_HOP: [&str; 7] =
    ["connection", "proxy-connection", "keep-alive", "te", "trailer", "upgrade", "proxy-authorization"];

type Body = Either<Full<Bytes>, Incoming>;

/// A proxy.
pub(super) struct Proxy {
    sockets: NamespaceSockets,
    /// `user:password` as clients send it.
    credentials: String,
}

impl Proxy {
    /// A proxy that dials through `sockets`.
    pub(super) fn new(sockets: NamespaceSockets, user: &str, password: &str) -> Self {
        let credentials = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
        Self { sockets, credentials }
    }

    /// Serves until cancelled; then every connection is cut.
    pub(super) async fn serve(self, listener: TcpListener, end: CancellationToken) {
        let proxy = Arc::new(self);
        let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let mut connections = JoinSet::new();
        loop {
            let Ok(permit) = permits.clone().acquire_owned().await else { return };
            let accepted = tokio::select! {
                () = end.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            while connections.try_join_next().is_some() {}
            match accepted {
                Ok((stream, _)) => {
                    let _ = stream.set_nodelay(true);
                    let (proxy, end) = (proxy.clone(), end.clone());
                    connections.spawn(async move {
                        let service = service_fn(|request| proxy.clone().answer(request, end.clone()));
                        let connection = hyper::server::conn::http1::Builder::new()
                            .timer(TokioTimer::new())
                            .header_read_timeout(HEAD_DEADLINE)
                            .serve_connection(TokioIo::new(stream), service)
                            .with_upgrades();
                        if let Err(error) = connection.await {
                            tracing::debug!(%error, "proxy connection");
                        }
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "accepting on the site's proxy");
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
        end: CancellationToken,
    ) -> Result<Response<Body>, Infallible> {
        if !self.is_authorized(request.headers()) {
            let mut refusal =
                plain(StatusCode::PROXY_AUTHENTICATION_REQUIRED, "this proxy wants basic authentication\n");
            let challenge = HeaderValue::from_static("Basic realm=\"site gateway\", charset=\"UTF-8\"");
            refusal.headers_mut().insert(header::PROXY_AUTHENTICATE, challenge);
            return Ok(refusal);
        }
        let target = match target(request.method(), request.uri()) {
            Ok(target) => target,
            Err(reason) => return Ok(plain(StatusCode::BAD_REQUEST, &reason)),
        };
        let answer = if request.method() == Method::CONNECT {
            self.tunnel(request, target, end).await
        } else {
            self.forward(request, target, end).await
        };
        Ok(answer.unwrap_or_else(|reason| plain(StatusCode::BAD_GATEWAY, &format!("{target}: {reason}\n"))))
    }

    /// Compares in constant time, so that the answer's delay says nothing about the password.
    fn is_authorized(&self, headers: &HeaderMap) -> bool {
        let given = headers
            .get(header::PROXY_AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        let (scheme, credentials) = given.split_once(' ').unwrap_or_default();
        scheme.eq_ignore_ascii_case("basic")
            && bool::from(credentials.trim().as_bytes().ct_eq(self.credentials.as_bytes()))
    }

    async fn tunnel(
        &self,
        request: Request<Incoming>,
        target: SocketAddr,
        end: CancellationToken,
    ) -> Result<Response<Body>, String> {
        let mut there = self.sockets.connect(target).await.map_err(|error| error.to_string())?;
        tokio::spawn(async move {
            // The client may go away instead of using the tunnel it asked for.
            let Ok(upgraded) = hyper::upgrade::on(request).await else { return };
            let mut here = TokioIo::new(upgraded);
            tokio::select! {
                _ = copy_bidirectional(&mut here, &mut there) => {}
                () = end.cancelled() => {}
            }
        });
        Ok(Response::new(Either::Left(Full::default())))
    }

    async fn forward(
        &self,
        request: Request<Incoming>,
        target: SocketAddr,
        end: CancellationToken,
    ) -> Result<Response<Body>, String> {
        let there = self.sockets.connect(target).await.map_err(|error| error.to_string())?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(there))
            .await
            .map_err(|error| error.to_string())?;
        tokio::spawn(async move {
            tokio::select! {
                _ = connection => {}
                () = end.cancelled() => {}
            }
        });
        let response =
            sender.send_request(origin_form(request, target)?).await.map_err(|error| error.to_string())?;
        let (mut head, body) = response.into_parts();
        remove_hop_by_hop(&mut head.headers);
        Ok(Response::from_parts(head, Either::Right(body)))
    }
}

/// Where a request wants to go.
fn target(method: &Method, uri: &Uri) -> Result<SocketAddr, String> {
    let connect = *method == Method::CONNECT;
    if !connect && uri.scheme_str() != Some("http") {
        return Err("this is a proxy: send CONNECT, or a request for an absolute http:// URL\n".to_owned());
    }
    let authority = uri.authority().ok_or("the request names no destination\n")?;
    let port = authority.port_u16().or((!connect).then_some(80)).ok_or("CONNECT needs HOST:PORT\n")?;
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let address = host
        .parse()
        .map_err(|_| format!("{host:?} is no IP address; the site's campus network has no name service\n"))?;
    Ok(SocketAddr::new(address, port))
}

/// The request as its destination wants to see it.
fn origin_form(request: Request<Incoming>, target: SocketAddr) -> Result<Request<Incoming>, String> {
    let (mut head, body) = request.into_parts();
    let path = head.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    head.uri = path.parse().map_err(|error: http::uri::InvalidUri| error.to_string())?;
    remove_hop_by_hop(&mut head.headers);
    if !head.headers.contains_key(header::HOST) {
        let host = HeaderValue::from_str(&target.to_string()).map_err(|error| error.to_string())?;
        head.headers.insert(header::HOST, host);
    }
    Ok(Request::from_parts(head, body))
}

fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let listed: Vec<String> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_owned())
        .collect();
    for name in listed.iter().map(String::as_str).chain(HOP_BY_HOP) {
        headers.remove(name);
    }
}

fn plain(status: StatusCode, text: &str) -> Response<Body> {
    let mut response = Response::new(Either::Left(Full::from(text.to_owned())));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

#[cfg(test)]
mod tests {
    use drystone_hostile::{damaged, damaged_text, text};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_head_is_forwarded_or_refused(
            uri in prop_oneof![damaged_text(["10.20.0.5:6443", "[fd00::1]:80", "http://u:p@10.20.0.5:99/x?y", "/path"]), text()],
            connection in damaged(["close, x-own, host", "keep-alive"]),
            connect in any::<bool>(),
        ) {
            let method = if connect { Method::CONNECT } else { Method::GET };
            if let Ok(uri) = uri.parse::<Uri>()
                && let Ok(address) = target(&method, &uri)
            {
                prop_assert!(uri.host().is_some_and(|host| host.contains(&address.ip().to_string()) || address.is_ipv6()));
            }
            let mut headers = HeaderMap::new();
            headers.insert("proxy-authorization", HeaderValue::from_static("Basic c2VjcmV0"));
            if let Ok(value) = HeaderValue::from_bytes(&connection) {
                headers.insert(header::CONNECTION, value);
            }
            remove_hop_by_hop(&mut headers);
            prop_assert!(!headers.contains_key("proxy-authorization"), "the password stays here");
        }
    }

    #[test]
    fn destinations() {
        let to = |method: Method, uri: &str| target(&method, &uri.parse().unwrap());
        assert_eq!(to(Method::CONNECT, "10.20.0.5:6443").unwrap(), "10.20.0.5:6443".parse().unwrap());
        assert_eq!(to(Method::CONNECT, "[fd00::1]:80").unwrap(), "[fd00::1]:80".parse().unwrap());
        assert_eq!(to(Method::GET, "http://10.20.0.5/x?y").unwrap(), "10.20.0.5:80".parse().unwrap());
        for (method, uri) in [
            (Method::CONNECT, "10.20.0.5"),
            (Method::CONNECT, "some.host:443"),
            (Method::GET, "/just/a/path"),
            (Method::GET, "https://10.20.0.5/"),
        ] {
            assert!(to(method, uri).is_err(), "{uri}");
        }
    }

    #[test]
    fn hop_by_hop_headers_stay_behind() {
        let mut headers = HeaderMap::new();
        for (name, value) in
            [("connection", "close, x-own"), ("x-own", "1"), ("proxy-authorization", "s"), ("accept", "*/*")]
        {
            headers.insert(name, HeaderValue::from_static(value));
        }
        remove_hop_by_hop(&mut headers);
        assert_eq!(headers.keys().map(header::HeaderName::as_str).collect::<Vec<_>>(), ["accept"]);
    }
}
