//! Which etcd, and how.

use std::{fmt, time::Duration};

/// How etcd's servers and the store know each other.
#[derive(Clone, PartialEq, Eq)]
pub struct EtcdTls {
    /// Certificate authority of the servers (PEM).
    pub authority_pem: String,
    /// Certificate and key that the store shows to them (PEM).
    pub identity_pem: Option<(String, String)>,
}

impl fmt::Debug for EtcdTls {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("EtcdTls")
            .field("identity", &self.identity_pem.is_some())
            .finish_non_exhaustive()
    }
}

/// Who the store is to etcd, where it asks for a name and a password.
#[derive(Clone, PartialEq, Eq)]
pub struct EtcdUser {
    /// The name.
    pub name: String,
    /// The password.
    pub password: String,
}

impl fmt::Debug for EtcdUser {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("EtcdUser").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Which etcd, and how. Start from [`EtcdOptions::new`] and set what differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EtcdOptions {
    /// URLs of its servers, `http://` or `https://`, the preferred one first.
    pub endpoints: Vec<String>,
    /// Needed for `https://`.
    pub tls: Option<EtcdTls>,
    /// Needed where etcd authenticates its clients by name and password.
    pub user: Option<EtcdUser>,
    /// How long a call may take in all, whatever number of servers it is tried at.
    pub request_timeout: Duration,
    /// Batches that wait for a watcher that is slow.
    pub watch_buffer: usize,
    /// How long a watcher may leave more waiting before it is told that it is too slow.
    pub watch_patience: Duration,
    /// For how long history is kept; `None` if somebody else compacts.
    pub keep_history: Option<Duration>,
    /// Whether to use the servers that etcd itself names, which change when a member is replaced. Right where the
    /// addresses that members advertise can be reached from here.
    pub follow_members: bool,
}

impl EtcdOptions {
    /// Ten seconds for a call, five minutes of history, the endpoints as given.
    pub fn new<U: Into<String>>(endpoints: impl IntoIterator<Item = U>) -> Self {
        Self {
            endpoints: endpoints.into_iter().map(Into::into).collect(),
            tls: None,
            user: None,
            request_timeout: Duration::from_secs(10),
            watch_buffer: 1_000,
            watch_patience: Duration::from_secs(10),
            keep_history: Some(Duration::from_secs(300)),
            follow_members: false,
        }
    }
}
