//! Finding the way to a host: address, proxy, key, host keys, from what the API holds.

use std::net::{IpAddr, SocketAddr};

use drystone_api::{
    BareMetalHost, Cluster, HostSoftware, SITE_LABEL, SYSTEM_NAMESPACE, Site, SoftwareAccess,
};
use drystone_identity::Secret as Hidden;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, ResourceExt as _, api::ListParams};

use crate::{
    access::{AccessError, Credentials, HostWay, Proxy},
    facts::{ApiError, api_error},
};

/// A way that was not found.
#[derive(Debug, thiserror::Error)]
pub enum WayError {
    /// The API did not answer as it should.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// Something is missing or makes no sense.
    #[error("{0}")]
    Missing(String),
}

impl WayError {
    /// As a failure to reach the host.
    pub fn into_access(self) -> AccessError {
        match self {
            Self::Api(error) => AccessError::Unreachable(error.to_string()),
            Self::Missing(reason) => AccessError::Refused(reason),
        }
    }
}

/// Finds the way to a host.
///
/// # Errors
/// [`WayError`].
pub async fn find(
    client: &Client,
    namespace: &str,
    host: &str,
    access: &SoftwareAccess,
) -> Result<HostWay, WayError> {
    let hosts: Api<BareMetalHost> = Api::namespaced(client.clone(), namespace);
    let metal = hosts.get_opt(host).await.map_err(api_error("reading the BareMetalHost"))?;
    let metal = metal.ok_or_else(|| WayError::Missing(format!("BareMetalHost {host} was deleted")))?;
    let all: Api<HostSoftware> = Api::namespaced(client.clone(), namespace);
    let software = all.get_opt(host).await.map_err(api_error("reading the HostSoftware"))?;
    let address = address(client, namespace, &metal, software.as_ref()).await?;
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let secret = secrets.get_opt(&access.key_secret).await.map_err(api_error("reading the key"))?;
    let secret = secret
        .ok_or_else(|| WayError::Missing(format!("there is no Secret {namespace}/{}", access.key_secret)))?;
    let key = KEYS.iter().find_map(|key| text(&secret, key));
    let credentials = match (key, text(&secret, "password")) {
        (Some(key), _) => Credentials::Key(Hidden::new(key)),
        (None, Some(password)) => Credentials::Password(Hidden::new(password)),
        (None, None) => {
            let reason = format!("Secret {} has neither ssh-privatekey nor password", access.key_secret);
            return Err(WayError::Missing(reason));
        }
    };
    let known = text(&secret, "known-hosts").unwrap_or_default();
    let mut host_keys = known_keys(&known, host, address);
    if host_keys.is_empty() {
        host_keys = software.and_then(|software| software.status).unwrap_or_default().host_keys;
    }
    if host_keys.is_empty() && !access.trust_on_first_use {
        return Err(WayError::Missing(format!(
            "no host key of {host} is known: give one in `known-hosts` of Secret {}, or set access.trustOnFirstUse",
            access.key_secret
        )));
    }
    Ok(HostWay {
        host: host.to_owned(),
        address: SocketAddr::new(address, access.port),
        proxy: proxy(client, &metal).await?,
        user: access.user.clone(),
        credentials,
        host_keys,
    })
}

/// Where in a Secret a private key may be: as Kubernetes has it, and as ICN has it.
const KEYS: [&str; 3] = ["ssh-privatekey", "id_ed25519", "id_rsa"];

fn text(secret: &Secret, key: &str) -> Option<String> {
    let bytes = secret.data.as_ref()?.get(key)?;
    String::from_utf8(bytes.0.clone()).ok().filter(|text| !text.trim().is_empty())
}

/// Keys of a host in lines of `HOST TYPE KEY`, where `*` is every host.
pub fn known_keys(lines: &str, host: &str, address: IpAddr) -> Vec<String> {
    let of_host = |line: &str| {
        let (names, key) = line.trim().split_once(char::is_whitespace)?;
        let address = address.to_string();
        let meant = names.split(',').any(|name| name == "*" || name == host || name == address);
        let words: Vec<&str> = key.split_whitespace().take(2).collect();
        (meant && !line.starts_with('#')).then(|| words.join(" "))
    };
    lines.lines().filter_map(of_host).collect()
}

/// What is said; else the address in the cluster; else that of the first interface that has one.
async fn address(
    client: &Client,
    namespace: &str,
    metal: &BareMetalHost,
    software: Option<&HostSoftware>,
) -> Result<IpAddr, WayError> {
    let host = metal.name_any();
    let given = software.map(|software| software.spec.address.trim()).filter(|given| !given.is_empty());
    if let Some(given) = given {
        return given.parse().map_err(|_| {
            WayError::Missing(format!("spec.address of HostSoftware {host}: `{given}` is no IP address"))
        });
    }
    let mut found = None;
    if namespace == SYSTEM_NAMESPACE {
        let clusters: Api<Cluster> = Api::all(client.clone());
        let clusters = clusters.list(&ListParams::default()).await.map_err(api_error("listing clusters"))?;
        let members =
            clusters.into_iter().filter_map(|cluster| cluster.status).flat_map(|status| status.members);
        found = members.into_iter().find(|member| member.host == host).map(|member| member.address);
    }
    let nics =
        metal.status.iter().filter_map(|status| status.hardware.as_ref()).flat_map(|hardware| &hardware.nics);
    let mut candidates = found.into_iter().chain(nics.map(|nic| nic.ip.clone()));
    // Addresses may carry the length of their network.
    let address = candidates.find_map(|text| text.split('/').next()?.parse().ok());
    address.ok_or_else(|| {
        WayError::Missing(format!(
            "no address of host {host} is known; set spec.address of HostSoftware {host}"
        ))
    })
}

async fn proxy(client: &Client, metal: &BareMetalHost) -> Result<Option<Proxy>, WayError> {
    let Some(site) = metal.labels().get(SITE_LABEL) else { return Ok(None) };
    let sites: Api<Site> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let site = sites.get_opt(site).await.map_err(api_error("reading the Site"))?;
    let Some(gateway) = site.and_then(|site| site.spec.gateway) else { return Ok(None) };
    if gateway.proxy_url.is_empty() {
        return Ok(None);
    }
    let mut credentials = None;
    if !gateway.proxy_credentials_name.is_empty() {
        let secrets: Api<Secret> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
        let secret = secrets
            .get_opt(&gateway.proxy_credentials_name)
            .await
            .map_err(api_error("reading the proxy's credentials"))?
            .unwrap_or_default();
        let part = |key: &str| text(&secret, key).map(|text| text.trim().to_owned()).unwrap_or_default();
        credentials = Some((part("username"), Hidden::new(part("password"))));
    }
    Ok(Some(Proxy { url: gateway.proxy_url, credentials }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_keys_are_those_of_the_host() {
        let lines = "# comment\nrack-01,10.0.0.1 ssh-ed25519 AAAA one\n* ssh-rsa BBBB\nrack-02 ssh-ed25519 CCCC\n\nnonsense\n";
        let address = |text: &str| text.parse().expect("an address");
        assert_eq!(known_keys(lines, "rack-01", address("10.0.0.9")), ["ssh-ed25519 AAAA", "ssh-rsa BBBB"]);
        assert_eq!(known_keys(lines, "other", address("10.0.0.1")), ["ssh-ed25519 AAAA", "ssh-rsa BBBB"]);
        assert_eq!(known_keys("", "rack-01", address("10.0.0.1")), Vec::<String>::new());
    }
}
