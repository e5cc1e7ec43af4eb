//! Requests one after the other, and what their answers mean.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use async_trait::async_trait;
use http::Method;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio::time::{Instant, sleep};

use crate::{
    document::Files,
    step::{Body, Request, Step, verb},
};

/// The first pause before something is tried again; it doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

/// Sends requests.
#[async_trait]
pub trait Transport: Send + Sync {
    /// Sends a request to the path after `/v2/`, with this body and its content type, and asks for JSON.
    ///
    /// # Errors
    /// [`Unsent`] if there was no answer.
    async fn send(
        &self,
        method: &Method,
        path: &str,
        body: Option<(String, Vec<u8>)>,
    ) -> Result<Reply, Unsent>;
}

/// There was no answer, and why.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Unsent(#[from] pub Box<dyn std::error::Error + Send + Sync>);

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Its status.
    pub status: u16,
    /// Its body.
    pub body: Vec<u8>,
}

/// How requests are made.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long is waited for what is not possible yet, for each document: a logical cloud that is being made, an application that is
    /// being removed.
    pub patience: Duration,
    /// Where files are looked for, in this order.
    pub folders: Vec<PathBuf>,
}

/// What came of a document.
#[derive(Debug, Clone, PartialEq)]
pub enum Done {
    /// It has been made.
    Created,
    /// It was there, and has been replaced.
    Replaced,
    /// What was to be done is done, or has been accepted.
    Accepted,
    /// There was nothing to do.
    Unchanged,
    /// It is gone.
    Removed,
    /// It was not there.
    Absent,
    /// It is shown: JSON, or what the answer was otherwise.
    Shown(Value),
}

/// Why a document could not be dealt with.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The answer was no.
    #[error("{method} {path} is refused ({status}): {message}")]
    Refused {
        /// Method of the request.
        method: Method,
        /// Its path, after `/v2/`.
        path: String,
        /// Status of the answer.
        status: u16,
        /// What it says.
        message: String,
    },
    /// There was no answer.
    #[error("{method} {path} is not answered")]
    Unsent {
        /// Method of the request.
        method: Method,
        /// Its path, after `/v2/`.
        path: String,
        /// Why not.
        #[source]
        source: Unsent,
    },
    /// A file that is to be sent cannot be read.
    #[error("reading {}, for {path}", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// Path of the request that it belongs to.
        path: String,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}

/// Does what is to be done for one document.
///
/// # Errors
/// [`Problem`] says of which request what has become.
pub async fn run(step: &Step, transport: &dyn Transport, options: &Options) -> Result<Done, Problem> {
    let running = Running { transport, options };
    match step {
        Step::Put { create, replace } => running.put(create, replace).await,
        Step::Do(request) => running.carry_out(request).await,
        Step::Plain(request) => running.plain(request).await,
        Step::Remove(request) => running.remove(request).await,
    }
}

struct Running<'a> {
    transport: &'a dyn Transport,
    options: &'a Options,
}

impl Running<'_> {
    async fn put(&self, create: &Request, replace: &Request) -> Result<Done, Problem> {
        let reply = self.send(create).await?;
        // In EMCO's words a parent that is missing is a conflict as well.
        if reply.status == 409 && text(&reply).contains("already exists") {
            good(replace, self.send(replace).await?)?;
            return Ok(Done::Replaced);
        }
        good(create, reply)?;
        Ok(Done::Created)
    }

    async fn carry_out(&self, request: &Request) -> Result<Done, Problem> {
        let mut waiting = Waiting::new(self.options.patience);
        loop {
            let reply = self.send(request).await?;
            if reply.status != 409 {
                good(request, reply)?;
                return Ok(Done::Accepted);
            }
            if self.is_so_already(request).await? {
                return Ok(Done::Unchanged);
            }
            if !waiting.again().await {
                return Err(refused(request, &reply));
            }
        }
    }

    /// Whether what is to be done has been done before.
    async fn is_so_already(&self, request: &Request) -> Result<bool, Problem> {
        let states: &[&str] = match verb(&request.path) {
            Some("instantiate") => &["Instantiated"],
            Some("terminate") => &["Created", "Approved", "Terminated"],
            _ => return Ok(false),
        };
        let Some((parent, _)) = request.path.rsplit_once('/') else { return Ok(false) };
        let status = Request { method: Method::GET, path: format!("{parent}/status"), body: Body::None };
        let reply = self.send(&status).await?;
        let told: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
        let actions = told.pointer("/states/actions").and_then(Value::as_array);
        let state = actions.and_then(|actions| actions.last()?.get("state")?.as_str());
        Ok(reply.status == 200 && state.is_some_and(|state| states.contains(&state)))
    }

    async fn plain(&self, request: &Request) -> Result<Done, Problem> {
        let reply = good(request, self.send(request).await?)?;
        if request.method != Method::GET {
            return Ok(Done::Replaced);
        }
        let text = text(&reply);
        Ok(Done::Shown(serde_json::from_slice(&reply.body).unwrap_or(Value::String(text))))
    }

    async fn remove(&self, request: &Request) -> Result<Done, Problem> {
        let mut waiting = Waiting::new(self.options.patience);
        loop {
            let reply = self.send(request).await?;
            match reply.status {
                404 => return Ok(Done::Absent),
                // It is being terminated. What has children or is referred to will not change by itself.
                409 if !text(&reply).contains("first") => {
                    if !waiting.again().await {
                        return Err(refused(request, &reply));
                    }
                }
                _ => {
                    good(request, reply)?;
                    return Ok(Done::Removed);
                }
            }
        }
    }

    async fn send(&self, request: &Request) -> Result<Reply, Problem> {
        let body = match &request.body {
            Body::None => None,
            Body::Json(body) => Some(("application/json".to_owned(), body.to_string().into_bytes())),
            Body::Form(body, files) => Some(form(body, &self.parts(request, files).await?)),
        };
        let sent = self.transport.send(&request.method, &request.path, body).await;
        sent.map_err(|source| Problem::Unsent {
            method: request.method.clone(),
            path: request.path.clone(),
            source,
        })
    }

    /// The files of a form: field, name and contents.
    async fn parts(
        &self,
        request: &Request,
        files: &Files,
    ) -> Result<Vec<(&'static str, String, Vec<u8>)>, Problem> {
        let (field, paths) = match files {
            Files::None => return Ok(Vec::new()),
            Files::One(path) => ("file", std::slice::from_ref(path)),
            Files::Several(paths) => ("files", paths.as_slice()),
        };
        let mut parts = Vec::new();
        for path in paths {
            let name = Path::new(path).file_name().unwrap_or_default().to_string_lossy().into_owned();
            parts.push((field, name, self.read(request, Path::new(path)).await?));
        }
        Ok(parts)
    }

    async fn read(&self, request: &Request, path: &Path) -> Result<Vec<u8>, Problem> {
        let mut last = None;
        let folders = self.options.folders.iter().map(|folder| folder.join(path));
        for file in folders.chain(self.options.folders.is_empty().then(|| path.to_owned())) {
            match tokio::fs::read(&file).await {
                Ok(contents) => return Ok(contents),
                Err(error) => {
                    // Of several places, that which has it, and does not let us read it, is the one to tell.
                    let tell = last.is_none() || error.kind() != std::io::ErrorKind::NotFound;
                    if tell {
                        last = Some((file, error));
                    }
                }
            }
        }
        let (file, source) =
            last.unwrap_or_else(|| (path.to_owned(), std::io::Error::from(std::io::ErrorKind::NotFound)));
        Err(Problem::File { file, path: request.path.clone(), source })
    }
}

/// Pauses, up to a time in all.
struct Waiting {
    deadline: Instant,
    pause: Duration,
}

impl Waiting {
    fn new(patience: Duration) -> Self {
        Self { deadline: Instant::now() + patience, pause: FIRST_PAUSE }
    }

    /// Waits a little; `false` when there has been enough of it.
    async fn again(&mut self) -> bool {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        sleep(self.pause.min(left)).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        true
    }
}

fn text(reply: &Reply) -> String {
    String::from_utf8_lossy(&reply.body).trim().to_owned()
}

fn good(request: &Request, reply: Reply) -> Result<Reply, Problem> {
    if (200..300).contains(&reply.status) { Ok(reply) } else { Err(refused(request, &reply)) }
}

fn refused(request: &Request, reply: &Reply) -> Problem {
    let said = text(reply);
    // Kubernetes' own refusals are objects.
    let message = serde_json::from_str::<Value>(&said)
        .ok()
        .and_then(|value| Some(value.get("message")?.as_str()?.to_owned()))
        .unwrap_or(said);
    let message = message.lines().collect::<Vec<_>>().join("; ");
    Problem::Refused {
        method: request.method.clone(),
        path: request.path.clone(),
        status: reply.status,
        message: if message.is_empty() { "it does not say why".into() } else { message },
    }
}

/// A form (multipart/form-data): JSON as `metadata`, and files. Its content type and its bytes.
fn form(metadata: &Value, files: &[(&'static str, String, Vec<u8>)]) -> (String, Vec<u8>) {
    let metadata = metadata.to_string();
    let mut digest = Sha256::new();
    digest.update(&metadata);
    files.iter().for_each(|(_, _, contents)| digest.update(contents));
    // Nothing has its own digest in it.
    let boundary = format!("drystone-{}", hex(&digest.finalize()[..16]));
    let mut bytes = Vec::new();
    let mut part = |head: &str, contents: &[u8]| {
        bytes.extend_from_slice(
            format!("--{boundary}\r\nContent-Disposition: form-data; {head}\r\n\r\n").as_bytes(),
        );
        bytes.extend_from_slice(contents);
        bytes.extend_from_slice(b"\r\n");
    };
    part("name=\"metadata\"", metadata.as_bytes());
    for (field, name, contents) in files {
        let name: String = name
            .chars()
            .filter(|character| !character.is_control() && !"\"\\".contains(*character))
            .collect();
        let head = format!("name=\"{field}\"; filename=\"{name}\"\r\nContent-Type: application/octet-stream");
        part(&head, contents);
    }
    bytes.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
    (format!("multipart/form-data; boundary={boundary}"), bytes)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
