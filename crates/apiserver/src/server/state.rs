//! What all parts of the server share.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use drystone_identity::authn::{Authentication, ServiceAccountIssuer, ServiceAccountTokens};
use drystone_identity::rbac::{Attributes, Decision, Policy};
use drystone_store::{LeaseId, StoreError};
use tokio_util::sync::CancellationToken;

use crate::admission::Admission;
use crate::config::Config;
use crate::http::limits::InFlight;
use crate::http::metrics::Metrics;
use crate::machinery::status::ApiError;
use crate::operations::event_leases::EventLeases;
use crate::registry::{Registry, ResourceInfo};
use crate::storage::Objects;

/// What all parts of the server share.
pub(crate) struct State {
    /// What the server was given.
    pub(crate) config: Config,
    /// What is served.
    pub(crate) registry: Registry,
    /// The objects.
    pub(crate) objects: Objects,
    /// Who may be who.
    pub(crate) authentication: Authentication,
    /// Verifies tokens of service accounts, if the server issues them.
    pub(crate) tokens: Option<ServiceAccountTokens>,
    /// Issues tokens of service accounts.
    pub(crate) issuer: Option<Arc<ServiceAccountIssuer>>,
    /// Decisions about what is written.
    pub(crate) admission: Admission,
    /// Counts requests.
    pub(crate) metrics: Metrics,
    /// Bounds requests.
    pub(crate) in_flight: InFlight,
    /// Cancelled when the server stops: watches end, controllers end.
    pub(crate) stopping: CancellationToken,
    policy: RwLock<Policy>,
    event_leases: EventLeases,
}

impl State {
    /// Puts the parts together.
    pub(crate) fn new(
        config: Config,
        registry: Registry,
        objects: Objects,
        authentication: Authentication,
        tokens: Option<ServiceAccountTokens>,
    ) -> Self {
        Self {
            admission: Admission::new(config.services.clone()),
            in_flight: InFlight::new(&config.limits),
            issuer: config.service_account_issuer.clone(),
            metrics: Metrics::default(),
            stopping: CancellationToken::new(),
            policy: RwLock::new(Policy::new()),
            event_leases: EventLeases::default(),
            config,
            registry,
            objects,
            authentication,
            tokens,
        }
    }

    /// The access policy, to decide by.
    pub(crate) fn policy(&self) -> RwLockReadGuard<'_, Policy> {
        self.policy.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The access policy, to change it.
    pub(crate) fn policy_mut(&self) -> RwLockWriteGuard<'_, Policy> {
        self.policy.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lease of the store that objects of a resource are written under: that of events, or none.
    pub(crate) async fn lease_for(&self, resource: &ResourceInfo) -> Result<LeaseId, StoreError> {
        if resource.group.is_empty() && resource.plural == "events" {
            return self.event_leases.lease(self.objects.store().as_ref()).await;
        }
        Ok(0)
    }

    /// Whether a request may go on.
    pub(crate) fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        self.policy().authorize(attributes)
    }
}

/// A failure of the store as the client sees it.
pub(crate) fn store_failure(error: StoreError) -> ApiError {
    match error {
        StoreError::Compacted { requested, compacted } => {
            ApiError::Expired(format!("too old resource version: {requested} ({compacted})"))
        }
        StoreError::FutureRevision { requested, current } => {
            ApiError::ResourceVersionTooLarge { requested, current }
        }
        StoreError::NoSpace(_) => ApiError::ServiceUnavailable(
            "the server's disk is full: nothing can be written until there is room".into(),
        ),
        StoreError::Closed => ApiError::ServiceUnavailable("the server is shutting down".into()),
        StoreError::InvalidRequest(problem) => ApiError::RequestEntityTooLarge(problem),
        StoreError::WatcherTooSlow { .. }
        | StoreError::LeaseNotFound(_)
        | StoreError::LeaseExists(_)
        | StoreError::Backend(_) => {
            tracing::error!(%error, "the store failed");
            ApiError::Internal(error.to_string())
        }
    }
}
