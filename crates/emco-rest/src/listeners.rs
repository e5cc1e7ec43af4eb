//! Controllers of the cluster manager: connections to them follow the resources, whose status says how the connections are; and they hear of
//! every cluster that comes, changes or goes.
//!
//! What a controller has heard is in its status. So it hears everything at least once, also what happened while nobody was there to tell it, and
//! a new one hears of the clusters that there are.

mod telling;

use std::{collections::BTreeSet, time::Duration};

use drystone_api::{
    SYSTEM_NAMESPACE,
    emco::{ClmController, Cluster, ControllerConnection},
};
use drystone_emco_grpc::{Address, Health, Pool, Security, State, Tls};
use drystone_engine::harness::{Cache, Caches};
use futures::{FutureExt as _, StreamExt as _, stream::FuturesUnordered};
use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use kube::{
    Api, Client, ResourceExt as _,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use telling::Telling;

/// How soon is looked again while something is still to be told, or to be written.
const AGAIN: Duration = Duration::from_secs(5);

/// What controllers are spoken to with.
#[derive(Clone)]
pub struct ListenersConfig {
    /// Connections, for these controllers alone: each is in it under its path (`clm-controllers/NAME`).
    pub pool: Pool,
    /// Authority of controllers that are spoken to over TLS and name none, PEM.
    pub authority_pem: String,
    /// Certificate and key that are shown to them, PEM.
    pub identity_pem: Option<(String, String)>,
}

impl std::fmt::Debug for ListenersConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ListenersConfig").field("pool", &self.pool).finish_non_exhaustive()
    }
}

/// Keeps connections, their status, and what is told of clusters, until `shutdown`. For whoever leads.
pub async fn run(client: Client, caches: &Caches, config: ListenersConfig, shutdown: CancellationToken) {
    let listeners = Listeners { client, config, listeners: caches.of(), clusters: caches.of() };
    shutdown.run_until_cancelled(listeners.run()).await;
}

struct Listeners {
    client: Client,
    config: ListenersConfig,
    listeners: Cache<ClmController>,
    clusters: Cache<Cluster>,
}

/// How a connection is.
#[derive(Debug, Clone, PartialEq)]
struct Connection {
    state: ControllerConnection,
    since: Option<Timestamp>,
    message: String,
}

impl Connection {
    fn of(state: &State) -> Self {
        let known = match state.health {
            Health::Untried => ControllerConnection::Unknown,
            Health::Ready => ControllerConnection::Connected,
            Health::Failing => ControllerConnection::Failing,
        };
        let message = state.trouble().unwrap_or_default().to_owned();
        Self { state: known, since: Some(state.since), message }
    }

    fn failing(message: String) -> Self {
        Self { state: ControllerConnection::Failing, since: None, message }
    }

    /// As a change of a status.
    fn patch(&self, generation: Option<i64>) -> Value {
        let since = Time(self.since.unwrap_or_else(Timestamp::now));
        let message = (!self.message.is_empty()).then_some(&self.message);
        json!({"status": {"connection": self.state, "since": since, "message": message,
                          "observedGeneration": generation}})
    }
}

impl Listeners {
    async fn run(&self) {
        if !(self.listeners.ready().await && self.clusters.ready().await) {
            return;
        }
        let changes = self.listeners.changes().map(drop);
        let clusters = self.clusters.changes().map(drop);
        let mut changes = std::pin::pin!(futures::stream::select(changes, clusters));
        let mut telling = Telling::default();
        loop {
            let mut states = Vec::new();
            let mut is_open = self.connect(&mut states).await;
            is_open |= telling.pass(self);
            let mut moved: FuturesUnordered<_> = states
                .into_iter()
                .map(|mut state: watch::Receiver<State>| async move { state.changed().await.is_ok() })
                .collect();
            let pause = if is_open { AGAIN } else { Duration::from_secs(3600) };
            tokio::select! {
                change = changes.next() => {
                    if change.is_none() {
                        return;
                    }
                    // Many changes that come together are one.
                    while let Some(Some(())) = changes.next().now_or_never() {}
                }
                Some(_) = moved.next(), if !moved.is_empty() => {}
                () = telling.ended() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Brings connections and statuses in line with the resources; whether something could not be done yet.
    async fn connect(&self, states: &mut Vec<watch::Receiver<State>>) -> bool {
        let mut is_open = false;
        let mut wanted = BTreeSet::new();
        for listener in self.listeners.list_where(|one| one.namespace().as_deref() == Some(SYSTEM_NAMESPACE))
        {
            wanted.insert(listener.spec.path.clone());
            let connection = self.connection(&listener, states);
            is_open |= self.tell_status(&listener, &connection).await;
        }
        self.config.pool.retain(|name| wanted.contains(name));
        is_open
    }

    /// Connects to a controller; how the connection is.
    fn connection(&self, listener: &ClmController, states: &mut Vec<watch::Receiver<State>>) -> Connection {
        let spec = &listener.spec;
        let security = if spec.tls {
            let authority = spec.certificate_authority.clone();
            Security::Tls(Tls {
                authority_pem: authority.unwrap_or_else(|| self.config.authority_pem.clone()),
                server_name: None,
                identity_pem: self.config.identity_pem.clone(),
            })
        } else {
            Security::Plain
        };
        let address = Address::of(&spec.host, spec.port, security);
        if let Err(error) = address.and_then(|address| self.config.pool.set(&spec.path, address)) {
            // Nobody is to be told anything at the place where it was before.
            self.config.pool.remove(&spec.path);
            return Connection::failing(error.to_string());
        }
        let Some(mut state) = self.config.pool.watch(&spec.path) else {
            return Connection::failing("it is not in the pool".to_owned());
        };
        let connection = Connection::of(&state.borrow_and_update());
        states.push(state);
        connection
    }

    /// Writes how a connection is, if that is not written yet; whether it could not be.
    async fn tell_status(&self, listener: &ClmController, connection: &Connection) -> bool {
        let generation = listener.metadata.generation;
        let known = listener.status.as_ref().is_some_and(|status| {
            (status.connection, status.message.as_str(), status.observed_generation)
                == (connection.state, connection.message.as_str(), generation)
        });
        if known {
            return false;
        }
        let api: Api<ClmController> = Api::namespaced(self.client.clone(), SYSTEM_NAMESPACE);
        let patch = Patch::Merge(connection.patch(generation));
        match api.patch_status(&listener.name_any(), &PatchParams::default(), &patch).await {
            Ok(_) => false,
            Err(kube::Error::Api(status)) if status.code == 404 => false,
            Err(error) => {
                tracing::warn!(
                    controller = listener.spec.path,
                    "writing the status of a connection: {error}"
                );
                true
            }
        }
    }
}
