//! A connection to a host, on which commands run.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use drystone_identity::Secret;
use russh::client;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    connect::{Client, Observed, describe},
    error::SshError,
    host_key::HostKey,
    target::{Credentials, Target},
};

/// Commands that run at the same time on one connection. OpenSSH allows ten sessions (`MaxSessions`); what is left is for ending
/// commands.
const MAX_COMMANDS: usize = 8;

/// How often a session is asked for, and the first pause between; each is twice as long as the one before, three seconds in all.
const OPENINGS: u32 = 7;
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// A connection to a host. Clones are the same connection; it is closed with the last of them.
#[derive(Clone)]
pub struct Session {
    pub(crate) inner: Arc<Inner>,
}

/// The connection itself.
pub(crate) struct Inner {
    host: SocketAddr,
    user: String,
    password: Option<Secret>,
    host_key: HostKey,
    handle: client::Handle<Client>,
    socket: std::net::TcpStream,
    observed: Arc<Observed>,
    places: Arc<Semaphore>,
}

impl Inner {
    pub(crate) fn new(
        target: &Target,
        handle: client::Handle<Client>,
        socket: std::net::TcpStream,
        host_key: HostKey,
        observed: Arc<Observed>,
    ) -> Self {
        let password = match &target.credentials {
            Credentials::Password(password) => Some(password.clone()),
            Credentials::Key(_) => None,
        };
        Self {
            host: target.address,
            user: target.user.clone(),
            password,
            host_key,
            handle,
            socket,
            observed,
            places: Arc::new(Semaphore::new(MAX_COMMANDS)),
        }
    }

    pub(crate) fn handle_mut(&mut self) -> &mut client::Handle<Client> {
        &mut self.handle
    }

    pub(crate) fn observed(&self) -> &Observed {
        &self.observed
    }

    pub(crate) fn host(&self) -> SocketAddr {
        self.host
    }

    pub(crate) fn user(&self) -> &str {
        &self.user
    }

    /// The password that logged in, if one did.
    pub(crate) fn password(&self) -> Option<&Secret> {
        self.password.as_ref()
    }

    /// The connection is lost.
    pub(crate) fn lost(&self) -> SshError {
        SshError::Lost { host: self.host, reason: self.observed.end() }
    }

    /// Waits for a place for one more command.
    pub(crate) async fn place(&self) -> Result<OwnedSemaphorePermit, SshError> {
        Arc::clone(&self.places).acquire_owned().await.map_err(|_| self.lost())
    }

    /// Opens a channel for a command. A host that has cleared away no session of a command that ended yet may refuse one more; it is
    /// asked again for a while, as nothing has been started.
    pub(crate) async fn channel(&self) -> Result<russh::Channel<client::Msg>, SshError> {
        let mut pause = FIRST_PAUSE;
        for _ in 1..OPENINGS {
            match self.open_channel().await {
                Err(SshError::NotStarted { .. }) => tokio::time::sleep(pause).await,
                result => return result,
            }
            pause *= 2;
        }
        self.open_channel().await
    }

    async fn open_channel(&self) -> Result<russh::Channel<client::Msg>, SshError> {
        if self.handle.is_closed() {
            return Err(self.lost());
        }
        self.handle.channel_open_session().await.map_err(|error| match error {
            russh::Error::ChannelOpenFailure(failure) => SshError::NotStarted {
                host: self.host,
                reason: format!("it opens no session: {}", failure.description()),
            },
            _ if self.handle.is_closed() => self.lost(),
            other => SshError::Lost { host: self.host, reason: describe(&other) },
        })
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // The protocol's task may be waiting for the host; it ends when nothing more can come.
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
    }
}

impl Session {
    pub(crate) fn new(inner: Inner) -> Self {
        Self { inner: Arc::new(inner) }
    }

    /// The key that the host has shown.
    pub fn host_key(&self) -> &HostKey {
        &self.inner.host_key
    }

    /// Address of the host.
    pub fn address(&self) -> SocketAddr {
        self.inner.host
    }

    /// Whether the connection has ended.
    pub fn is_closed(&self) -> bool {
        self.inner.handle.is_closed()
    }

    /// Says good-bye to the host. Commands that run are lost, and end on the host.
    pub async fn close(self) {
        let _ = self.inner.handle.disconnect(russh::Disconnect::ByApplication, "", "").await;
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("host", &self.inner.host)
            .field("user", &self.inner.user)
            .finish_non_exhaustive()
    }
}
