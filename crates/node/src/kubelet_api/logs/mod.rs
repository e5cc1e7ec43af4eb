//! Output of containers, out of the files that the runtime writes (CRI's log format: `TIME stdout|stderr P|F TEXT`).

mod entry;
mod follow;
mod lines;
mod options;
mod tail;

use std::{path::PathBuf, sync::Arc};

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, header::CONTENT_TYPE};
use k8s_openapi::{api::core::v1::Pod, jiff::Timestamp};
use tokio_stream::wrappers::ReceiverStream;

use self::{follow::Source, options::Options};
use super::{
    Shared, find,
    refusal::Refusal,
    routes::{Names, Pairs},
};
use crate::pods::observed::{Observed, Run};

/// Pieces of output that wait for a slow client.
const QUEUE: usize = 4;

/// Answers `/containerLogs`.
pub(super) async fn answer(shared: &Arc<Shared>, names: &Names, query: &Pairs) -> Result<Response, Refusal> {
    let options = Options::parse(query, Timestamp::now()).map_err(Refusal::bad_request)?;
    let pod = find::pod(shared, &names.namespace, &names.pod)?;
    if !find::declares(&pod, &names.container) {
        let message = format!("container {:?} not found in pod {:?}", names.container, names.pod);
        return Err(Refusal::not_found(message));
    }
    let observed = find::observed(shared, &pod).await?;
    let run = choose(&pod, &observed, &names.container, options.previous).map_err(Refusal::bad_request)?;
    let path = PathBuf::from(&run.log_path);
    let file = tokio::fs::File::open(&path).await.map_err(|error| {
        Refusal::internal(format!("the log of container {:?} cannot be opened: {error}", names.container))
    })?;
    let source = Source { runtime: shared.runtime.clone(), container: run.id.clone(), path, file };
    let (sender, receiver) = tokio::sync::mpsc::channel(QUEUE);
    let stopping = shared.stopping.clone();
    tokio::spawn(async move {
        let sent = tokio::select! {
            () = stopping.cancelled() => Ok(()),
            sent = follow::send(source, options, &sender) => sent,
        };
        if let Err(error) = sent {
            tracing::warn!(%error, "reading the log of a container");
            let _ = sender.send(Err(error)).await;
        }
    });
    let mut response = Body::from_stream(ReceiverStream::new(receiver)).into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    Ok(response)
}

/// The run whose output is meant.
fn choose<'a>(pod: &Pod, observed: &'a Observed, container: &str, previous: bool) -> Result<&'a Run, String> {
    let pod_name = pod.metadata.name.as_deref().unwrap_or_default();
    if previous {
        return choose_previous(pod, observed, container).ok_or_else(|| {
            format!("previous terminated container {container:?} in pod {pod_name:?} not found")
        });
    }
    if let Some(run) = observed.latest(container).filter(|run| !run.log_path.is_empty()) {
        return Ok(run);
    }
    let waiting = find::status(pod, container).and_then(|status| status.state.as_ref()?.waiting.as_ref());
    let reason = waiting.and_then(|waiting| waiting.reason.as_deref()).unwrap_or("ContainerCreating");
    Err(format!("container {container:?} in pod {pod_name:?} is waiting to start: {reason}"))
}

/// The run that the pod reports as the last one; while a container waits to be started again, that is the newest.
fn choose_previous<'a>(pod: &Pod, observed: &'a Observed, container: &str) -> Option<&'a Run> {
    let last = find::status(pod, container).and_then(|status| {
        let id = status.last_state.as_ref()?.terminated.as_ref()?.container_id.as_deref()?;
        // `containerd://0123`
        let id = id.split_once("://").map_or(id, |(_, id)| id);
        observed.runs.iter().find(|run| run.id == id && run.name == container)
    });
    last.or_else(|| observed.previous(container))
}

#[cfg(test)]
mod tests;
