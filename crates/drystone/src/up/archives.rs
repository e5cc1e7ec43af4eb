//! Image archives of the command line, for hosts that do not see this machine's files: served at paths that nobody can guess, for a host
//! that is being installed has no credentials for anything but its own cluster.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use axum::{
    Router,
    body::Body,
    extract::{Path as UrlPath, State},
    http::{StatusCode, header},
    response::Response,
    routing::get,
};
use drystone_cluster::steps::ImageArchive;
use sha2::{Digest as _, Sha256};
use tokio_util::io::ReaderStream;

/// Archives by the code that their paths have.
#[derive(Debug, Clone, Default)]
pub(crate) struct Archives(Arc<BTreeMap<String, PathBuf>>);

impl Archives {
    /// Of files with absolute paths. `secret` makes the paths, which stay the same as long as the files have the same names.
    pub(crate) fn new(files: Vec<PathBuf>, secret: &[u8]) -> Self {
        Self(Arc::new(files.into_iter().map(|file| (code(&file, secret), file)).collect()))
    }

    /// Where nodes find them.
    pub(crate) fn places(&self) -> Vec<ImageArchive> {
        let place = |(code, file): (&String, &PathBuf)| ImageArchive {
            file: file.display().to_string(),
            path: format!("/archives/{code}"),
        };
        self.0.iter().map(place).collect()
    }

    /// The files, for who hands them on himself.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        self.0.values().cloned().collect()
    }

    /// Serves them.
    pub(crate) fn router(&self) -> Router {
        Router::new().route("/archives/{code}", get(serve)).with_state(self.clone())
    }
}

/// Of two digests, so that nobody who knows some codes can make another.
fn code(file: &Path, secret: &[u8]) -> String {
    let mut inner = Sha256::new();
    for part in [secret, b"image archive".as_slice(), file.as_os_str().as_encoded_bytes()] {
        inner.update((part.len() as u64).to_le_bytes());
        inner.update(part);
    }
    let mut outer = Sha256::new();
    outer.update(secret);
    outer.update(inner.finalize());
    outer.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn serve(
    State(archives): State<Archives>,
    UrlPath(code): UrlPath<String>,
) -> Result<Response, StatusCode> {
    let path = archives.0.get(&code).ok_or(StatusCode::NOT_FOUND)?;
    let opened = async {
        let file = tokio::fs::File::open(path).await?;
        let length = file.metadata().await?.len();
        Ok::<_, std::io::Error>((file, length))
    };
    let (file, length) = opened.await.map_err(|error| {
        tracing::error!("image archive {}: {error}", path.display());
        StatusCode::INTERNAL_SERVER_ERROR
    })?;
    Response::builder()
        .header(header::CONTENT_TYPE, "application/x-tar")
        .header(header::CONTENT_LENGTH, length)
        .body(Body::from_stream(ReaderStream::with_capacity(file, 128 * 1024)))
        .map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)
}

#[cfg(test)]
mod tests {
    use tower::ServiceExt as _;

    use super::*;

    #[tokio::test]
    async fn whoever_knows_the_path_gets_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a.tar");
        std::fs::write(&file, b"images").unwrap();
        let archives = Archives::new(vec![file.clone()], b"one secret");
        let place = archives.places().remove(0);
        assert_eq!(place.file, file.display().to_string());
        assert_eq!(Archives::new(vec![file.clone()], b"one secret").places()[0], place);
        let other = Archives::new(vec![file], b"another secret").places().remove(0);
        let ask = |path: String| {
            archives.router().oneshot(axum::http::Request::get(path).body(Body::empty()).unwrap())
        };
        let answer = ask(place.path).await.unwrap();
        let body = axum::body::to_bytes(answer.into_body(), 100).await.unwrap();
        assert_eq!(&body[..], b"images");
        for wrong in [other.path, "/archives/a.tar".to_owned(), "/archives/..%2Fa.tar".to_owned()] {
            assert_eq!(ask(wrong).await.unwrap().status(), StatusCode::NOT_FOUND);
        }
    }
}
