//! Sessions (DSP0266, "Session login"): a token for a user name and password, and the resources that show it.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use http::{HeaderName, StatusCode};
use jiff::Timestamp;
use rand::RngCore as _;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{
    access::{Principal, Privilege, Role},
    properties::Properties,
    reply::Reply,
    request::WriteRequest,
    route::Route,
};
use crate::{
    error::ServiceError,
    message,
    types::{Collection, Session, to_body},
};

/// Where the room is.
const SERVICE: &str = "/redfish/v1/SessionService";
/// Its collection.
const SESSIONS: &str = "/redfish/v1/SessionService/Sessions";
/// Least, preset and longest idle time of a session (the schema's own limits).
const TIMEOUTS: (u64, u64, u64) = (30, 1800, 86_400);
/// Most sessions at once.
const LIMIT: usize = 256;

type TokenDigest = [u8; 32];

#[derive(Debug)]
struct Open {
    id: String,
    user: String,
    role: Role,
    created: Timestamp,
    last_used: Instant,
}

#[derive(Debug)]
struct State {
    /// By digest of the token: looking one up takes as long whatever part of it is right, and a dump shows none.
    open: HashMap<TokenDigest, Open>,
    next_id: u64,
    timeout_seconds: u64,
}

/// The open sessions of a service. They end with the process, as those of a BMC do when it restarts.
#[derive(Debug)]
pub struct SessionStore(Mutex<State>);

impl Default for SessionStore {
    fn default() -> Self {
        Self(Mutex::new(State { open: HashMap::new(), next_id: 1, timeout_seconds: TIMEOUTS.1 }))
    }
}

impl SessionStore {
    /// The routes of the room.
    pub fn routes() -> [Route; 3] {
        const OWN: &[Privilege] = &[Privilege::ConfigureManager, Privilege::ConfigureSelf];
        [
            Route::new("/redfish/v1/SessionService").get().patch(&[Privilege::ConfigureManager]),
            Route::new("/redfish/v1/SessionService/Sessions").get().post_open(),
            Route::new("/redfish/v1/SessionService/Sessions/{session}").get().delete(OWN),
        ]
    }

    /// Who a token belongs to, if its session is open; counts as a use of it.
    pub fn principal(&self, token: &str, now: Instant) -> Option<Principal> {
        let mut state = self.lock();
        state.expire(now);
        let open = state.open.get_mut(&digest(token))?;
        open.last_used = now;
        Some(Principal { user: open.user.clone(), role: open.role, session: Some(open.id.clone()) })
    }

    /// Opens a session for somebody whose password was right; returns its token and its id. If there are too many, the
    /// one that was not used for the longest time ends: clients that were killed leave theirs open, and must not lock
    /// others out until these time out.
    pub fn open(&self, principal: &Principal, now: Instant) -> (String, String) {
        let mut state = self.lock();
        state.expire(now);
        if state.open.len() >= LIMIT {
            let oldest = state.open.iter().min_by_key(|(_, open)| open.last_used).map(|(digest, _)| *digest);
            oldest.map(|digest| state.open.remove(&digest));
        }
        let token = random_token();
        let id = state.next_id.to_string();
        state.next_id += 1;
        let open = Open {
            id: id.clone(),
            user: principal.user.clone(),
            role: principal.role,
            created: Timestamp::now(),
            last_used: now,
        };
        state.open.insert(digest(&token), open);
        (token, id)
    }

    /// Ends every session of a user, but the one given.
    pub fn close_of(&self, user: &str, keep: Option<&str>) {
        self.lock().open.retain(|_, open| open.user != user || keep == Some(open.id.as_str()));
    }

    /// Ends every session.
    pub fn close_all(&self) {
        self.lock().open.clear();
    }

    /// Reads a resource of the room, given by the parts after `/redfish/v1`.
    ///
    /// # Errors
    /// 404 if the room has no such resource.
    pub fn read(&self, segments: &[&str]) -> Result<Value, ServiceError> {
        let mut state = self.lock();
        state.expire(Instant::now());
        match segments {
            ["SessionService"] => Ok(json!({
                "@odata.id": SERVICE, "@odata.type": "#SessionService.v1_1_9.SessionService",
                "Id": "SessionService", "Name": "Session service", "ServiceEnabled": true,
                "SessionTimeout": state.timeout_seconds, "Status": {"State": "Enabled", "Health": "OK"},
                "Sessions": {"@odata.id": SESSIONS}})),
            ["SessionService", "Sessions"] => {
                let mut ids: Vec<(u64, &str)> = state
                    .open
                    .values()
                    .map(|open| (open.id.parse().unwrap_or(0), open.id.as_str()))
                    .collect();
                ids.sort_unstable();
                body(&Collection::of("Session", SESSIONS, ids.into_iter().map(|(_, id)| id)))
            }
            ["SessionService", "Sessions", id] => {
                let open = state.open.values().find(|open| open.id == *id);
                open.map_or_else(|| Err(ServiceError::not_found(&format!("{SESSIONS}/{id}"))), resource)
            }
            _ => Err(ServiceError::not_found(&format!("/redfish/v1/{}", segments.join("/")))),
        }
    }

    /// Logs in: the body holds a user name and a password, `verify` tells whether they are right.
    ///
    /// # Errors
    /// 400 for a bad body, 401 for a wrong password.
    pub async fn log_in<F, R>(&self, request: WriteRequest<'_>, verify: F) -> Result<Reply, ServiceError>
    where
        F: FnOnce(String, String) -> R,
        R: Future<Output = Option<Principal>>,
    {
        let mut properties = Properties::create(request.body.required()?);
        let user = properties.required_string("UserName");
        let password = properties.required_string("Password");
        properties.finish()?;
        let Some(principal) = verify(user.unwrap_or_default(), password.unwrap_or_default()).await else {
            return Err(ServiceError::new(StatusCode::UNAUTHORIZED, message::no_valid_session()));
        };
        let (token, id) = self.open(&principal, Instant::now());
        let body = self.read(&["SessionService", "Sessions", &id])?;
        Ok(Reply::created(body).with_header(HeaderName::from_static("x-auth-token"), &token))
    }

    /// Carries out a write in the room other than a login.
    ///
    /// # Errors
    /// 400 for a bad body, 403 for somebody else's session, 404 for one that is not open.
    pub fn write(&self, request: WriteRequest<'_>) -> Result<Reply, ServiceError> {
        let segments: Vec<String> = request.target.segments().iter().map(|part| (*part).to_owned()).collect();
        match segments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            ["SessionService"] => {
                let mut properties = Properties::update(request.body.required()?);
                let timeout = properties.unsigned("SessionTimeout", TIMEOUTS.0, TIMEOUTS.2);
                properties.read_only(&["ServiceEnabled", "Status", "Sessions"]);
                properties.finish()?;
                if let Some(seconds) = timeout {
                    self.lock().timeout_seconds = seconds;
                }
                Ok(Reply::updated(self.read(&["SessionService"])?))
            }
            ["SessionService", "Sessions", id] => self.close(id, request.principal),
            _ => Err(ServiceError::not_found(request.target.uri)),
        }
    }

    fn close(&self, id: &str, principal: Option<&Principal>) -> Result<Reply, ServiceError> {
        let mut state = self.lock();
        let found = state
            .open
            .iter()
            .find(|(_, open)| open.id == id)
            .map(|(digest, open)| (*digest, open.user.clone()));
        let (digest, user) = found.ok_or_else(|| ServiceError::not_found(&format!("{SESSIONS}/{id}")))?;
        let allowed =
            principal.is_some_and(|who| who.user == user || who.has_any(&[Privilege::ConfigureManager]));
        if !allowed {
            return Err(ServiceError::new(StatusCode::FORBIDDEN, message::insufficient_privilege()));
        }
        state.open.remove(&digest);
        Ok(Reply::no_content())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic while holding it cannot leave the map half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn expire(&mut self, now: Instant) {
        let timeout = Duration::from_secs(self.timeout_seconds);
        self.open.retain(|_, open| now.saturating_duration_since(open.last_used) < timeout);
    }
}

fn resource(open: &Open) -> Result<Value, ServiceError> {
    let mut session = Session::at(&format!("{SESSIONS}/{}", open.id), &format!("Session of {}", open.user));
    session.user_name = Some(open.user.clone());
    session.created_time = Some(format!("{:.0}", open.created));
    body(&session)
}

fn body<T: serde::Serialize>(resource: &T) -> Result<Value, ServiceError> {
    to_body(resource).map_err(|error| ServiceError::internal(&error))
}

fn digest(token: &str) -> TokenDigest {
    Sha256::digest(token.as_bytes()).into()
}

fn random_token() -> String {
    let mut bytes = [0_u8; 32];
    rand::rng().fill_bytes(&mut bytes);
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admin() -> Principal {
        Principal { user: "admin".to_owned(), role: Role::Administrator, session: None }
    }

    #[test]
    fn a_session_ends_when_it_is_idle_for_too_long() {
        let store = SessionStore::default();
        let start = Instant::now();
        let (token, id) = store.open(&admin(), start);
        let later = start + Duration::from_secs(TIMEOUTS.1 - 1);
        assert_eq!(store.principal(&token, later).unwrap().session, Some(id));
        assert!(store.principal(&token, later + Duration::from_secs(TIMEOUTS.1)).is_none());
        assert!(store.principal("nonsense", start).is_none());
    }

    #[test]
    fn there_are_only_so_many_sessions_and_the_idlest_gives_way() {
        let store = SessionStore::default();
        let start = Instant::now();
        let tokens: Vec<String> = (0..LIMIT as u64)
            .map(|number| store.open(&admin(), start + Duration::from_millis(number)).0)
            .collect();
        let now = start + Duration::from_secs(1);
        assert!(store.principal(&tokens[0], now).is_some());
        let (newest, _) = store.open(&admin(), now);
        let open = |token: &String| store.principal(token, now).is_some();
        assert_eq!((open(&tokens[0]), open(&tokens[1]), open(&newest)), (true, false, true));
    }

    #[test]
    fn somebody_elses_session_stays_open() {
        let store = SessionStore::default();
        let (_, id) = store.open(&admin(), Instant::now());
        let other = Principal { user: "reader".to_owned(), role: Role::ReadOnly, session: None };
        assert_eq!(store.close(&id, Some(&other)).unwrap_err().status, StatusCode::FORBIDDEN);
        assert!(store.close(&id, Some(&admin())).is_ok());
        assert_eq!(store.close(&id, Some(&admin())).unwrap_err().status, StatusCode::NOT_FOUND);
    }
}
