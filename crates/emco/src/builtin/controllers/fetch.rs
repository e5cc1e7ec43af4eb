//! Values of patches that are fetched from elsewhere. Only hosts that were allowed are asked: an intent is written by whoever may deploy
//! applications, and what this machine can reach is more than that person may.

use std::{collections::BTreeSet, time::Duration};

use async_trait::async_trait;
use serde_json::Value;
use url::Url;

/// The most bytes of an answer.
const MOST_BYTES: usize = 1 << 20;
/// How long an answer is waited for.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Fetches a value.
#[async_trait]
pub trait Fetch: Send + Sync + 'static {
    /// The member `value` of the JSON at an address.
    ///
    /// # Errors
    /// Why there is none, with the address.
    async fn fetch(&self, address: &str) -> Result<Value, String>;
}

/// Fetches values by HTTP from hosts that are allowed. Redirections are not followed.
#[derive(Debug, Clone)]
pub struct HttpValues {
    hosts: BTreeSet<String>,
    client: reqwest::Client,
}

impl HttpValues {
    /// Allows `hosts`, each `HOST:PORT`, or `HOST` for the ports that belong to `http` and `https`.
    ///
    /// # Errors
    /// TLS is not available.
    pub fn new(hosts: impl IntoIterator<Item = String>) -> Result<Self, String> {
        drystone_identity::tls::install_crypto_provider();
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(TIMEOUT)
            .user_agent("drystone");
        let client = client.build().map_err(|error| format!("TLS is not available: {error}"))?;
        Ok(Self { hosts: hosts.into_iter().map(|host| host.to_ascii_lowercase()).collect(), client })
    }

    fn is_allowed(&self, url: &Url) -> bool {
        let Some(host) = url.host_str() else { return false };
        match url.port() {
            Some(port) => self.hosts.contains(&format!("{host}:{port}")),
            None => self.hosts.contains(host),
        }
    }
}

#[async_trait]
impl Fetch for HttpValues {
    async fn fetch(&self, address: &str) -> Result<Value, String> {
        let url = Url::parse(address).map_err(|error| format!("{address}: {error}"))?;
        if !matches!(url.scheme(), "http" | "https") || !self.is_allowed(&url) {
            return Err(format!("{address}: values are not taken from there; allowed: {:?}", self.hosts));
        }
        let failed = |error: reqwest::Error| format!("{address}: {}", error.without_url());
        let mut answer = self.client.get(url).send().await.map_err(failed)?;
        if answer.status() != reqwest::StatusCode::OK {
            return Err(format!("{address} answers {}", answer.status()));
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(failed)? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > MOST_BYTES {
                return Err(format!("{address} answers with more than {MOST_BYTES} bytes"));
            }
        }
        let body: Value = serde_json::from_slice(&bytes)
            .map_err(|error| format!("{address} answers with no JSON: {error}"))?;
        body.get("value").cloned().ok_or_else(|| format!("{address} answers without a member `value`"))
    }
}
