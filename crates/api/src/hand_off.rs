//! Handing a site's hosts to the orchestrator of its workloads: which one that is, and how far it has got.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::quantity::TimeSpan;

/// Which orchestrator a site's hosts are handed to, once they have their operating system. Exactly one of the fields is given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("minProperties" = 1, "maxProperties" = 1))]
pub struct SiteHandOff {
    /// The site's own cluster. Needs `spec.cluster`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<HandOffKubernetes>,
    /// Another orchestrator, which is told over HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<HandOffWebhook>,
}

/// The site's own cluster as the orchestrator. There is nothing to be said of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HandOffKubernetes {}

/// An orchestrator that is told over HTTP. The documents that it gets are described in `docs/sites.md`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HandOffWebhook {
    /// Where documents are posted: `https://orchestrator.example/hosts`. `http` only leads to this machine, unless `allowPlainText`.
    #[schemars(regex(pattern = r"^https?://[^/?#@\s]+([/?][^#\s]*)?$"), length(max = 2048))]
    pub url: String,
    /// The Secret with which the orchestrator gets at the hosts. Its name is handed on; it is not read. Where it is not given and the site
    /// has a cluster, it is the Secret with the cluster's kubeconfig.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_ref: Option<CredentialsReference>,
    /// How Drystone shows the orchestrator who it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authentication: Option<HandOffAuthentication>,
    /// Secret in the site's namespace whose key `ca.crt` has the authorities (PEM) of the orchestrator's certificate; without one, those that
    /// the system trusts.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 253))]
    pub ca_secret_name: String,
    /// The same out of a ConfigMap.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 253))]
    pub ca_config_map_name: String,
    /// Whether `http` may lead to other machines. What hosts there are can then be read on the way.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_plain_text: bool,
    /// How long one answer is waited for, `1s` to `60s`; 10 s unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<TimeSpan>,
    /// How long the orchestrator is told that the site leaves it, if it does not take that; 10 min unless given, `24h` at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withdrawal_limit: Option<TimeSpan>,
}

/// Points at credentials without giving them away.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CredentialsReference {
    /// Namespace.
    #[schemars(regex(pattern = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"))]
    pub namespace: String,
    /// Name.
    #[schemars(regex(pattern = r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$"))]
    pub name: String,
}

/// How Drystone shows an orchestrator who it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HandOffAuthentication {
    /// In which way.
    #[serde(rename = "type")]
    pub kind: HandOffAuthenticationType,
    /// Secret in the site's namespace, with key `token` for `Bearer` and `hmac-key` for `HMAC`.
    #[schemars(length(min = 1, max = 253))]
    pub secret_name: String,
}

/// Ways of showing who one is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum HandOffAuthenticationType {
    /// `Authorization: Bearer TOKEN` (RFC 6750). Never in plain text to another machine.
    #[default]
    Bearer,
    /// `X-Drystone-Signature: sha256=HEX`: HMAC-SHA256 (RFC 2104) over the bytes of the body.
    HMAC,
}

/// Whether hosts, or a whole site, are there for an orchestrator.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum HandOffState {
    /// To be used.
    #[default]
    Present,
    /// Not to be used any more.
    Withdrawn,
}

/// What an orchestrator has been told. It is written before the orchestrator is told, so that after an interruption the same is told
/// under the same generation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SiteHandOffStatus {
    /// Under which id the orchestrator knows the site: its uid.
    #[serde(default)]
    pub id: String,
    /// Number of what is told; another one whenever something else is.
    #[serde(default)]
    pub generation: i64,
    /// The last generation that this orchestrator has taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivered_generation: Option<i64>,
    /// When it took it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivered_at: Option<Time>,
    /// Whether the site is there for the orchestrator, or leaves it.
    #[serde(default)]
    pub state: HandOffState,
    /// Since when this generation is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// Digest of the inventory in this generation.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub digest: String,
    /// Hosts that the orchestrator knows, or may know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    /// Hosts that this generation withdraws.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub withdrawn: Vec<String>,
    /// Which orchestrator it is, as the specification said it last: what it is told to leave is told there, whatever is wanted now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<SiteHandOff>,
    /// What the orchestrator said of itself: `Accepted`, `InProgress`, or a word of its own.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub phase: String,
    /// What it said besides.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Whether it was given up to tell the orchestrator that the site leaves it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub gave_up: bool,
}
