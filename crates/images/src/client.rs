//! Uploads files to an image store, through the REST agent on a Drystone's HTTPS port: what was interrupted goes on.
//!
//! Uses a `kube::Client`, whose credentials and proxy are those of the API.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use drystone_engine::backoff::Backoff;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use kube::{Client, client::Body};
use serde_json::Value;

use crate::{
    digest::{Digest, Hasher},
    http::{UPLOAD_DIGEST, UPLOAD_OFFSET},
    key::ArtifactKey,
    wire::{Description, Record, type_name},
};

/// Bytes of the first piece that is sent, and of the largest one.
const FIRST_PIECE: u64 = 1024 * 1024;
const LARGEST_PIECE: u64 = 32 * 1024 * 1024;
/// A piece that is sent faster than this is followed by one of twice the size.
const QUICK: Duration = Duration::from_millis(500);
/// How often the same piece is tried.
const ATTEMPTS: u32 = 8;
const BACKOFF: Backoff = Backoff { initial: Duration::from_millis(500), maximum: Duration::from_secs(20) };
/// Largest answer that is read, in bytes.
const MAX_ANSWER: usize = 16 * 1024 * 1024;
/// Parts of the form that announces an image are told apart by this; nothing that is in JSON as it is written here contains it.
const BOUNDARY: &str = "drystone-image-announcement";

/// Why an image was not uploaded, or could not be asked for.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The file cannot be read.
    #[error("reading {}: {source}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// There is nothing in it.
    #[error("{} is empty: there is nothing to upload", .0.display())]
    Empty(PathBuf),
    /// Another file has that name.
    #[error(
        "another image is there under {name} ({there}); give this one another --name, or replace it with --replace"
    )]
    Other {
        /// Name of the image.
        name: String,
        /// What is known of it.
        there: String,
    },
    /// The server refuses.
    #[error("{status}: {message}")]
    Refused {
        /// Its status.
        status: StatusCode,
        /// What it says.
        message: String,
        /// Where it says that the upload is.
        offset: Option<u64>,
    },
    /// The server was not reached, or its answer makes no sense.
    #[error("{action}: {reason}")]
    Connection {
        /// What was tried.
        action: &'static str,
        /// What happened.
        reason: String,
    },
}

impl ClientError {
    /// Whether trying again may help.
    fn may_pass(&self) -> bool {
        match self {
            Self::Connection { .. } => true,
            Self::Refused { status, .. } => {
                status.is_server_error() && *status != StatusCode::INSUFFICIENT_STORAGE
                    || matches!(
                        *status,
                        StatusCode::CONFLICT | StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS
                    )
            }
            Self::File { .. } | Self::Empty(_) | Self::Other { .. } => false,
        }
    }
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// The file is read, to know its digest: bytes done, of all.
    Reading(u64, u64),
    /// The file is sent: bytes that are safe there, of all.
    Sending(u64, u64),
    /// The connection broke, or the server was busy; it is tried again.
    Waiting(u64, u64),
}

/// A file to be uploaded.
#[derive(Debug, Clone)]
pub struct Push {
    /// What it is known by.
    pub key: ArtifactKey,
    /// Where it is.
    pub path: PathBuf,
    /// What is there under the same key gives way.
    pub replace: bool,
}

/// Uploads a file, or what is missing of it; does nothing if it is there. Returns what the server says of it.
///
/// # Errors
/// [`ClientError`]; what has arrived stays, and the same call goes on with it.
pub async fn push(
    client: &Client,
    push: &Push,
    progress: &(dyn Fn(Progress) + Send + Sync),
) -> Result<Record, ClientError> {
    let (file, length, digest) = read(&push.path, progress).await?;
    let sender = Sender { client, key: &push.key, file, length, digest, progress };
    let mut record = match get(client, &push.key).await? {
        None => sender.announce(Method::POST).await?,
        Some(there) if there.is_of(&digest, length) => there,
        Some(_) if push.replace => sender.announce(Method::PUT).await?,
        Some(there) => {
            let name = push.key.name().to_owned();
            let there = format!("{} bytes, {}", there.image_length, there.image_digest);
            return Err(ClientError::Other { name, there });
        }
    };
    if !record.upload_complete {
        sender.send(record.image_offset).await?;
        let gone = || ClientError::Connection {
            action: "asking for the image",
            reason: "it was deleted meanwhile".to_owned(),
        };
        record = get(client, &push.key).await?.ok_or_else(gone)?;
    }
    Ok(record)
}

impl Record {
    /// Whether it is, or is to become, the image with this digest. An upload that promised no digest may be.
    fn is_of(&self, digest: &Digest, length: u64) -> bool {
        let same = self.image_digest == digest.to_string();
        self.image_length == length && (same || (self.image_digest.is_empty() && !self.upload_complete))
    }
}

/// The image of a key, if there is one.
///
/// # Errors
/// [`ClientError`].
pub async fn get(client: &Client, key: &ArtifactKey) -> Result<Option<Record>, ClientError> {
    let request = Request::get(key.path()).body(Body::empty());
    let answer = ask(client, "asking for the image", request).await;
    match answer {
        Ok(answer) => parse("asking for the image", &answer.1).map(Some),
        Err(ClientError::Refused { status: StatusCode::NOT_FOUND, .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Opens a file, and hashes it.
async fn read(
    path: &Path,
    progress: &(dyn Fn(Progress) + Send + Sync),
) -> Result<(Arc<File>, u64, Digest), ClientError> {
    let failed = |source| ClientError::File { path: path.to_owned(), source };
    let worker = |error: tokio::task::JoinError| ClientError::File {
        path: path.to_owned(),
        source: io::Error::other(error),
    };
    let file = File::open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    if length == 0 {
        return Err(ClientError::Empty(path.to_owned()));
    }
    let file = Arc::new(file);
    let mut hasher = Hasher::new();
    let mut done = 0;
    while done < length {
        progress(Progress::Reading(done, length));
        let (file, piece) = (Arc::clone(&file), LARGEST_PIECE.min(length - done));
        let read = tokio::task::spawn_blocking(move || {
            let mut from = &*file;
            hasher.read(&mut from, piece).map(|()| hasher)
        });
        hasher = read.await.map_err(worker)?.map_err(failed)?;
        done += piece;
    }
    Ok((file, length, hasher.digest()))
}

/// One upload.
struct Sender<'a> {
    client: &'a Client,
    key: &'a ArtifactKey,
    file: Arc<File>,
    length: u64,
    digest: Digest,
    progress: &'a (dyn Fn(Progress) + Send + Sync),
}

impl Sender<'_> {
    /// Says what is coming.
    async fn announce(&self, method: Method) -> Result<Record, ClientError> {
        let action = "announcing the image";
        let record = Record {
            owner: self.key.owner().to_owned(),
            cluster_name: self.key.cluster().to_owned(),
            kind: type_name(self.key.kind()).to_owned(),
            image_name: self.key.name().to_owned(),
            image_length: self.length,
            image_digest: self.digest.to_string(),
            description: Description::default(),
            ..Record::default()
        };
        let metadata = serde_json::to_string(&record)
            .map_err(|error| ClientError::Connection { action, reason: error.to_string() })?;
        let path = if method == Method::POST { self.key.collection_path() } else { self.key.path() };
        let body = format!(
            "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"metadata\"\r\n\r\n{metadata}\r\n\
             --{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"empty\"\r\n\r\n\r\n--{BOUNDARY}--\r\n"
        );
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::CONTENT_TYPE, format!("multipart/form-data; boundary={BOUNDARY}"))
            .body(Body::from(body.into_bytes()));
        let (_, answer) = ask(self.client, action, request).await?;
        parse(action, &answer)
    }

    /// Sends everything from `offset` on, piece by piece: no piece is lost whose arrival was acknowledged.
    async fn send(&self, mut offset: u64) -> Result<(), ClientError> {
        let (mut piece, mut failures) = (FIRST_PIECE, 0);
        // Also when all bytes are there: a request without any ends an upload whose last answer was lost.
        loop {
            (self.progress)(Progress::Sending(offset, self.length));
            let began = Instant::now();
            match self.piece(offset, piece.min(self.length - offset)).await {
                Ok(next) => {
                    if began.elapsed() < QUICK {
                        piece = (2 * piece).min(LARGEST_PIECE);
                    }
                    offset = next;
                    failures = 0;
                    if offset >= self.length {
                        break;
                    }
                }
                Err(error) => {
                    failures += 1;
                    if failures >= ATTEMPTS || !error.may_pass() {
                        return Err(error);
                    }
                    tracing::debug!("sending from {offset} on: {error}");
                    (self.progress)(Progress::Waiting(offset, self.length));
                    tokio::time::sleep(BACKOFF.random_delay(failures)).await;
                    piece = FIRST_PIECE;
                    match self.where_it_is().await {
                        Ok(Some(there)) => offset = there,
                        Ok(None) => return Ok(()),
                        Err(error) if error.may_pass() => {}
                        Err(error) => return Err(error),
                    }
                }
            }
        }
        (self.progress)(Progress::Sending(self.length, self.length));
        Ok(())
    }

    /// Offset of the upload as the server has it; `None` if it is complete.
    async fn where_it_is(&self) -> Result<Option<u64>, ClientError> {
        let record = get(self.client, self.key).await?.ok_or(ClientError::Refused {
            status: StatusCode::NOT_FOUND,
            message: "the image was deleted meanwhile".to_owned(),
            offset: None,
        })?;
        Ok((!record.upload_complete).then_some(record.image_offset))
    }

    /// Sends one piece; returns the offset after it.
    async fn piece(&self, offset: u64, length: u64) -> Result<u64, ClientError> {
        let action = "sending the image";
        let file = Arc::clone(&self.file);
        let read = tokio::task::spawn_blocking(move || {
            let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
            file.read_exact_at(&mut bytes, offset).map(|()| bytes)
        });
        let bytes = read.await.map_err(io::Error::other).flatten();
        let bytes = bytes.map_err(|error| ClientError::Connection { action, reason: error.to_string() })?;
        let request = Request::patch(self.key.path())
            .header(UPLOAD_OFFSET, offset)
            .header(UPLOAD_DIGEST, self.digest.to_string())
            .header(header::CONTENT_TYPE, "application/octet-stream")
            .header(header::CONTENT_LENGTH, length)
            .body(Body::from(bytes));
        let (answer, _) = ask(self.client, action, request).await?;
        let reason = || "the answer has no Upload-Offset".to_owned();
        offset_of(&answer).ok_or_else(|| ClientError::Connection { action, reason: reason() })
    }
}

fn offset_of<T>(answer: &Response<T>) -> Option<u64> {
    answer.headers().get(UPLOAD_OFFSET)?.to_str().ok()?.parse().ok()
}

/// Sends a request and reads the answer.
async fn ask(
    client: &Client,
    action: &'static str,
    request: Result<Request<Body>, http::Error>,
) -> Result<(Response<()>, Vec<u8>), ClientError> {
    let failed = |reason: String| ClientError::Connection { action, reason };
    let request = request.map_err(|error| failed(error.to_string()))?;
    let answer = client.send(request).await.map_err(|error| failed(error.to_string()))?;
    let (parts, body) = answer.into_parts();
    let body = http_body_util::Limited::new(body, MAX_ANSWER).collect().await;
    let body = body.map_err(|error| failed(error.to_string()))?.to_bytes().to_vec();
    let answer = Response::from_parts(parts, ());
    if answer.status().is_success() {
        return Ok((answer, body));
    }
    let said: Option<Value> = serde_json::from_slice(&body).ok();
    let message = said.as_ref().and_then(|said| said["message"].as_str()).unwrap_or("no reason was given");
    Err(ClientError::Refused {
        status: answer.status(),
        message: message.to_owned(),
        offset: offset_of(&answer),
    })
}

fn parse(action: &'static str, body: &[u8]) -> Result<Record, ClientError> {
    serde_json::from_slice(body).map_err(|error| ClientError::Connection {
        action,
        reason: format!("the answer is no image: {error}"),
    })
}
