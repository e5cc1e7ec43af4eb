//! What comes with a token: how long it lasts, and where the services are.

use std::{collections::BTreeSet, time::Duration};

use jiff::Timestamp;
use serde::Deserialize;
use url::Url;

use crate::{Interface, OpenStackError};

/// Longest that a token is believed to last, whatever Keystone says: one that was revoked is found out by its 401.
const LONGEST_LIFETIME: Duration = Duration::from_secs(24 * 3600);

#[derive(Deserialize)]
pub(super) struct TokenBody {
    pub(super) token: TokenDetails,
}

#[derive(Deserialize)]
pub(super) struct TokenDetails {
    pub(super) expires_at: Timestamp,
    pub(super) issued_at: Timestamp,
    pub(super) project: Identified,
    pub(super) user: Identified,
    #[serde(default)]
    pub(super) catalog: Vec<Service>,
}

#[derive(Deserialize)]
pub(super) struct Identified {
    pub(super) id: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Service {
    r#type: String,
    #[serde(default)]
    endpoints: Vec<Endpoint>,
}

#[derive(Debug, Deserialize)]
struct Endpoint {
    interface: String,
    #[serde(default)]
    region: Option<String>,
    #[serde(default)]
    region_id: Option<String>,
    url: String,
}

impl Endpoint {
    fn region(&self) -> Option<&str> {
        self.region_id.as_deref().or(self.region.as_deref())
    }
}

impl TokenDetails {
    /// How long the token lasts from when it was issued: the clocks need not agree.
    pub(super) fn lifetime(&self) -> Result<Duration, String> {
        let lifetime = self.expires_at.duration_since(self.issued_at);
        match Duration::try_from(lifetime) {
            Ok(lifetime) if !lifetime.is_zero() => Ok(lifetime.min(LONGEST_LIFETIME)),
            _ => Err(format!("the token ends at {}, before it begins", self.expires_at)),
        }
    }
}

/// Where the services are.
#[derive(Debug)]
pub(super) struct Catalog {
    services: Vec<Service>,
}

impl Catalog {
    pub(super) fn new(services: Vec<Service>) -> Self {
        Self { services }
    }

    pub(super) fn regions(&self) -> BTreeSet<String> {
        let endpoints = self.services.iter().flat_map(|service| &service.endpoints);
        endpoints.filter_map(Endpoint::region).map(str::to_owned).collect()
    }

    pub(super) fn services(&self) -> BTreeSet<String> {
        self.services.iter().map(|service| service.r#type.clone()).collect()
    }

    /// Base URL of a service.
    pub(super) fn endpoint(
        &self,
        service: &str,
        interface: Interface,
        region: Option<&str>,
    ) -> Result<Url, OpenStackError> {
        let of_type = self.services.iter().filter(|other| other.r#type == service);
        let endpoints: Vec<&Endpoint> = of_type.flat_map(|service| &service.endpoints).collect();
        let fits = |endpoint: &&&Endpoint| {
            endpoint.interface == interface.as_str() && region.is_none_or(|_| endpoint.region() == region)
        };
        let Some(endpoint) = endpoints.iter().find(fits) else {
            return Err(OpenStackError::NoEndpoint {
                service: service.to_owned(),
                interface: interface.as_str(),
                region: region.map(str::to_owned),
                known: self.known(&endpoints),
            });
        };
        let bad = |reason: String| {
            OpenStackError::malformed(&format!("catalog, endpoint {:?} of {service}", endpoint.url), reason)
        };
        let url = Url::parse(&endpoint.url).map_err(|error| bad(error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err(bad("it is no HTTP URL".to_owned()));
        }
        Ok(url)
    }

    /// What there is instead, for an error.
    fn known(&self, endpoints: &[&Endpoint]) -> String {
        if endpoints.is_empty() {
            let services = Vec::from_iter(self.services());
            return if services.is_empty() {
                "no services at all".to_owned()
            } else {
                format!("only {}", services.join(", "))
            };
        }
        let known: Vec<String> = endpoints
            .iter()
            .map(|endpoint| {
                format!("{} in region {}", endpoint.interface, endpoint.region().unwrap_or("(none)"))
            })
            .collect();
        known.join(", ")
    }
}
