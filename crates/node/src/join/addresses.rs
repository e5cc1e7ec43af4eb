//! The node's blocks of pod addresses: leased from the fabric manager's address daemon, and kept while it is away.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use drystone_identity::{
    Secret,
    files::{FileError, read_if_exists, write_public},
    tls::{TlsError, client_config},
};
use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use crate::config::AddressDaemonConfig;

/// How long the daemon may take.
const DEADLINE: Duration = Duration::from_secs(10);

/// Blocks that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file of the configuration cannot be read.
    #[error("{} cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The daemon's certificate authority cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The daemon did not answer.
    #[error("the address daemon does not answer: {}", with_causes(.0))]
    Http(#[from] reqwest::Error),
    /// The daemon refused.
    #[error("the address daemon refused a block of pool {pool:?}: {status} {message}")]
    Refused {
        /// The pool.
        pool: String,
        /// The status code.
        status: u16,
        /// What it said.
        message: String,
    },
}

/// The message alone does not say why a connection failed.
fn with_causes(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[derive(Debug, Serialize, Deserialize)]
struct Blocks {
    blocks: Vec<Ipv4Net>,
}

/// The blocks that an earlier agent leased; empty if there are none.
///
/// # Errors
/// [`AddressError::File`] if the file is there and cannot be read.
pub fn remembered(path: &Path) -> Result<Vec<Ipv4Net>, AddressError> {
    let bytes = read_if_exists(path)?.unwrap_or_default();
    Ok(serde_json::from_slice::<Blocks>(&bytes).map(|blocks| blocks.blocks).unwrap_or_default())
}

/// Remembers blocks.
///
/// # Errors
/// [`AddressError::File`] if they cannot be written.
pub fn remember(path: &Path, blocks: &[Ipv4Net]) -> Result<(), AddressError> {
    let text = serde_json::json!({"blocks": blocks}).to_string();
    Ok(write_public(path, text.as_bytes())?)
}

/// Leases blocks for this node; the same ones when it asks again.
///
/// # Errors
/// [`AddressError`] if the daemon does not answer or refuses.
pub async fn lease(daemon: &AddressDaemonConfig, node: &str) -> Result<Vec<Ipv4Net>, AddressError> {
    let read = |path: &Path| {
        std::fs::read_to_string(path).map_err(|source| AddressError::Read { path: path.to_owned(), source })
    };
    let tls = client_config(&read(&daemon.ca_file)?, None)?;
    let token = Secret::new(read(&daemon.token_file)?.trim());
    let client =
        reqwest::Client::builder().use_preconfigured_tls(tls).no_proxy().timeout(DEADLINE).build()?;
    let AddressDaemonConfig { url, namespace, pool, .. } = daemon;
    let url = format!(
        "{}/fabric/v1alpha1/namespaces/{namespace}/addresspools/{pool}/blocks",
        url.trim_end_matches('/')
    );
    let request = client.post(url).bearer_auth(token.expose()).json(&serde_json::json!({"holder": node}));
    let answer = request.send().await?;
    let status = answer.status();
    if !status.is_success() {
        let message = answer.text().await.unwrap_or_default().chars().take(500).collect();
        return Err(AddressError::Refused { pool: pool.clone(), status: status.as_u16(), message });
    }
    Ok(answer.json::<Blocks>().await?.blocks)
}
