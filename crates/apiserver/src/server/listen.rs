//! Serving a router on a port: TLS with optional client certificates, or plain text for clients on the same machine.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::http::authn::Peer;

/// How long a handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client may take to send a request's head.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long requests may take to finish when the server stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// How long to wait when no connection can be accepted, for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Streams that one HTTP/2 connection may have open: watches of a controller share one connection.
const STREAMS: u32 = 1000;

/// Why nothing can be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address of the listener cannot be told.
    #[error("the listening socket is not usable")]
    Listener(#[source] io::Error),
    /// Plain text was to be served to other machines.
    #[error("plain HTTP is only served on a loopback address, not on {0}")]
    NotLoopback(SocketAddr),
}

/// Serves a router over TLS until `stop` is cancelled; then lets requests finish. The certificates that a client showed are
/// what [`ApiServer::authenticate`](super::ApiServer::authenticate) looks at.
///
/// # Errors
/// [`ServeError::Listener`] if the listener is not usable.
pub async fn serve_tls(
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    router: Router,
    stop: CancellationToken,
) -> Result<(), ServeError> {
    let acceptor = TlsAcceptor::from(tls);
    accept(listener, stop, move |stream, connections| {
        let (acceptor, router) = (acceptor.clone(), router.clone());
        async move {
            let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream));
            let stream = match handshake.await {
                Ok(Ok(stream)) => stream,
                Ok(Err(error)) => return tracing::debug!(%error, "a TLS handshake failed"),
                Err(_) => return tracing::debug!("a TLS handshake took too long"),
            };
            let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
            let peer =
                Peer::new(certificates.iter().map(|certificate| certificate.clone().into_owned()).collect());
            connections.serve(stream, router, Some(peer)).await;
        }
    })
    .await
}

/// Serves a router in plain text, to clients on this machine only, until `stop` is cancelled.
///
/// # Errors
/// [`ServeError`] if the listener is not usable, or is not on a loopback address.
pub async fn serve_plain(
    listener: TcpListener,
    router: Router,
    stop: CancellationToken,
) -> Result<(), ServeError> {
    let address = listener.local_addr().map_err(ServeError::Listener)?;
    if !address.ip().is_loopback() {
        return Err(ServeError::NotLoopback(address));
    }
    accept(listener, stop, move |stream, connections| {
        let router = router.clone();
        async move { connections.serve(stream, router, None).await }
    })
    .await
}

/// What the connections of a listener share.
#[derive(Clone)]
struct Connections {
    builder: Arc<Builder<TokioExecutor>>,
    stop: CancellationToken,
}

impl Connections {
    fn new(stop: CancellationToken) -> Self {
        let mut builder = Builder::new(TokioExecutor::new());
        builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS)
            .keep_alive_interval(Duration::from_secs(30))
            .keep_alive_timeout(Duration::from_secs(20));
        Self { builder: Arc::new(builder), stop }
    }

    /// Answers the requests of one connection until it ends, or, once the server stops, until they are answered.
    async fn serve<S>(self, stream: S, router: Router, peer: Option<Peer>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let service = hyper::service::service_fn(move |request: Request<Incoming>| {
            let mut request = request.map(Body::new);
            if let Some(peer) = &peer {
                request.extensions_mut().insert(peer.clone());
            }
            router.clone().oneshot(request)
        });
        let connection = self.builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = self.stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(error, "a connection ended early");
        }
    }
}

async fn accept<F, W>(listener: TcpListener, stop: CancellationToken, serve: F) -> Result<(), ServeError>
where
    F: Fn(TcpStream, Connections) -> W,
    W: Future<Output = ()> + Send + 'static,
{
    let connections = Connections::new(stop.clone());
    let mut running = tokio::task::JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
            Some(_) = running.join_next() => continue,
        };
        match accepted {
            Ok((stream, _)) => {
                // Without it, small answers wait for more to send.
                let _ = stream.set_nodelay(true);
                running.spawn(serve(stream, connections.clone()));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection cannot be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    let drained = tokio::time::timeout(DRAIN_TIMEOUT, async { while running.join_next().await.is_some() {} });
    if drained.await.is_err() {
        tracing::warn!(connections = running.len(), "connections are cut off, they took too long to finish");
    }
    Ok(())
}
