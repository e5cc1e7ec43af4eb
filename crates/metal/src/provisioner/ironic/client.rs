//! Ironic's REST API. Source: OpenStack Bare Metal API reference, microversion 1.89.

use std::{sync::Arc, time::Duration};

use drystone_redfish::client::http_builder;
use http::Method;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::sync::Semaphore;
use url::Url;

use crate::driver::{Credentials, DriverError};

/// The microversion that is spoken, as by the baremetal-operator: it has inventories and firmware interfaces.
const VERSION: &str = "1.89";
const VERSION_HEADER: &str = "x-openstack-ironic-api-version";

/// Requests at one time: a standalone Ironic resets connections when more come.
const MOST_REQUESTS: usize = 8;

const CONNECT_LIMIT: Duration = Duration::from_secs(5);
const REQUEST_LIMIT: Duration = Duration::from_secs(60);

/// Most bytes of an error that are shown.
const LONGEST_REASON: usize = 600;

/// A client of one Ironic. Cheap to clone.
#[derive(Clone)]
pub(super) struct Client {
    base: Url,
    credentials: Option<Credentials>,
    http: reqwest::Client,
    places: Arc<Semaphore>,
}

/// What Ironic says of a node.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub(super) struct Node {
    pub(super) uuid: String,
    #[serde(default)]
    pub(super) provision_state: Option<String>,
    #[serde(default)]
    pub(super) power_state: Option<String>,
    #[serde(default)]
    pub(super) target_power_state: Option<String>,
    #[serde(default)]
    pub(super) last_error: Option<String>,
    #[serde(default)]
    pub(super) maintenance: bool,
    #[serde(default)]
    pub(super) driver_info: Map<String, Value>,
    #[serde(default)]
    pub(super) instance_info: Map<String, Value>,
}

impl Node {
    pub(super) fn state(&self) -> &str {
        self.provision_state.as_deref().unwrap_or("available")
    }

    pub(super) fn powered_on(&self) -> Option<bool> {
        match self.power_state.as_deref() {
            Some("power on") => Some(true),
            Some("power off") => Some(false),
            _ => None,
        }
    }

    pub(super) fn error(&self) -> String {
        let text = self.last_error.clone().filter(|text| !text.is_empty());
        text.unwrap_or_else(|| format!("its state is `{}`", self.state()))
    }
}

/// Why a request was not carried out.
#[derive(Debug)]
pub(super) enum Failure {
    /// The node is locked, or no worker is free: ask again.
    Busy,
    /// There is no such thing.
    NotFound,
    /// Anything else.
    Failed(DriverError),
}

impl Client {
    pub(super) fn new(base: Url, credentials: Option<Credentials>) -> Result<Self, String> {
        let http = http_builder().connect_timeout(CONNECT_LIMIT).timeout(REQUEST_LIMIT);
        let http = http.build().map_err(|error| error.to_string())?;
        Ok(Self { base, credentials, http, places: Arc::new(Semaphore::new(MOST_REQUESTS)) })
    }

    pub(super) fn refused(&self, doing: impl Into<String>, reason: impl Into<String>) -> DriverError {
        let host = format!("Ironic at {}", self.base);
        DriverError::Refused { host, doing: doing.into(), reason: reason.into() }
    }

    /// Sends a request; returns the body, null if there is none.
    pub(super) async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, Failure> {
        let doing = format!("{method} {path}");
        let unreachable = |error: reqwest::Error| {
            let reason = error.without_url().to_string();
            Failure::Failed(DriverError::Unreachable { host: format!("Ironic at {}", self.base), reason })
        };
        let url = self.base.join(path.trim_start_matches('/'));
        let url = url.map_err(|error| Failure::Failed(self.refused(&doing, error.to_string())))?;
        let mut request = self.http.request(method, url).header(VERSION_HEADER, VERSION);
        if let Some(credentials) = &self.credentials {
            request = request.basic_auth(&credentials.username, Some(&credentials.password));
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        // The semaphore is never closed.
        let _place = self.places.acquire().await;
        let response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        let text = response.text().await.map_err(unreachable)?;
        if status.is_success() {
            return Ok(serde_json::from_str(&text).unwrap_or(Value::Null));
        }
        Err(match status.as_u16() {
            404 => Failure::NotFound,
            409 | 503 => Failure::Busy,
            401 => Failure::Failed(self.refused(doing, "it refuses Drystone's user name or password")),
            code => Failure::Failed(self.refused(doing, format!("it answers {code}: {}", reason(&text)))),
        })
    }

    /// A node by UUID or name.
    pub(super) async fn node(&self, id: &str) -> Result<Option<Node>, Failure> {
        let fields = "uuid,provision_state,power_state,target_power_state,last_error,maintenance,driver_info,instance_info";
        match self.send(Method::GET, &format!("/v1/nodes/{id}?fields={fields}"), None).await {
            Err(Failure::NotFound) => Ok(None),
            Err(failure) => Err(failure),
            Ok(body) => serde_json::from_value(body)
                .map(Some)
                .map_err(|error| Failure::Failed(self.refused("reading a node", error.to_string()))),
        }
    }

    /// Asks for another provision state.
    pub(super) async fn provision(&self, node: &str, target: &str, more: Value) -> Result<(), Failure> {
        let mut body = json!({"target": target});
        if let (Value::Object(body), Value::Object(more)) = (&mut body, more) {
            body.extend(more);
        }
        let path = format!("/v1/nodes/{node}/states/provision");
        self.send(Method::PUT, &path, Some(&body)).await.map(drop)
    }

    /// Sets fields of a node, by their paths.
    pub(super) async fn change(&self, node: &str, fields: &[(&str, Value)]) -> Result<(), Failure> {
        let patch: Vec<Value> = fields
            .iter()
            .map(|(path, value)| json!({"op": "add", "path": format!("/{path}"), "value": value}))
            .collect();
        self.send(Method::PATCH, &format!("/v1/nodes/{node}"), Some(&Value::Array(patch))).await.map(drop)
    }
}

/// What an error's body says: Ironic wraps a document in a text in a document.
fn reason(text: &str) -> String {
    let outer: Value = serde_json::from_str(text).unwrap_or(Value::Null);
    let inner = match &outer["error_message"] {
        Value::String(text) => serde_json::from_str(text).unwrap_or_else(|_| json!({"faultstring": text})),
        other => other.clone(),
    };
    let said = inner["faultstring"].as_str().unwrap_or(text);
    said.chars().take(LONGEST_REASON).collect()
}

#[cfg(test)]
mod tests {
    use drystone_hostile::text;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn errors_are_unwrapped() {
        let wrapped =
            r#"{"error_message": "{\"faultcode\": \"Client\", \"faultstring\": \"Node n0 is locked\"}"}"#;
        assert_eq!(reason(wrapped), "Node n0 is locked");
        assert_eq!(reason(r#"{"error_message": {"faultstring": "no"}}"#), "no");
        assert_eq!(reason(r#"{"error_message": "plain"}"#), "plain");
        assert_eq!(reason("<html>"), "<html>");
    }

    proptest! {
        #[test]
        fn any_error_is_shown_within_bounds(text in text()) {
            prop_assert!(reason(&text).chars().count() <= LONGEST_REASON);
        }
    }
}
