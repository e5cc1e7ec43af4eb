//! Calls of subscribers: whether somebody answers there, and notifications, with the credentials that the subscription names.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use axum::http::{Method, StatusCode, header};
use drystone_sol003::types::SubscriptionAuthenticationType;
use serde::{Deserialize, Serialize};

/// How long a subscriber may take to answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long before its end a token is not used any more.
const EARLY: Duration = Duration::from_secs(30);
/// How long a token is used that does not say how long it is good.
const UNSAID: Duration = Duration::from_secs(300);

/// Why a subscriber was not reached.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CallbackError {
    /// Nobody answers there.
    #[error("{0}")]
    Unreachable(String),
    /// The subscriber's own place of tokens gave none.
    #[error("no token from {endpoint}: {why}")]
    Token { endpoint: String, why: String },
}

/// How the notifier authenticates itself (SOL003, 4.4.1.5). Kept in a Secret; never shown.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Authentication {
    #[serde(default)]
    pub(crate) auth_type: Vec<SubscriptionAuthenticationType>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) params_basic: Option<Basic>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) params_oauth2_client_credentials: Option<ClientCredentials>,
}

impl std::fmt::Debug for Authentication {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authentication").field("auth_type", &self.auth_type).finish_non_exhaustive()
    }
}

/// Name and password.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Basic {
    pub(crate) user_name: String,
    pub(crate) password: String,
}

/// A client of an OAuth 2.0 authorization server (RFC 6749, 4.4).
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ClientCredentials {
    pub(crate) client_id: String,
    pub(crate) client_password: String,
    pub(crate) token_endpoint: String,
}

#[derive(Deserialize)]
struct TokenReply {
    access_token: String,
    expires_in: Option<u64>,
}

#[derive(Clone)]
struct Token {
    text: Arc<str>,
    until: Instant,
}

/// Calls subscribers. Cheap to clone; clones share tokens.
#[derive(Clone, Default)]
pub(crate) struct Callbacks {
    tokens: Arc<Mutex<HashMap<(String, String), Token>>>,
}

impl std::fmt::Debug for Callbacks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Callbacks").finish_non_exhaustive()
    }
}

impl Callbacks {
    /// Calls a subscriber; returns what he answered. A token that is refused is fetched anew, once.
    pub(crate) async fn call(
        &self,
        method: Method,
        uri: &str,
        body: Option<Vec<u8>>,
        authentication: Option<&Authentication>,
    ) -> Result<StatusCode, CallbackError> {
        let status = self.attempt(method.clone(), uri, body.clone(), authentication).await?;
        let oauth = authentication.and_then(Authentication::oauth);
        match oauth {
            Some(oauth) if status == StatusCode::UNAUTHORIZED => {
                let key = (oauth.token_endpoint.clone(), oauth.client_id.clone());
                self.tokens.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
                self.attempt(method, uri, body, authentication).await
            }
            _ => Ok(status),
        }
    }

    async fn attempt(
        &self,
        method: Method,
        uri: &str,
        body: Option<Vec<u8>>,
        authentication: Option<&Authentication>,
    ) -> Result<StatusCode, CallbackError> {
        let mut request = client()?.request(method, uri).header(header::ACCEPT, "application/json");
        if let Some(body) = body {
            request = request.header(header::CONTENT_TYPE, "application/json").body(body);
        }
        if let Some(oauth) = authentication.and_then(Authentication::oauth) {
            request = request.bearer_auth(self.token(oauth).await?);
        } else if let Some(basic) = authentication.and_then(|how| how.params_basic.as_ref()) {
            request = request.basic_auth(&basic.user_name, Some(&basic.password));
        }
        let answer = request.send().await;
        answer.map(|answer| answer.status()).map_err(|error| CallbackError::Unreachable(in_words(&error)))
    }

    async fn token(&self, oauth: &ClientCredentials) -> Result<Arc<str>, CallbackError> {
        let key = (oauth.token_endpoint.clone(), oauth.client_id.clone());
        let known = self.tokens.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        if let Some(known) = known.filter(|known| known.until > Instant::now()) {
            return Ok(known.text);
        }
        let failed = |why: String| CallbackError::Token { endpoint: oauth.token_endpoint.clone(), why };
        let answer = client()?
            .post(&oauth.token_endpoint)
            .basic_auth(&oauth.client_id, Some(&oauth.client_password))
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(header::ACCEPT, "application/json")
            .body("grant_type=client_credentials")
            .send()
            .await
            .map_err(|error| failed(in_words(&error)))?;
        if !answer.status().is_success() {
            return Err(failed(format!("it answered {}", answer.status())));
        }
        let reply: TokenReply =
            answer.json().await.map_err(|_| failed("its answer is no token (RFC 6749, 5.1)".to_owned()))?;
        let lasts = reply.expires_in.map_or(UNSAID, Duration::from_secs).saturating_sub(EARLY);
        let token = Token { text: Arc::from(reply.access_token), until: Instant::now() + lasts };
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner).insert(key, token.clone());
        Ok(token.text)
    }
}

impl Authentication {
    /// The client of an authorization server, if that is how it is done: the first way that is named.
    fn oauth(&self) -> Option<&ClientCredentials> {
        match self.auth_type.first() {
            Some(SubscriptionAuthenticationType::Oauth2ClientCredentials) => {
                self.params_oauth2_client_credentials.as_ref()
            }
            _ => None,
        }
    }
}

/// An error without the URL, which may be long, and without what is in it.
fn in_words(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return format!("no answer within {} s", TIMEOUT.as_secs());
    }
    let mut text = String::from("no connection");
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("no connection: {cause}");
        source = cause.source();
    }
    text
}

/// One client for all subscribers. It follows no redirection: a subscriber says where he is.
fn client() -> Result<&'static reqwest::Client, CallbackError> {
    static CLIENT: OnceLock<Option<reqwest::Client>> = OnceLock::new();
    drystone_identity::tls::install_crypto_provider();
    let made = CLIENT.get_or_init(|| {
        let builder = reqwest::Client::builder()
            .timeout(TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy();
        builder.build().inspect_err(|error| tracing::error!(%error, "subscribers cannot be called")).ok()
    });
    made.as_ref()
        .ok_or_else(|| CallbackError::Unreachable("TLS is not available; the log says why".to_owned()))
}
