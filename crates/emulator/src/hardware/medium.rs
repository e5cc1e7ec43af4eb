//! Fetches the image of a virtual medium, as a BMC does when its host reads from it.

use std::{path::Path, sync::OnceLock, time::Duration};

use futures::StreamExt as _;
use tokio::{fs::OpenOptions, io::AsyncWriteExt as _};

use super::record::InsertedMedium;

/// Largest image.
const LARGEST: u64 = 4 << 30;
/// How long a fetch may take in all, and without anything coming.
const LIMIT: Duration = Duration::from_secs(600);
const SILENCE: Duration = Duration::from_secs(30);

/// Why an image could not be fetched. Does not repeat the URL, which is a secret of the host.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("{0}")]
    Http(String),
    #[error("the server answers {0}")]
    Status(u16),
    #[error("the image is larger than {} GiB", LARGEST >> 30)]
    TooLarge,
    #[error("it took longer than {} s", LIMIT.as_secs())]
    TooSlow,
    #[error("it cannot be stored: {0}")]
    Store(#[from] std::io::Error),
}

/// Fetches an image into a file, whole or not at all.
pub(super) async fn fetch(medium: &InsertedMedium, verify: bool, into: &Path) -> Result<(), FetchError> {
    let result =
        tokio::time::timeout(LIMIT, stream(medium, verify, into)).await.unwrap_or(Err(FetchError::TooSlow));
    if result.is_err() {
        remove(into);
    }
    result
}

async fn stream(medium: &InsertedMedium, verify: bool, into: &Path) -> Result<(), FetchError> {
    let http = |error: reqwest::Error| FetchError::Http(innermost(&error));
    let mut request =
        client(verify).ok_or_else(|| FetchError::Http("no HTTP client".to_owned()))?.get(&medium.url);
    if let Some((user, password)) = &medium.credentials {
        request = request.basic_auth(user, Some(password));
    }
    let response = request.send().await.map_err(http)?;
    if !response.status().is_success() {
        return Err(FetchError::Status(response.status().as_u16()));
    }
    if response.content_length().is_some_and(|length| length > LARGEST) {
        return Err(FetchError::TooLarge);
    }
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(into).await?;
    let (mut body, mut length) = (response.bytes_stream(), 0_u64);
    while let Some(chunk) = body.next().await {
        let chunk = chunk.map_err(http)?;
        length += chunk.len() as u64;
        if length > LARGEST {
            return Err(FetchError::TooLarge);
        }
        file.write_all(&chunk).await?;
    }
    file.flush().await?;
    Ok(())
}

/// Removes the file of a medium that is not used any more.
pub(super) fn remove(path: &Path) {
    if let Err(error) = std::fs::remove_file(path)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "cannot be removed");
    }
}

/// One client for all hosts; by whether certificates are checked.
fn client(verify: bool) -> Option<&'static reqwest::Client> {
    static CLIENTS: [OnceLock<Option<reqwest::Client>>; 2] = [OnceLock::new(), OnceLock::new()];
    let make = || {
        let builder = drystone_redfish::client::http_builder()
            .no_proxy()
            .read_timeout(SILENCE)
            .connect_timeout(SILENCE);
        let built = builder.tls_danger_accept_invalid_certs(!verify).build();
        built.inspect_err(|error| tracing::error!(%error, "media cannot be fetched")).ok()
    };
    CLIENTS[usize::from(verify)].get_or_init(make).as_ref()
}

/// What went wrong at the bottom, without the URL that `reqwest` puts around it.
fn innermost(error: &reqwest::Error) -> String {
    // An error without a cause is `reqwest`'s own and holds the URL.
    let mut cause = std::error::Error::source(error);
    let mut text = "the request failed".to_owned();
    while let Some(inner) = cause {
        text = inner.to_string();
        cause = inner.source();
    }
    text
}
