//! The server as a whole: made of a [`Config`](crate::Config), reached in process or over a port.

mod credentials;
mod in_process;
mod listen;
mod protect;
pub(crate) mod state;
mod trust;

use std::sync::Arc;

use axum::Router;
use axum::routing::any;
use drystone_identity::UserInfo;
use drystone_identity::authn::{BootstrapTokens, ClientCertificates, ServiceAccountTokens, TokenError};
use drystone_store::StoreError;
use http::request::Parts;
use tokio_util::task::TaskTracker;

pub use self::in_process::InProcess;
pub use self::listen::{ServeError, serve_plain, serve_tls};
pub use self::protect::Caller;
pub use self::trust::trust_clients;

use self::credentials::StoredObjects;
use self::state::State;
use crate::config::Config;
use crate::controllers;
use crate::http as face;
use crate::machinery::status::ApiError;
use crate::registry::{Registry, builtin};
use crate::storage::Objects;

/// Why a server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store cannot be read or written.
    #[error("the API server's store failed")]
    Store(#[from] StoreError),
    /// Tokens of service accounts cannot be verified.
    #[error("tokens of service accounts cannot be verified")]
    Tokens(#[from] TokenError),
    /// The objects that every cluster has cannot be made.
    #[error("the objects that every cluster has cannot be made: {0}")]
    Bootstrap(ApiError),
}

/// A Kubernetes API server. Cheap to clone; all clones are the same server.
#[derive(Clone)]
pub struct ApiServer {
    state: Arc<State>,
    tasks: TaskTracker,
}

impl std::fmt::Debug for ApiServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiServer").field("config", &self.state.config).finish_non_exhaustive()
    }
}

impl ApiServer {
    /// Starts a server: reads custom resources and the access policy from the store, makes what every cluster has, and
    /// starts the controllers that belong to it.
    ///
    /// # Errors
    /// [`StartError`] if the store fails.
    pub async fn new(config: Config) -> Result<Self, StartError> {
        let objects = Objects::new(Arc::clone(&config.store));
        let live = StoredObjects(objects.clone());
        let mut authentication = config.authentication.clone().with(ClientCertificates);
        let mut tokens = None;
        if let Some(issuer) = &config.service_account_issuer {
            let keys = [issuer.verification_key()];
            let verifier =
                ServiceAccountTokens::new(issuer.issuer(), issuer.audiences().to_vec(), &keys, live.clone())?;
            authentication = authentication.with(verifier.clone());
            tokens = Some(verifier);
        }
        let authentication = authentication.with(BootstrapTokens::new(live));
        let registry = Registry::new(builtin::resources(config.profile));
        let state = Arc::new(State::new(config, registry, objects, authentication, tokens));
        let server = Self { state, tasks: TaskTracker::new() };
        controllers::start(&server.state, &server.tasks).await?;
        Ok(server)
    }

    /// The routes of this server, to be merged with others' on one port.
    pub fn router(&self) -> Router {
        let mut router = Router::new();
        for path in face::documents::PATHS {
            router = router.route(path, any(Self::answer));
        }
        for path in [
            "/api/{*rest}",
            "/apis/{*rest}",
            "/openapi/{*rest}",
            "/healthz/{*rest}",
            "/livez/{*rest}",
            "/readyz/{*rest}",
        ] {
            router = router.route(path, any(Self::answer));
        }
        router.with_state(Arc::clone(&self.state))
    }

    /// The routes of this server, and its answer to every other path: a `Status` that says that there is nothing.
    pub fn router_with_fallback(&self) -> Router {
        let state = Arc::clone(&self.state);
        self.router().fallback(move |request| face::handle(Arc::clone(&state), request))
    }

    async fn answer(
        axum::extract::State(state): axum::extract::State<Arc<State>>,
        request: axum::extract::Request,
    ) -> axum::response::Response {
        face::handle(state, request).await
    }

    /// The server as a service for clients in this process, who act as `user`. `kube::Client::new` takes it.
    pub fn service_as(&self, user: UserInfo) -> InProcess {
        InProcess::new(Arc::clone(&self.state), user)
    }

    /// Who made a request, for other front ends on the same port; anonymous if it carries no credentials.
    ///
    /// # Errors
    /// [`ApiError::Unauthorized`] if its credentials are not accepted, [`ApiError::Forbidden`] if it impersonates
    /// somebody and may not.
    pub async fn authenticate(&self, parts: &Parts) -> Result<Arc<UserInfo>, ApiError> {
        let user = face::authn::authenticate(&self.state, parts).await?;
        face::authn::impersonate(&self.state, user, &parts.headers)
    }

    /// Whether a request may go on, by the access policy.
    pub fn authorize(
        &self,
        attributes: &drystone_identity::rbac::Attributes<'_>,
    ) -> drystone_identity::rbac::Decision {
        self.state.authorize(attributes)
    }

    /// Serves TLS on `listener` until the server is shut down; then lets requests finish.
    ///
    /// # Errors
    /// [`ServeError`] if connections can no longer be accepted.
    pub async fn serve(
        &self,
        listener: tokio::net::TcpListener,
        tls: Arc<rustls::ServerConfig>,
    ) -> Result<(), ServeError> {
        serve_tls(listener, tls, self.router_with_fallback(), self.stopping()).await
    }

    /// Cancelled when the server begins to shut down.
    pub fn stopping(&self) -> tokio_util::sync::CancellationToken {
        self.state.stopping.clone()
    }

    /// Stops: readiness fails, watches and controllers end. Returns when the controllers have ended.
    pub async fn shutdown(&self) {
        self.state.stopping.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}
