//! The user name and password of a site's services.

use drystone_redfish::server::{Principal, Role};
use subtle::ConstantTimeEq as _;

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
        let right =
            self.user.as_bytes().ct_eq(user.as_bytes()) & self.password.as_bytes().ct_eq(password.as_bytes());
        bool::from(right).then(|| Principal {
            user: user.to_owned(),
            role: Role::Administrator,
            session: None,
        })
    }
}
