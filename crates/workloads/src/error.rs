//! What can go wrong: in the configuration, and while reconciling one object.

use std::time::Duration;

/// A mistake in [`crate::WorkloadsConfig`]; nothing was started.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{field}: {problem}")]
pub struct ConfigError {
    /// Path of the offending field, such as `externalPools[1].ranges[0]`.
    pub field: String,
    /// What is wrong with it and what would be right.
    pub problem: String,
}

impl ConfigError {
    pub(crate) fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { field: field.into(), problem: problem.into() }
    }
}

/// Why [`crate::run`] ended before it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum WorkloadsError {
    /// The configuration is wrong.
    #[error("workloads configuration: {0}")]
    Config(#[from] ConfigError),
    /// A controller task ended although nothing asked it to.
    #[error("a workloads controller stopped unexpectedly: {0}; restart the control plane")]
    TaskFailed(String),
}

/// Why one reconciliation did not finish; the object is tried again later with back-off.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// The API refused or failed a request.
    #[error("{action} {object}: {}", api_message(source))]
    Api {
        /// What was attempted, such as `create Pod`.
        action: String,
        /// Namespace and name of the object concerned.
        object: String,
        /// The client's error.
        #[source]
        source: Box<kube::Error>,
    },
    /// The API did not answer in time.
    #[error("{action} {object}: no answer from the API within {limit:?}")]
    Timeout {
        /// What was attempted.
        action: String,
        /// Namespace and name of the object concerned.
        object: String,
        /// How long it was waited for.
        limit: Duration,
    },
    /// The cache does not yet show what this controller wrote before; trying again shortly is enough.
    #[error("{0}")]
    Stale(String),
    /// The object asks for something that cannot be done; retrying helps only after it changes.
    #[error("{0}")]
    Invalid(String),
}

impl ReconcileError {
    /// The API's `Status`, if the API answered with one.
    pub fn status(&self) -> Option<&kube::core::Status> {
        match self {
            Self::Api { source, .. } => match source.as_ref() {
                kube::Error::Api(status) => Some(status),
                _ => None,
            },
            _ => None,
        }
    }

    /// 404: the object is not there.
    pub fn is_not_found(&self) -> bool {
        self.status().is_some_and(kube::core::Status::is_not_found)
    }

    /// 409 with reason `AlreadyExists`.
    pub fn is_already_exists(&self) -> bool {
        self.status().is_some_and(kube::core::Status::is_already_exists)
    }

    /// 409 with any other reason: somebody changed the object meanwhile.
    pub fn is_conflict(&self) -> bool {
        self.status().is_some_and(|s| s.is_conflict() && !s.is_already_exists())
    }

    /// The namespace is being deleted, so nothing can be created in it.
    pub fn is_namespace_terminating(&self) -> bool {
        self.status().is_some_and(|status| {
            let causes = status.details.as_ref().map(|d| d.causes.as_slice()).unwrap_or_default();
            status.is_forbidden() && causes.iter().any(|cause| cause.reason == "NamespaceTerminating")
        })
    }

    /// Whether this is the ordinary consequence of acting on a slightly old view.
    pub fn is_expected(&self) -> bool {
        self.is_conflict() || matches!(self, Self::Stale(_))
    }

    /// The message for users, without the request's decoration.
    pub fn user_message(&self) -> String {
        match self {
            Self::Api { source, .. } => api_message(source),
            other => other.to_string(),
        }
    }
}

/// `kube::Error` prints an API status twice; users want its message once.
fn api_message(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if !status.message.is_empty() => status.message.clone(),
        other => other.to_string(),
    }
}
