//! HTTP for emulated Redfish services: a port each, the site's latency, and the faults of the service on top.

use std::{
    collections::BTreeMap,
    future::Future,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use axum::body::Body;
use drystone_redfish::{error::ServiceError, message};
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    faults::{Effect, Faults},
    site::FaultKind,
};

/// Connections of one service at once; more wait.
const MOST_CONNECTIONS: usize = 256;
/// How long a client may take to send the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Pause after a connection could not be taken, for example because there are no file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
/// How long ports that are taken are waited for at a start, and how often one is tried.
const PATIENCE: Duration = Duration::from_secs(10);
const BIND_PAUSE: Duration = Duration::from_millis(100);
/// Services that share a loopback address: a port range has no room for more.
const SERVICES_PER_ADDRESS: usize = 10_000;

/// How long a request to a switch without power waits for it to come back before the connection is closed.
const DARK_LIMIT: Duration = Duration::from_secs(60);
/// How often it is looked whether it is back.
const DARK_PAUSE: Duration = Duration::from_millis(50);

/// A service with faults.
pub(crate) trait Emulated: Send + Sync + 'static {
    /// Its faults.
    fn faults(&self) -> &Faults;

    /// The process behind it died: what it kept in memory only is gone.
    fn died(&self);

    /// Whether the machine that it runs on has no power.
    fn is_dark(&self) -> bool {
        false
    }

    /// Answers a request.
    fn handle(&self, request: Request<Incoming>) -> impl Future<Output = Response<Body>> + Send;
}

/// What all services of a site share.
#[derive(Debug, Clone)]
pub(crate) struct Serving {
    /// What every request takes beside its own work.
    pub(crate) latency: Duration,
    /// Ends them.
    pub(crate) shutdown: CancellationToken,
    /// Counts the tasks that must have ended.
    pub(crate) tasks: TaskTracker,
}

/// Address by service; kept over restarts, since users of the site remember it too.
pub(crate) struct Ports {
    by_service: BTreeMap<String, SocketAddr>,
    /// How long remembered ports that are taken may still be waited for, all together.
    patience: Duration,
}

impl Ports {
    pub(crate) fn new(by_service: BTreeMap<String, SocketAddr>) -> Self {
        Self { by_service, patience: PATIENCE }
    }

    pub(crate) fn by_service(&self) -> &BTreeMap<String, SocketAddr> {
        &self.by_service
    }

    pub(crate) fn remember(&mut self, name: &str, address: SocketAddr) {
        self.by_service.insert(name.to_owned(), address);
    }

    /// Listens for a service at its remembered address, or at a free port. `index` spreads many services over the loopback
    /// network.
    pub(crate) async fn listen(&mut self, name: &str, index: usize) -> io::Result<TcpListener> {
        if let Some(remembered) = self.by_service.get(name).filter(|address| address.ip().is_loopback()) {
            match bind_patiently(*remembered, &mut self.patience).await {
                Ok(listener) => return Ok(listener),
                Err(error) => {
                    tracing::warn!(service = name, address = %remembered, %error, "the port is taken; another is used");
                }
            }
        }
        let offset = u8::try_from(index / SERVICES_PER_ADDRESS).map_err(io::Error::other)?;
        let address = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 1_u8.saturating_add(offset)));
        let listener = TcpListener::bind((address, 0)).await?;
        self.remember(name, listener.local_addr()?);
        Ok(listener)
    }
}

/// Binds an address. While the service was away, a connection of somebody else may have got its port for its own end: that ends soon.
async fn bind_patiently(address: SocketAddr, patience: &mut Duration) -> io::Result<TcpListener> {
    loop {
        match TcpListener::bind(address).await {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && !patience.is_zero() => {
                let pause = BIND_PAUSE.min(*patience);
                *patience -= pause;
                tokio::time::sleep(pause).await;
            }
            bound => return bound,
        }
    }
}

/// A name for a file, out of a name that may hold anything.
pub(crate) fn file_name(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if name.chars().all(plain) {
        name.to_owned()
    } else {
        uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, name.as_bytes()).to_string()
    }
}

/// Serves until told to stop.
pub(crate) fn serve<S: Emulated>(listener: TcpListener, service: Arc<S>, serving: &Serving) {
    let serving_here = serving.clone();
    let connections = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    serving.tasks.spawn(async move {
        loop {
            let accepted = tokio::select! {
                () = serving_here.shutdown.cancelled() => return,
                accepted = accept(&listener, &connections) => accepted,
            };
            match accepted {
                Ok((stream, permit)) => {
                    let (service, serving) = (Arc::clone(&service), serving_here.clone());
                    let tasks = serving.tasks.clone();
                    tasks.spawn(async move {
                        serve_connection(stream, service, &serving).await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection cannot be taken");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    });
}

async fn accept(
    listener: &TcpListener,
    connections: &Arc<Semaphore>,
) -> io::Result<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let permit = Arc::clone(connections).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, permit))
}

async fn serve_connection<S: Emulated>(stream: TcpStream, service: Arc<S>, serving: &Serving) {
    // Replies are small and waited for.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection stays slow");
    }
    let latency = serving.latency;
    let handle = service_fn(move |request: Request<Incoming>| {
        let service = Arc::clone(&service);
        async move { answer(service, request, latency).await }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), handle);
    tokio::select! {
        // A client that goes away, or a fault that closes the connection, is nothing to report.
        _ = connection => {}
        () = serving.shutdown.cancelled() => {}
    }
}

async fn answer<S: Emulated>(
    service: Arc<S>,
    request: Request<Incoming>,
    latency: Duration,
) -> io::Result<Response<Body>> {
    if !latency.is_zero() {
        tokio::time::sleep(latency).await;
    }
    let faults = service.faults();
    if faults.is_away(Instant::now()) {
        return Err(io::Error::from(io::ErrorKind::ConnectionReset));
    }
    let writes = !matches!(*request.method(), Method::GET | Method::HEAD);
    let mut dies = None;
    // No fault keeps the actions that set and end faults from their service.
    if !Faults::is_action(request.uri().path()) {
        wait_for_light(service.as_ref()).await?;
        let changes = writes && !request.uri().path().contains("/SessionService/");
        let effect = faults.meet(Instant::now(), changes, rand::random);
        dies = effect.filter(|effect| matches!(effect.kind, FaultKind::DiesBefore | FaultKind::DiesAfter));
        if let Some(effect) = effect
            && let Some(response) = suffer(effect, &request).await?
        {
            return Ok(response);
        }
    }
    if dies.is_some_and(|effect| effect.kind == FaultKind::DiesBefore) {
        return Err(die(service.as_ref(), dies));
    }
    if !writes {
        return Ok(service.handle(request).await);
    }
    // A write goes on to its end although the client goes away in the middle of it.
    let writer = Arc::clone(&service);
    let response =
        tokio::spawn(async move { writer.handle(request).await }).await.map_err(io::Error::other)?;
    if dies.is_some() { Err(die(service.as_ref(), dies)) } else { Ok(response) }
}

/// The end of a service's process, for the while that the effect says.
fn die<S: Emulated>(service: &S, effect: Option<Effect>) -> io::Error {
    service.faults().die(Instant::now(), effect.map_or(Duration::ZERO, |effect| effect.delay));
    service.died();
    io::Error::from(io::ErrorKind::ConnectionReset)
}

/// A switch without power leaves requests without an answer.
async fn wait_for_light<S: Emulated>(service: &S) -> io::Result<()> {
    let start = Instant::now();
    while service.is_dark() {
        if start.elapsed() > DARK_LIMIT {
            return Err(io::Error::from(io::ErrorKind::TimedOut));
        }
        tokio::time::sleep(DARK_PAUSE).await;
    }
    Ok(())
}

/// What a request goes through. An error closes the connection without an answer.
async fn suffer(effect: Effect, request: &Request<Incoming>) -> io::Result<Option<Response<Body>>> {
    match effect.kind {
        FaultKind::Timeout => {
            tokio::time::sleep(effect.delay).await;
            Err(io::Error::from(io::ErrorKind::TimedOut))
        }
        FaultKind::Slow => {
            tokio::time::sleep(effect.delay).await;
            Ok(None)
        }
        FaultKind::Unavailable503 => {
            let error = ServiceError::unavailable(message::service_temporarily_unavailable(1), 1);
            Ok(Some(refuse(&error)))
        }
        FaultKind::WrongPassword if shows_credentials(request) => {
            let error = ServiceError::new(StatusCode::UNAUTHORIZED, message::no_valid_session())
                .with_header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"Redfish\""));
            Ok(Some(refuse(&error)))
        }
        _ => Ok(None),
    }
}

/// Whether a request is a login or carries one.
fn shows_credentials(request: &Request<Incoming>) -> bool {
    let headers = request.headers();
    headers.contains_key(header::AUTHORIZATION)
        || headers.contains_key("x-auth-token")
        || (request.method() == Method::POST && request.uri().path().contains("/SessionService/Sessions"))
}

/// An error as a response.
pub(crate) fn refuse(error: &ServiceError) -> Response<Body> {
    let mut response = Response::new(Body::from(error.body().to_string()));
    *response.status_mut() = error.status;
    *response.headers_mut() = error.headers();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert("odata-version", HeaderValue::from_static("4.0"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_remembered_port_is_waited_for_but_not_for_ever() {
        // Not of those that are given to whoever asks for any: nobody else takes it in between.
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, drystone_loopback::free_port())).await.unwrap();
        let address = taken.local_addr().unwrap();
        let remembered = || BTreeMap::from([("bmc a".to_owned(), address), ("bmc b".to_owned(), address)]);
        let mut ports = Ports::new(remembered());
        let soon_free = async {
            tokio::time::sleep(PATIENCE / 2).await;
            drop(taken);
        };
        let (listener, ()) = tokio::join!(ports.listen("bmc a", 0), soon_free);
        let listener = listener.unwrap();
        assert_eq!(listener.local_addr().unwrap(), address);
        // What is left of the patience is for all others together.
        let begun = tokio::time::Instant::now();
        let other = ports.listen("bmc b", 1).await.unwrap();
        assert_ne!(other.local_addr().unwrap(), address);
        assert_eq!(ports.by_service()["bmc b"], other.local_addr().unwrap());
        assert!(begun.elapsed() <= PATIENCE / 2);
        let begun = tokio::time::Instant::now();
        ports.remember("bmc c", address);
        ports.listen("bmc c", 2).await.unwrap();
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }
}
