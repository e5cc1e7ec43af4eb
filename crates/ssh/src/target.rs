//! Where a host is and how to get in.

use std::{net::SocketAddr, time::Duration};

use drystone_identity::Secret;

use crate::{host_key::HostKeys, private_key::PrivateKey};

/// A host, and how to get in.
#[derive(Debug, Clone)]
pub struct Target {
    /// Address of its SSH server, as seen from the proxy if there is one.
    pub address: SocketAddr,
    /// Proxy that leads to it.
    pub proxy: Option<HttpConnectProxy>,
    /// User to log in as.
    pub user: String,
    /// What proves that we are that user.
    pub credentials: Credentials,
    /// What proves that the host is that host.
    pub host_keys: HostKeys,
}

/// What proves who a user is.
#[derive(Debug, Clone)]
pub enum Credentials {
    /// A private key whose public key is among the user's `authorized_keys`.
    Key(PrivateKey),
    /// A password, given to the methods `password` or `keyboard-interactive`.
    Password(Secret),
}

impl Credentials {
    pub(crate) fn method(&self) -> &'static str {
        match self {
            Self::Key(_) => "this key",
            Self::Password(_) => "this password",
        }
    }
}

/// An HTTP proxy that is asked by `CONNECT` (RFC 9110, section 9.3.6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpConnectProxy {
    /// `host:port`.
    pub authority: String,
    /// User and password for basic authentication (RFC 7617).
    pub credentials: Option<(String, Secret)>,
}

/// A URL that names no proxy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{url}` is no HTTP proxy; write http://HOST:PORT, without a path, and the credentials apart")]
pub struct InvalidProxy {
    url: String,
}

impl HttpConnectProxy {
    /// Reads `http://HOST:PORT`; port 80 unless given. Credentials are not part of it.
    ///
    /// # Errors
    /// [`InvalidProxy`] if it is anything else.
    pub fn from_url(url: &str, credentials: Option<(String, Secret)>) -> Result<Self, InvalidProxy> {
        let authority = url.strip_prefix("http://").map(|rest| rest.strip_suffix('/').unwrap_or(rest));
        let plain = |authority: &&str| {
            !authority.is_empty()
                && !authority.starts_with(':')
                && authority.chars().all(|c| c.is_ascii_alphanumeric() || ".-:[]_".contains(c))
        };
        let Some(authority) = authority.filter(plain) else {
            // Whatever stands before an @ may be a password.
            let shown = url.rsplit('@').next().unwrap_or_default().chars().take(100).collect();
            return Err(InvalidProxy { url: shown });
        };
        let port = authority.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok());
        let authority = if port.is_some() { authority.to_owned() } else { format!("{authority}:80") };
        Ok(Self { authority, credentials })
    }
}

/// How long things may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// The TCP connection, and the proxy's answer.
    pub connect: Duration,
    /// From the connection to the exchange of keys.
    pub handshake: Duration,
    /// Logging in.
    pub authenticate: Duration,
    /// Silence after which the host is asked whether it is still there; the connection is given up after three questions without an
    /// answer.
    pub keep_alive: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            handshake: Duration::from_secs(20),
            authenticate: Duration::from_secs(30),
            keep_alive: Duration::from_secs(10),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_are_read() {
        let authority = |url: &str| HttpConnectProxy::from_url(url, None).map(|proxy| proxy.authority);
        assert_eq!(authority("http://127.0.0.1:8400"), Ok("127.0.0.1:8400".to_owned()));
        assert_eq!(authority("http://gateway/"), Ok("gateway:80".to_owned()));
        for url in ["https://g:1", "g:1", "http://", "http://:80", "http://g:1/path", "http://a\r\nb", ""] {
            assert!(authority(url).is_err(), "{url}");
        }
        let error = authority("http://user:hunter2@g:1").expect_err("credentials inside").to_string();
        assert!(!error.contains("hunter2"), "{error}");
    }

    #[test]
    fn nothing_secret_is_shown() {
        let target = Target {
            address: ([127, 0, 0, 1], 22).into(),
            proxy: Some(HttpConnectProxy {
                authority: "g:1".into(),
                credentials: Some(("u".into(), "hunter2".into())),
            }),
            user: "root".into(),
            credentials: Credentials::Password("hunter3".into()),
            host_keys: HostKeys::LearnFirst,
        };
        let shown = format!("{target:?}");
        assert!(!shown.contains("hunter2") && !shown.contains("hunter3"), "{shown}");
    }
}
