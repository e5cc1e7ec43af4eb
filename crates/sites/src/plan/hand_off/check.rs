//! What the schema cannot say of a hand-off.

use std::fmt;

use drystone_api::{HandOffAuthenticationType, HandOffWebhook, Site};
use url::{Host, Url};

/// Something that may not be said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Path of the field.
    pub field: String,
    /// What is wrong with it, and what to do.
    pub reason: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.reason)
    }
}

/// What is wrong with a site's hand-off.
pub fn check(site: &Site) -> Vec<Problem> {
    let Some(wanted) = &site.spec.hand_off else { return Vec::new() };
    let mut problems = Vec::new();
    let mut found = |field: &str, reason: String| {
        let field = format!("spec.handOff{}{field}", if field.is_empty() { "" } else { "." });
        problems.push(Problem { field, reason });
    };
    match (&wanted.kubernetes, &wanted.webhook) {
        (Some(_), None) if site.spec.cluster.is_none() => {
            found("kubernetes", "needs spec.cluster: the cluster that hosts are handed to".to_owned());
        }
        (Some(_), None) => {}
        (None, Some(webhook)) => check_webhook(webhook, &mut |field, reason| {
            found(&format!("webhook.{field}"), reason);
        }),
        _ => found("", "give either kubernetes or webhook".to_owned()),
    }
    problems
}

fn check_webhook(webhook: &HandOffWebhook, found: &mut dyn FnMut(&str, String)) {
    match Url::parse(&webhook.url) {
        Err(error) => found("url", format!("is no URL: {error}")),
        Ok(url) => check_url(&url, webhook, found),
    }
    if !webhook.ca_secret_name.is_empty() && !webhook.ca_config_map_name.is_empty() {
        found("caConfigMapName", "give either this or caSecretName".to_owned());
    }
    if webhook.timeout.is_some_and(|timeout| !(1..=60).contains(&timeout.0)) {
        found("timeout", "is from 1s to 60s".to_owned());
    }
    if webhook.withdrawal_limit.is_some_and(|limit| limit.0 > 24 * 3600) {
        found("withdrawalLimit", "is 24h at most".to_owned());
    }
}

fn check_url(url: &Url, webhook: &HandOffWebhook, found: &mut dyn FnMut(&str, String)) {
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return found("url", "begins with https:// or http:// and names a host".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
        found("url", "has neither user nor password nor fragment; see authentication".to_owned());
    }
    if url.scheme() == "https" || is_loopback(url) {
        return;
    }
    if !webhook.allow_plain_text {
        found("url", "http only leads to this machine: use https, or set allowPlainText".to_owned());
    }
    let kind = webhook.authentication.as_ref().map(|authentication| authentication.kind);
    if kind == Some(HandOffAuthenticationType::Bearer) {
        found(
            "authentication.type",
            "Bearer tokens do not go to other machines in plain text: use https, or HMAC".to_owned(),
        );
    }
}

/// Whether a URL leads to this machine and no other.
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        // RFC 6761, 6.3.
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}
