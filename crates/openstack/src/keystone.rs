//! Keystone: a token for a password, kept until it ends. Source: OpenStack Identity API v3, "Password authentication with scoped
//! authorization".

mod catalog;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeSet,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use drystone_identity::Secret;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::{sync::Mutex, time::Instant};
use url::Url;

use crate::{
    Access, OpenStackError,
    transport::{Answer, Transport, without_credentials},
};
use catalog::{Catalog, TokenBody};

/// How long before its end a token is replaced, at most: longer than any one request.
const LONGEST_MARGIN: Duration = Duration::from_secs(120);

/// For so long a refusal is believed, so that many operations with one wrong password do not lock the user out.
const REFUSAL_HOLDS: Duration = Duration::from_secs(5);

/// A Keystone and a user of it. Cheap to clone; clones share the token and the connections.
#[derive(Clone)]
pub struct Keystone {
    shared: Arc<Shared>,
}

struct Shared {
    access: Access,
    base: Url,
    transport: Transport,
    state: Mutex<State>,
    tokens: AtomicU64,
    requests: AtomicU64,
}

enum State {
    Nothing,
    Token(Arc<Token>),
    Refused(Instant, OpenStackError),
}

/// A token, as long as it lasts.
pub(crate) struct Token {
    value: Secret,
    catalog: Catalog,
    session: Session,
    renew_at: Instant,
}

/// What Keystone says of who we are. Shows nothing secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Id of the project.
    pub project: String,
    /// Id of the user.
    pub user: String,
    /// The regions of the catalog.
    pub regions: BTreeSet<String>,
    /// Types of the services in the catalog.
    pub services: BTreeSet<String>,
}

/// How much was asked of a cloud.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Tokens asked for.
    pub tokens: u64,
    /// Requests to other services, repetitions included.
    pub requests: u64,
}

impl fmt::Debug for Keystone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shared { access, base, .. } = &*self.shared;
        f.debug_struct("Keystone")
            .field("base", &without_credentials(base))
            .field("user", &access.user)
            .field("project", &access.project)
            .finish_non_exhaustive()
    }
}

impl Keystone {
    /// A client; nothing is sent yet.
    ///
    /// # Errors
    /// [`OpenStackError::Configuration`]: the address is no HTTP URL, or a certificate cannot be read.
    pub fn new(access: Access) -> Result<Self, OpenStackError> {
        let base = base_of(&access.auth_url)?;
        let transport = Transport::new(&access, &base)?;
        let state = Mutex::new(State::Nothing);
        let (tokens, requests) = (AtomicU64::new(0), AtomicU64::new(0));
        Ok(Self { shared: Arc::new(Shared { access, base, transport, state, tokens, requests }) })
    }

    /// Checks that the cloud lets us in, and tells what it says of us.
    ///
    /// # Errors
    /// See [`OpenStackError`].
    pub async fn check(&self) -> Result<Session, OpenStackError> {
        Ok(self.token().await?.session.clone())
    }

    /// How much was asked of the cloud since this client was made.
    pub fn counters(&self) -> Counters {
        Counters {
            tokens: self.shared.tokens.load(Ordering::Relaxed),
            requests: self.shared.requests.load(Ordering::Relaxed),
        }
    }

    #[cfg(test)]
    pub(crate) fn same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    /// Sends a request to a service of the catalog, with a token; with a new one if the service does not accept it, once.
    /// Any other status is an answer.
    pub(crate) async fn send(
        &self,
        service: &str,
        method: &Method,
        extend: &(dyn Fn(&mut Url) -> Result<(), ()> + Send + Sync),
        body: Option<&Value>,
    ) -> Result<Answer, OpenStackError> {
        let mut token = self.token().await?;
        let mut renewed = false;
        loop {
            let Access { region, interface, .. } = &self.shared.access;
            let mut url = token.catalog.endpoint(service, *interface, region.as_deref())?;
            extend(&mut url)
                .map_err(|()| OpenStackError::malformed(url.as_str(), "no path can follow this endpoint"))?;
            self.shared.requests.fetch_add(1, Ordering::Relaxed);
            let answer =
                self.shared.transport.send(method.clone(), url, Some(token.value.expose()), body).await?;
            if answer.status != StatusCode::UNAUTHORIZED {
                return Ok(answer);
            }
            if renewed {
                return Err(answer.error(&self.secrets(&token)));
            }
            renewed = true;
            token = self.token_other_than(&token).await?;
        }
    }

    /// What an unwanted answer means, without anything secret.
    pub(crate) async fn error(&self, answer: &Answer) -> OpenStackError {
        match &*self.shared.state.lock().await {
            State::Token(token) => answer.error(&self.secrets(token)),
            _ => answer.error(&[self.shared.access.password.expose()]),
        }
    }

    fn secrets<'a>(&'a self, token: &'a Token) -> [&'a str; 2] {
        [self.shared.access.password.expose(), token.value.expose()]
    }

    /// A token that lasts a while.
    async fn token(&self) -> Result<Arc<Token>, OpenStackError> {
        let mut state = self.shared.state.lock().await;
        match &*state {
            State::Token(token) if token.renew_at > Instant::now() => Ok(token.clone()),
            _ => self.renew(&mut state).await,
        }
    }

    /// Another token than this one, which was not accepted. Whoever comes second gets what the first one was given.
    async fn token_other_than(&self, refused: &Arc<Token>) -> Result<Arc<Token>, OpenStackError> {
        let mut state = self.shared.state.lock().await;
        match &*state {
            State::Token(token) if !Arc::ptr_eq(token, refused) => Ok(token.clone()),
            _ => self.renew(&mut state).await,
        }
    }

    /// Asks for a token. The lock is held meanwhile: all others wait for the one answer.
    async fn renew(&self, state: &mut State) -> Result<Arc<Token>, OpenStackError> {
        if let State::Refused(since, error) = &*state
            && since.elapsed() < REFUSAL_HOLDS
        {
            return Err(error.clone());
        }
        match self.ask().await {
            Ok(token) => {
                let token = Arc::new(token);
                *state = State::Token(token.clone());
                Ok(token)
            }
            Err(error) => {
                *state = match &error {
                    OpenStackError::Unauthorized { .. } => State::Refused(Instant::now(), error.clone()),
                    _ => State::Nothing,
                };
                Err(error)
            }
        }
    }

    async fn ask(&self) -> Result<Token, OpenStackError> {
        const ATTEMPTS: u32 = 3;
        let Shared { access, base, transport, tokens, .. } = &*self.shared;
        let mut url = base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.extend(["auth", "tokens"]);
        }
        let body = credentials(access);
        let mut attempt = 1;
        loop {
            let asked = Instant::now();
            tokens.fetch_add(1, Ordering::Relaxed);
            let answer = transport.send(Method::POST, url.clone(), None, Some(&body)).await;
            let error = match answer {
                Ok(answer) if answer.status == StatusCode::CREATED => return token_of(&answer, asked),
                Ok(answer) => answer.error(&[access.password.expose()]),
                Err(error) => error,
            };
            if attempt >= ATTEMPTS || !error.is_transient() {
                return Err(explained(error));
            }
            tokio::time::sleep(Duration::from_millis(200) * attempt).await;
            attempt += 1;
        }
    }
}

/// A 404 of Keystone is nearly always an address that is not Keystone's.
fn explained(error: OpenStackError) -> OpenStackError {
    match error {
        OpenStackError::Status { call, code: 404, kind, reason } => {
            let reason = format!("{reason} (is this the address of a Keystone v3?)");
            OpenStackError::Status { call, code: 404, kind, reason }
        }
        error => error,
    }
}

fn base_of(address: &str) -> Result<Url, OpenStackError> {
    let bad = |reason: &str| {
        let address = Url::parse(address)
            .map_or_else(|_| "(not shown: it is no URL)".to_owned(), |url| without_credentials(&url));
        OpenStackError::Configuration { address, reason: reason.to_owned() }
    };
    let mut url =
        Url::parse(address).map_err(|error| bad(&format!("the authentication URL is none: {error}")))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(bad("the authentication URL must be an http:// or https:// URL"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(bad("the authentication URL must not contain a user name or password"));
    }
    url.set_query(None);
    url.set_fragment(None);
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty();
    }
    if !url.path().ends_with("/v3")
        && let Ok(mut segments) = url.path_segments_mut()
    {
        segments.push("v3");
    }
    Ok(url)
}

fn credentials(access: &Access) -> Value {
    json!({"auth": {
        "identity": {"methods": ["password"], "password": {"user": {
            "name": access.user, "domain": {"name": access.user_domain}, "password": access.password.expose(),
        }}},
        "scope": {"project": {"name": access.project, "domain": {"name": access.project_domain}}},
    }})
}

fn token_of(answer: &Answer, asked: Instant) -> Result<Token, OpenStackError> {
    let value = answer.headers.get("x-subject-token").and_then(|value| value.to_str().ok());
    let value =
        value.ok_or_else(|| OpenStackError::malformed(&answer.call, "there is no X-Subject-Token"))?;
    let body = answer.parse::<TokenBody>()?.token;
    let lifetime = body.lifetime().map_err(|reason| OpenStackError::malformed(&answer.call, reason))?;
    let catalog = Catalog::new(body.catalog);
    let session = Session {
        project: body.project.id,
        user: body.user.id,
        regions: catalog.regions(),
        services: catalog.services(),
    };
    let margin = (lifetime / 5).min(LONGEST_MARGIN);
    Ok(Token { value: Secret::new(value), catalog, session, renew_at: asked + (lifetime - margin) })
}
