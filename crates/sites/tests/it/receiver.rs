//! An orchestrator of workloads: a real HTTP server that notes what it is told.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
    serve::Listener,
};
use drystone_identity::tls::ServerIdentity;
use drystone_loopback::free_port;
use serde_json::Value;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// One document that arrived.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Told {
    pub(crate) fn document(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn generation(&self) -> i64 {
        self.document()["generation"].as_i64().unwrap()
    }

    /// `PRESENT a b -c`: state of the site, and hosts, with a minus before those that have left.
    pub(crate) fn shown(&self) -> String {
        let document = self.document();
        let hosts = document["hosts"].as_array().unwrap().iter().map(|host| {
            let sign = if host["state"] == "Withdrawn" { "-" } else { "" };
            format!(" {sign}{}", host["name"].as_str().unwrap())
        });
        format!("{}{}", document["state"].as_str().unwrap(), hosts.collect::<String>())
    }
}

/// How the orchestrator answers.
#[derive(Debug, Clone)]
pub(crate) struct Manners {
    /// The only token with which it talks to anybody.
    pub(crate) token: Option<&'static str>,
    pub(crate) status: StatusCode,
    pub(crate) body: String,
    /// Where it sends those who ask.
    pub(crate) location: String,
    /// It keeps quiet after it has noted a document.
    pub(crate) is_silent: bool,
}

impl Default for Manners {
    fn default() -> Self {
        Self {
            token: None,
            status: StatusCode::ACCEPTED,
            body: String::new(),
            location: String::new(),
            is_silent: false,
        }
    }
}

#[derive(Clone)]
struct Desk {
    told: Arc<Mutex<Vec<Told>>>,
    manners: watch::Sender<Manners>,
}

/// The orchestrator, at the same address whether it is there or not.
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    desk: Desk,
    running: Option<JoinHandle<()>>,
}

impl Receiver {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", free_port())).await.unwrap();
        let desk = Desk { told: Arc::default(), manners: watch::Sender::new(Manners::default()) };
        let address = listener.local_addr().unwrap();
        let running = Some(tokio::spawn(serve(listener, desk.clone())));
        Self { address, desk, running }
    }

    pub(crate) async fn start_tls(identity: Arc<ServerIdentity>) -> Self {
        let config = drystone_identity::tls::server_config(identity, None).unwrap();
        let tcp = TcpListener::bind(("127.0.0.1", free_port())).await.unwrap();
        let desk = Desk { told: Arc::default(), manners: watch::Sender::new(Manners::default()) };
        let address = tcp.local_addr().unwrap();
        let listener = TlsListener { tcp, acceptor: TlsAcceptor::from(config) };
        let running = Some(tokio::spawn(serve(listener, desk.clone())));
        Self { address, desk, running }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/hosts", self.address)
    }

    pub(crate) fn behaves(&self, manners: Manners) {
        self.desk.manners.send_replace(manners);
    }

    pub(crate) fn told(&self) -> Vec<Told> {
        self.desk.told.lock().unwrap().clone()
    }

    pub(crate) fn last(&self) -> Option<Told> {
        self.desk.told.lock().unwrap().last().cloned()
    }

    /// Nobody answers at the address any more.
    pub(crate) async fn down(&mut self) {
        let running = self.running.take().unwrap();
        running.abort();
        let _ = running.await;
    }

    pub(crate) async fn up(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.running = Some(tokio::spawn(serve(listener, self.desk.clone())));
    }

    /// Every generation says one thing, and numbers do not fall.
    pub(crate) fn assert_consistent(&self) {
        let told = self.told();
        let mut said: BTreeMap<i64, Bytes> = BTreeMap::new();
        let mut keys: BTreeSet<String> = BTreeSet::new();
        for one in &told {
            let first = said.entry(one.generation()).or_insert_with(|| one.body.clone());
            assert_eq!(*first, one.body);
            keys.insert(one.headers["idempotency-key"].to_str().unwrap().to_owned());
        }
        assert_eq!(keys.len(), said.len());
        let numbers: Vec<i64> = told.iter().map(Told::generation).collect();
        assert!(numbers.is_sorted(), "{numbers:?}");
    }
}

async fn serve<L>(listener: L, desk: Desk)
where
    L: Listener,
    L::Addr: std::fmt::Debug,
{
    let router = Router::new().route("/hosts", post(note)).with_state(desk);
    axum::serve(listener, router).await.unwrap();
}

async fn note(
    State(desk): State<Desk>,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, [(&'static str, String); 1], String) {
    let mut manners = desk.manners.subscribe();
    let mut now = manners.borrow_and_update().clone();
    let shown = headers.get("authorization").and_then(|value| value.to_str().ok());
    let shown = shown.and_then(|value| value.strip_prefix("Bearer ")).map(str::to_owned);
    desk.told.lock().unwrap().push(Told { headers, body });
    if now.token.is_some() && shown.as_deref() != now.token {
        let body = r#"{"message": "who are you?"}"#.to_owned();
        return (StatusCode::UNAUTHORIZED, [("location", String::new())], body);
    }
    while now.is_silent {
        manners.changed().await.unwrap();
        now = manners.borrow_and_update().clone();
    }
    (now.status, [("location", now.location)], now.body)
}

struct TlsListener {
    tcp: TcpListener,
    acceptor: TlsAcceptor,
}

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let Ok((stream, address)) = self.tcp.accept().await else {
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            };
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.tcp.local_addr()
    }
}
