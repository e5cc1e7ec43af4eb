//! What an API server is made of.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use drystone_identity::authn::{Authentication, ServiceAccountIssuer};
use drystone_identity::ca::CertificateAuthority;
use drystone_store::Store;
use ipnet::IpNet;

/// Which built-in resources and controllers a server has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// What custom resources and their controllers need: namespaces, secrets, access control, leases, events.
    Management,
    /// All that a cluster that runs pods needs.
    Cluster,
}

/// The Services of a cluster.
#[derive(Debug, Clone)]
pub struct ServiceNetwork {
    /// Where cluster addresses come from; the first network is the primary address family.
    pub cidrs: Vec<IpNet>,
    /// Where node ports come from.
    pub node_ports: RangeInclusive<u16>,
    /// Where pods reach this server: the endpoint of the Service `kubernetes`.
    pub advertise: Option<SocketAddr>,
}

impl ServiceNetwork {
    /// Kubernetes' usual node ports, 30000 to 32767.
    pub const NODE_PORTS: RangeInclusive<u16> = 30000..=32767;
}

/// What clients may demand of the server.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Largest request body, in bytes.
    pub body_bytes: usize,
    /// Requests that change something, at one time.
    pub mutating_in_flight: usize,
    /// Requests that read, at one time; watches do not count.
    pub reading_in_flight: usize,
    /// How long a request may take; watches and tunnels may take longer.
    pub request_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 3 * 1024 * 1024,
            mutating_in_flight: 200,
            reading_in_flight: 400,
            request_timeout: Duration::from_secs(60),
        }
    }
}

/// Everything that a server is given. Start from [`Config::new`] and set what differs.
#[derive(Clone)]
pub struct Config {
    /// Which resources are served.
    pub profile: Profile,
    /// Where objects are kept.
    pub store: Arc<dyn Store>,
    /// How users prove who they are. Tokens of service accounts and bootstrap tokens are added by the server.
    pub authentication: Authentication,
    /// Issues tokens of service accounts.
    pub service_account_issuer: Option<Arc<ServiceAccountIssuer>>,
    /// Signs certificate signing requests.
    pub certificate_authority: Option<Arc<CertificateAuthority>>,
    /// Certificates, in PEM, that pods trust when they speak to this server; published in every namespace.
    pub root_certificates: Option<String>,
    /// How the server speaks TLS to the nodes' agents, with its own client certificate.
    pub kubelet_client: Option<Arc<rustls::ClientConfig>>,
    /// The Services of a cluster; without it, a Service gets no address.
    pub services: Option<ServiceNetwork>,
    /// Limits.
    pub limits: Limits,
    /// The version that the server reports, such as `v1.35.0+drystone`.
    pub version: String,
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config")
            .field("profile", &self.profile)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

impl Config {
    /// A server over a store, that nobody can authenticate to yet.
    pub fn new(profile: Profile, store: Arc<dyn Store>) -> Self {
        Self {
            profile,
            store,
            authentication: Authentication::new(),
            service_account_issuer: None,
            certificate_authority: None,
            root_certificates: None,
            kubelet_client: None,
            services: None,
            limits: Limits::default(),
            version: "v1.35.0+drystone".into(),
        }
    }
}
