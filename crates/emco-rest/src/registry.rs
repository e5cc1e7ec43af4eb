//! Registered controllers: connections to them follow the resources, whose status says how the connections are; and controllers of the cluster
//! manager hear of every cluster that comes, changes or goes.
//!
//! What a controller has heard is in its status. So it hears everything at least once, also what happened while nobody was there to tell it, and
//! a new one hears of the clusters that there are.

mod telling;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use drystone_api::{
    SYSTEM_NAMESPACE,
    emco::{ClmController, Cluster, Controller, ControllerConnection, Document},
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

/// Who says whether a controller is part of this program.
pub type BuiltIn = Arc<dyn Fn(&Controller) -> bool + Send + Sync>;

/// What a registry is made of.
#[derive(Clone)]
pub struct RegistryConfig {
    /// Connections: a controller is in it under its name, one of the cluster manager under its path (`clm-controllers/NAME`).
    pub pool: Pool,
    /// Whether a controller is part of this program, though it is registered; it is not connected to then.
    pub is_built_in: BuiltIn,
    /// Authority of controllers that are spoken to over TLS and name none, PEM.
    pub authority_pem: String,
    /// Certificate and key that are shown to them, PEM.
    pub identity_pem: Option<(String, String)>,
}

impl std::fmt::Debug for RegistryConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RegistryConfig").field("pool", &self.pool).finish_non_exhaustive()
    }
}

/// Keeps connections, their status, and what is told of clusters, until `shutdown`. For whoever leads.
pub async fn run(client: Client, caches: &Caches, config: RegistryConfig, shutdown: CancellationToken) {
    let registry =
        Registry { client, config, controllers: caches.of(), listeners: caches.of(), clusters: caches.of() };
    shutdown.run_until_cancelled(registry.run()).await;
}

struct Registry {
    client: Client,
    config: RegistryConfig,
    controllers: Cache<Controller>,
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
        let failure = state.last_failure.as_ref().map_or("", |failure| failure.message.as_str());
        let (known, message) = match state.health {
            Health::Untried => (ControllerConnection::Unknown, ""),
            Health::Ready => (ControllerConnection::Connected, ""),
            Health::Failing => (ControllerConnection::Failing, failure),
        };
        Self { state: known, since: Some(state.since), message: message.to_owned() }
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

/// What is the same with both kinds of controllers.
struct Registered {
    /// Name in the pool.
    member: String,
    host: String,
    port: i64,
    tls: bool,
    certificate_authority: Option<String>,
}

impl Registry {
    async fn run(&self) {
        if !(self.controllers.ready().await && self.listeners.ready().await && self.clusters.ready().await) {
            return;
        }
        let changes = (self.controllers.changes().map(drop), self.listeners.changes().map(drop));
        let clusters = self.clusters.changes().map(drop);
        let mut changes =
            std::pin::pin!(futures::stream::select(futures::stream::select(changes.0, changes.1), clusters));
        let mut telling = Telling::default();
        loop {
            let mut states = BTreeMap::new();
            let mut is_open = self.connect(&mut states).await;
            is_open |= telling.pass(self);
            let mut moved: FuturesUnordered<_> = states
                .into_values()
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
    async fn connect(&self, states: &mut BTreeMap<String, watch::Receiver<State>>) -> bool {
        let mut is_open = false;
        let mut wanted = BTreeSet::new();
        let in_system =
            |namespace: Option<String>| namespace.as_deref().is_some_and(|name| name == SYSTEM_NAMESPACE);
        for controller in self.controllers.list_where(|one| in_system(one.namespace())) {
            let spec = &controller.spec;
            let known = controller
                .status
                .as_ref()
                .map(|status| (status.connection, status.message.clone(), status.observed_generation));
            let connection = if (self.config.is_built_in)(&controller) {
                let built_in = ControllerConnection::BuiltIn;
                Connection { state: built_in, since: None, message: String::new() }
            } else {
                let registered = Registered {
                    member: controller.document_name().to_owned(),
                    host: spec.host.clone(),
                    port: spec.port,
                    tls: spec.tls,
                    certificate_authority: spec.certificate_authority.clone(),
                };
                wanted.insert(registered.member.clone());
                self.connection(&registered, states)
            };
            is_open |= self.tell_status(controller.as_ref(), known, &connection).await;
        }
        for listener in self.listeners.list_where(|one| in_system(one.namespace())) {
            let spec = &listener.spec;
            let known = listener
                .status
                .as_ref()
                .map(|status| (status.connection, status.message.clone(), status.observed_generation));
            let registered = Registered {
                member: spec.path.clone(),
                host: spec.host.clone(),
                port: spec.port,
                tls: spec.tls,
                certificate_authority: spec.certificate_authority.clone(),
            };
            wanted.insert(registered.member.clone());
            let connection = self.connection(&registered, states);
            is_open |= self.tell_status(listener.as_ref(), known, &connection).await;
        }
        self.config.pool.retain(|name| wanted.contains(name));
        is_open
    }

    /// Connects to a controller; how the connection is.
    fn connection(
        &self,
        registered: &Registered,
        states: &mut BTreeMap<String, watch::Receiver<State>>,
    ) -> Connection {
        let Ok(port) = u16::try_from(registered.port) else {
            return Connection::failing(format!("spec.port: {} is no port", registered.port));
        };
        let security = if registered.tls {
            let authority = registered.certificate_authority.clone();
            Security::Tls(Tls {
                authority_pem: authority.unwrap_or_else(|| self.config.authority_pem.clone()),
                server_name: None,
                identity_pem: self.config.identity_pem.clone(),
            })
        } else {
            Security::Plain
        };
        let address = Address { host: registered.host.clone(), port, security };
        if let Err(error) = self.config.pool.set(&registered.member, address) {
            return Connection::failing(error.to_string());
        }
        let Some(mut state) = self.config.pool.watch(&registered.member) else {
            return Connection::failing("it is not in the pool".to_owned());
        };
        let connection = Connection::of(&state.borrow_and_update());
        states.insert(registered.member.clone(), state);
        connection
    }

    /// Writes how a connection is, if that is not written yet; whether it could not be.
    async fn tell_status<K>(
        &self,
        object: &K,
        known: Option<(ControllerConnection, String, Option<i64>)>,
        connection: &Connection,
    ) -> bool
    where
        K: Document<Scope = kube::core::NamespaceResourceScope>
            + Clone
            + serde::de::DeserializeOwned
            + std::fmt::Debug,
    {
        let generation = object.meta().generation;
        let now = (connection.state, connection.message.clone(), generation);
        if known == Some(now) {
            return false;
        }
        let api: Api<K> = Api::namespaced(self.client.clone(), SYSTEM_NAMESPACE);
        let name = object.name_any();
        let patch = Patch::Merge(connection.patch(generation));
        match api.patch_status(&name, &PatchParams::default(), &patch).await {
            Ok(_) => false,
            Err(kube::Error::Api(status)) if status.code == 404 => false,
            Err(error) => {
                tracing::warn!(path = object.path(), "writing the status of a connection: {error}");
                true
            }
        }
    }
}
