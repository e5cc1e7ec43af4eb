//! Service account tokens: JWTs signed with ES256 that name a service account and the object they are bound to.
//!
//! A token is only as good as what it names: the account, and the pod, node or Secret it is bound to, must still live
//! *with the same UID*. Only the caller can know; it says so through [`Liveness`].

mod claims;
mod issuer;
#[cfg(test)]
mod tests;
mod verifier;

pub use claims::{BoundObject, Claims, KubernetesClaims, ObjectClaim};
pub use issuer::{ServiceAccountIssuer, TokenRequest};
pub use verifier::{Liveness, LivenessError, ServiceAccountTokens, VerifiedToken};

/// A token that cannot be issued or is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The request for it is not valid.
    #[error("{field}: {problem}")]
    Request {
        /// Path of the field in the `TokenRequest`.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// It is no token of this issuer.
    #[error("the token is not from this issuer")]
    Foreign,
    /// It is malformed, or its signature is wrong.
    #[error("the token is not valid: {0}")]
    Invalid(String),
    /// Its time is over, or has not come.
    #[error("the token has expired or is not yet valid")]
    NotValidNow,
    /// It is meant for others.
    #[error("the token is for audiences {has:?}, not for any of {wanted:?}")]
    Audience {
        /// Whom it is for.
        has: Vec<String>,
        /// Who is asked for.
        wanted: Vec<String>,
    },
    /// What it names lives no more.
    #[error("the token is no longer valid: {0}")]
    Gone(String),
    /// Whether what it names still lives cannot be told now.
    #[error("the token cannot be checked now: {0}")]
    Unavailable(String),
}
