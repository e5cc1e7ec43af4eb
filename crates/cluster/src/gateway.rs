//! The way into a site: its HTTP CONNECT proxy, with credentials.

use drystone_api::{SYSTEM_NAMESPACE, Site};
use drystone_identity::Secret as Hidden;
use drystone_ssh::{HttpConnectProxy, InvalidProxy};
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};

/// A site's proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gateway {
    /// `http://127.0.0.1:8400`.
    url: String,
    user: String,
    password: Hidden,
}

impl Gateway {
    /// The gateway of a site; nothing if the site has none.
    ///
    /// # Errors
    /// When the API does not answer.
    pub async fn of_site(client: &Client, site: &str) -> Result<Option<Self>, kube::Error> {
        let sites: Api<Site> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
        let Some(gateway) = sites.get_opt(site).await?.and_then(|site| site.spec.gateway) else {
            return Ok(None);
        };
        if gateway.proxy_url.is_empty() {
            return Ok(None);
        }
        let secrets: Api<Secret> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
        let secret = match gateway.proxy_credentials_name.as_str() {
            "" => None,
            name => secrets.get_opt(name).await?,
        };
        let data = secret.and_then(|secret| secret.data).unwrap_or_default();
        let text = |key: &str| {
            let bytes = data.get(key).and_then(|bytes| std::str::from_utf8(&bytes.0).ok());
            bytes.unwrap_or_default().to_owned()
        };
        let (user, password) = (text("username"), Hidden::new(text("password")));
        Ok(Some(Self { url: gateway.proxy_url, user, password }))
    }

    /// The URL with its credentials, as a kubeconfig has it.
    pub fn url_with_credentials(&self) -> Hidden {
        if self.user.is_empty() {
            return Hidden::new(self.url.clone());
        }
        let credentials =
            format!("://{}:{}@", percent_encode(&self.user), percent_encode(self.password.expose()));
        Hidden::new(self.url.replacen("://", &credentials, 1))
    }

    /// The same for SSH.
    ///
    /// # Errors
    /// When the site's URL is no HTTP proxy.
    pub fn for_ssh(&self) -> Result<HttpConnectProxy, InvalidProxy> {
        let credentials = (!self.user.is_empty()).then(|| (self.user.clone(), self.password.clone()));
        HttpConnectProxy::from_url(&self.url, credentials)
    }
}

/// Escapes what may not stand in the user part of a URL (RFC 3986, section 3.2.1).
fn percent_encode(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(encode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_escaped_in_a_url_and_not_for_ssh() {
        let gateway = Gateway { url: "http://g:1".into(), user: "site".into(), password: "a:b@".into() };
        assert_eq!(gateway.url_with_credentials().expose(), "http://site:a%3Ab%40@g:1");
        let proxy = gateway.for_ssh().expect("a proxy");
        assert_eq!(proxy.credentials, Some(("site".to_owned(), "a:b@".into())));
        assert!(!format!("{gateway:?}").contains("a:b@"));
    }
}
