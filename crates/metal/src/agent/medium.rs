//! What an agent boots from: the medium that was made once, with the host's own configuration over it.

use std::{fs::File, io};

use drystone_agent::medium::{self, AgentConfig};
use drystone_api::{BareMetalHost, SITE_LABEL, Site};
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, ResourceExt as _};
use url::Url;

use super::AgentDesk;
use crate::http::{BootMedia, SharedMedium};

/// Why a medium cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum MediumError {
    /// The API does not say what is needed.
    #[error("{doing}: {source}")]
    Api {
        /// What was attempted.
        doing: &'static str,
        /// Why it failed.
        source: Box<kube::Error>,
    },
    /// A Secret is missing.
    #[error(
        "Secret {0} (spec.preprovisioningNetworkDataName) is missing, or has neither networkData nor value"
    )]
    NoNetworkData(String),
    /// The medium that was made once cannot be used.
    #[error("the agent's medium {file} cannot be used: {reason}; make it again with `./dev image`")]
    Base {
        /// The file.
        file: String,
        /// Why not.
        reason: String,
    },
    /// The configuration has no place.
    #[error(transparent)]
    Config(#[from] medium::MediumError),
}

impl AgentDesk {
    /// Offers the medium of a host's agent; returns where. The host is expected to be at work for that purpose.
    ///
    /// # Errors
    /// [`MediumError`].
    pub async fn offer_medium(
        &self,
        media: &BootMedia,
        host: &BareMetalHost,
        purpose: &str,
        network_data: &[u8],
    ) -> Result<Url, MediumError> {
        let uid = host.uid().unwrap_or_default();
        let config = AgentConfig {
            url: self.url_for(host).await?,
            token: self.token(&uid, purpose),
            ca: self.settings.ca.clone(),
            network_data: self.network_data(host, network_data).await?,
        };
        let key = medium_key(purpose);
        let Some(file) = &self.settings.medium else {
            return Ok(media.offer_image(&uid, &key, medium::bare(&config)?));
        };
        let wrong = |reason: String| MediumError::Base { file: file.display().to_string(), reason };
        let placed = || -> Result<(u64, drystone_agent::iso9660::Extent), String> {
            let mut open = File::open(file).map_err(|error: io::Error| error.to_string())?;
            let length = open.metadata().map_err(|error| error.to_string())?.len();
            Ok((length, medium::place(&mut open).map_err(|error| error.to_string())?))
        };
        let (length, extent) = placed().map_err(wrong)?;
        let own = medium::overlay(&config, extent.length)?.into();
        Ok(media.offer_shared(
            &uid,
            &key,
            SharedMedium { file: file.clone(), length, at: extent.offset, own },
        ))
    }

    /// Where a host reaches Drystone: by its Site's gateway, if there is one.
    async fn url_for(&self, host: &BareMetalHost) -> Result<String, MediumError> {
        let Some(name) = host.labels().get(SITE_LABEL) else { return Ok(self.settings.url.clone()) };
        let sites: Api<Site> = Api::namespaced(self.client.clone(), &host.namespace().unwrap_or_default());
        let site = sites.get_opt(name).await.map_err(api_error("reading the host's Site"))?;
        let gateway = site.and_then(|site| site.spec.gateway).map(|gateway| gateway.controller_address);
        let gateway = gateway.filter(|address| !address.is_empty());
        Ok(gateway.map_or_else(|| self.settings.url.clone(), |address| format!("https://{address}")))
    }

    /// A URL as a host uses it: what Drystone itself serves, images among it, hosts reach by the way that they have to Drystone.
    ///
    /// # Errors
    /// [`MediumError`].
    pub async fn as_seen_by(&self, host: &BareMetalHost, url: &str) -> Result<String, MediumError> {
        match url.strip_prefix(&self.settings.own_url).filter(|rest| rest.starts_with('/')) {
            Some(rest) => Ok(format!("{}{rest}", self.url_for(host).await?)),
            None => Ok(url.to_owned()),
        }
    }

    /// Network data of the agent: its own, else those of the operating system that is about to be written, or that was there: a host that is
    /// cleaned has no image any more, but may still have a place in a network.
    pub(super) async fn network_data(
        &self,
        host: &BareMetalHost,
        otherwise: &[u8],
    ) -> Result<String, MediumError> {
        let bytes = match &host.spec.preprovisioning_network_data_name {
            None if otherwise.is_empty() => match &host.spec.network_data {
                Some(left) => read(&self.client, &host.namespace().unwrap_or_default(), &left.name)
                    .await?
                    .unwrap_or_default(),
                None => Vec::new(),
            },
            None => otherwise.to_vec(),
            Some(name) => {
                let found = read(&self.client, &host.namespace().unwrap_or_default(), name).await?;
                found.ok_or_else(|| MediumError::NoNetworkData(name.clone()))?
            }
        };
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

async fn read(client: &Client, namespace: &str, name: &str) -> Result<Option<Vec<u8>>, MediumError> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let secret = secrets.get_opt(name).await.map_err(api_error("reading the agent's network data"))?;
    let data = secret.and_then(|secret| secret.data);
    Ok(data
        .and_then(|mut data| data.remove("networkData").or_else(|| data.remove("value")))
        .map(|bytes| bytes.0))
}

fn api_error(doing: &'static str) -> impl FnOnce(kube::Error) -> MediumError {
    move |source| MediumError::Api { doing, source: Box::new(source) }
}

/// By what an agent's medium is known among boot media.
pub fn medium_key(purpose: &str) -> String {
    format!("agent/{purpose}")
}
