//! The account of a BMC: its password can be changed, and stays changed without power.

use drystone_redfish::{
    error::ServiceError,
    server::{AccountService, Principal, Privilege, Properties, Reply, RequestBody, Role, Route},
};

use super::{Bmc, failed};
use crate::{credentials::KeptPassword, hardware::Change};

const ACCOUNT: &str = "/redfish/v1/AccountService/Accounts/{account}";
/// Characters of a password.
const LENGTHS: std::ops::RangeInclusive<usize> = 8..=64;

/// The routes of the room: those of any service, and a PATCH.
pub(super) fn routes() -> [Route; 5] {
    const USERS: &[Privilege] = &[Privilege::ConfigureUsers];
    AccountService::routes().map(|route| if route.pattern() == ACCOUNT { route.patch(USERS) } else { route })
}

impl Bmc {
    /// The room as it is.
    pub(super) fn accounts(&self) -> AccountService {
        AccountService::new(vec![(self.credentials.user.clone(), Role::Administrator)])
    }

    /// Who a user name and a password belong to: the password of the site, or the one that was set by [`Self::change_account`].
    pub(super) fn verify(&self, user: &str, password: &str) -> Option<Principal> {
        match self.hardware.situation().record.password {
            Some(kept) => self.credentials.verify_with(user, kept.is(password)),
            None => self.credentials.verify(user, password),
        }
    }

    /// PATCH of the account: another password.
    pub(super) async fn change_account(
        &self,
        user: &str,
        uri: &str,
        request: RequestBody,
    ) -> Result<Reply, ServiceError> {
        if user != self.credentials.user {
            return Err(ServiceError::not_found(uri));
        }
        let mut properties = Properties::update(request.required()?);
        let password = properties.string("Password");
        if password.as_ref().is_some_and(|password| !LENGTHS.contains(&password.chars().count())) {
            // Not with the value, which is nobody else's business.
            properties.format_error::<()>("Password", "******");
        }
        properties.read_only(&["UserName", "RoleId", "Enabled", "Locked", "AccountTypes", "Links"]);
        properties.finish()?;
        if let Some(password) = password {
            let kept = KeptPassword::of(&password);
            let change = |record: &mut crate::hardware::HostRecord| record.password = Some(kept);
            self.hardware.change(Change::Account, change).await.map_err(|error| failed(&error))?;
        }
        Ok(Reply::updated(self.accounts().read(&["AccountService", "Accounts", user])?))
    }
}
