//! Image archives that are not on the node: fetched from Drystone, imported, and not kept.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use drystone_identity::tls::{TlsError, client_config};
use futures::StreamExt as _;
use sha2::{Digest as _, Sha256};
use tokio::{fs, io::AsyncWriteExt as _};

use super::{ImportError, import};

/// How long nothing may come while an archive is fetched.
const SILENCE: Duration = Duration::from_secs(60);

/// An archive that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The certificate authority of the server cannot be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The server does not answer, or with something else.
    #[error("the image archive {url} cannot be fetched: {source}")]
    Http {
        /// Where.
        url: String,
        /// Why.
        source: reqwest::Error,
    },
    /// It is no archive of images.
    #[error(transparent)]
    Import(#[from] ImportError),
}

/// Fetches an archive and imports its images, unless that has been done before: `directory` keeps what has been, one small file for each.
///
/// # Errors
/// [`FetchError`]; another try may help.
pub async fn import_fetched(
    socket: &Path,
    url: &str,
    authority: &Path,
    directory: &Path,
) -> Result<(), FetchError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| FetchError::Io { path, source }
    };
    fs::create_dir_all(directory).await.map_err(io(directory))?;
    let name: String = Sha256::digest(url).iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    let done = directory.join(format!("{name}.imported"));
    if fs::try_exists(&done).await.map_err(io(&done))? {
        return Ok(());
    }
    let archive = directory.join(format!("{name}.tar"));
    let authority = fs::read_to_string(authority).await.map_err(io(authority))?;
    let tls = client_config(&authority, None)?;
    download(url, tls, &archive).await?;
    let imported = import(socket, &archive).await;
    // Whether it was good or not: it is not needed any more.
    fs::remove_file(&archive).await.map_err(io(&archive))?;
    imported?;
    fs::write(&done, url).await.map_err(io(&done))
}

async fn download(url: &str, tls: rustls::ClientConfig, into: &Path) -> Result<(), FetchError> {
    let http =
        |source: reqwest::Error| FetchError::Http { url: url.to_owned(), source: source.without_url() };
    let io = |source| FetchError::Io { path: into.to_owned(), source };
    let client = reqwest::Client::builder().use_preconfigured_tls(tls).no_proxy().read_timeout(SILENCE);
    let answer = client.build().map_err(http)?.get(url).send().await.map_err(http)?;
    let mut pieces = answer.error_for_status().map_err(http)?.bytes_stream();
    let mut file = fs::File::create(into).await.map_err(io)?;
    while let Some(piece) = pieces.next().await {
        file.write_all(&piece.map_err(http)?).await.map_err(io)?;
    }
    file.flush().await.map_err(io)
}
