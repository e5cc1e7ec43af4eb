//! Keeping certificates valid.

use std::{sync::Arc, time::Duration};

use drystone_identity::{
    CertificateProfile, Identity,
    ca::{CaError, CertificateAuthority},
    tls::{self, ServerIdentity},
};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{
    ApiConnection, JoinError, client_with,
    credentials::{CLIENT, Files, SERVING, renew_client, renew_serving},
};
use crate::config::NodeConfig;

/// Pause after a failure; doubled up to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause.
const MAX_PAUSE: Duration = Duration::from_secs(300);
/// Life of a certificate that the node signs itself, for as long as it has no other.
const SELF_SIGNED_LIFE: Duration = Duration::from_secs(365 * 24 * 3600);

/// The certificate that the kubelet API starts with: the one on disk while it is valid, else one that nobody vouches for.
///
/// # Errors
/// [`JoinError`] if a file cannot be read; [`CaError`] as text if no key can be made.
pub fn serving_identity(config: &NodeConfig, now: Timestamp) -> Result<Identity, ServingError> {
    if let Some(identity) = Files::of(config)?.read(SERVING)?
        && tls::not_after(&identity.certificate_pem).is_ok_and(|end| end > now)
    {
        return Ok(identity);
    }
    let authority = CertificateAuthority::generate(&config.node_name, SELF_SIGNED_LIFE, now)?;
    let profile = CertificateProfile::server(config.node_name.as_str())
        .dns([config.node_name.as_str()])
        .ip([config.node_address.into()]);
    Ok(authority.issue(&profile, now)?)
}

/// The kubelet API has no certificate.
#[derive(Debug, thiserror::Error)]
pub enum ServingError {
    /// A file cannot be read.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// None can be made.
    #[error(transparent)]
    Authority(#[from] CaError),
}

/// Renews the node's certificates.
#[derive(Debug)]
pub struct Certificates {
    /// The node's configuration.
    pub config: Arc<NodeConfig>,
    /// Gets the new client certificate.
    pub connection: ApiConnection,
    /// Gets the new certificate of the kubelet API.
    pub serving: Arc<ServerIdentity>,
}

impl Certificates {
    /// Renews both until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        let both = async { tokio::join!(self.keep(CLIENT), self.keep(SERVING)) };
        tokio::select! {
            () = shutdown.cancelled() => {}
            _ = both => {}
        }
    }

    async fn keep(&self, name: &'static str) {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.time_left(name) {
                Some(left) => sleep(left).await,
                None => {
                    if let Err(error) = self.renew(name).await {
                        tracing::warn!(certificate = name, %error, "renewing a certificate of the node");
                        sleep(pause).await;
                        pause = (pause * 2).min(MAX_PAUSE);
                        continue;
                    }
                    tracing::info!(certificate = name, "a certificate of the node was signed");
                }
            }
            pause = FIRST_PAUSE;
        }
    }

    /// How long until a certificate is due for renewal; none if it is, or there is none.
    fn time_left(&self, name: &str) -> Option<Duration> {
        let files = Files::of(&self.config).ok()?;
        let identity = files.read(name).ok()??;
        let end = tls::not_after(&identity.certificate_pem).ok()?;
        let due = renewal(files.obtained(name)?, end);
        Duration::try_from(due.duration_since(Timestamp::now())).ok().filter(|left| !left.is_zero())
    }

    async fn renew(&self, name: &str) -> Result<(), RenewError> {
        let client = self.connection.client();
        if name == CLIENT {
            let identity = renew_client(&self.config, &client).await?;
            self.connection.replace(client_with(&self.config, &identity)?);
        } else {
            let identity = renew_serving(&self.config, &client).await?;
            self.serving.replace(&identity)?;
        }
        Ok(())
    }
}

#[derive(Debug, thiserror::Error)]
enum RenewError {
    #[error(transparent)]
    Join(#[from] JoinError),
    #[error(transparent)]
    Tls(#[from] tls::TlsError),
}

/// A certificate is renewed when a fifth of its life is left.
fn renewal(obtained: Timestamp, end: Timestamp) -> Timestamp {
    let life = end.duration_since(obtained);
    let most = SignedDuration::from_secs(life.as_secs() / 5 * 4);
    obtained.checked_add(most).unwrap_or(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_time_to_renew() {
        let at = |second| Timestamp::from_second(second).unwrap();
        assert_eq!(renewal(at(1000), at(2000)), at(1800));
        assert!(renewal(at(2000), at(1000)) < at(2000));
    }
}
