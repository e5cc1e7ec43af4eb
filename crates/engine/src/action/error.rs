//! Why an attempt at a step did not succeed, and whether another one may.

use std::{fmt::Display, time::Duration};

/// Why an attempt at a step did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StepError {
    /// It may work later; the engine tries again with exponential back-off, up to the step's limit of attempts.
    #[error("{0}")]
    Transient(String),
    /// It may work after this time (a `Retry-After`, a known boot time); counts as an attempt.
    #[error("{message}")]
    RetryAfter {
        /// How long to wait.
        after: Duration,
        /// Why.
        message: String,
    },
    /// No attempt will ever work: bad parameters, a refused password, an impossible request.
    #[error("{0}")]
    Permanent(String),
    /// It stopped because the engine asked it to.
    #[error("interrupted")]
    Cancelled,
}

impl StepError {
    /// A failure that another attempt may overcome.
    pub fn transient(why: impl Display) -> Self {
        Self::Transient(why.to_string())
    }

    /// A failure that no attempt overcomes.
    pub fn permanent(why: impl Display) -> Self {
        Self::Permanent(why.to_string())
    }

    /// A failure that may be over after `after`.
    pub fn retry_after(after: Duration, why: impl Display) -> Self {
        Self::RetryAfter { after, message: why.to_string() }
    }

    /// Classifies an error of the Kubernetes API: what the server refuses as invalid or forbidden stays refused, all else
    /// (conflicts, overload, a lost connection) may pass.
    pub fn from_kube(doing: &str, error: &kube::Error) -> Self {
        let message = format!("{doing}: {}", crate::reference::describe_kube_error(error));
        match error {
            kube::Error::Api(status) if matches!(status.code, 400 | 401 | 403 | 405 | 413 | 415 | 422) => {
                Self::Permanent(message)
            }
            _ => Self::Transient(message),
        }
    }
}
