//! What goes wrong between here and a host. Every message names the host, what was attempted and why it failed.

use std::{net::SocketAddr, time::Duration};

use crate::command::{Exit, Outcome};

/// A connection or a command that did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum SshError {
    /// No TCP connection.
    #[error("host {host}: cannot connect: {source}")]
    Connect {
        /// The host.
        host: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The proxy did not lead to the host.
    #[error("host {host}: the proxy {proxy} does not connect: {reason}")]
    Proxy {
        /// The host.
        host: SocketAddr,
        /// `address:port` of the proxy.
        proxy: String,
        /// Why.
        reason: String,
    },
    /// What answers does not speak SSH as it should, or has no algorithm in common with us.
    #[error("host {host}: no SSH connection could be set up: {reason}")]
    Handshake {
        /// The host.
        host: SocketAddr,
        /// Why.
        reason: String,
    },
    /// The host has another key than the one it is known by.
    #[error(
        "host {host}: its host key is {presented}, but {expected} is pinned; if the host was installed anew, pin the new key, \
         otherwise something else answers at this address"
    )]
    HostKeyMismatch {
        /// The host.
        host: SocketAddr,
        /// Fingerprints that are pinned, joined by `or`.
        expected: String,
        /// Fingerprints that it showed, joined by `and`.
        presented: String,
    },
    /// The host does not let the user in.
    #[error("host {host}: user {user} is not let in with {method}; the host accepts: {accepted}")]
    Authentication {
        /// The host.
        host: SocketAddr,
        /// The user.
        user: String,
        /// What was tried: `a key`, `a password`.
        method: &'static str,
        /// Methods that the host would go on with.
        accepted: String,
    },
    /// The user may not become root.
    #[error("host {host}: user {user} may not run commands by sudo: {reason}")]
    Sudo {
        /// The host.
        host: SocketAddr,
        /// The user.
        user: String,
        /// Why.
        reason: String,
    },
    /// It took too long.
    #[error("host {host}: {doing} took longer than {limit:?}")]
    Deadline {
        /// The host.
        host: SocketAddr,
        /// What was done.
        doing: &'static str,
        /// How long it might take.
        limit: Duration,
    },
    /// The connection ended while it was needed.
    #[error("host {host}: the connection was lost: {reason}")]
    Lost {
        /// The host.
        host: SocketAddr,
        /// Why.
        reason: String,
    },
    /// The host does not start the command.
    #[error("host {host}: the command was not started: {reason}")]
    NotStarted {
        /// The host.
        host: SocketAddr,
        /// Why.
        reason: String,
    },
    /// What was to be sent could not be read.
    #[error("host {host}: reading what is to be sent: {source}")]
    Input {
        /// The host.
        host: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The command line makes no sense.
    #[error("the command cannot be sent: {reason}")]
    InvalidCommand {
        /// What is wrong with it.
        reason: String,
    },
    /// A file could not be written or read.
    #[error("host {host}: {path}: {reason}")]
    File {
        /// The host.
        host: SocketAddr,
        /// The file.
        path: String,
        /// Why.
        reason: String,
    },
}

impl SshError {
    /// Whether another attempt would fail as well, until somebody changes a key, a password or a command.
    pub fn is_permanent(&self) -> bool {
        matches!(
            self,
            Self::HostKeyMismatch { .. }
                | Self::Authentication { .. }
                | Self::Sudo { .. }
                | Self::InvalidCommand { .. }
        )
    }

    /// Whether the host was reached, and the connection may be used again.
    pub fn leaves_connection(&self) -> bool {
        matches!(
            self,
            Self::File { .. } | Self::InvalidCommand { .. } | Self::NotStarted { .. } | Self::Input { .. }
        )
    }
}

/// A command that ended otherwise than with 0.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{doing}: {exit}{hint}")]
pub struct CommandFailed {
    /// What it was to do.
    pub doing: String,
    /// How it ended.
    pub exit: Exit,
    /// Its last words, with a colon before them, or nothing.
    pub hint: String,
}

impl CommandFailed {
    pub(crate) fn new(doing: &str, outcome: &Outcome) -> Self {
        let words = [&outcome.stderr, &outcome.stdout].map(|output| output.last_lines(3)).into_iter();
        let words = words.into_iter().find(|words| !words.is_empty());
        let hint = words.map(|words| format!(": {words}")).unwrap_or_default();
        Self { doing: doing.to_owned(), exit: outcome.exit.clone(), hint }
    }
}
