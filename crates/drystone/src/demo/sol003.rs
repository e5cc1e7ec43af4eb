//! The SOL003 service, as a client of VNF managers speaks to it.

use std::{path::Path, time::Duration};

use reqwest::Method;
use serde_json::Value;

use crate::command::Failure;

/// How long one answer may take.
const LIMIT: Duration = Duration::from_secs(60);

/// A client.
pub(super) struct Sol003 {
    base: String,
    http: reqwest::Client,
}

impl Sol003 {
    /// A client of the service at a URL without a path.
    pub(super) fn new(base: &str) -> Result<Self, Failure> {
        let http = reqwest::Client::builder().no_proxy().timeout(LIMIT).build()?;
        Ok(Self { base: base.trim_end_matches('/').to_owned(), http })
    }

    /// Reads something.
    pub(super) async fn get(&self, path: &str) -> Result<Value, Failure> {
        Ok(self.send(Method::GET, path, None).await?.1)
    }

    /// Asks for something; returns what it was answered.
    pub(super) async fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        Ok(self.send(Method::POST, path, Some(body)).await?.1)
    }

    /// Asks for an operation; returns its identifier.
    pub(super) async fn begin(&self, path: &str, body: &Value) -> Result<String, Failure> {
        let (location, _) = self.send(Method::POST, path, Some(body)).await?;
        let id = location.rsplit('/').next().filter(|id| !id.is_empty());
        Ok(id.ok_or_else(|| format!("POST {path} was answered without a Location"))?.to_owned())
    }

    /// Forgets something.
    pub(super) async fn delete(&self, path: &str) -> Result<(), Failure> {
        self.send(Method::DELETE, path, None).await.map(drop)
    }

    /// Uploads a package.
    pub(super) async fn upload(&self, path: &str, file: &Path) -> Result<(), Failure> {
        let bytes = tokio::fs::read(file).await?;
        let request = self.http.put(format!("{}{path}", self.base)).header("content-type", "application/zip");
        let answer = request.body(bytes).send().await?;
        if answer.status().is_success() {
            return Ok(());
        }
        Err(format!("PUT {path}: {}: {}", answer.status(), answer.text().await?).into())
    }

    /// `Location` and body of the answer.
    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(String, Value), Failure> {
        let mut request = self.http.request(method.clone(), format!("{}{path}", self.base));
        if path.contains("/v2/") {
            request = request.header("version", "2.0.0");
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.header("accept", "application/json").send().await?;
        let status = answer.status();
        let location = answer.headers().get("location").and_then(|value| value.to_str().ok());
        let location = location.unwrap_or_default().to_owned();
        let text = answer.text().await?;
        if !status.is_success() {
            return Err(format!("{method} {path}: {status}: {text}").into());
        }
        Ok((location, serde_json::from_str(&text).unwrap_or_default()))
    }
}
