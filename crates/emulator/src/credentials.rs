//! The user name and password of a site's services.

use drystone_redfish::server::{Principal, Role};
use rand::RngCore as _;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq as _};

/// One account with all rights.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// User name.
    pub user: String,
    /// Password.
    pub password: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}

impl Credentials {
    /// Who this is, if it is somebody. Takes as long for a wrong name as for a wrong password.
    pub(crate) fn verify(&self, user: &str, password: &str) -> Option<Principal> {
        self.verify_with(user, self.password.as_bytes().ct_eq(password.as_bytes()))
    }

    /// The same, where somebody else knows whether the password is right.
    pub(crate) fn verify_with(&self, user: &str, right: Choice) -> Option<Principal> {
        bool::from(self.user.as_bytes().ct_eq(user.as_bytes()) & right).then(|| Principal {
            user: user.to_owned(),
            role: Role::Administrator,
            session: None,
        })
    }
}

/// A password that a controller was given, as it keeps it: salted and digested. It is random and long, so that there is nothing to guess.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptPassword {
    salt: [u8; 16],
    digest: [u8; 32],
}

impl std::fmt::Debug for KeptPassword {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeptPassword(hidden)")
    }
}

impl KeptPassword {
    /// Of this password.
    pub fn of(password: &str) -> Self {
        let mut salt = [0; 16];
        rand::rng().fill_bytes(&mut salt);
        Self { salt, digest: digest(salt, password) }
    }

    /// Whether it is this one.
    pub(crate) fn is(&self, password: &str) -> Choice {
        self.digest.ct_eq(&digest(self.salt, password))
    }
}

fn digest(salt: [u8; 16], password: &str) -> [u8; 32] {
    Sha256::new().chain_update(salt).chain_update(password).finalize().into()
}
