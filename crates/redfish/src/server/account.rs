//! A read-only account service: the accounts that there are, and the standard roles.

use serde_json::{Value, json};

use super::{access::Role, route::Route};
use crate::{
    error::ServiceError,
    types::{Collection, to_body},
};

const SERVICE: &str = "/redfish/v1/AccountService";

/// Accounts of a service that cannot be changed through Redfish.
#[derive(Debug, Clone)]
pub struct AccountService {
    accounts: Vec<(String, Role)>,
}

impl AccountService {
    /// These accounts, by user name.
    pub fn new(accounts: Vec<(String, Role)>) -> Self {
        Self { accounts }
    }

    /// The routes of the room.
    pub fn routes() -> [Route; 5] {
        [
            Route::new("/redfish/v1/AccountService").get(),
            Route::new("/redfish/v1/AccountService/Accounts").get(),
            Route::new("/redfish/v1/AccountService/Accounts/{account}").get(),
            Route::new("/redfish/v1/AccountService/Roles").get(),
            Route::new("/redfish/v1/AccountService/Roles/{role}").get(),
        ]
    }

    /// Reads a resource of the room, given by the parts after `/redfish/v1`.
    ///
    /// # Errors
    /// 404 if the room has no such resource.
    pub fn read(&self, segments: &[&str]) -> Result<Value, ServiceError> {
        let missing = || ServiceError::not_found(&format!("/redfish/v1/{}", segments.join("/")));
        let collection = |schema: &str, name: &str, ids: Vec<&str>| {
            to_body(&Collection::of(schema, &format!("{SERVICE}/{name}"), ids))
                .map_err(|error| ServiceError::internal(&error))
        };
        match segments {
            ["AccountService"] => Ok(json!({
                "@odata.id": SERVICE, "@odata.type": "#AccountService.v1_15_0.AccountService",
                "Id": "AccountService", "Name": "Account service", "ServiceEnabled": true,
                "Status": {"State": "Enabled", "Health": "OK"},
                "Accounts": {"@odata.id": format!("{SERVICE}/Accounts")}, "Roles": {"@odata.id": format!("{SERVICE}/Roles")}})),
            ["AccountService", "Accounts"] => collection(
                "ManagerAccount",
                "Accounts",
                self.accounts.iter().map(|(user, _)| user.as_str()).collect(),
            ),
            ["AccountService", "Accounts", user] => {
                let (user, role) = self.accounts.iter().find(|(name, _)| name == user).ok_or_else(missing)?;
                Ok(json!({
                    "@odata.id": format!("{SERVICE}/Accounts/{user}"), "@odata.type": "#ManagerAccount.v1_14_1.ManagerAccount",
                    "Id": user, "Name": format!("Account {user}"), "UserName": user, "Password": null, "Enabled": true,
                    "Locked": false, "AccountTypes": ["Redfish"], "RoleId": role.as_str(),
                    "Links": {"Role": {"@odata.id": format!("{SERVICE}/Roles/{}", role.as_str())}}}))
            }
            ["AccountService", "Roles"] => {
                collection("Role", "Roles", Role::ALL.iter().map(|role| role.as_str()).collect())
            }
            ["AccountService", "Roles", id] => {
                let role = Role::ALL.into_iter().find(|role| role.as_str() == *id).ok_or_else(missing)?;
                let privileges: Vec<&str> =
                    role.privileges().iter().map(|privilege| privilege.as_str()).collect();
                Ok(json!({
                    "@odata.id": format!("{SERVICE}/Roles/{id}"), "@odata.type": "#Role.v1_3_3.Role", "Id": id,
                    "Name": format!("Role {id}"), "RoleId": id, "IsPredefined": true, "AssignedPrivileges": privileges}))
            }
            _ => Err(missing()),
        }
    }
}
