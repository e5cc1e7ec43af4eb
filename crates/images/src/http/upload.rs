//! PATCH: the bytes of an image, from an offset on.

use std::time::{Duration, Instant};

use axum::{
    body::{Body, BodyDataStream},
    http::{HeaderName, HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use drystone_api::Artifact;
use futures::StreamExt as _;
use tokio::task::JoinHandle;

use super::{
    UPLOAD_DIGEST, UPLOAD_OFFSET,
    agent::{Front, IDLE, found, only_ours, refuse, too_slow, upload_id},
    problem::Problem,
};
use crate::{
    Images,
    digest::Digest,
    inspect::inspection,
    key::ArtifactKey,
    store::{Finished, StoreError, UploadId, Writer},
};

/// Bytes that are gathered before they are written.
const PIECE: usize = 1024 * 1024;
/// How often the API shows the progress of an upload.
const SHOW_EVERY: Duration = Duration::from_secs(1);

/// What the headers say.
struct Said {
    offset: u64,
    length: Option<u64>,
    digest: Option<Digest>,
}

fn number(parts: &Parts, name: &HeaderName) -> Result<Option<u64>, Problem> {
    let Some(value) = parts.headers.get(name) else { return Ok(None) };
    let digits = value.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    let wrong = || Problem::bad_request(format!("{name}: {value:?} is no number of bytes"));
    digits.and_then(|digits| digits.parse().ok()).map(Some).ok_or_else(wrong)
}

fn said(parts: &Parts) -> Result<Said, Problem> {
    let missing = || Problem::bad_request("Upload-Offset: it is missing; GET tells where the upload is");
    let offset = number(parts, &UPLOAD_OFFSET)?.ok_or_else(missing)?;
    let length = number(parts, &header::CONTENT_LENGTH)?;
    let digest = parts.headers.get(UPLOAD_DIGEST).map(|value| {
        let digest = value.to_str().unwrap_or("unreadable").parse::<Digest>();
        digest.map_err(|error| Problem::bad_request(format!("Upload-Digest: {error}")))
    });
    Ok(Said { offset, length, digest: digest.transpose()? })
}

/// An upload that may begin.
struct Upload {
    images: Images,
    artifact: Artifact,
    id: UploadId,
    offset: u64,
    digests: Vec<Digest>,
}

/// Checks everything that can be checked before the first byte.
async fn checked(front: &Front, parts: &Parts, key: &ArtifactKey) -> Result<Upload, Problem> {
    let said = said(parts)?;
    let artifact = found(front, key).await?;
    only_ours(front, &artifact)?;
    let id = upload_id(&artifact)?;
    let length = artifact.spec.length;
    let snapshot = front.images.store().look(&id);
    let here = snapshot.as_ref().map_or(0, |snapshot| snapshot.offset);
    if snapshot.is_some_and(|snapshot| snapshot.finished.is_some()) {
        return Err(Problem::from(StoreError::Complete).at(here));
    }
    if said.offset != here {
        let message = format!("Upload-Offset: {} is not {here}, where the upload is", said.offset);
        return Err(Problem::conflict(message).at(here));
    }
    let rest = length.saturating_sub(here);
    if let Some(more) = said.length.filter(|more| *more > rest) {
        let message =
            format!("Content-Length: {more} bytes are more than the {rest} that are missing of {length}");
        return Err(Problem::bad_request(message).at(here));
    }
    let promised = artifact.spec.digest.as_deref().map(str::parse).transpose();
    let promised = promised.map_err(|error: crate::digest::DigestError| {
        Problem::unprocessable(format!("spec.digest: {error}"))
    })?;
    let digests = said.digest.into_iter().chain(promised).collect();
    Ok(Upload { images: front.images.clone(), artifact, id, offset: here, digests })
}

pub(super) async fn patch(front: &Front, parts: &Parts, key: &ArtifactKey, body: Body) -> Response {
    let body = body.into_data_stream();
    let upload = match checked(front, parts, key).await {
        Ok(upload) => upload,
        Err(problem) => return refuse(problem, body),
    };
    let Ok(permit) = front.images.uploads().try_acquire_owned() else {
        let message = "too many uploads are under way; try again later";
        let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", message);
        return refuse(problem.at(upload.offset), body);
    };
    // A task of its own: what came is made safe also when nobody waits for the answer any more.
    let task = tokio::spawn(async move {
        let answer = upload.run(body).await;
        drop(permit);
        answer
    });
    match task.await {
        Ok(answer) => answer,
        Err(error) => {
            tracing::error!("an upload ended early: {error}");
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", "the upload ended early")
                .into_response()
        }
    }
}

impl Upload {
    /// Takes the body in, and answers.
    async fn run(self, mut body: BodyDataStream) -> Response {
        let outcome = self.receive(&mut body).await;
        if let Some(problem) = outcome.as_ref().err().filter(|problem| problem.is_about_the_image()) {
            self.images.set_problem(&self.id, Some(problem.message().to_owned()));
        }
        // The store knows; the controller makes up for it if the API does not take it now.
        self.images.publish(&self.artifact).await.unwrap_or_else(|error| tracing::warn!("{error}"));
        match outcome {
            Ok((offset, finished)) => {
                let mut response = StatusCode::NO_CONTENT.into_response();
                let headers = response.headers_mut();
                headers.insert(UPLOAD_OFFSET, offset.into());
                let digest =
                    finished.and_then(|finished| HeaderValue::from_str(&finished.digest.to_string()).ok());
                if let Some(digest) = digest {
                    headers.insert(UPLOAD_DIGEST, digest);
                }
                response
            }
            Err(problem) => {
                let offset = self.images.store().look(&self.id).map_or(0, |snapshot| snapshot.offset);
                refuse(problem.at(offset), body)
            }
        }
    }

    async fn receive(&self, body: &mut BodyDataStream) -> Result<(u64, Option<Finished>), Problem> {
        let mut writer = self.images.store().begin(&self.id, self.artifact.spec.length).await?;
        if writer.offset() != self.offset {
            let message =
                format!("Upload-Offset: {} is not {}, where the upload is", self.offset, writer.offset());
            return Err(Problem::conflict(message));
        }
        self.images.set_problem(&self.id, None);
        match self.write(body, &mut writer).await? {
            End::Whole => {
                let inspect = inspection(self.artifact.spec.kind);
                Ok(writer.finish(self.digests.clone(), inspect).await?)
            }
            // What came is kept, whatever the reason that no more did.
            End::Early(problem) => {
                writer.checkpoint().await?;
                Err(problem)
            }
        }
    }

    /// Writes the body until it ends.
    async fn write(&self, body: &mut BodyDataStream, writer: &mut Writer) -> Result<End, StoreError> {
        let mut interrupted = std::pin::pin!(writer.interrupted());
        let (mut pieces, mut gathered) = (Vec::new(), 0);
        let mut shown = Shown::default();
        let end = loop {
            let next = tokio::select! {
                biased;
                () = &mut interrupted => break End::Early(StoreError::Superseded.into()),
                next = tokio::time::timeout(IDLE, body.next()) => next,
            };
            match next {
                Ok(Some(Ok(bytes))) => {
                    gathered += bytes.len();
                    pieces.push(bytes);
                }
                Ok(Some(Err(error))) => {
                    break End::Early(Problem::bad_request(format!("the body was cut off: {error}")));
                }
                Ok(None) => break End::Whole,
                Err(_) => break End::Early(too_slow()),
            }
            if gathered >= PIECE {
                writer.write(std::mem::take(&mut pieces)).await?;
                gathered = 0;
                shown.show(self);
            }
        };
        writer.write(pieces).await?;
        Ok(end)
    }
}

/// How a body ended.
enum End {
    Whole,
    Early(Problem),
}

/// Shows progress in the API while an upload goes on, without holding it up.
struct Shown {
    last: Instant,
    task: Option<JoinHandle<()>>,
}

impl Default for Shown {
    fn default() -> Self {
        Self { last: Instant::now(), task: None }
    }
}

impl Shown {
    fn show(&mut self, upload: &Upload) {
        let busy = self.task.as_ref().is_some_and(|task| !task.is_finished());
        if busy || self.last.elapsed() < SHOW_EVERY {
            return;
        }
        self.last = Instant::now();
        let (images, artifact) = (upload.images.clone(), upload.artifact.clone());
        self.task = Some(tokio::spawn(async move {
            if let Err(error) = images.publish(&artifact).await {
                tracing::debug!("progress of an upload is not shown: {error}");
            }
        }));
    }
}
