//! The contract's server half: what is built in answers the calls of foreign orchestrators and clients.

use std::{future::Future, pin::Pin, sync::Arc};

use async_trait::async_trait;
use axum::{
    Router,
    extract::{Request, State},
    response::Response,
    routing::{MethodRouter, post},
};
use drystone_appcontext::contract::{ActionController, ControllerError, PlacementController, Synchroniser};
use futures::StreamExt as _;
use http::request::Parts;
use prost::Message;
use tonic::Status;

use crate::{
    convert, failure, messages as wire_messages,
    notices::{ClusterEvents, ReadinessNotices, StatusNotices},
    paths,
    wire::{self, Answers},
};
use wire_messages::{
    ClusterEventRequest, ClusterEventResponse, ContextRequest, ContextUpdateRequest, Empty, FilterResponse,
    HealthRequest, HealthResponse, Outcome, PostEventRequest, ReadyNotification, ServingStatus,
    StatusDeregistration, StatusNotification, StatusRegistration, Topic, UpdateRequest,
};

/// Decides who is let in. EMCO itself lets everybody in.
#[async_trait]
pub trait Admission: Send + Sync + 'static {
    /// Whether this call is let in, by its path, headers and the connection that it came over.
    async fn admits(&self, call: &Parts) -> Admitted;
}

/// Whether a call is let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admitted {
    /// It is.
    Yes,
    /// It is not known who calls: `UNAUTHENTICATED`.
    Stranger,
    /// Who calls may not do that: `PERMISSION_DENIED`.
    Forbidden,
}

/// Services of the contract, each if there is somebody who provides it; calls to the others are answered with `UNIMPLEMENTED`.
#[derive(Clone)]
pub struct Services {
    admission: Arc<dyn Admission>,
    synchroniser: Option<Arc<dyn Synchroniser>>,
    action: Option<Arc<dyn ActionController>>,
    placement: Option<Arc<dyn PlacementController>>,
    readiness: Option<Arc<dyn ReadinessNotices>>,
    statuses: Option<Arc<dyn StatusNotices>>,
    cluster_events: Option<Arc<dyn ClusterEvents>>,
}

impl std::fmt::Debug for Services {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Services")
            .field("synchroniser", &self.synchroniser.is_some())
            .field("action", &self.action.is_some())
            .field("placement", &self.placement.is_some())
            .field("readiness", &self.readiness.is_some())
            .field("statuses", &self.statuses.is_some())
            .field("cluster_events", &self.cluster_events.is_some())
            .finish_non_exhaustive()
    }
}

/// Path of gRPC's own health protocol, by which it is found out whether a server is there.
pub const HEALTH_PATH: &str = paths::HEALTH;

/// Every path that can be served, beside gRPC's own health protocol. All are for those who are let in.
pub const PATHS: [&str; 14] = [
    paths::INSTALL,
    paths::UNINSTALL,
    paths::READ,
    paths::UPDATE,
    paths::ROLL_BACK,
    paths::UPDATE_CONTEXT,
    paths::TERMINATE_CONTEXT,
    paths::POST_EVENT,
    paths::FILTER_CLUSTERS,
    paths::ALERT,
    paths::UNSUBSCRIBE,
    paths::STATUS_REGISTER,
    paths::STATUS_DEREGISTER,
    paths::PUBLISH,
];

impl Services {
    /// No service yet.
    pub fn new(admission: Arc<dyn Admission>) -> Self {
        Self {
            admission,
            synchroniser: None,
            action: None,
            placement: None,
            readiness: None,
            statuses: None,
            cluster_events: None,
        }
    }

    /// Serves `installapp` and `updateapp`: what EMCO calls rsync.
    #[must_use]
    pub fn synchroniser(mut self, provider: Arc<dyn Synchroniser>) -> Self {
        self.synchroniser = Some(provider);
        self
    }

    /// Serves `contextupdate`.
    #[must_use]
    pub fn action(mut self, provider: Arc<dyn ActionController>) -> Self {
        self.action = Some(provider);
        self
    }

    /// Serves `PlacementController`.
    #[must_use]
    pub fn placement(mut self, provider: Arc<dyn PlacementController>) -> Self {
        self.placement = Some(provider);
        self
    }

    /// Serves `readyNotify`.
    #[must_use]
    pub fn readiness(mut self, provider: Arc<dyn ReadinessNotices>) -> Self {
        self.readiness = Some(provider);
        self
    }

    /// Serves `StatusNotify`.
    #[must_use]
    pub fn statuses(mut self, provider: Arc<dyn StatusNotices>) -> Self {
        self.statuses = Some(provider);
        self
    }

    /// Serves `ClmControllerEventChannel`.
    #[must_use]
    pub fn cluster_events(mut self, provider: Arc<dyn ClusterEvents>) -> Self {
        self.cluster_events = Some(provider);
        self
    }

    /// The routes, to be served over HTTP/2 like any others.
    pub fn router(self) -> Router {
        let mut router: Router<Self> = Router::new();
        if self.synchroniser.is_some() {
            router = router
                .route(paths::INSTALL, unary(install))
                .route(paths::UNINSTALL, unary(uninstall))
                .route(paths::READ, unary(read))
                .route(paths::UPDATE, unary(update))
                // To go back to an earlier context is to put it into the place of the present one.
                .route(paths::ROLL_BACK, unary(update));
        }
        if self.action.is_some() {
            router = router
                .route(paths::UPDATE_CONTEXT, unary(update_context))
                .route(paths::TERMINATE_CONTEXT, unary(terminate_context))
                .route(paths::POST_EVENT, unary(post_event));
        }
        if self.placement.is_some() {
            router = router.route(paths::FILTER_CLUSTERS, unary(filter_clusters));
        }
        if self.readiness.is_some() {
            router = router.route(paths::ALERT, stream(alert)).route(paths::UNSUBSCRIBE, unary(unsubscribe));
        }
        if self.statuses.is_some() {
            router = router
                .route(paths::STATUS_REGISTER, stream(register))
                .route(paths::STATUS_DEREGISTER, unary(deregister));
        }
        if self.cluster_events.is_some() {
            router = router.route(paths::PUBLISH, unary(publish));
        }
        router.route(paths::HEALTH, unary(health)).fallback(unimplemented).with_state(self)
    }

    /// Lets a call in, or says what to answer instead.
    async fn admit(&self, request: Request) -> Result<Request, Status> {
        let (parts, body) = request.into_parts();
        match self.admission.admits(&parts).await {
            Admitted::Yes => Ok(Request::from_parts(parts, body)),
            Admitted::Stranger => Err(Status::unauthenticated("it is not known who calls")),
            Admitted::Forbidden => Err(Status::permission_denied("who calls may not do that")),
        }
    }
}

/// A provider that a route was made for.
fn provided<P: ?Sized>(provider: Option<&Arc<P>>) -> Result<&Arc<P>, Status> {
    provider.ok_or_else(|| Status::unimplemented("nobody provides this service here"))
}

type Answering = Pin<Box<dyn Future<Output = Response> + Send>>;

/// Route of a call with one question and one answer.
fn unary<Q, A, F, Fut>(function: F) -> MethodRouter<Services>
where
    Q: Message + Default + 'static,
    A: Message + Default + 'static,
    F: Fn(Services, Q) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<A, Status>> + Send + 'static,
{
    post(move |State(services): State<Services>, request: Request| -> Answering {
        let function = function.clone();
        Box::pin(async move {
            match services.admit(request).await {
                Ok(request) => {
                    wire::unary(request, move |question| function(services.clone(), question)).await
                }
                Err(refusal) => wire::refuse(refusal),
            }
        })
    })
}

/// Route of a call with one question and a stream of answers.
fn stream<Q, A, F, Fut>(function: F) -> MethodRouter<Services>
where
    Q: Message + Default + 'static,
    A: Message + Default + 'static,
    F: Fn(Services, Q) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<Answers<A>, Status>> + Send + 'static,
{
    post(move |State(services): State<Services>, request: Request| -> Answering {
        let function = function.clone();
        Box::pin(async move {
            match services.admit(request).await {
                Ok(request) => {
                    wire::answer_stream(request, move |question| function(services.clone(), question)).await
                }
                Err(refusal) => wire::refuse(refusal),
            }
        })
    })
}

async fn unimplemented(State(services): State<Services>, request: Request) -> Response {
    match services.admit(request).await {
        Ok(request) => {
            // Its last part as EMCO's clients look for it.
            let path = request.uri().path();
            let method = path.rsplit('/').next().unwrap_or_default();
            wire::refuse(Status::unimplemented(format!("method {method} not implemented ({path})")))
        }
        Err(refusal) => wire::refuse(refusal),
    }
}

/// What a provider's result is to a client: `false` and the reason, where it said no.
fn outcome(path: &str, result: Result<(), ControllerError>) -> Result<Outcome, Status> {
    match result {
        Ok(()) => Ok(Outcome { done: true, message: String::new() }),
        Err(ControllerError::Refused(message)) => Ok(Outcome { done: false, message }),
        Err(error) => Err(failure::to_status(path, error)),
    }
}

async fn install(services: Services, request: ContextRequest) -> Result<Outcome, Status> {
    let id = convert::context("app_context", &request.app_context)?;
    outcome(paths::INSTALL, provided(services.synchroniser.as_ref())?.install(id).await)
}

async fn uninstall(services: Services, request: ContextRequest) -> Result<Outcome, Status> {
    let id = convert::context("app_context", &request.app_context)?;
    outcome(paths::UNINSTALL, provided(services.synchroniser.as_ref())?.uninstall(id).await)
}

async fn read(services: Services, request: ContextRequest) -> Result<Outcome, Status> {
    let id = convert::context("app_context", &request.app_context)?;
    outcome(paths::READ, provided(services.synchroniser.as_ref())?.read(id).await)
}

async fn update(services: Services, request: UpdateRequest) -> Result<Outcome, Status> {
    let from = convert::context("from_appContext", &request.from)?;
    let to = convert::context("to_appContext", &request.to)?;
    outcome(paths::UPDATE, provided(services.synchroniser.as_ref())?.update(from, to).await)
}

async fn update_context(services: Services, request: ContextUpdateRequest) -> Result<Outcome, Status> {
    let id = convert::context("app_context", &request.app_context)?;
    let from = convert::earlier_context(&request.update_from_app_context)?;
    let action = provided(services.action.as_ref())?;
    outcome(paths::UPDATE_CONTEXT, action.update_context(id, &request.intent_name, from).await)
}

async fn terminate_context(services: Services, request: ContextRequest) -> Result<Outcome, Status> {
    let id = convert::context("app_context", &request.app_context)?;
    outcome(paths::TERMINATE_CONTEXT, provided(services.action.as_ref())?.terminate(id).await)
}

async fn post_event(services: Services, request: PostEventRequest) -> Result<Outcome, Status> {
    let id = convert::context("app_context", &request.app_context)?;
    let event = convert::event(request.event_type)?;
    outcome(paths::POST_EVENT, provided(services.action.as_ref())?.post_event(id, event).await)
}

async fn filter_clusters(services: Services, request: ContextRequest) -> Result<FilterResponse, Status> {
    let app_context = request.app_context;
    let id = convert::context("appContext", &app_context)?;
    let result = provided(services.placement.as_ref())?.filter_clusters(id).await;
    let Outcome { done: status, message } = outcome(paths::FILTER_CLUSTERS, result)?;
    Ok(FilterResponse { app_context, status, message })
}

async fn alert(services: Services, topic: Topic) -> Result<Answers<ReadyNotification>, Status> {
    let id = convert::context("appContext", &topic.app_context)?;
    let readiness = provided(services.readiness.as_ref())?;
    let notices = readiness.alert(&topic.client_name, id).await;
    let notices = notices.map_err(|error| failure::to_status(paths::ALERT, error))?;
    let client = topic.client_name;
    Ok(Box::pin(notices.map(move |notice| match notice {
        Ok(notice) => Ok(convert::readiness_to_wire(&client, &notice)),
        Err(error) => Err(failure::to_status(paths::ALERT, error)),
    })))
}

async fn unsubscribe(services: Services, topic: Topic) -> Result<Empty, Status> {
    let id = convert::context("appContext", &topic.app_context)?;
    let readiness = provided(services.readiness.as_ref())?;
    let result = readiness.unsubscribe(&topic.client_name, id).await;
    result.map(|()| Empty {}).map_err(|error| failure::to_status(paths::UNSUBSCRIBE, error))
}

async fn register(
    services: Services,
    registration: StatusRegistration,
) -> Result<Answers<StatusNotification>, Status> {
    let query = convert::status_query(registration)?;
    let notices = provided(services.statuses.as_ref())?.register(query).await;
    let notices = notices.map_err(|error| failure::to_status(paths::STATUS_REGISTER, error))?;
    Ok(Box::pin(notices.map(|notice| match notice {
        Ok(notice) => Ok(convert::status_notice_to_wire(notice)),
        Err(error) => Err(failure::to_status(paths::STATUS_REGISTER, error)),
    })))
}

async fn deregister(services: Services, request: StatusDeregistration) -> Result<Empty, Status> {
    let result = provided(services.statuses.as_ref())?.deregister(&request.client_id).await;
    result.map(|()| Empty {}).map_err(|error| failure::to_status(paths::STATUS_DEREGISTER, error))
}

async fn publish(services: Services, request: ClusterEventRequest) -> Result<ClusterEventResponse, Status> {
    let (cluster, event) = convert::cluster_event(&request)?;
    let result = provided(services.cluster_events.as_ref())?.cluster_event(&cluster, event).await;
    let Outcome { done: status, message } = outcome(paths::PUBLISH, result)?;
    let ClusterEventRequest { provider_name, cluster_name, .. } = request;
    Ok(ClusterEventResponse { provider_name, cluster_name, status, message })
}

async fn health(_: Services, _: HealthRequest) -> Result<HealthResponse, Status> {
    Ok(HealthResponse { status: ServingStatus::Serving.into() })
}
