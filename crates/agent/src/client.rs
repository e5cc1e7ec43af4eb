//! The agent's side of the protocol.

use std::{sync::Once, time::Duration};

use rand::Rng as _;
use reqwest::{Certificate, Client, Method, StatusCode};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use url::Url;

use crate::{
    download::Detours,
    medium::AgentConfig,
    protocol::{BASE, Inventory, Orders, Progress, Report},
};

/// Limits of a request.
const CONNECT: Duration = Duration::from_secs(10);
const SILENCE: Duration = Duration::from_secs(60);
/// Certificate authorities of the world, where a system has them.
const ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Why Drystone could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// It gave another order meanwhile.
    #[error("the order is no longer the present one")]
    Superseded,
    /// It refuses.
    #[error("{url} answers {status}: {reason}")]
    Refused {
        /// What was asked.
        url: Url,
        /// Its answer.
        status: u16,
        /// What it says.
        reason: String,
    },
    /// It does not answer.
    #[error("{url} does not answer: {reason}")]
    Unreachable {
        /// What was asked.
        url: Url,
        /// Why.
        reason: String,
    },
    /// It answers what is not understood.
    #[error("{url} answers what is not understood: {reason}")]
    Answer {
        /// What was asked.
        url: Url,
        /// Why.
        reason: String,
    },
    /// The configuration on the medium is wrong.
    #[error("the configuration on the agent's medium is wrong: {0}")]
    Config(
        /// What is wrong.
        String,
    ),
}

/// A client whose TLS trusts this certificate authority (PEM; none if empty) and those that the system knows.
///
/// # Errors
/// It is no certificate.
pub fn http_client(ca: &str) -> Result<Client, ClientError> {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            // Losing a race against another part of the process is as good: it installed the same.
            drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        }
    });
    let wrong = |error: reqwest::Error| ClientError::Config(format!("ca: {}", innermost(&error)));
    let mut trusted = Certificate::from_pem_bundle(ca.as_bytes()).map_err(wrong)?;
    if let Ok(roots) = std::fs::read(ROOTS) {
        trusted.extend(Certificate::from_pem_bundle(&roots).unwrap_or_default());
    }
    let builder = Client::builder().no_proxy().connect_timeout(CONNECT).read_timeout(SILENCE);
    builder.tls_certs_only(trusted).build().map_err(wrong)
}

/// What went wrong at the bottom, without the URL that `reqwest` puts around it.
pub(crate) fn innermost(error: &reqwest::Error) -> String {
    let mut cause = std::error::Error::source(error);
    let mut text = "the request failed".to_owned();
    while let Some(inner) = cause {
        text = inner.to_string();
        cause = inner.source();
    }
    text
}

/// Pause before another attempt after so many failures: doubling from a quarter of a second up to `most`, spread, so
/// that hosts that were cut off together do not come back together.
pub(crate) fn backoff(failures: u32, most: Duration) -> Duration {
    let pause = Duration::from_millis(250).saturating_mul(2_u32.saturating_pow(failures.min(16))).min(most);
    pause.mul_f64(rand::rng().random_range(0.5..1.0))
}

/// Asks Drystone.
#[derive(Clone)]
pub struct AgentClient {
    http: Client,
    base: Url,
    token: String,
}

#[derive(Deserialize)]
struct Refusal {
    #[serde(default)]
    error: String,
}

impl AgentClient {
    /// A client for the configuration on a medium.
    ///
    /// # Errors
    /// The configuration is wrong.
    pub fn new(config: &AgentConfig, detours: &Detours) -> Result<Self, ClientError> {
        let url = Url::parse(&config.url).map_err(|error| ClientError::Config(format!("url: {error}")))?;
        let base = detours.apply(&url).join(&format!("{BASE}/"));
        let base = base.map_err(|error| ClientError::Config(format!("url: {error}")))?;
        Ok(Self { http: http_client(&config.ca)?, base, token: config.token.clone() })
    }

    /// What fetches images.
    pub fn http(&self) -> &Client {
        &self.http
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&(impl Serialize + Sync)>,
    ) -> Result<T, ClientError> {
        let url = self.base.join(path).map_err(|error| ClientError::Config(error.to_string()))?;
        let mut request = self.http.request(method, url.clone()).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.json(body);
        }
        let unreachable =
            |error: reqwest::Error| ClientError::Unreachable { url: url.clone(), reason: innermost(&error) };
        let response = request.timeout(SILENCE).send().await.map_err(unreachable)?;
        let status = response.status();
        let content = response.bytes().await.map_err(unreachable)?;
        if status == StatusCode::CONFLICT {
            return Err(ClientError::Superseded);
        }
        if !status.is_success() {
            let refusal = serde_json::from_slice::<Refusal>(&content).ok().map(|refusal| refusal.error);
            return Err(ClientError::Refused {
                url,
                status: status.as_u16(),
                reason: refusal.unwrap_or_default(),
            });
        }
        let content: &[u8] = if content.is_empty() { b"null" } else { &content };
        serde_json::from_slice(content)
            .map_err(|error| ClientError::Answer { url: url.clone(), reason: error.to_string() })
    }

    /// What is to be done.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn orders(&self) -> Result<Orders, ClientError> {
        self.ask(Method::GET, "orders", None::<&()>).await
    }

    /// Tells what the host is made of.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn inventory(&self, inventory: &Inventory) -> Result<(), ClientError> {
        self.ask(Method::PUT, "inventory", Some(inventory)).await
    }

    /// Tells how far an order has come.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn progress(&self, progress: &Progress) -> Result<(), ClientError> {
        self.ask(Method::POST, "progress", Some(progress)).await
    }

    /// Tells that an order has come to its end.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn report(&self, report: &Report) -> Result<(), ClientError> {
        self.ask(Method::POST, "result", Some(report)).await
    }
}
