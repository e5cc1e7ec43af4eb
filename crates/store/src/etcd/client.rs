//! Calls to etcd: one endpoint after the other until one answers, each with a time limit.
//!
//! A call that was certainly not carried out is made again at the next endpoint, and so is one that may be carried out twice. A write
//! whose outcome is not known is not repeated: the caller is told so.

use std::{
    sync::{
        RwLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::StreamExt as _;
use http::uri::PathAndQuery;
use prost::Message;
use tokio::time::{Instant, timeout};
use tonic::{
    Code, ConnectError, Request, Status, Streaming,
    client::Grpc,
    metadata::{Ascii, MetadataValue},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};
use tonic_prost::ProstCodec;

use super::{
    messages as etcd,
    options::{EtcdOptions, EtcdTls, EtcdUser},
};
use crate::StoreError;

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(2);
/// How often an open connection is tried, so that one to a host that is gone does not hang.
const PING: Duration = Duration::from_secs(3);
/// How long the answer to that may take.
const PONG: Duration = Duration::from_secs(2);
/// Bytes that may wait in a watch, and in all watches of a connection: slow ones must not hold up the others.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 256 << 20;
/// Pause when all endpoints have failed.
const PAUSE: Duration = Duration::from_millis(100);

/// Path of a call.
macro_rules! rpc {
    ($service:literal, $call:literal) => {
        http::uri::PathAndQuery::from_static(concat!("/etcdserverpb.", $service, "/", $call))
    };
}
pub(super) use rpc;

/// Whether a call may be carried out twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeat {
    /// It reads, or comes to the same.
    Allowed,
    /// It writes.
    Forbidden,
}

/// One etcd server.
#[derive(Clone)]
struct Server {
    url: String,
    calls: Channel,
    /// A watcher that is slow must not take a call's share of the connection.
    watches: Channel,
    /// What etcd gave for name and password.
    token: Option<MetadataValue<Ascii>>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("url", &self.url).finish_non_exhaustive()
    }
}

/// The servers of a cluster.
#[derive(Debug)]
pub(super) struct Client {
    tls: Option<EtcdTls>,
    user: Option<EtcdUser>,
    /// Good at every server, until etcd says otherwise.
    token: RwLock<Option<MetadataValue<Ascii>>>,
    servers: RwLock<Vec<Server>>,
    current: AtomicUsize,
    limit: Duration,
}

/// Why a call failed.
#[derive(Debug)]
pub(super) struct CallError {
    /// What etcd, or the connection, said.
    pub(super) status: Status,
    /// It may have been carried out all the same.
    pub(super) unclear: bool,
    url: String,
}

impl Client {
    pub(super) fn new(options: &EtcdOptions) -> Result<Self, StoreError> {
        let client = Self {
            tls: options.tls.clone(),
            user: options.user.clone(),
            token: RwLock::new(None),
            servers: RwLock::new(Vec::new()),
            current: AtomicUsize::new(0),
            limit: options.request_timeout,
        };
        if options.endpoints.is_empty() {
            return Err(StoreError::InvalidRequest("no etcd endpoint is given".into()));
        }
        client.set_endpoints(&options.endpoints)?;
        Ok(client)
    }

    /// Uses these servers from now on; connections to those that stay are kept.
    pub(super) fn set_endpoints(&self, urls: &[String]) -> Result<(), StoreError> {
        let before = self.all();
        let mut servers: Vec<Server> = Vec::new();
        for url in urls {
            if servers.iter().any(|server| server.url == *url) {
                continue;
            }
            match before.iter().find(|server| server.url == *url) {
                Some(server) => servers.push(server.clone()),
                None => servers.push(self.server(url)?),
            }
        }
        let used = before.get(self.current.load(Ordering::Relaxed)).map(|server| server.url.clone());
        let at = servers.iter().position(|server| Some(&server.url) == used.as_ref()).unwrap_or(0);
        *self.servers.write().unwrap_or_else(std::sync::PoisonError::into_inner) = servers;
        self.current.store(at, Ordering::Relaxed);
        Ok(())
    }

    /// URLs of the servers that are used.
    pub(super) fn endpoints(&self) -> Vec<String> {
        self.all().into_iter().map(|server| server.url).collect()
    }

    fn all(&self) -> Vec<Server> {
        self.servers.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    fn server(&self, url: &str) -> Result<Server, StoreError> {
        let invalid = |problem: String| StoreError::InvalidRequest(format!("etcd endpoint {url}: {problem}"));
        let secure = url.starts_with("https://");
        if !secure && !url.starts_with("http://") {
            return Err(invalid("is no URL such as http://127.0.0.1:2379".into()));
        }
        let mut endpoint = Endpoint::from_shared(url.to_owned())
            .map_err(|error| invalid(error.to_string()))?
            .connect_timeout(CONNECT)
            .http2_keep_alive_interval(PING)
            .keep_alive_timeout(PONG)
            .keep_alive_while_idle(true)
            .tcp_nodelay(true);
        if secure {
            let tls = self
                .tls
                .as_ref()
                .ok_or_else(|| invalid("speaks TLS, but no certificate authority is given".into()))?;
            let mut config = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&tls.authority_pem));
            if let Some((certificate, key)) = &tls.identity_pem {
                config = config.identity(Identity::from_pem(certificate, key));
            }
            endpoint = endpoint.tls_config(config).map_err(|error| invalid(error.to_string()))?;
        }
        Ok(Server {
            url: url.to_owned(),
            calls: endpoint.connect_lazy(),
            watches: endpoint
                .initial_stream_window_size(STREAM_WINDOW)
                .initial_connection_window_size(CONNECTION_WINDOW)
                .connect_lazy(),
            token: None,
        })
    }

    /// The server that answered last, and its place.
    fn current(&self) -> (usize, Option<Server>) {
        let servers = self.all();
        let at = self.current.load(Ordering::Relaxed) % servers.len().max(1);
        (at, servers.get(at).cloned())
    }

    /// Turns to the next server, unless somebody else has done that already.
    fn leave(&self, at: usize) {
        let count = self.all().len().max(1);
        // What is kept may be beyond the last: there were more servers when it was written.
        let next = |current: usize| (current % count == at).then_some((at + 1) % count);
        let _ = self.current.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
    }

    /// Makes a call that has one answer.
    pub(super) async fn unary<Q, A>(
        &self,
        path: PathAndQuery,
        message: Q,
        repeat: Repeat,
    ) -> Result<A, CallError>
    where
        Q: Message + Clone + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        self.call(repeat, |server, limit| {
            let (path, message) = (path.clone(), message.clone());
            async move {
                let mut grpc = grpc(server.calls);
                ready(&mut grpc).await?;
                let answer = grpc
                    .unary(request(message, limit, &server.token), path, ProstCodec::<Q, A>::default())
                    .await?;
                Ok(answer.into_inner())
            }
        })
        .await
    }

    /// Makes a call of every server, one after the other; the first failure ends it.
    pub(super) async fn each<Q, A>(
        &self,
        path: &PathAndQuery,
        message: &Q,
        limit: Duration,
    ) -> Result<Vec<A>, CallError>
    where
        Q: Message + Clone + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        let mut answers = Vec::new();
        for server in self.all() {
            let asked = async {
                let token = self.token(&server, limit).await?;
                let mut grpc = grpc(server.calls.clone());
                ready(&mut grpc).await?;
                let asked = request(message.clone(), limit, &token);
                grpc.unary(asked, path.clone(), ProstCodec::<Q, A>::default()).await
            };
            let answer = timeout(limit, asked).await.unwrap_or_else(|_| {
                Err(Status::deadline_exceeded(format!("no answer within {} s", limit.as_secs())))
            });
            match answer {
                Ok(answer) => answers.push(answer.into_inner()),
                Err(status) => return Err(CallError { status, unclear: true, url: server.url }),
            }
        }
        Ok(answers)
    }

    /// Makes a call that is a stream in etcd's API, for one question and one answer.
    pub(super) async fn one_of_stream<Q, A>(&self, path: PathAndQuery, message: Q) -> Result<A, CallError>
    where
        Q: Message + Clone + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        self.call(Repeat::Allowed, |server, limit| {
            let (path, message) = (path.clone(), message.clone());
            async move {
                let mut grpc = grpc(server.calls);
                ready(&mut grpc).await?;
                let once = request(futures::stream::once(std::future::ready(message)), limit, &server.token);
                let answers = grpc.streaming(once, path, ProstCodec::<Q, A>::default()).await?;
                let answer = answers.into_inner().message().await?;
                answer.ok_or_else(|| Status::unavailable("the stream ended without an answer"))
            }
        })
        .await
    }

    /// Opens a stream by a question, which stays open as long as the stream. No time limit but that for its beginning.
    pub(super) async fn stream<Q, A>(&self, path: PathAndQuery, message: Q) -> Result<Streaming<A>, CallError>
    where
        Q: Message + Clone + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        self.call(Repeat::Allowed, |server, _| {
            let (path, message) = (path.clone(), message.clone());
            async move {
                let mut grpc = grpc(server.watches);
                ready(&mut grpc).await?;
                let question = futures::stream::once(std::future::ready(message));
                let mut request = Request::new(question.chain(futures::stream::pending()));
                adorn(&mut request, &server.token);
                let answers = grpc.streaming(request, path, ProstCodec::<Q, A>::default()).await?;
                Ok(answers.into_inner())
            }
        })
        .await
    }

    /// What calls have to show: nothing, or what etcd gives for name and password.
    async fn token(&self, server: &Server, limit: Duration) -> Result<Option<MetadataValue<Ascii>>, Status> {
        let Some(user) = &self.user else { return Ok(None) };
        let known = self.token.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        if known.is_some() {
            return Ok(known);
        }
        let mut grpc = grpc(server.calls.clone());
        ready(&mut grpc).await?;
        let (name, password) = (user.name.clone(), user.password.clone());
        let asked = request(etcd::AuthenticateRequest { name, password }, limit, &None);
        let codec = ProstCodec::<_, etcd::AuthenticateResponse>::default();
        let answer = match grpc.unary(asked, rpc!("Auth", "Authenticate"), codec).await {
            Ok(answer) => answer.into_inner(),
            // It lets everybody in.
            Err(status) if status.message().contains("authentication is not enabled") => return Ok(None),
            Err(status) => return Err(status),
        };
        let mut token: MetadataValue<Ascii> =
            answer.token.parse().map_err(|_| Status::internal("etcd's token is no text"))?;
        token.set_sensitive(true);
        *self.token.write().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(token.clone());
        Ok(Some(token))
    }

    async fn call<A, F>(
        &self,
        repeat: Repeat,
        mut attempt: impl FnMut(Server, Duration) -> F,
    ) -> Result<A, CallError>
    where
        F: Future<Output = Result<A, Status>>,
    {
        let deadline = Instant::now() + self.limit;
        let (mut failed, mut stale) = (0, 0);
        loop {
            let (at, server) = self.current();
            let Some(server) = server else {
                let status = Status::unavailable("no etcd endpoint is known");
                return Err(CallError { status, unclear: false, url: String::new() });
            };
            let mut server = server;
            let url = server.url.clone();
            let left = deadline.saturating_duration_since(Instant::now());
            // Where a call may be repeated, one server that does not answer must not use all the time up.
            let share = if repeat == Repeat::Allowed { left.min(self.limit / 2) } else { left };
            let attempted = async {
                server.token = self.token(&server, share).await?;
                attempt(server, share).await
            };
            let outcome = match timeout(share, attempted).await {
                Ok(outcome) => outcome,
                Err(_) => Err(Status::deadline_exceeded(format!("no answer within {} s", share.as_secs()))),
            };
            let status = match outcome {
                Ok(answer) => return Ok(answer),
                Err(status) => status,
            };
            if self.user.is_some() && is_stale(&status) && stale < 2 {
                // What was refused was not carried out. Another token is got at once.
                *self.token.write().unwrap_or_else(std::sync::PoisonError::into_inner) = None;
                stale += 1;
                continue;
            }
            let Some(unclear) = is_unclear(&status) else {
                return Err(CallError { status, unclear: false, url });
            };
            self.leave(at);
            failed += 1;
            tracing::debug!(url, %status, unclear, "a call of etcd failed");
            if (unclear && repeat == Repeat::Forbidden) || Instant::now() + PAUSE >= deadline {
                return Err(CallError { status, unclear, url });
            }
            if failed % self.all().len().max(1) == 0 {
                tokio::time::sleep(PAUSE).await;
                // Too little time for another attempt would only make unclear what is clear.
                if Instant::now() + PAUSE >= deadline {
                    return Err(CallError { status, unclear, url });
                }
            }
        }
    }
}

fn grpc(channel: Channel) -> Grpc<Channel> {
    // Lists are as long as they are; what a client may ask for is limited elsewhere.
    Grpc::new(channel).max_decoding_message_size(usize::MAX)
}

async fn ready(grpc: &mut Grpc<Channel>) -> Result<(), Status> {
    grpc.ready().await.map_err(|error| Status::from_error(error.into()))
}

fn request<T>(message: T, limit: Duration, token: &Option<MetadataValue<Ascii>>) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(limit);
    adorn(&mut request, token);
    request
}

/// A member that has lost the others says so at once, and a watch on it ends, instead of staying silent.
fn adorn<T>(request: &mut Request<T>, token: &Option<MetadataValue<Ascii>>) {
    request.metadata_mut().insert("hasleader", MetadataValue::from_static("true"));
    if let Some(token) = token {
        request.metadata_mut().insert("token", token.clone());
    }
}

/// Whether another token is needed: this one has ended, or etcd was started again, or its users have changed.
fn is_stale(status: &Status) -> bool {
    let told = status.message();
    told.starts_with("etcdserver: invalid auth token")
        || told.starts_with("etcdserver: revision of auth store is old")
}

/// Whether a failure leaves open if the call was carried out; `None` if it is etcd's answer, which another server would give too.
fn is_unclear(status: &Status) -> Option<bool> {
    let told = status.message();
    let refused = ["etcdserver: no leader", "etcdserver: rpc not supported for learner"];
    match status.code() {
        _ if refused.iter().any(|text| told.starts_with(text)) => Some(false),
        Code::ResourceExhausted if told == "etcdserver: too many requests" => Some(false),
        Code::Unavailable if told == "etcdserver: unhealthy cluster" => None,
        Code::Unavailable if could_not_connect(status) => Some(false),
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown | Code::Internal => {
            Some(true)
        }
        _ => None,
    }
}

fn could_not_connect(status: &Status) -> bool {
    let mut error: Option<&(dyn std::error::Error + 'static)> = Some(status);
    while let Some(current) = error {
        if current.is::<ConnectError>() {
            return true;
        }
        error = current.source();
    }
    false
}

impl CallError {
    /// Whether etcd answered with this code and a message that has `text`.
    pub(super) fn is(&self, code: Code, text: &str) -> bool {
        self.status.code() == code && self.status.message().contains(text)
    }

    /// As an error of the store, for calls that have no meaning of their own for it.
    pub(super) fn into_store_error(self) -> StoreError {
        let message = self.status.message().to_owned();
        match self.status.code() {
            Code::ResourceExhausted if message.contains("space exceeded") => StoreError::NoSpace(format!(
                "etcd at {}: {message}; compact, defragment and disarm its alarm, or give it more room",
                self.url
            )),
            Code::InvalidArgument => StoreError::InvalidRequest(message),
            _ if self.unclear => StoreError::Backend(format!(
                "etcd at {} did not answer, it is not known whether the request was carried out: {}",
                self.url,
                describe(&self.status)
            )),
            _ => StoreError::Backend(format!("etcd at {}: {}", self.url, describe(&self.status))),
        }
    }
}

/// What a status says, with its causes.
fn describe(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let mut error = std::error::Error::source(status);
    while let Some(cause) = error {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        error = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_of_a_failure() {
        let unclear = |code, text: &str| is_unclear(&Status::new(code, text));
        assert_eq!(unclear(Code::Unavailable, "etcdserver: no leader"), Some(false));
        assert_eq!(unclear(Code::Unavailable, "etcdserver: request timed out"), Some(true));
        assert_eq!(unclear(Code::Unavailable, "etcdserver: leader changed"), Some(true));
        assert_eq!(unclear(Code::DeadlineExceeded, ""), Some(true));
        assert_eq!(unclear(Code::OutOfRange, "etcdserver: mvcc: required revision has been compacted"), None);
        assert_eq!(unclear(Code::InvalidArgument, "etcdserver: key is not provided"), None);
        let refused = Status::from_error(Box::new(ConnectError("refused".into())));
        assert_eq!(is_unclear(&refused), Some(false));
    }

    #[tokio::test]
    async fn endpoints_must_be_urls_and_tls_needs_an_authority() {
        let with = |url: &str| Client::new(&EtcdOptions::new([url])).map(drop).unwrap_err().to_string();
        assert!(with("127.0.0.1:2379").contains("is no URL such as"));
        assert!(with("https://127.0.0.1:2379").contains("no certificate authority"));
        assert!(Client::new(&EtcdOptions::new([""; 0])).is_err());
    }
}
