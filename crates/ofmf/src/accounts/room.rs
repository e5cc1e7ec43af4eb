//! The account service: `/redfish/v1/AccountService`.

use drystone_identity::authn::PasswordHash;
use drystone_redfish::{
    error::ServiceError,
    message,
    server::{Principal, Privilege, Properties, Reply, Role, Route, WriteRequest},
    types::{Collection, to_body},
};
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use super::{ADMINISTRATOR, Account, AccountError, Accounts};

const SERVICE: &str = "/redfish/v1/AccountService";
/// Shortest and longest password.
const PASSWORD_LENGTHS: (usize, usize) = (8, 128);
/// Longest user name.
const LONGEST_NAME: usize = 64;
/// Most accounts.
const LIMIT: usize = 256;
/// Names of the roles.
const ROLES: [&str; 3] = ["Administrator", "Operator", "ReadOnly"];

/// The routes of the room.
pub fn routes() -> [Route; 5] {
    const USERS: &[Privilege] = &[Privilege::ConfigureUsers];
    const OWN: &[Privilege] = &[Privilege::ConfigureUsers, Privilege::ConfigureSelf];
    [
        Route::new("/redfish/v1/AccountService").get(),
        Route::new("/redfish/v1/AccountService/Accounts").get().post(USERS),
        Route::new("/redfish/v1/AccountService/Accounts/{account}").get().patch(OWN).delete(USERS),
        Route::new("/redfish/v1/AccountService/Roles").get(),
        Route::new("/redfish/v1/AccountService/Roles/{role}").get(),
    ]
}

fn internal(error: &AccountError) -> ServiceError {
    ServiceError::internal(error)
}

fn collection(
    schema: &str,
    name: &str,
    ids: impl IntoIterator<Item = String>,
) -> Result<Value, ServiceError> {
    to_body(&Collection::of(schema, &format!("{SERVICE}/{name}"), ids))
        .map_err(|error| ServiceError::internal(&error))
}

fn resource(account: &Account) -> Value {
    let Account { user, role, .. } = account;
    json!({
        "@odata.id": format!("{SERVICE}/Accounts/{user}"), "@odata.type": "#ManagerAccount.v1_14_0.ManagerAccount",
        "Id": user, "Name": format!("Account {user}"), "UserName": user, "Password": null,
        "Enabled": account.enabled, "Locked": false, "AccountTypes": ["Redfish"], "RoleId": role.as_str(),
        "PasswordChangeRequired": account.change_required,
        "Links": {"Role": {"@odata.id": format!("{SERVICE}/Roles/{}", role.as_str())}}})
}

impl Accounts {
    /// Reads a resource of the room, given by the parts after `/redfish/v1`.
    pub(crate) fn read(&self, segments: &[&str]) -> Result<Value, ServiceError> {
        let missing = || ServiceError::not_found(&format!("/redfish/v1/{}", segments.join("/")));
        match segments {
            ["AccountService"] => Ok(json!({
                "@odata.id": SERVICE, "@odata.type": "#AccountService.v1_18_0.AccountService",
                "Id": "AccountService", "Name": "Account service", "ServiceEnabled": true,
                "MinPasswordLength": PASSWORD_LENGTHS.0, "MaxPasswordLength": PASSWORD_LENGTHS.1,
                "Status": {"State": "Enabled", "Health": "OK"},
                "SupportedAccountTypes": ["Redfish"],
                "Accounts": {"@odata.id": format!("{SERVICE}/Accounts")}, "Roles": {"@odata.id": format!("{SERVICE}/Roles")}})),
            ["AccountService", "Accounts"] => {
                collection("ManagerAccount", "Accounts", self.all().into_keys())
            }
            ["AccountService", "Accounts", user] => {
                self.get(user).map(|found| resource(&found)).ok_or_else(missing)
            }
            ["AccountService", "Roles"] => collection("Role", "Roles", ROLES.map(str::to_owned)),
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

    /// Carries out a write in the room. Whoever's account changed must log in again: their name is returned beside the reply.
    pub(crate) async fn write(
        &self,
        request: WriteRequest<'_>,
    ) -> Result<(Reply, Option<String>), ServiceError> {
        let owned: Vec<String> = request.target.segments().iter().map(|part| (*part).to_owned()).collect();
        let segments: Vec<&str> = owned.iter().map(String::as_str).collect();
        match (request.method.as_str(), segments.as_slice()) {
            ("POST", ["AccountService", "Accounts"]) => Ok((self.add(request).await?, None)),
            ("PATCH", ["AccountService", "Accounts", user]) => self.change(user, request).await,
            ("DELETE", ["AccountService", "Accounts", user]) => {
                if *user == ADMINISTRATOR {
                    let message = message::resource_cannot_be_deleted();
                    return Err(ServiceError::new(StatusCode::CONFLICT, message));
                }
                let found = self.delete(user).await.map_err(|error| internal(&error))?;
                if !found {
                    return Err(ServiceError::not_found(request.target.uri));
                }
                Ok((Reply::no_content(), Some((*user).to_owned())))
            }
            _ => Err(ServiceError::not_found(request.target.uri)),
        }
    }

    async fn add(&self, request: WriteRequest<'_>) -> Result<Reply, ServiceError> {
        let mut properties = Properties::create(request.body.required()?);
        let user = properties.required_string("UserName").unwrap_or_default();
        if !user.is_empty() && !is_good_name(&user) {
            properties.format_error::<()>("UserName", &user);
        }
        properties.require("Password");
        let password = read_password(&mut properties);
        properties.require("RoleId");
        let role = read_role(&mut properties);
        let enabled = properties.boolean("Enabled").unwrap_or(true);
        let change_required = properties.boolean("PasswordChangeRequired").unwrap_or(false);
        read_account_types(&mut properties);
        properties.take("Name");
        properties.take("Description");
        properties.finish()?;
        let exists =
            || ServiceError::conflict(message::resource_already_exists("ManagerAccount", "UserName", &user));
        if self.get(&user).is_some() {
            return Err(exists());
        }
        if self.all().len() >= LIMIT {
            return Err(ServiceError::conflict(message::create_limit_reached()));
        }
        let hash = hash(&user, password.unwrap_or_default()).await?;
        let role = role.unwrap_or(Role::ReadOnly);
        let account = Account { user: user.clone(), role, hash: Some(hash), enabled, change_required };
        if !self.create(&account).await.map_err(|error| internal(&error))? {
            return Err(exists());
        }
        Ok(Reply::created(resource(&account)))
    }

    async fn change(
        &self,
        user: &str,
        request: WriteRequest<'_>,
    ) -> Result<(Reply, Option<String>), ServiceError> {
        let missing = || ServiceError::not_found(request.target.uri);
        let mut account = self.get(user).ok_or_else(missing)?;
        let may_all = request.principal.is_some_and(|who| who.has_any(&[Privilege::ConfigureUsers]));
        let before = account.clone();
        let mut properties = Properties::update(request.body.required()?);
        let password = read_password(&mut properties);
        if user == ADMINISTRATOR && password.is_some() {
            // It is in a file of the machine, which must stay right.
            properties.reject(message::property_not_writable("Password"));
        }
        let others = ["RoleId", "Enabled", "PasswordChangeRequired", "AccountTypes", "Locked"];
        if !may_all && others.iter().any(|name| properties.has(name)) {
            return Err(ServiceError::new(StatusCode::FORBIDDEN, message::insufficient_privilege()));
        }
        if user == ADMINISTRATOR {
            properties.read_only(&["RoleId", "Enabled", "PasswordChangeRequired"]);
        }
        account.role = read_role(&mut properties).unwrap_or(account.role);
        account.enabled = properties.boolean("Enabled").unwrap_or(account.enabled);
        if password.is_some() {
            account.change_required = false;
        }
        account.change_required =
            properties.boolean("PasswordChangeRequired").unwrap_or(account.change_required);
        // Nothing locks accounts; saying so once more is no change.
        properties.choice_of_boolean("Locked", false);
        read_account_types(&mut properties);
        properties.read_only(&["UserName", "Links"]);
        let partly = properties.finish_partly()?;
        if let Some(password) = password {
            account.hash = Some(hash(user, password).await?);
        }
        if account != before && !self.update(&account).await.map_err(|error| internal(&error))? {
            return Err(missing());
        }
        let mut body = resource(&account);
        partly.annotate(&mut body);
        // Rights of open sessions are those of the account at login; a password that was changed ends those of others.
        let logged_out =
            (account.role != before.role || account.enabled != before.enabled || account.hash != before.hash)
                .then(|| user.to_owned());
        Ok((Reply::updated(body), logged_out))
    }

    /// Whether somebody may use a resource at all, beyond what the route asks for: one's own account and session, and nothing
    /// but the password while it must be changed. A session is worth nothing where its account was
    /// deleted or disabled, by whomever.
    pub(crate) fn check(
        &self,
        who: &Principal,
        method: &http::Method,
        segments: &[&str],
    ) -> Result<(), ServiceError> {
        let forbidden = || ServiceError::new(StatusCode::FORBIDDEN, message::insufficient_privilege());
        if let ["AccountService", "Accounts", user] = segments
            && *user != who.user
            && !who.has_any(&[Privilege::ConfigureUsers])
        {
            return Err(forbidden());
        }
        if who.session.is_some() && !self.get(&who.user).is_some_and(|account| account.enabled) {
            return Err(ServiceError::new(StatusCode::UNAUTHORIZED, message::no_valid_session())
                .with_header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"Redfish\"")));
        }
        let Some(message) = self.password_change_required(&who.user) else { return Ok(()) };
        let own_account = matches!(segments, ["AccountService", "Accounts", user] if *user == who.user)
            && matches!(*method, http::Method::GET | http::Method::HEAD | http::Method::PATCH);
        let session = matches!(segments, ["SessionService", "Sessions", ..])
            && matches!(*method, http::Method::POST | http::Method::DELETE);
        if own_account || session {
            return Ok(());
        }
        Err(ServiceError::new(StatusCode::FORBIDDEN, message))
    }

    /// The message for somebody who must change the password first.
    pub(crate) fn password_change_required(&self, user: &str) -> Option<message::Message> {
        if user == ADMINISTRATOR {
            return None;
        }
        self.get(user).filter(|account| account.change_required)?;
        Some(message::password_change_required(&format!("{SERVICE}/Accounts/{user}")))
    }
}

/// What a path can hold as it is.
fn is_good_name(name: &str) -> bool {
    (1..=LONGEST_NAME).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        && !name.starts_with('.')
}

fn read_password(properties: &mut Properties) -> Option<String> {
    let password = properties.string("Password")?;
    let length = password.chars().count();
    let (shortest, longest) = PASSWORD_LENGTHS;
    if length < shortest {
        properties
            .reject(message::string_value_too_short("Password", &shortest.to_string()).about("Password"));
    } else if length > longest {
        properties.reject(message::string_value_too_long("Password", &longest.to_string()).about("Password"));
    } else {
        return Some(password);
    }
    None
}

fn read_role(properties: &mut Properties) -> Option<Role> {
    let name = properties.choice("RoleId", &ROLES)?;
    Role::ALL.into_iter().find(|role| role.as_str() == name)
}

fn read_account_types(properties: &mut Properties) {
    if let Some(types) = properties.strings("AccountTypes")
        && types != ["Redfish"]
    {
        let wrong = types.iter().find(|kind| *kind != "Redfish").cloned().unwrap_or_default();
        properties.reject(message::property_value_not_in_list(&wrong, "AccountTypes"));
    }
}

/// Hashes a password away from the threads that serve.
async fn hash(user: &str, password: String) -> Result<PasswordHash, ServiceError> {
    let password = drystone_identity::Secret::new(password);
    let hashed = tokio::task::spawn_blocking(move || PasswordHash::of(&password)).await;
    match hashed {
        Ok(Ok(hash)) => Ok(hash),
        Ok(Err(source)) => Err(internal(&AccountError::Hash { user: user.to_owned(), source })),
        Err(error) => Err(ServiceError::internal(&error)),
    }
}
