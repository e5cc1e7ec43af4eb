//! Controllers as they are registered: connections come and go with the objects, and the objects tell how the connections are.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use drystone_api::{
    SYSTEM_NAMESPACE,
    emco::{ClmController, Controller as Registration, ControllerConnection, ControllerStatus, Document},
};
use drystone_engine::harness::{Cache, Caches, WatchedObject, is_deleted, update_status};
use futures::{Stream, StreamExt as _, stream};
use k8s_openapi::{NamespaceResourceScope, apimachinery::pkg::apis::meta::v1::Time};
use kube::{Api, Client, Resource, core::object::HasStatus};
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use crate::{Address, Health, Pool, Security, Tls, pool::State};

/// How often everything is looked at, whether or not something has changed: statuses that could not be written are written then.
const LOOK: Duration = Duration::from_secs(30);

/// What is taken for granted about registered controllers.
#[derive(Clone)]
pub struct Terms {
    /// The authority of controllers that are spoken to over TLS and are registered without one (PEM).
    pub authority_pem: String,
    /// Certificate and key that are shown to controllers that are spoken to over TLS (PEM).
    pub identity_pem: Option<(String, String)>,
    /// Whether the controller of a name, registered at a host, is a part of this program, and is not spoken to.
    pub is_built_in: IsBuiltIn,
}

/// By name and host.
pub type IsBuiltIn = Arc<dyn Fn(&str, &str) -> bool + Send + Sync>;

impl std::fmt::Debug for Terms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Terms").field("identity", &self.identity_pem.is_some()).finish_non_exhaustive()
    }
}

/// The name under which the controller of a kind is in the pool: its own, and for controllers of the cluster manager their path,
/// `clm-controllers/NAME`, for two of different kinds may have the same name.
trait Registered: Document + HasStatus<Status = ControllerStatus> + WatchedObject {
    fn key(&self) -> &str;
    fn place(&self) -> Place<'_>;
}

/// Where a controller is registered.
struct Place<'a> {
    host: &'a str,
    port: i64,
    tls: bool,
    authority_pem: Option<&'a str>,
}

impl Registered for Registration {
    fn key(&self) -> &str {
        self.document_name()
    }

    fn place(&self) -> Place<'_> {
        let spec = &self.spec;
        let authority_pem = spec.certificate_authority.as_deref();
        Place { host: &spec.host, port: spec.port, tls: spec.tls, authority_pem }
    }
}

impl Registered for ClmController {
    fn key(&self) -> &str {
        self.path()
    }

    fn place(&self) -> Place<'_> {
        let spec = &self.spec;
        let authority_pem = spec.certificate_authority.as_deref();
        Place { host: &spec.host, port: spec.port, tls: spec.tls, authority_pem }
    }
}

/// Keeps the connections of a pool those of the registered controllers, and their statuses those of the connections, until `stop` is
/// cancelled. Only one process of several should: whoever leads.
pub async fn follow(client: Client, caches: &Caches, pool: Pool, terms: Terms, stop: CancellationToken) {
    let follower = Follower {
        controllers: caches.of(),
        clm_controllers: caches.of(),
        client,
        rings: pool.changes(),
        pool,
        terms,
    };
    stop.run_until_cancelled_owned(follower.run()).await;
}

struct Follower {
    client: Client,
    controllers: Cache<Registration>,
    clm_controllers: Cache<ClmController>,
    pool: Pool,
    rings: tokio::sync::watch::Receiver<u64>,
    terms: Terms,
}

impl Follower {
    async fn run(mut self) {
        let mut changes = stream::select(ticks(&self.controllers), ticks(&self.clm_controllers));
        if !(self.controllers.ready().await && self.clm_controllers.ready().await) {
            return;
        }
        loop {
            self.rings.borrow_and_update();
            self.look().await;
            tokio::select! {
                _ = changes.next() => {}
                rung = self.rings.changed() => if rung.is_err() { return },
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    async fn look(&self) {
        let mut keys = BTreeSet::new();
        self.look_at(&self.controllers, &mut keys).await;
        self.look_at(&self.clm_controllers, &mut keys).await;
        self.pool.retain(|name| keys.contains(name));
    }

    async fn look_at<K>(&self, cache: &Cache<K>, keys: &mut BTreeSet<String>)
    where
        K: Registered
            + Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + serde::Serialize
            + DeserializeOwned,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), SYSTEM_NAMESPACE);
        for object in cache.list_where(|object| !is_deleted(object)) {
            let (status, is_spoken_to) = self.connect(object.as_ref());
            if is_spoken_to {
                keys.insert(object.key().to_owned());
            }
            let generation = object.meta().generation;
            let written = update_status(&api, object.as_ref(), |current| {
                *current = ControllerStatus { observed_generation: generation, ..status.clone() };
            });
            if let Err(error) = written.await {
                tracing::debug!(controller = object.key(), %error, "the status of a controller is not written");
            }
        }
    }

    /// Has the pool speak to a controller; how that stands, and whether it is spoken to at all.
    fn connect<K: Registered>(&self, object: &K) -> (ControllerStatus, bool) {
        let (key, place) = (object.key(), object.place());
        if (self.terms.is_built_in)(key, place.host) {
            return (plain(ControllerConnection::BuiltIn, ""), false);
        }
        let Some(address) = self.address(&place) else {
            return (plain(ControllerConnection::Unknown, "it is not spoken to: it has no port"), false);
        };
        if let Err(error) = self.pool.set(key, address) {
            // What was known under the name stays as it was, but is not this controller.
            self.pool.remove(key);
            return (plain(ControllerConnection::Failing, &crate::failure::told(&error)), false);
        }
        (self.pool.state(key).map_or_else(ControllerStatus::default, told), true)
    }

    fn address(&self, place: &Place<'_>) -> Option<Address> {
        let port = u16::try_from(place.port).ok().filter(|port| *port != 0)?;
        let security = if place.tls {
            Security::Tls(Tls {
                authority_pem: place.authority_pem.unwrap_or(&self.terms.authority_pem).to_owned(),
                server_name: None,
                identity_pem: self.terms.identity_pem.clone(),
            })
        } else {
            Security::Plain
        };
        Some(Address { host: place.host.trim_matches(['[', ']']).to_owned(), port, security })
    }
}

fn plain(connection: ControllerConnection, message: &str) -> ControllerStatus {
    ControllerStatus { connection, message: message.to_owned(), ..ControllerStatus::default() }
}

fn told(state: State) -> ControllerStatus {
    let connection = match state.health {
        Health::Untried => ControllerConnection::Unknown,
        Health::Ready => ControllerConnection::Connected,
        Health::Failing => ControllerConnection::Failing,
    };
    let failure = state.last_failure.filter(|_| state.health == Health::Failing);
    ControllerStatus {
        connection,
        // As it is written: in seconds.
        since: jiff::Timestamp::from_second(state.since.as_second()).ok().map(Time),
        message: failure.map_or_else(String::new, |failure| failure.message),
        observed_generation: None,
    }
}

fn ticks<K: WatchedObject>(cache: &Cache<K>) -> impl Stream<Item = ()> + Send + Unpin + use<K> {
    cache.changes().map(|_| ()).boxed()
}
