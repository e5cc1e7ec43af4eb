//! Where a cloud is and as whom it is used: what a VimConnectionInfo says (ETSI NFV-SOL003, clause 4.4.1.6).

use std::time::Duration;

use drystone_identity::Secret;

/// Which certificates of the cloud's services are good.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum CertificateCheck {
    /// Those that the machine trusts.
    #[default]
    Platform,
    /// Those signed by these authorities only (PEM).
    Authorities(String),
    /// Any: nothing is checked.
    Disabled,
}

/// Which of a service's endpoints is used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Interface {
    /// For users.
    #[default]
    Public,
    /// For other services, in the cloud's own network.
    Internal,
    /// For administrators.
    Admin,
}

impl Interface {
    /// Its name in catalogs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Internal => "internal",
            Self::Admin => "admin",
        }
    }
}

/// Where a cloud is and as whom it is used. `Debug` does not show the password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// URL of Keystone, with or without `/v3`.
    pub auth_url: String,
    /// Name of the user.
    pub user: String,
    /// Name of the user's domain.
    pub user_domain: String,
    /// The user's password.
    pub password: Secret,
    /// Name of the project in which stacks are made.
    pub project: String,
    /// Name of the project's domain.
    pub project_domain: String,
    /// Region whose services are used; the first of the catalog if there is none.
    pub region: Option<String>,
    /// Which endpoints are used.
    pub interface: Interface,
    /// Which certificates are good.
    pub certificates: CertificateCheck,
    /// How long a connection may take to come about.
    pub connect_timeout: Duration,
    /// How long one request may take. Heat gives up on its own engine after 60 s by default.
    pub request_timeout: Duration,
}

impl Access {
    /// Access with presets: domains `Default`, any region, public endpoints, certificates that the machine trusts.
    pub fn new(
        auth_url: impl Into<String>,
        user: impl Into<String>,
        password: Secret,
        project: impl Into<String>,
    ) -> Self {
        Self {
            auth_url: auth_url.into(),
            user: user.into(),
            user_domain: "Default".to_owned(),
            password,
            project: project.into(),
            project_domain: "Default".to_owned(),
            region: None,
            interface: Interface::default(),
            certificates: CertificateCheck::default(),
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(75),
        }
    }
}
