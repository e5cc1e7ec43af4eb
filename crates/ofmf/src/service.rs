//! The service: reads are look-ups in the tree, writes become changes of Drystone's resources.

mod documents;
mod routes;

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use axum::body::Body;
use drystone_engine::harness::Caches;
use drystone_identity::authn::PasswordHash;
use drystone_redfish::{
    error::ServiceError,
    message,
    server::{
        EventService, Principal, RedfishService, Reply, RouteTable, SessionStore, Target, Vouched,
        WriteRequest,
    },
    tree::{Ready, Stretch, Tree},
};
use http::{Method, Response, request::Parts};
use jiff::Timestamp;
use kube::Client;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::{
    accounts::Accounts,
    agents::{self, Agents},
    feed::{Feed, Sources},
    render,
    subscriptions::Subscriptions,
    writes::Writes,
};

/// What the process around the service knows about a request.
pub trait Door: Send + Sync + 'static {
    /// Whether it came over TLS, or over a port whose clients are trusted.
    fn is_confidential(&self, request: &Parts) -> bool;

    /// Who makes a request that carries no credentials of Redfish: by a client certificate, a bearer token, or a trusted port.
    fn vouch<'a>(&'a self, request: &'a Parts) -> Pin<Box<dyn Future<Output = Vouched> + Send + 'a>>;
}

/// What a service is made of.
pub struct Config {
    /// UUID of the service, the same after every start.
    pub uuid: String,
    /// The administrator's password.
    pub administrator: PasswordHash,
    /// What the process around it knows about requests.
    pub door: Arc<dyn Door>,
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config").field("uuid", &self.uuid).finish_non_exhaustive()
    }
}

/// The service.
pub struct Ofmf {
    tree: Arc<Tree>,
    routes: RouteTable,
    sessions: SessionStore,
    accounts: Accounts,
    events: Arc<EventService>,
    subscriptions: Subscriptions,
    writes: Writes,
    door: Arc<dyn Door>,
    agents: OnceLock<Arc<dyn Agents>>,
    gate: tokio::sync::Mutex<()>,
    caches: Caches,
}

impl std::fmt::Debug for Ofmf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ofmf").finish_non_exhaustive()
    }
}

impl Ofmf {
    /// Starts a service that follows the resources of an API until `shutdown`. Must be called inside a Tokio runtime.
    pub fn start(client: &Client, config: Config, shutdown: &CancellationToken) -> Arc<Self> {
        let tree = Arc::new(Tree::default());
        tree.replace("service", render::service::service(&config.uuid, Timestamp::now()));
        let events = Arc::new(EventService::default());
        let subscriptions = Subscriptions::start(client, &events, &tree, shutdown);
        let caches = Caches::new(client.clone(), shutdown.clone());
        let feed = Arc::new(Feed::new(tree.clone(), Sources::new(&caches, client, shutdown)));
        tokio::spawn(feed.clone().run(shutdown.clone()));
        Arc::new(Self {
            routes: routes::table(),
            sessions: SessionStore::default(),
            accounts: Accounts::start(client, config.administrator, shutdown),
            events,
            subscriptions,
            writes: Writes::new(client.clone(), feed, tree.clone()),
            door: config.door,
            agents: OnceLock::new(),
            gate: tokio::sync::Mutex::default(),
            caches,
            tree,
        })
    }

    /// The tree: those who know resources that the service does not find out by itself fill it.
    pub fn tree(&self) -> Arc<Tree> {
        self.tree.clone()
    }

    /// Copies of what the API has, for others that look at the same objects.
    pub fn caches(&self) -> Caches {
        self.caches.clone()
    }

    /// Says who knows agents; before, there are none. The first one counts.
    pub fn connect(&self, agents: Arc<dyn Agents>) {
        // Connecting twice would be a mistake of the program's assembly that changes nothing.
        let _ = self.agents.set(agents);
    }

    /// Who knows agents, if an agent looks after a URI.
    fn agents_of(&self, uri: &str) -> Option<&dyn Agents> {
        self.agents.get().map(AsRef::as_ref).filter(|agents| agents.looks_after(uri))
    }

    async fn log_in(&self, request: WriteRequest<'_>) -> Result<Reply, ServiceError> {
        let who = Mutex::new(None);
        let verify = async |user: String, password: String| {
            let found = self.accounts.verify(&user, &password).await;
            *who.lock().unwrap_or_else(PoisonError::into_inner) =
                found.as_ref().map(|found| found.user.clone());
            found
        };
        let reply = self.sessions.log_in(request, verify).await?;
        let user = who.into_inner().unwrap_or_else(PoisonError::into_inner).unwrap_or_default();
        Ok(match self.accounts.password_change_required(&user) {
            Some(message) => reply.with_message(&message),
            None => reply,
        })
    }
}

impl RedfishService for Ofmf {
    fn routes(&self) -> &RouteTable {
        &self.routes
    }

    fn sessions(&self) -> &SessionStore {
        &self.sessions
    }

    async fn verify_password(&self, user: &str, password: &str) -> Option<Principal> {
        self.accounts.verify(user, password).await
    }

    fn is_confidential(&self, request: &Parts) -> bool {
        self.door.is_confidential(request)
    }

    async fn vouch(&self, request: &Parts) -> Vouched {
        self.door.vouch(request).await
    }

    fn check(&self, who: &Principal, method: &Method, target: &Target<'_>) -> Result<(), ServiceError> {
        self.accounts.check(who, method, target.segments())
    }

    fn media_type(&self, target: &Target<'_>) -> &'static str {
        documents::media_type(target.segments())
    }

    fn raw(
        &self,
        request: &Parts,
        target: &Target<'_>,
        principal: Option<&Principal>,
    ) -> Option<Result<Response<Body>, ServiceError>> {
        match target.segments() {
            ["EventService", "SSE"] => {
                Some(self.events.stream(request, principal.map_or("", |who| who.user.as_str())))
            }
            ["TaskService", "TaskMonitors", id] => Some(self.writes.tasks().monitor(id)),
            _ => None,
        }
    }

    fn ready(&self, target: &Target<'_>) -> Option<Ready> {
        self.tree.get(target.uri)
    }

    fn write_gate(&self, target: &Target<'_>) -> Option<&tokio::sync::Mutex<()>> {
        // Of several that name the same entity tag one may write. Fabrics have a lock of their own, not held while switches work.
        matches!(target.segments(), ["AccountService" | "EventService" | "SessionService", _, _])
            .then_some(&self.gate)
    }

    async fn read(&self, target: &Target<'_>) -> Result<Value, ServiceError> {
        match target.segments() {
            segments @ ["SessionService", ..] => self.sessions.read(segments),
            segments @ ["AccountService", ..] => self.accounts.read(segments),
            segments @ ["EventService", ..] => self.events.read(segments),
            segments => match self.tree.value(target.uri) {
                Some(value) => Ok(value),
                None => documents::read(segments, &self.tree, &self.routes)
                    .ok_or_else(|| ServiceError::not_found(target.uri)),
            },
        }
    }

    fn stretch(&self, target: &Target<'_>, skip: usize, limit: usize) -> Option<Stretch> {
        self.tree.stretch(target.uri, skip, limit)
    }

    async fn write(&self, request: WriteRequest<'_>) -> Result<Reply, ServiceError> {
        let segments: Vec<&str> = request.target.segments().to_vec();
        match (request.method.as_str(), segments.as_slice()) {
            ("POST", ["SessionService", "Sessions"]) => self.log_in(request).await,
            (_, ["SessionService", ..]) => self.sessions.write(request),
            (_, ["AccountService", ..]) => {
                let own = request.principal.and_then(|who| who.session.clone());
                let (reply, logged_out) = self.accounts.write(request).await?;
                if let Some(user) = logged_out {
                    self.sessions.close_of(&user, own.as_deref());
                }
                Ok(reply)
            }
            (_, ["EventService", ..]) => self.subscriptions.write(&self.events, request).await,
            ("POST", ["EventListener"]) => match self.agents.get() {
                Some(agents) => agents::listen(agents.as_ref(), request).await,
                None => Err(ServiceError::unavailable(message::service_temporarily_unavailable(1), 1)),
            },
            _ => match self.agents_of(request.target.uri) {
                Some(agents) => agents::forward(agents, request).await,
                // On the heap: the largest of all writes would make every request as large.
                None => Box::pin(self.writes.write(request)).await,
            },
        }
    }
}
