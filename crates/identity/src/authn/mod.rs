//! Authentication: from what a request carries to who made it.
//!
//! Each way to prove who one is is an [`Authenticator`] for one kind of [`Credential`]; [`Authentication`] asks them in
//! turn. A request with credentials that nobody accepts is refused; one without any is anonymous.

mod bootstrap;
mod password;
mod service_account;
mod static_token;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use rustls_pki_types::CertificateDer;

pub use bootstrap::{
    BOOTSTRAP_TOKEN_SECRET_TYPE, BootstrapToken, BootstrapTokenError, BootstrapTokenSource, BootstrapTokens,
};
pub use password::{PasswordError, PasswordHash, Passwords};
pub use service_account::{
    BoundObject, Claims, KubernetesClaims, Liveness, LivenessError, ObjectClaim, ServiceAccountIssuer,
    ServiceAccountTokens, TokenError, TokenRequest, VerifiedToken,
};
pub use static_token::{StaticTokens, TokenDigest};

use crate::secret::Secret;
use crate::tls::peer_user;
use crate::user::{AUTHENTICATED, UserInfo};

/// One proof of identity that a request carries.
#[derive(Debug, Clone)]
pub enum Credential {
    /// A client certificate chain that the TLS handshake has verified.
    Certificate(Vec<CertificateDer<'static>>),
    /// A bearer token.
    Bearer(Secret),
    /// A name and a password.
    Basic {
        /// The name.
        name: String,
        /// The password.
        password: Secret,
    },
}

/// Why credentials are not accepted. The text may be logged; the client only learns that it is unauthorized.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthenticationError {
    /// The `Authorization` header is malformed.
    #[error("the Authorization header is malformed: {0}")]
    Malformed(&'static str),
    /// The credential is meant for an authenticator that refuses it.
    #[error("{0}")]
    Refused(String),
    /// Nobody knows the credential.
    #[error("nobody recognizes the credential")]
    Unknown,
    /// It cannot be told now.
    #[error("the credential cannot be checked now: {0}")]
    Unavailable(String),
}

/// Checks one kind of credential.
#[async_trait]
pub trait Authenticator: Send + Sync {
    /// Who the credential belongs to. `Ok(None)` if it is not of the kind that this authenticator knows.
    async fn authenticate(
        &self,
        credential: &Credential,
        now: Timestamp,
    ) -> Result<Option<UserInfo>, AuthenticationError>;
}

/// The credentials of a request, out of its connection and its `Authorization` header. Schemes are compared without
/// regard to case; one that is neither Basic nor Bearer is no credential.
///
/// # Errors
/// [`AuthenticationError::Malformed`] if the header is.
pub fn credentials(
    peer_certificates: Option<&[CertificateDer<'static>]>,
    authorization: Option<&str>,
) -> Result<Vec<Credential>, AuthenticationError> {
    let mut credentials = Vec::new();
    if let Some(chain) = peer_certificates.filter(|chain| !chain.is_empty()) {
        credentials.push(Credential::Certificate(chain.to_vec()));
    }
    if let Some((scheme, value)) = authorization.map(str::trim).and_then(|header| header.split_once(' ')) {
        let value = value.trim();
        if scheme.eq_ignore_ascii_case("bearer") && !value.is_empty() {
            credentials.push(Credential::Bearer(value.into()));
        } else if scheme.eq_ignore_ascii_case("basic") {
            credentials.push(basic(value)?);
        }
    }
    Ok(credentials)
}

fn basic(value: &str) -> Result<Credential, AuthenticationError> {
    let decoded =
        STANDARD.decode(value).map_err(|_| AuthenticationError::Malformed("Basic is not base64"))?;
    let decoded = zeroize::Zeroizing::new(decoded);
    let text =
        std::str::from_utf8(&decoded).map_err(|_| AuthenticationError::Malformed("Basic is not UTF-8"))?;
    let (name, password) =
        text.split_once(':').ok_or(AuthenticationError::Malformed("Basic has no colon"))?;
    Ok(Credential::Basic { name: name.to_owned(), password: password.into() })
}

/// All the ways to authenticate that a server offers.
#[derive(Clone, Default)]
pub struct Authentication {
    authenticators: Vec<Arc<dyn Authenticator>>,
}

impl std::fmt::Debug for Authentication {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authentication").field("authenticators", &self.authenticators.len()).finish()
    }
}

impl Authentication {
    /// Offers none yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Offers one more, asked after those before.
    #[must_use]
    pub fn with(mut self, authenticator: impl Authenticator + 'static) -> Self {
        self.authenticators.push(Arc::new(authenticator));
        self
    }

    /// Who made a request with these credentials: the first that is accepted counts. Without credentials it is
    /// [anonymous](UserInfo::anonymous). An authenticated user is in group `system:authenticated`.
    ///
    /// # Errors
    /// [`AuthenticationError`] if there are credentials and none is accepted.
    pub async fn authenticate(
        &self,
        credentials: &[Credential],
        now: Timestamp,
    ) -> Result<UserInfo, AuthenticationError> {
        if credentials.is_empty() {
            return Ok(UserInfo::anonymous());
        }
        let mut refusal = AuthenticationError::Unknown;
        for credential in credentials {
            for authenticator in &self.authenticators {
                match authenticator.authenticate(credential, now).await {
                    Ok(Some(mut user)) => {
                        user.add_group(AUTHENTICATED);
                        return Ok(user);
                    }
                    Ok(None) => {}
                    Err(error) => refusal = error,
                }
            }
        }
        Err(refusal)
    }
}

/// Accepts verified client certificates.
#[derive(Debug, Clone, Copy, Default)]
pub struct ClientCertificates;

#[async_trait]
impl Authenticator for ClientCertificates {
    async fn authenticate(
        &self,
        credential: &Credential,
        now: Timestamp,
    ) -> Result<Option<UserInfo>, AuthenticationError> {
        let Credential::Certificate(chain) = credential else { return Ok(None) };
        peer_user(chain, now).map(Some).map_err(|error| AuthenticationError::Refused(error.to_string()))
    }
}
