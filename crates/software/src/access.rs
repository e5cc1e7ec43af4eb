//! The way to hosts: running commands and putting files there. [`ssh`] is the real one.

pub mod job;
pub mod ssh;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use async_trait::async_trait;
use drystone_identity::Secret;

/// How a host is reached.
#[derive(Debug, Clone)]
pub struct HostWay {
    /// Its name, for people.
    pub host: String,
    /// Address of its SSH server.
    pub address: SocketAddr,
    /// Proxy that leads to it.
    pub proxy: Option<Proxy>,
    /// User.
    pub user: String,
    /// What proves that we are that user.
    pub credentials: Credentials,
    /// Public keys or fingerprints that the host may have; with none, the first one that it shows is accepted.
    pub host_keys: Vec<String>,
}

/// An HTTP proxy that is asked by `CONNECT`.
#[derive(Debug, Clone)]
pub struct Proxy {
    /// `http://HOST:PORT`.
    pub url: String,
    /// User and password.
    pub credentials: Option<(String, Secret)>,
}

/// What proves who a user is.
#[derive(Debug, Clone)]
pub enum Credentials {
    /// A private key in OpenSSH's form.
    Key(Secret),
    /// A password.
    Password(Secret),
}

/// A host that was not reached, or did not do what it was asked to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// It cannot be reached now; that may pass.
    #[error("{0}")]
    Unreachable(String),
    /// It does not let us in, or is another host than it should be; somebody must change something.
    #[error("{0}")]
    Refused(String),
    /// It was reached, but something went wrong there.
    #[error("{0}")]
    Failed(String),
}

/// A command that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    /// Its exit status.
    pub status: u32,
    /// What it wrote to its standard output.
    pub output: String,
    /// What it wrote to its standard error.
    pub errors: String,
}

impl Ran {
    /// Takes anything but status 0 for a failure, with the last lines of what it said.
    ///
    /// # Errors
    /// [`AccessError::Failed`].
    pub fn succeeded(self, doing: &str) -> Result<Self, AccessError> {
        if self.status == 0 {
            return Ok(self);
        }
        let said = if self.errors.trim().is_empty() { &self.output } else { &self.errors };
        Err(AccessError::Failed(format!("{doing}: exit status {}: {}", self.status, last_lines(said, 4))))
    }
}

/// The last lines of a text that say something, in one line.
pub fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let joined = lines[lines.len().saturating_sub(count)..].join(" / ");
    joined.chars().filter(|c| !c.is_control()).take(600).collect()
}

/// What is put into a file.
#[derive(Debug, Clone)]
pub enum Source {
    /// These bytes.
    Bytes(Vec<u8>),
    /// A file of this machine.
    File(PathBuf),
}

/// An open way to a host. What is run is run as root.
#[async_trait]
pub trait HostAccess: Send + Sync {
    /// Runs a program of the POSIX shell to its end, which must come within `deadline`.
    ///
    /// # Errors
    /// [`AccessError`] when it did not come to an end; a status other than 0 is an end.
    async fn run(&self, program: &str, deadline: Duration) -> Result<Ran, AccessError>;

    /// Puts a file into place at once, never half of it; makes its folder.
    ///
    /// # Errors
    /// [`AccessError`].
    async fn upload(
        &self,
        path: &str,
        mode: u32,
        source: Source,
        deadline: Duration,
    ) -> Result<(), AccessError>;

    /// Public key that the host has shown, in OpenSSH's form.
    fn host_key(&self) -> Option<String>;
}

/// Opens ways to hosts.
#[async_trait]
pub trait HostDoor: Send + Sync + 'static {
    /// Opens a way.
    ///
    /// # Errors
    /// [`AccessError::Unreachable`] or [`AccessError::Refused`].
    async fn open(&self, way: &HostWay) -> Result<Box<dyn HostAccess>, AccessError>;
}
