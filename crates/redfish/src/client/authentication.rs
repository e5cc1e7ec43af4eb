//! The session of a client: opened when first needed, opened again when it has ended.

use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde_json::json;
use tokio::sync::Mutex;

use super::{
    error::RedfishError,
    options::AuthenticationMode,
    transport::{Attempt, Transport},
};

/// Where sessions are opened.
const SESSIONS: &str = "/redfish/v1/SessionService/Sessions";

/// How requests are authenticated at the moment.
#[derive(Clone)]
enum State {
    /// Not known yet.
    Fresh,
    /// With this token; the session can be ended at the location.
    Session { token: HeaderValue, location: Option<String> },
    /// With user name and password.
    Basic,
}

impl State {
    fn take_session(&mut self) -> Option<(String, HeaderMap)> {
        let State::Session { token, location } = self else { return None };
        let mut headers = HeaderMap::new();
        headers.insert("x-auth-token", token.clone());
        let location = location.take();
        *self = State::Fresh;
        Some((location?, headers))
    }
}

/// Logs in, once for all requests that wait for it.
pub(super) struct Authentication {
    credentials: Option<(String, String)>,
    state: Mutex<State>,
}

impl std::fmt::Debug for Authentication {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authentication")
            .field("user", &self.credentials.as_ref().map(|(user, _)| user))
            .finish_non_exhaustive()
    }
}

impl Authentication {
    pub(super) fn new(credentials: Option<(String, String)>, mode: AuthenticationMode) -> Self {
        let state = match mode {
            AuthenticationMode::Session => State::Fresh,
            AuthenticationMode::Basic => State::Basic,
        };
        Self { credentials, state: Mutex::new(state) }
    }

    /// Headers that authenticate a request; logs in first if needed.
    pub(super) async fn headers(&self, transport: &Transport) -> Result<HeaderMap, RedfishError> {
        let Some((user, password)) = &self.credentials else { return Ok(HeaderMap::new()) };
        let mut state = self.state.lock().await;
        if matches!(*state, State::Fresh) {
            *state = log_in(transport, user, password).await?;
        }
        let mut headers = HeaderMap::new();
        match &*state {
            State::Session { token, .. } => headers.insert("x-auth-token", token.clone()),
            State::Basic | State::Fresh => headers.insert(header::AUTHORIZATION, basic(user, password)?),
        };
        Ok(headers)
    }

    /// Takes note that a request with these headers was refused. True if another login may help: the session had ended.
    pub(super) async fn refused(&self, headers: &HeaderMap) -> bool {
        let Some(used) = headers.get("x-auth-token") else { return false };
        let mut state = self.state.lock().await;
        if matches!(&*state, State::Session { token, .. } if token == used) {
            *state = State::Fresh;
        }
        true
    }

    /// Forgets the session and returns where it can be ended, with the headers for that.
    pub(super) async fn take_session(&self) -> Option<(String, HeaderMap)> {
        self.state.lock().await.take_session()
    }

    /// The same for whoever is the last to have it.
    pub(super) fn take_session_at_last(&mut self) -> Option<(String, HeaderMap)> {
        self.state.get_mut().take_session()
    }
}

/// Opens a session, or finds that the service has none.
async fn log_in(transport: &Transport, user: &str, password: &str) -> Result<State, RedfishError> {
    let body = json!({"UserName": user, "Password": password});
    let attempt =
        Attempt { method: Method::POST, uri: SESSIONS, body: Some(&body), headers: HeaderMap::new() };
    match transport.repeat(attempt).await {
        Ok(answer) => match answer.headers.get("x-auth-token") {
            Some(token) => {
                let mut token = token.clone();
                token.set_sensitive(true);
                let location = answer.parse(SESSIONS)?.into_outcome().location().map(str::to_owned);
                Ok(State::Session { token, location })
            }
            None => Ok(State::Basic),
        },
        Err(RedfishError::Status { code, .. }) if no_sessions(code) => Ok(State::Basic),
        // Services without sessions may ask for credentials before they say so: the request itself tells.
        Err(RedfishError::Unauthorized { .. }) => Ok(State::Basic),
        Err(error) if error.says("SessionLimitExceeded") => Ok(State::Basic),
        Err(other) => Err(other),
    }
}

/// Statuses by which a service says that it has no sessions.
fn no_sessions(code: u16) -> bool {
    [StatusCode::NOT_FOUND, StatusCode::METHOD_NOT_ALLOWED, StatusCode::NOT_IMPLEMENTED]
        .iter()
        .any(|status| *status == code)
}

fn basic(user: &str, password: &str) -> Result<HeaderValue, RedfishError> {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let encoded = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
    let mut value = HeaderValue::from_str(&encoded)
        .map_err(|error| RedfishError::Configuration { address: String::new(), reason: error.to_string() })?;
    value.set_sensitive(true);
    Ok(value)
}
