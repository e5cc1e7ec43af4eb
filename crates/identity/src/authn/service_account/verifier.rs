//! Verifying tokens.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;

use super::TokenError;
use super::claims::Claims;
use crate::authn::{AuthenticationError, Authenticator, Credential};
use crate::secret::Secret;
use crate::user::UserInfo;

/// Why a token's objects do not vouch for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LivenessError {
    /// An object is gone, or has another UID; says which.
    Gone(String),
    /// It cannot be told now.
    Unavailable(String),
}

/// Knows whether the objects that a token names still live.
#[async_trait]
pub trait Liveness: Send + Sync {
    /// Checks that the account, and what the token is bound to, exist with the UIDs the claims give.
    ///
    /// # Errors
    /// [`LivenessError`] if they do not, or it cannot be told.
    async fn check(&self, claims: &Claims, now: Timestamp) -> Result<(), LivenessError>;
}

/// A token that has been verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedToken {
    /// What it says.
    pub claims: Claims,
    /// Whom it stands for.
    pub user: UserInfo,
    /// Those of the wanted audiences that it is for.
    pub audiences: Vec<String>,
}

/// Accepts service account tokens.
#[derive(Clone)]
pub struct ServiceAccountTokens {
    issuer: String,
    audiences: Vec<String>,
    keys: Arc<HashMap<String, DecodingKey>>,
    liveness: Arc<dyn Liveness>,
}

impl fmt::Debug for ServiceAccountTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceAccountTokens").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

impl ServiceAccountTokens {
    /// Accepts tokens of an issuer that are for any of `audiences` and signed by any of `keys`, which need key IDs.
    ///
    /// # Errors
    /// [`TokenError::Invalid`] if a key has no ID or cannot be used.
    pub fn new(
        issuer: impl Into<String>,
        audiences: Vec<String>,
        keys: &[Jwk],
        liveness: impl Liveness + 'static,
    ) -> Result<Self, TokenError> {
        let keys = keys
            .iter()
            .map(|jwk| {
                let id = jwk.common.key_id.clone().ok_or("a verification key has no key ID".to_owned());
                let key = DecodingKey::from_jwk(jwk).map_err(|error| error.to_string());
                id.and_then(|id| Ok((id, key?)))
            })
            .collect::<Result<_, String>>()
            .map_err(TokenError::Invalid)?;
        Ok(Self { issuer: issuer.into(), audiences, keys: Arc::new(keys), liveness: Arc::new(liveness) })
    }

    /// Verifies a token for any of `audiences` (the API server's own if empty); for `TokenReview`.
    ///
    /// # Errors
    /// [`TokenError`] if it is not to be accepted.
    pub async fn verify(
        &self,
        token: &Secret,
        audiences: &[String],
        now: Timestamp,
    ) -> Result<VerifiedToken, TokenError> {
        let claims = self.signed_claims(token.expose())?;
        let seconds = now.as_second();
        if seconds >= claims.exp || seconds < claims.nbf {
            return Err(TokenError::NotValidNow);
        }
        let wanted = if audiences.is_empty() { &self.audiences } else { audiences };
        let matching: Vec<_> = wanted.iter().filter(|wanted| claims.aud.contains(wanted)).cloned().collect();
        if matching.is_empty() {
            return Err(TokenError::Audience { has: claims.aud, wanted: wanted.to_vec() });
        }
        if !claims.is_consistent() {
            return Err(TokenError::Invalid("its subject is not the account it names".into()));
        }
        self.liveness.check(&claims, now).await.map_err(|error| match error {
            LivenessError::Gone(what) => TokenError::Gone(what),
            LivenessError::Unavailable(why) => TokenError::Unavailable(why),
        })?;
        Ok(VerifiedToken { user: claims.user(), claims, audiences: matching })
    }

    /// The claims of a token whose issuer and signature are right. Times are compared by the caller, with its clock.
    fn signed_claims(&self, token: &str) -> Result<Claims, TokenError> {
        #[derive(Deserialize)]
        struct Issuer {
            #[serde(default)]
            iss: String,
        }
        let unsigned: Issuer =
            jsonwebtoken::dangerous::insecure_decode_claims(token).map_err(|_| TokenError::Foreign)?;
        if unsigned.iss != self.issuer {
            return Err(TokenError::Foreign);
        }
        let invalid = |error: jsonwebtoken::errors::Error| TokenError::Invalid(error.to_string());
        let header = jsonwebtoken::decode_header(token).map_err(invalid)?;
        let key = header.kid.as_ref().and_then(|id| self.keys.get(id));
        let key = key.ok_or_else(|| TokenError::Invalid("it is signed with an unknown key".into()))?;
        let mut validation = Validation::new(Algorithm::ES256);
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_aud = false;
        validation.set_issuer(&[&self.issuer]);
        Ok(jsonwebtoken::decode::<Claims>(token, key, &validation).map_err(invalid)?.claims)
    }
}

#[async_trait]
impl Authenticator for ServiceAccountTokens {
    async fn authenticate(
        &self,
        credential: &Credential,
        now: Timestamp,
    ) -> Result<Option<UserInfo>, AuthenticationError> {
        let Credential::Bearer(token) = credential else { return Ok(None) };
        match self.verify(token, &[], now).await {
            Ok(verified) => Ok(Some(verified.user)),
            Err(TokenError::Foreign) => Ok(None),
            Err(TokenError::Unavailable(why)) => Err(AuthenticationError::Unavailable(why)),
            Err(error) => Err(AuthenticationError::Refused(error.to_string())),
        }
    }
}
