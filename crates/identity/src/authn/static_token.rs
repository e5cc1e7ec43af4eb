//! Opaque bearer tokens that the server knows by their digests.

use std::collections::HashMap;
use std::fmt;
use std::sync::{PoisonError, RwLock};

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use rand::Rng;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{AuthenticationError, Authenticator, Credential};
use crate::secret::Secret;
use crate::user::UserInfo;

/// SHA-256 of a token. Tokens carry 256 random bits, so a plain digest gives nothing away, and looking a digest up
/// takes no time that depends on how much of a token was guessed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TokenDigest([u8; 32]);

impl TokenDigest {
    /// The digest of a token.
    pub fn of(token: &Secret) -> Self {
        Self(Sha256::digest(token.expose().as_bytes()).into())
    }
}

/// A set of tokens and whose they are; may be changed while it is used.
#[derive(Default)]
pub struct StaticTokens {
    users: RwLock<HashMap<TokenDigest, UserInfo>>,
}

impl fmt::Debug for StaticTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StaticTokens").finish_non_exhaustive()
    }
}

impl StaticTokens {
    /// No tokens yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A new random token.
    pub fn generate() -> Secret {
        let random: [u8; 32] = rand::rng().random();
        Secret::new(URL_SAFE_NO_PAD.encode(random))
    }

    /// Accepts a token for a user from now on.
    pub fn insert(&self, digest: TokenDigest, user: UserInfo) {
        self.users.write().unwrap_or_else(PoisonError::into_inner).insert(digest, user);
    }

    /// Accepts a token no longer.
    pub fn remove(&self, digest: &TokenDigest) {
        self.users.write().unwrap_or_else(PoisonError::into_inner).remove(digest);
    }

    /// Whose token it is.
    pub fn user(&self, token: &Secret) -> Option<UserInfo> {
        let users = self.users.read().unwrap_or_else(PoisonError::into_inner);
        users.get(&TokenDigest::of(token)).cloned()
    }
}

#[async_trait]
impl Authenticator for StaticTokens {
    async fn authenticate(
        &self,
        credential: &Credential,
        _now: Timestamp,
    ) -> Result<Option<UserInfo>, AuthenticationError> {
        let Credential::Bearer(token) = credential else { return Ok(None) };
        Ok(self.user(token))
    }
}

#[async_trait]
impl<A: Authenticator + ?Sized> Authenticator for std::sync::Arc<A> {
    async fn authenticate(
        &self,
        credential: &Credential,
        now: Timestamp,
    ) -> Result<Option<UserInfo>, AuthenticationError> {
        (**self).authenticate(credential, now).await
    }
}
