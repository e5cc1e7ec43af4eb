//! Hosts by SSH.

use std::{io::Cursor, time::Duration};

use async_trait::async_trait;
use drystone_ssh::{
    CommandLine, Exit, HostKeys, HttpConnectProxy, PinnedKey, PrivateKey, Privilege, Session, SshError,
    Target, Timeouts,
};

use super::{AccessError, Credentials, HostAccess, HostDoor, HostWay, Ran, Source};

/// What is kept of a command's output, in bytes: inventories are the largest.
const OUTPUT: usize = 8 << 20;

/// Status that stands for a shell that died of a signal.
const DIED: u32 = 255;

/// Opens ways by SSH.
#[derive(Debug, Clone, Copy, Default)]
pub struct SshDoor {
    /// How long things may take.
    pub timeouts: Timeouts,
}

struct SshAccess(Session);

fn described(error: &SshError) -> AccessError {
    let text = error.to_string();
    match error {
        _ if error.is_permanent() => AccessError::Refused(text),
        SshError::File { .. } | SshError::Input { .. } => AccessError::Failed(text),
        _ => AccessError::Unreachable(text),
    }
}

fn refused(error: &dyn std::fmt::Display, way: &HostWay) -> AccessError {
    AccessError::Refused(format!("host {}: {error}", way.host))
}

#[async_trait]
impl HostDoor for SshDoor {
    async fn open(&self, way: &HostWay) -> Result<Box<dyn HostAccess>, AccessError> {
        let credentials = match &way.credentials {
            Credentials::Key(text) => drystone_ssh::Credentials::Key(
                PrivateKey::from_text(text, None).map_err(|error| refused(&error, way))?,
            ),
            Credentials::Password(password) => drystone_ssh::Credentials::Password(password.clone()),
        };
        let proxy = match &way.proxy {
            None => None,
            Some(proxy) => Some(
                HttpConnectProxy::from_url(&proxy.url, proxy.credentials.clone())
                    .map_err(|error| refused(&error, way))?,
            ),
        };
        let pinned: Result<Vec<PinnedKey>, _> =
            way.host_keys.iter().map(|key| PinnedKey::parse(key)).collect();
        let pinned = pinned.map_err(|error| refused(&error, way))?;
        let host_keys = if pinned.is_empty() { HostKeys::LearnFirst } else { HostKeys::Pinned(pinned) };
        let target = Target { address: way.address, proxy, user: way.user.clone(), credentials, host_keys };
        let session = Session::connect(&target, self.timeouts).await.map_err(|error| described(&error))?;
        Ok(Box::new(SshAccess(session)))
    }
}

#[async_trait]
impl HostAccess for SshAccess {
    async fn run(&self, program: &str, deadline: Duration) -> Result<Ran, AccessError> {
        let command = CommandLine::new(program).privilege(Privilege::Root(None)).output_limit(OUTPUT);
        let outcome = self.0.run(command, deadline, |_, _| {}).await.map_err(|error| described(&error))?;
        let status = match outcome.exit {
            Exit::Status(status) => status,
            Exit::Signal(_) => DIED,
        };
        Ok(Ran { status, output: outcome.stdout.text(), errors: outcome.stderr.text() })
    }

    async fn upload(
        &self,
        path: &str,
        mode: u32,
        source: Source,
        deadline: Duration,
    ) -> Result<(), AccessError> {
        let root = Privilege::Root(None);
        let sent = match source {
            Source::Bytes(bytes) => self.0.upload(path, mode, Cursor::new(bytes), root, deadline).await,
            Source::File(file) => {
                let opened = tokio::fs::File::open(&file)
                    .await
                    .map_err(|error| AccessError::Failed(format!("reading {}: {error}", file.display())))?;
                self.0.upload(path, mode, opened, root, deadline).await
            }
        };
        sent.map(drop).map_err(|error| described(&error))
    }

    fn host_key(&self) -> Option<String> {
        Some(self.0.host_key().public_key.clone()).filter(|key| !key.is_empty())
    }
}
