//! Servers that can die: each has threads and sockets of its own.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use axum::{Router, serve::ListenerExt as _};
use drystone_emco_grpc::{Address, Admission, Admitted, Options, Pool, Services};
use http::request::Parts;
use tokio::runtime::Runtime;

use crate::provider::Provider;

/// Far more than anything here takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// Lets everybody in.
pub(crate) struct Everybody;

#[async_trait]
impl Admission for Everybody {
    async fn admits(&self, _: &Parts) -> Admitted {
        Admitted::Yes
    }
}

/// A server on a port of 127.0.0.1, until it is killed or dropped.
pub(crate) struct Server {
    pub(crate) port: u16,
    runtime: Option<Runtime>,
}

impl Server {
    pub(crate) fn start(router: Router) -> Self {
        Self::start_at(drystone_loopback::free_port(), router)
    }

    pub(crate) fn start_at(port: u16, router: Router) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
        listener.set_nonblocking(true).unwrap();
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            let listener = listener.tap_io(|stream| stream.set_nodelay(true).unwrap());
            axum::serve(listener, router).await.unwrap();
        });
        Self { port, runtime: Some(runtime) }
    }

    pub(crate) fn address(&self) -> Address {
        Address::plain("127.0.0.1", self.port)
    }

    /// Ends as a process does that is killed: its connections break off. The port is free again.
    pub(crate) fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
            // The listener goes with its task, which may take a moment.
            let begun = std::time::Instant::now();
            while std::net::TcpListener::bind(("127.0.0.1", self.port)).is_err() {
                assert!(begun.elapsed() < PATIENCE, "port {} is not free", self.port);
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

/// Every service of one provider.
pub(crate) fn services(provider: &Arc<Provider>, admission: Arc<dyn Admission>) -> Services {
    Services::new(admission)
        .synchroniser(Arc::clone(provider) as _)
        .action(Arc::clone(provider) as _)
        .placement(Arc::clone(provider) as _)
        .readiness(Arc::clone(provider) as _)
        .statuses(Arc::clone(provider) as _)
        .cluster_events(Arc::clone(provider) as _)
}

/// A server of every service, for everybody.
pub(crate) fn serve(provider: &Arc<Provider>) -> Server {
    Server::start(services(provider, Arc::new(Everybody)).router())
}

/// Limits far beyond what anything here takes, and pauses that are short.
pub(crate) fn patient() -> Options {
    Options {
        controller_deadline: PATIENCE,
        synchroniser_deadline: PATIENCE,
        connect_deadline: PATIENCE,
        check_deadline: PATIENCE,
        check_every: Duration::from_millis(20),
        first_pause: Duration::from_millis(10),
        longest_pause: Duration::from_millis(100),
    }
}

/// A pool with one controller, `one`.
pub(crate) fn pool(address: Address, options: Options) -> Pool {
    let pool = Pool::new(options);
    pool.set("one", address).unwrap();
    pool
}
