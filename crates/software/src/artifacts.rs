//! Files that are brought to hosts: fetched once, by digest, and checked before anybody uses them.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::StreamExt as _;
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncWriteExt as _;

/// Largest file that is fetched, in bytes.
const LARGEST: u64 = 8 << 30;

/// How long a server may be silent.
const SILENCE: Duration = Duration::from_secs(60);

/// A file that could not be had.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// The server does not give it; that may pass.
    #[error("fetching {url}: {reason}")]
    Fetch {
        /// Where it should be, without what may be secret.
        url: String,
        /// Why.
        reason: String,
    },
    /// What was fetched is something else.
    #[error("{url} has digest {found}, not {wanted}; nothing of it was used")]
    Digest {
        /// Where it is.
        url: String,
        /// Digest that it should have.
        wanted: String,
        /// Digest that it has.
        found: String,
    },
    /// It is too large.
    #[error("{url} has more than {LARGEST} bytes")]
    TooLarge {
        /// Where it is.
        url: String,
    },
    /// It could not be written here.
    #[error("keeping {path}: {source}")]
    Write {
        /// Where.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl ArtifactError {
    /// Whether another attempt may help.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Fetch { .. } | Self::Write { .. })
    }
}

/// Files that were fetched, in a folder, by digest.
#[derive(Debug, Clone)]
pub struct ArtifactCache {
    folder: PathBuf,
    client: reqwest::Client,
    busy: Arc<Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>>,
}

impl ArtifactCache {
    /// In this folder, which is made when it is needed; fetched with this client.
    pub fn new(folder: impl Into<PathBuf>, client: reqwest::Client) -> Self {
        Self { folder: folder.into(), client, busy: Arc::default() }
    }

    /// The file of that digest: fetched, unless it is there.
    ///
    /// # Errors
    /// [`ArtifactError`]; then nothing is kept.
    pub async fn get(&self, url: &str, digest: &str) -> Result<PathBuf, ArtifactError> {
        let lock = {
            let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
            busy.retain(|_, lock| Arc::strong_count(lock) > 1);
            busy.entry(digest.to_owned()).or_default().clone()
        };
        let _one_at_a_time = lock.lock().await;
        let path = self.folder.join(digest.replace(':', "-"));
        if tokio::fs::try_exists(&path).await.unwrap_or(false) {
            return Ok(path);
        }
        let partial = path.with_extension("partial");
        let fetched = self.fetch(url, digest, &partial).await;
        if let Err(error) = fetched {
            let _ = tokio::fs::remove_file(&partial).await;
            return Err(error);
        }
        let written = tokio::fs::rename(&partial, &path).await;
        written.map_err(|source| ArtifactError::Write { path: path.clone(), source })?;
        Ok(path)
    }

    async fn fetch(&self, url: &str, wanted: &str, path: &Path) -> Result<(), ArtifactError> {
        let shown = shown(url);
        let failed = |reason: String| ArtifactError::Fetch { url: shown.clone(), reason };
        let write_error = |source| ArtifactError::Write { path: path.to_owned(), source };
        tokio::fs::create_dir_all(&self.folder).await.map_err(write_error)?;
        let request = self.client.get(url).send();
        let response = tokio::time::timeout(SILENCE, request)
            .await
            .map_err(|_| failed("no answer in time".to_owned()))?
            .map_err(|error| failed(error.without_url().to_string()))?;
        if !response.status().is_success() {
            return Err(failed(format!("the server answers {}", response.status())));
        }
        let mut file = tokio::fs::File::create(path).await.map_err(write_error)?;
        let (mut hash, mut length) = (Sha256::new(), 0_u64);
        let mut body = response.bytes_stream();
        loop {
            let next = tokio::time::timeout(SILENCE, body.next())
                .await
                .map_err(|_| failed("the server has stopped sending".to_owned()))?;
            let Some(chunk) = next else { break };
            let chunk = chunk.map_err(|error| failed(error.without_url().to_string()))?;
            length += chunk.len() as u64;
            if length > LARGEST {
                return Err(ArtifactError::TooLarge { url: shown });
            }
            hash.update(&chunk);
            file.write_all(&chunk).await.map_err(write_error)?;
        }
        // The error of a write that goes on is told by this, and not by `sync_all`.
        file.flush().await.map_err(write_error)?;
        file.sync_all().await.map_err(write_error)?;
        let hex: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        let found = format!("sha256:{hex}");
        if found == wanted {
            return Ok(());
        }
        Err(ArtifactError::Digest { url: shown, wanted: wanted.to_owned(), found })
    }
}

/// A URL without its credentials, query and the middle of its path, which may be a capability.
fn shown(url: &str) -> String {
    match url::Url::parse(url) {
        Ok(parsed) => {
            let last = parsed.path_segments().and_then(Iterator::last).unwrap_or_default();
            let port = parsed.port().map(|port| format!(":{port}")).unwrap_or_default();
            format!("{}://{}{port}/…/{last}", parsed.scheme(), parsed.host_str().unwrap_or_default())
        }
        Err(_) => "a URL that is none".to_owned(),
    }
}
