//! Passwords, for HTTP basic authentication, kept as argon2id hashes.
//!
//! Checking a password costs some 20 MiB and tens of milliseconds on purpose. So a password that has been right is
//! remembered as a keyed digest, and the others are checked one at a time, away from the async threads: whoever
//! guesses waits for those who guessed before.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use argon2::password_hash::{PasswordHashString, PasswordHasher, PasswordVerifier, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use async_trait::async_trait;
use aws_lc_rs::hmac;
use jiff::Timestamp;
use rand::Rng;
use tokio::sync::Semaphore;

use super::{AuthenticationError, Authenticator, Credential};
use crate::secret::Secret;
use crate::user::UserInfo;

/// A password's hash cannot be made or read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("password hash: {0}")]
pub struct PasswordError(String);

impl From<argon2::password_hash::Error> for PasswordError {
    fn from(error: argon2::password_hash::Error) -> Self {
        Self(error.to_string())
    }
}

/// The argon2id hash of a password, in PHC form (`$argon2id$v=19$…`).
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(PasswordHashString);

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash([redacted])")
    }
}

impl PasswordHash {
    /// Hashes a password with a random salt, with the parameters OWASP recommends. Slow on purpose.
    ///
    /// # Errors
    /// [`PasswordError`] if the password is too long.
    pub fn of(password: &Secret) -> Result<Self, PasswordError> {
        let random: [u8; 16] = rand::rng().random();
        let salt = SaltString::encode_b64(&random)?;
        let hash = argon2().hash_password(password.expose().as_bytes(), &salt)?;
        Ok(Self(hash.serialize()))
    }

    /// Reads the PHC form.
    ///
    /// # Errors
    /// [`PasswordError`] if it is malformed.
    pub fn parse(text: &str) -> Result<Self, PasswordError> {
        Ok(Self(PasswordHashString::new(text)?))
    }

    /// The PHC form, for a file.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Whether a password is the one. Slow on purpose.
    pub fn matches(&self, password: &Secret) -> bool {
        argon2().verify_password(password.expose().as_bytes(), &self.0.password_hash()).is_ok()
    }
}

fn argon2() -> Argon2<'static> {
    Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::default())
}

/// Accepts names with their passwords.
pub struct Passwords {
    accounts: HashMap<String, Arc<Account>>,
    key: hmac::Key,
    turn: Arc<Semaphore>,
}

struct Account {
    hash: PasswordHash,
    user: UserInfo,
    /// The keyed digest of the password that was right last.
    right: Mutex<Option<hmac::Tag>>,
}

impl fmt::Debug for Passwords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Passwords").finish_non_exhaustive()
    }
}

impl Default for Passwords {
    fn default() -> Self {
        let random: [u8; 32] = rand::rng().random();
        Self {
            accounts: HashMap::new(),
            key: hmac::Key::new(hmac::HMAC_SHA256, &random),
            turn: Arc::new(Semaphore::new(1)),
        }
    }
}

impl Passwords {
    /// No accounts yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Accepts a name with its password for a user.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, hash: PasswordHash, user: UserInfo) -> Self {
        self.accounts.insert(name.into(), Arc::new(Account { hash, user, right: Mutex::new(None) }));
        self
    }

    async fn check(&self, account: &Arc<Account>, password: &Secret) -> Result<bool, AuthenticationError> {
        let known = |account: &Account| {
            let right = account.right.lock().unwrap_or_else(PoisonError::into_inner);
            right.as_ref().is_some_and(|right| {
                hmac::verify(&self.key, password.expose().as_bytes(), right.as_ref()).is_ok()
            })
        };
        if known(account) {
            return Ok(true);
        }
        let unavailable = AuthenticationError::Unavailable;
        let turn =
            Arc::clone(&self.turn).acquire_owned().await.map_err(|error| unavailable(error.to_string()))?;
        // Somebody else may have shown the same password while we waited.
        if known(account) {
            return Ok(true);
        }
        let (slow_account, slow_password) = (Arc::clone(account), password.clone());
        let check = move || {
            // Held until the work is done, even if the client does not wait for it.
            let _turn = turn;
            slow_account.hash.matches(&slow_password)
        };
        let matches =
            tokio::task::spawn_blocking(check).await.map_err(|error| unavailable(error.to_string()))?;
        if matches {
            let tag = hmac::sign(&self.key, password.expose().as_bytes());
            *account.right.lock().unwrap_or_else(PoisonError::into_inner) = Some(tag);
        }
        Ok(matches)
    }
}

#[async_trait]
impl Authenticator for Passwords {
    async fn authenticate(
        &self,
        credential: &Credential,
        _now: Timestamp,
    ) -> Result<Option<UserInfo>, AuthenticationError> {
        let Credential::Basic { name, password } = credential else { return Ok(None) };
        let wrong = || AuthenticationError::Refused("name or password is wrong".into());
        let account = self.accounts.get(name).ok_or_else(wrong)?;
        if self.check(account, password).await? { Ok(Some(account.user.clone())) } else { Err(wrong()) }
    }
}
