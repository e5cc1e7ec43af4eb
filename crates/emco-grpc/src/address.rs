//! Where a controller is, and how it is spoken to.

use std::{fmt, net::IpAddr, time::Duration};

use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

/// Where a controller is: what its registration says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// A host name or an IP address, without brackets.
    pub host: String,
    /// Port of its gRPC server.
    pub port: u16,
    /// Whether the connection is encrypted.
    pub security: Security,
}

/// Whether a connection is encrypted, and how both sides know each other.
#[derive(Clone, PartialEq, Eq, Default)]
pub enum Security {
    /// HTTP/2 as it is: what EMCO's own controllers speak.
    #[default]
    Plain,
    /// TLS.
    Tls(Tls),
}

/// How both sides of an encrypted connection know each other. Certificates and keys are PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Tls {
    /// Certificate authorities of the controller.
    pub authority_pem: String,
    /// The name that its certificate is for, if that is not the host.
    pub server_name: Option<String>,
    /// Certificate and key that are shown to it.
    pub identity_pem: Option<(String, String)>,
}

impl fmt::Debug for Security {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain => formatter.write_str("Plain"),
            Self::Tls(tls) => tls.fmt(formatter),
        }
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Tls")
            .field("server_name", &self.server_name)
            .field("identity", &self.identity_pem.is_some())
            .finish_non_exhaustive()
    }
}

/// Why an address cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InvalidAddress {
    /// Host and port make no URL.
    #[error(
        "{host:?}, port {port}, is no address of a controller: give a host name or an IP address, and a port from 1 to 65535"
    )]
    Host {
        /// The host as given.
        host: String,
        /// The port as given.
        port: i64,
    },
    /// What is given for TLS cannot be used.
    #[error("certificates or key for the controller at {at} cannot be used")]
    Tls {
        /// Host and port.
        at: String,
        /// What is wrong with them.
        #[source]
        source: tonic::transport::Error,
    },
}

impl Address {
    /// An address without encryption.
    pub fn plain(host: impl Into<String>, port: u16) -> Self {
        Self { host: host.into(), port, security: Security::Plain }
    }

    /// The address that a registration gives, as whoever registers writes it.
    ///
    /// # Errors
    /// [`InvalidAddress::Host`] if that is the number of no port.
    pub fn of(host: &str, port: i64, security: Security) -> Result<Self, InvalidAddress> {
        let known = u16::try_from(port).ok().filter(|port| *port > 0);
        let port = known.ok_or_else(|| InvalidAddress::Host { host: host.to_owned(), port })?;
        Ok(Self { host: host.to_owned(), port, security })
    }

    /// A connection to it, which is made when it is first used.
    pub(crate) fn channel(&self, connect: Duration) -> Result<Channel, InvalidAddress> {
        let invalid = || InvalidAddress::Host { host: self.host.clone(), port: self.port.into() };
        let good = |character: char| character.is_ascii_alphanumeric() || "-._".contains(character);
        let name = !self.host.is_empty() && self.host.chars().all(good);
        if self.port == 0 || !(name || self.host.parse::<IpAddr>().is_ok()) {
            return Err(invalid());
        }
        let scheme = if self.security == Security::Plain { "http" } else { "https" };
        let mut endpoint = Endpoint::from_shared(format!("{scheme}://{self}"))
            .map_err(|_| invalid())?
            .connect_timeout(connect)
            // Peers that are gone without a word are found by the kernel. Pings of HTTP/2 would do as well, but servers of Go take
            // more than one in five minutes for an attack.
            .tcp_keepalive(Some(Duration::from_secs(20)))
            .tcp_nodelay(true);
        if let Security::Tls(tls) = &self.security {
            endpoint = endpoint
                .tls_config(tls.client(&self.host))
                .map_err(|source| InvalidAddress::Tls { at: self.to_string(), source })?;
        }
        Ok(endpoint.connect_lazy())
    }
}

impl Tls {
    fn client(&self, host: &str) -> ClientTlsConfig {
        let mut config = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(&self.authority_pem))
            .domain_name(self.server_name.as_deref().unwrap_or(host))
            .assume_http2(true);
        if let Some((certificate, key)) = &self.identity_pem {
            config = config.identity(Identity::from_pem(certificate, key));
        }
        config
    }
}

/// `HOST:PORT`.
impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(formatter, "[{}]:{}", self.host, self.port)
        } else {
            write!(formatter, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONNECT: Duration = Duration::from_secs(1);

    #[tokio::test]
    async fn hosts_are_names_or_addresses() {
        for (host, shown) in [
            ("rsync", "rsync:9031"),
            ("hpa-plc.emco.svc.cluster.local", "hpa-plc.emco.svc.cluster.local:9031"),
            ("127.0.0.1", "127.0.0.1:9031"),
            ("::1", "[::1]:9031"),
        ] {
            let address = Address::plain(host, 9031);
            assert_eq!(address.to_string(), shown);
            assert!(address.channel(CONNECT).is_ok(), "{host}");
        }
        for host in ["", "a b", "a/b", "user@host", "host:1", "[::1]", "a?b", "ä"] {
            let refusal = Address::plain(host, 9031).channel(CONNECT).err().map(|error| error.to_string());
            assert!(refusal.is_some_and(|said| said.contains("9031")), "{host}");
        }
        assert!(Address::plain("rsync", 0).channel(CONNECT).is_err());
    }

    #[test]
    fn keys_are_not_shown() {
        let tls = Tls {
            authority_pem: "AUTHORITY".into(),
            server_name: None,
            identity_pem: Some(("CERTIFICATE".into(), "PRIVATE".into())),
        };
        let address = Address { host: "a".into(), port: 1, security: Security::Tls(tls) };
        let shown = format!("{address:?}");
        assert!(!shown.contains("PRIVATE") && shown.contains("identity: true"), "{shown}");
    }
}
