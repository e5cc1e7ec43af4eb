//! What goes wrong.

use drystone_ssh::{ProgramError, SshError};

use crate::in_use::Uses;

/// Something that did not come about. The message names what was attempted and what to do.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The host was not reached, or the connection was lost.
    #[error(transparent)]
    Ssh(#[from] SshError),
    /// A program on the host did not do what it was to do.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// The host is not as it must be; nothing was changed, and trying again is of no use before somebody changes something.
    #[error("{doing}: {why}")]
    Refused {
        /// What was attempted.
        doing: String,
        /// Why not, and what to do.
        why: String,
    },
    /// A host or a cluster answered something that makes no sense.
    #[error("{doing}: the answer is not understood: {why}")]
    Unexpected {
        /// What was attempted.
        doing: String,
        /// What is wrong with it.
        why: String,
    },
    /// It took too long.
    #[error("waited {seconds} s in vain {what}: {state}")]
    Deadline {
        /// What was waited for.
        what: String,
        /// How long, in seconds.
        seconds: u64,
        /// How things were at the end.
        state: String,
    },
    /// PersistentVolumes are in use.
    #[error("{0}")]
    InUse(Uses),
    /// The cluster's API refused or did not answer.
    #[error("{doing}: {source}")]
    Kubernetes {
        /// What was attempted.
        doing: String,
        /// Why not.
        source: Box<kube::Error>,
    },
}

impl StorageError {
    /// Whether another attempt would fail as well until somebody changes something.
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::Ssh(error) => error.is_permanent(),
            Self::Program(error) => error.is_permanent(),
            Self::Refused { .. } | Self::Unexpected { .. } | Self::InUse(_) => true,
            Self::Kubernetes { source, .. } => {
                matches!(&**source, kube::Error::Api(status) if matches!(status.code, 400 | 401 | 403 | 405 | 422))
            }
            Self::Deadline { .. } => false,
        }
    }

    pub(crate) fn refused(doing: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Refused { doing: doing.into(), why: why.into() }
    }

    pub(crate) fn unexpected(doing: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Unexpected { doing: doing.into(), why: why.into() }
    }
}
