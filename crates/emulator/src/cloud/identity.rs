//! Keystone's part: users, projects, tokens.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use base64::Engine as _;
use http::StatusCode;
use jiff::Timestamp;
use rand::RngCore as _;
use serde_json::{Value, json};
use subtle::ConstantTimeEq as _;
use uuid::Uuid;

use super::{Cloud, refusal::Refusal};
use crate::site::CloudSpec;

/// Tokens that are kept at once; the oldest go first.
const MOST_TOKENS: usize = 20_000;

/// A user of the cloud with a way in.
#[derive(Clone, PartialEq, Eq)]
pub struct CloudAccount {
    /// User name.
    pub user: String,
    /// Password.
    pub password: String,
    /// Name of the project.
    pub project: String,
}

impl std::fmt::Debug for CloudAccount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CloudAccount")
            .field("user", &self.user)
            .field("project", &self.project)
            .finish_non_exhaustive()
    }
}

/// Who somebody is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Caller {
    /// User name.
    pub(super) user: String,
    /// Id of the user.
    pub(super) user_id: Uuid,
    /// Name of the project.
    pub(super) project: String,
    /// Id of the project.
    pub(super) project_id: Uuid,
}

#[derive(Debug, Clone)]
struct Token {
    caller: Caller,
    issued: Timestamp,
    expires: Timestamp,
    ends: Instant,
    audit: String,
}

/// Users and their tokens.
pub(super) struct Accounts {
    users: Vec<(Caller, String)>,
    life: Duration,
    tokens: Mutex<HashMap<String, Token>>,
}

impl Accounts {
    /// Those of a site's cloud.
    pub(super) fn new(site: &str, spec: &CloudSpec, passwords: &BTreeMap<String, String>) -> Self {
        let id = |kind: &str, name: &str| {
            Uuid::new_v5(&Uuid::NAMESPACE_DNS, format!("{name}.{kind}.{site}.cloud.drystone.dev").as_bytes())
        };
        let users = spec.users.iter().map(|user| {
            let caller = Caller {
                user: user.name.clone(),
                user_id: id("user", &user.name),
                project: user.project.clone(),
                project_id: id("project", &user.project),
            };
            (caller, passwords.get(&user.name).cloned().unwrap_or_default())
        });
        Self { users: users.collect(), life: spec.delays.token, tokens: Mutex::default() }
    }

    /// All users.
    pub(super) fn list(&self) -> Vec<CloudAccount> {
        let account = |(caller, password): &(Caller, String)| CloudAccount {
            user: caller.user.clone(),
            password: password.clone(),
            project: caller.project.clone(),
        };
        self.users.iter().map(account).collect()
    }

    /// Whom a token belongs to, if it is still good.
    pub(super) fn caller(&self, token: &str) -> Option<Caller> {
        self.find(token).map(|token| token.caller)
    }

    fn find(&self, token: &str) -> Option<Token> {
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        match tokens.get(token) {
            Some(found) if Instant::now() < found.ends => Some(found.clone()),
            Some(_) => {
                tokens.remove(token);
                None
            }
            None => None,
        }
    }

    /// Makes a token worthless.
    pub(super) fn revoke(&self, token: &str) -> bool {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner).remove(token).is_some()
    }

    fn issue(&self, caller: Caller) -> (String, Token) {
        let mut bytes = [0; 48];
        rand::rng().fill_bytes(&mut bytes);
        let text = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes);
        let issued = super::now();
        let expires = issued.checked_add(self.life).unwrap_or(issued);
        let audit = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(Uuid::new_v4().as_bytes());
        let token = Token { caller, issued, expires, ends: Instant::now() + self.life, audit };
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        if tokens.len() >= MOST_TOKENS {
            let now = Instant::now();
            tokens.retain(|_, token| now < token.ends);
            let oldest = tokens.iter().min_by_key(|(_, token)| token.ends).map(|(text, _)| text.clone());
            if let Some(oldest) = oldest.filter(|_| tokens.len() >= MOST_TOKENS) {
                tokens.remove(&oldest);
            }
        }
        tokens.insert(text.clone(), token.clone());
        (text, token)
    }

    /// Who says to be whom, by password or by an earlier token.
    fn authenticate(&self, body: &Value) -> Result<Caller, Refusal> {
        let denied = || {
            Refusal::new(
                StatusCode::UNAUTHORIZED,
                "Unauthorized",
                "The request you have made requires authentication.",
            )
        };
        let identity =
            body.pointer("/auth/identity").ok_or_else(|| Refusal::bad("auth.identity is missing"))?;
        let methods =
            identity.get("methods").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let methods: Vec<&str> = methods.iter().filter_map(Value::as_str).collect();
        let caller = match methods.as_slice() {
            ["password"] => {
                let user = identity
                    .pointer("/password/user")
                    .ok_or_else(|| Refusal::bad("auth.identity.password.user is missing"))?;
                self.by_password(user).ok_or_else(denied)?
            }
            ["token"] => {
                let token = identity.pointer("/token/id").and_then(Value::as_str).unwrap_or_default();
                self.caller(token).ok_or_else(denied)?
            }
            _ => {
                let message =
                    "auth.identity.methods must be [\"password\"] or [\"token\"]; this cloud has no others";
                return Err(Refusal::bad(message));
            }
        };
        // A user has one project; without a scope it is the preset.
        let Some(project) = body.pointer("/auth/scope/project") else { return Ok(caller) };
        let named = project.get("name").and_then(Value::as_str).is_some_and(|name| name == caller.project)
            && is_default_domain(project);
        let by_id = project.get("id").and_then(Value::as_str).and_then(|id| Uuid::parse_str(id).ok());
        if named || by_id == Some(caller.project_id) { Ok(caller) } else { Err(denied()) }
    }

    fn by_password(&self, user: &Value) -> Option<Caller> {
        let text = |key: &str| user.get(key).and_then(Value::as_str);
        let password = text("password")?;
        let id = text("id").and_then(|id| Uuid::parse_str(id).ok());
        let found = self.users.iter().find(|(caller, _)| {
            id == Some(caller.user_id) || (text("name") == Some(&caller.user) && is_default_domain(user))
        });
        // A name that nobody has takes as long as one that somebody has.
        let wanted = found.map_or("", |(_, password)| password.as_str());
        let right = bool::from(wanted.as_bytes().ct_eq(password.as_bytes())) && !wanted.is_empty();
        found.filter(|_| right).map(|(caller, _)| caller.clone())
    }
}

fn is_default_domain(named: &Value) -> bool {
    let domain = named.get("domain");
    let text = |key: &str| domain.and_then(|domain| domain.get(key)).and_then(Value::as_str);
    text("name").is_some_and(|name| name.eq_ignore_ascii_case("default")) || text("id") == Some("default")
}

impl Cloud {
    /// `POST /v3/auth/tokens`: the token and its description.
    pub(super) fn authenticate(&self, body: &Value) -> Result<(String, Value), Refusal> {
        let caller = self.accounts.authenticate(body)?;
        let (text, token) = self.accounts.issue(caller);
        Ok((text, self.describe(&token)))
    }

    /// `GET /v3/auth/tokens`: the description of somebody's token.
    pub(super) fn validate(&self, token: &str) -> Result<Value, Refusal> {
        let found = self.accounts.find(token);
        let token = found.ok_or_else(|| Refusal::missing("token", "X-Subject-Token"))?;
        Ok(self.describe(&token))
    }

    fn describe(&self, token: &Token) -> Value {
        let caller = &token.caller;
        let domain = json!({"id": "default", "name": "Default"});
        json!({"token": {"methods": ["password"], "is_domain": false, "audit_ids": [token.audit],
            "issued_at": time(token.issued), "expires_at": time(token.expires),
            "user": {"id": caller.user_id.simple().to_string(), "name": caller.user, "domain": domain, "password_expires_at": null},
            "project": {"id": caller.project_id.simple().to_string(), "name": caller.project, "domain": domain},
            "roles": [{"id": "d0000000000000000000000000000001", "name": "member"}, {"id": "d0000000000000000000000000000002", "name": "heat_stack_owner"}],
            "catalog": self.catalog(caller)}})
    }

    /// The services, as a client finds them.
    pub(super) fn catalog(&self, caller: &Caller) -> Value {
        let (url, region) = (self.url(), &self.spec.region);
        let project = caller.project_id.simple();
        let service = |number: u128, kind: &str, name: &str, at: String| {
            let endpoint = |interface: &str| {
                let id = Uuid::new_v5(&Uuid::from_u128(number), interface.as_bytes()).simple().to_string();
                json!({"id": id, "interface": interface, "region": region, "region_id": region, "url": at})
            };
            json!({"id": Uuid::from_u128(number).simple().to_string(), "type": kind, "name": name,
                "endpoints": [endpoint("public"), endpoint("internal"), endpoint("admin")]})
        };
        json!([
            service(1, "identity", "keystone", format!("{url}/identity/v3")),
            service(2, "orchestration", "heat", format!("{url}/orchestration/v1/{project}")),
            service(3, "compute", "nova", format!("{url}/compute/v2.1")),
            service(4, "network", "neutron", format!("{url}/network")),
            service(5, "image", "glance", format!("{url}/image")),
        ])
    }

    /// What the service of identities says of its version.
    pub(super) fn identity_version(&self) -> Value {
        json!({"id": "v3.14", "status": "stable", "updated": "2020-04-07T00:00:00Z",
            "links": [{"rel": "self", "href": format!("{}/identity/v3/", self.url())}],
            "media-types": [{"base": "application/json", "type": "application/vnd.openstack.identity-v3+json"}]})
    }
}

/// A time as Keystone writes it.
fn time(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}
