//! The stores that the contract is tested on: the embedded one in a file, and etcd servers of a test's own.

use drystone_loopback::free_port;
use std::{
    any::Any,
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use drystone_store::{
    Store,
    embedded::{CompactionPolicy, EmbeddedStore, Options},
    etcd::{EtcdOptions, EtcdStore, EtcdTls},
};

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(120);

/// A store, and what it lives on.
pub(crate) struct Fixture {
    pub(crate) store: Arc<dyn Store>,
    _ground: Box<dyn Any>,
}

pub(crate) fn embedded() -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    let options = Options { compaction: CompactionPolicy::MANUAL, ..Options::default() };
    let store = EmbeddedStore::open(directory.path().join("store"), options).unwrap();
    Fixture { store: Arc::new(store), _ground: Box::new(directory) }
}

/// `None` where etcd is not installed; says so.
pub(crate) async fn etcd() -> Option<Fixture> {
    let server = Etcd::alone()?;
    let store = server.store().await;
    Some(Fixture { store, _ground: Box::new(server) })
}

/// Makes tests of functions that take a store: one for each kind of store.
macro_rules! on_every_store {
    ($($name:ident,)*) => {
        mod on_embedded {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $name() {
                let fixture = crate::stores::embedded();
                super::$name(std::sync::Arc::clone(&fixture.store)).await;
            })*
        }
        mod on_etcd {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $name() {
                let Some(fixture) = crate::stores::etcd().await else { return };
                super::$name(std::sync::Arc::clone(&fixture.store)).await;
            })*
        }
    };
}
pub(crate) use on_every_store;

/// Certificate authority and certificate of all servers and clients (PEM files), for `127.0.0.1`.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    pub(crate) authority: PathBuf,
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

/// An etcd server.
pub(crate) struct Etcd {
    pub(crate) name: String,
    client_port: u16,
    peer_port: u16,
    keys: Option<Keys>,
    arguments: Vec<String>,
    process: Option<Child>,
    directory: tempfile::TempDir,
}

fn program() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let found = std::env::split_paths(&path).map(|place| place.join("etcd")).find(|file| file.is_file());
    if found.is_none() {
        println!("skipped: etcd is not installed");
        assert!(std::env::var_os("CI").is_none(), "must not be skipped in CI: etcd is not installed");
    }
    found
}

impl Etcd {
    /// One that has not been started.
    pub(crate) fn new(name: &str, keys: Option<Keys>) -> Option<Self> {
        program()?;
        Some(Self {
            name: name.to_owned(),
            client_port: free_port(),
            peer_port: free_port(),
            keys,
            arguments: Vec::new(),
            process: None,
            directory: tempfile::tempdir().unwrap(),
        })
    }

    /// A cluster of one, started.
    pub(crate) fn alone() -> Option<Self> {
        Self::alone_with(&[])
    }

    pub(crate) fn alone_with(arguments: &[&str]) -> Option<Self> {
        let mut server = Self::new("alone", None)?;
        server.arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let cluster = server.entry();
        server.start(&cluster, "new");
        Some(server)
    }

    fn url(&self, port: u16) -> String {
        format!("http{}://127.0.0.1:{port}", if self.keys.is_some() { "s" } else { "" })
    }

    pub(crate) fn client_url(&self) -> String {
        self.url(self.client_port)
    }

    pub(crate) fn peer_url(&self) -> String {
        self.url(self.peer_port)
    }

    /// As an entry of `--initial-cluster`.
    pub(crate) fn entry(&self) -> String {
        format!("{}={}", self.name, self.peer_url())
    }

    /// Starts it; `state` is `new` or `existing`.
    pub(crate) fn start(&mut self, cluster: &str, state: &str) {
        let log = File::options().create(true).append(true).open(self.directory.path().join("log")).unwrap();
        let mut command = Command::new(program().unwrap());
        command.env_clear().args(["--name", &self.name, "--logger", "zap"]);
        command.args(["--data-dir", self.directory.path().join("data").to_str().unwrap()]);
        command.args([
            "--listen-client-urls",
            &self.client_url(),
            "--advertise-client-urls",
            &self.client_url(),
        ]);
        command.args([
            "--listen-peer-urls",
            &self.peer_url(),
            "--initial-advertise-peer-urls",
            &self.peer_url(),
        ]);
        command.args(["--initial-cluster", cluster, "--initial-cluster-state", state]);
        if let Some(keys) = &self.keys {
            for side in ["", "peer-"] {
                for (what, path) in
                    [("trusted-ca", &keys.authority), ("cert", &keys.certificate), ("key", &keys.key)]
                {
                    command.arg(format!("--{side}{what}-file={}", path.display()));
                }
                command.arg(format!("--{side}client-cert-auth"));
            }
        }
        command.args(&self.arguments);
        let quiet = command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.process = Some(quiet.spawn().unwrap());
    }

    /// Starts it again on its data.
    pub(crate) fn start_again(&mut self) {
        let cluster = self.entry();
        self.start(&cluster, "existing");
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// A store on this server, once it answers.
    pub(crate) async fn store(&self) -> Arc<EtcdStore> {
        let store = EtcdStore::new(&options(&[self])).unwrap();
        until_answered(&store).await;
        store
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            println!("etcd {}:\n{}", self.name, lines[lines.len().saturating_sub(15)..].join("\n"));
        }
        self.kill();
    }
}

/// Options for stores on these servers.
pub(crate) fn options(servers: &[&Etcd]) -> EtcdOptions {
    let mut options = EtcdOptions::new(servers.iter().map(|server| server.client_url()));
    options.keep_history = None;
    let read = |path: &Path| std::fs::read_to_string(path).unwrap();
    options.tls = servers.first().and_then(|server| server.keys.as_ref()).map(|keys| EtcdTls {
        authority_pem: read(&keys.authority),
        identity_pem: Some((read(&keys.certificate), read(&keys.key))),
    });
    options
}

/// Waits until a store's etcd answers.
pub(crate) async fn until_answered(store: &EtcdStore) {
    let begun = Instant::now();
    while let Err(error) = store.check().await {
        assert!(begun.elapsed() < PATIENCE, "etcd does not answer: {error}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
