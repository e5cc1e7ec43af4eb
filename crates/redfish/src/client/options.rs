//! How a client reaches its service.

use std::{fmt, time::Duration};

/// How to log in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum AuthenticationMode {
    /// A session; basic authentication if the service has no sessions.
    #[default]
    Session,
    /// User name and password with every request.
    Basic,
}

/// Which certificates of the service are good.
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

/// When to try again.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RetryPolicy {
    /// Attempts in all, at least 1.
    pub attempts: u32,
    /// Pause after the first attempt; doubled after each further one.
    pub first_pause: Duration,
    /// Longest pause, a `Retry-After` of the service included.
    pub longest_pause: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { attempts: 4, first_pause: Duration::from_millis(250), longest_pause: Duration::from_secs(10) }
    }
}

/// Options of a [`super::Client`].
#[derive(Clone)]
pub struct Options {
    /// Base URL of the service: `https://10.0.0.7`.
    pub(super) address: String,
    pub(super) credentials: Option<(String, String)>,
    pub(super) authentication: AuthenticationMode,
    pub(super) certificates: CertificateCheck,
    pub(super) connect_timeout: Duration,
    pub(super) request_timeout: Duration,
    pub(super) retry: RetryPolicy,
    pub(super) largest_body: usize,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("address", &super::transport::without_credentials(&self.address))
            .field("user", &self.credentials.as_ref().map(|(user, _)| user))
            .field("authentication", &self.authentication)
            .finish_non_exhaustive()
    }
}

impl Options {
    /// Options with presets: no credentials, connect within 5 s, answer within 30 s, 4 attempts.
    pub fn new(address: impl Into<String>) -> Self {
        Self {
            address: address.into(),
            credentials: None,
            authentication: AuthenticationMode::default(),
            certificates: CertificateCheck::default(),
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(30),
            retry: RetryPolicy::default(),
            largest_body: 64 << 20,
        }
    }

    /// User name and password.
    #[must_use]
    pub fn credentials(mut self, user: impl Into<String>, password: impl Into<String>) -> Self {
        self.credentials = Some((user.into(), password.into()));
        self
    }

    /// How to log in.
    #[must_use]
    pub fn authentication(mut self, mode: AuthenticationMode) -> Self {
        self.authentication = mode;
        self
    }

    /// Which certificates are good.
    #[must_use]
    pub fn certificates(mut self, check: CertificateCheck) -> Self {
        self.certificates = check;
        self
    }

    /// How long to wait for a connection, and for the whole answer of one attempt.
    #[must_use]
    pub fn timeouts(mut self, connect: Duration, request: Duration) -> Self {
        self.connect_timeout = connect;
        self.request_timeout = request;
        self
    }

    /// When to try again.
    #[must_use]
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.retry = policy;
        self
    }
}
