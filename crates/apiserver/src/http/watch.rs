//! Watches: streams of the changes of a resource.
//!
//! Each watch reads the store's watch of its own range, which holds its place in a bounded buffer; a client that does not
//! keep up loses its stream, and begins again from the last version it saw.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use drystone_store::{KeyRange, StoreError, WatchRequest, WatchStream};
use futures::{FutureExt, StreamExt};
use http::{Response, StatusCode};
use rand::Rng;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::call::Call;
use super::metrics::LongRunning;
use super::table::Renderer;
use super::{present, reply};
use crate::machinery::selector::{FieldSelector, supported_fields};
use crate::machinery::status::ApiError;
use crate::registry::ResourceInfo;
use crate::request::options::{Selectors, WatchOptions};
use crate::request::{Accept, Shape};
use crate::server::state::{State, store_failure};
use crate::storage::Stored;
use crate::storage::follow::{Change, change};

/// How often a bookmark is sent.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// How long a watch lasts if the client does not say: at random between once and twice this, so that not all come back at
/// the same time.
const USUAL_TIMEOUT: Duration = Duration::from_secs(1800);
/// How many bytes are gathered before they are sent.
const PIECE: usize = 64 * 1024;

/// Which objects a list or watch is about.
#[derive(Debug, Clone)]
pub(crate) struct Selection {
    selectors: Selectors,
    /// The field selector looks at nothing but what the key tells.
    fields_of_key: bool,
    resource: Arc<ResourceInfo>,
}

#[derive(Deserialize)]
struct Labelled {
    metadata: LabelledMetadata,
}

#[derive(Deserialize)]
struct LabelledMetadata {
    #[serde(default)]
    labels: Value,
}

impl Selection {
    /// Checks selectors against what the resource can be selected by.
    ///
    /// # Errors
    /// [`ApiError::BadRequest`] if it cannot be selected by a field.
    pub(crate) fn new(resource: &Arc<ResourceInfo>, selectors: Selectors) -> Result<Self, ApiError> {
        let mut fields_of_key = true;
        if let Some(fields) = &selectors.fields {
            check_fields(resource, fields)?;
            let of_key = |field: &str| matches!(field, "metadata.name" | "metadata.namespace");
            fields_of_key = fields.requirements().iter().all(|requirement| of_key(&requirement.field));
        }
        Ok(Self { selectors, fields_of_key, resource: Arc::clone(resource) })
    }

    /// Whether everything is selected.
    pub(crate) fn is_everything(&self) -> bool {
        self.selectors.is_everything()
    }

    /// Whether an object is selected. One that is damaged is, so that its damage comes to light.
    pub(crate) fn selects_stored(&self, stored: &Stored) -> bool {
        if let Some(labels) = &self.selectors.labels
            && let Ok(labelled) = serde_json::from_slice::<Labelled>(&stored.bytes)
            && !labels.matches(&labelled.metadata.labels)
        {
            return false;
        }
        match &self.selectors.fields {
            None => true,
            Some(fields) if self.fields_of_key => {
                let namespace = if self.resource.namespaced() { stored.namespace() } else { "" };
                fields.matches(&json!({"metadata": {"name": stored.name(), "namespace": namespace}}))
            }
            Some(fields) => {
                present::read_object(&self.resource, stored).map_or(true, |object| fields.matches(&object))
            }
        }
    }

    /// The keys to look at.
    fn range(&self, namespace: &str) -> KeyRange {
        let name = self.selectors.fields.as_ref().and_then(|fields| fields.exact("metadata.name"));
        match name {
            Some(name) if !self.resource.namespaced() || !namespace.is_empty() => {
                KeyRange::single(self.resource.key(namespace, name))
            }
            _ => KeyRange::prefix(self.resource.namespace_prefix(namespace)),
        }
    }
}

fn check_fields(resource: &ResourceInfo, fields: &FieldSelector) -> Result<(), ApiError> {
    let checked = match resource.custom() {
        Some(custom) => {
            let paths: Vec<_> =
                custom.selectable_fields.iter().map(|path| path.trim_start_matches('.')).collect();
            fields.check_supported(&paths)
        }
        None => fields.check_supported(supported_fields(&resource.group, &resource.kind)),
    };
    checked.map_err(|error| ApiError::bad_request(error.to_string()))
}

/// Answers a watch.
pub(crate) async fn answer(state: &Arc<State>, call: &Call) -> Result<Response<Body>, ApiError> {
    let accept = call.accept()?;
    let options = WatchOptions::parse(&call.query)?;
    let selection = Selection::new(&call.resource, options.selectors.clone())?;
    let timeout =
        options.timeout.unwrap_or_else(|| USUAL_TIMEOUT.mul_f64(rand::rng().random_range(1.0..2.0)));
    let mut stream = Stream {
        writer: EventWriter::new(call, accept)?,
        selection,
        initial: Vec::new().into_iter(),
        initial_end: false,
        changes: None,
        revision: 0,
        bookmarks: options.bookmarks,
        next_bookmark: Instant::now() + BOOKMARK_EVERY,
        deadline: Instant::now() + timeout,
        stopping: state.stopping.clone(),
        failure: None,
        _counted: LongRunning::begin(state),
    };
    stream.open(state, call, &options).await?;
    let body = futures::stream::unfold(stream, |mut stream| async move {
        let piece = stream.next().await?;
        Some((Ok::<_, std::convert::Infallible>(piece), stream))
    });
    Ok(reply::streaming(StatusCode::OK, accept.representation.media_type(), Body::from_stream(body)))
}

/// A watch that is open.
struct Stream {
    writer: EventWriter,
    selection: Selection,
    /// What is left of the state at the beginning.
    initial: std::vec::IntoIter<Stored>,
    /// The end of that state is to be marked.
    initial_end: bool,
    changes: Option<WatchStream>,
    /// Everything up to here has been told.
    revision: u64,
    bookmarks: bool,
    next_bookmark: Instant,
    deadline: Instant,
    stopping: CancellationToken,
    /// What went wrong, to be told as the last event.
    failure: Option<ApiError>,
    _counted: LongRunning,
}

impl Stream {
    async fn open(&mut self, state: &State, call: &Call, options: &WatchOptions) -> Result<(), ApiError> {
        let after = options.revision.filter(|revision| *revision > 0);
        if options.initial_events
            && let Some(revision) = after
        {
            super::resources::wait_for(state, revision).await?;
        }
        let range = self.selection.range(&call.path.namespace);
        self.revision = match after.filter(|_| !options.initial_events) {
            Some(revision) => revision,
            None => {
                let request = drystone_store::RangeRequest::new(range.clone());
                let found = state.objects.store().range(request).await.map_err(store_failure)?;
                let items: Vec<_> = found
                    .kvs
                    .into_iter()
                    .map(Stored::from)
                    .filter(|stored| self.selection.is_everything() || self.selection.selects_stored(stored))
                    .collect();
                self.initial = items.into_iter();
                self.initial_end = options.initial_events && options.bookmarks;
                found.revision
            }
        };
        let request = WatchRequest { range, start_revision: Some(self.revision + 1) };
        match state.objects.store().watch(request).await {
            Ok(changes) => self.changes = Some(changes),
            Err(error) => self.failure = Some(store_failure(error)),
        }
        Ok(())
    }

    /// The next piece of the body; `None` at the end.
    async fn next(&mut self) -> Option<Bytes> {
        let mut out = Vec::new();
        if let Some(failure) = self.failure.take() {
            self.changes = None;
            self.writer.error(&failure, &mut out);
            return Some(out.into());
        }
        while let Some(stored) = self.initial.next() {
            self.tell("ADDED", &stored, &mut out);
            if out.len() >= PIECE {
                return Some(out.into());
            }
        }
        if std::mem::take(&mut self.initial_end) {
            self.writer.bookmark(self.revision, true, &mut out);
        }
        if !out.is_empty() {
            return Some(out.into());
        }
        self.wait().await
    }

    /// Waits for changes, or for the time of a bookmark.
    async fn wait(&mut self) -> Option<Bytes> {
        loop {
            let changes = self.changes.as_mut()?;
            let bookmarks = self.bookmarks;
            let batch = tokio::select! {
                batch = changes.next() => batch,
                () = tokio::time::sleep_until(self.next_bookmark), if bookmarks => {
                    self.next_bookmark = Instant::now() + BOOKMARK_EVERY;
                    let mut out = Vec::new();
                    self.writer.bookmark(self.revision, false, &mut out);
                    return Some(out.into());
                }
                () = tokio::time::sleep_until(self.deadline) => return None,
                () = self.stopping.cancelled() => return None,
            };
            let mut out = Vec::new();
            self.take(batch, &mut out);
            // What is ready is sent together.
            while out.len() < PIECE
                && let Some(batch) = self.changes.as_mut().and_then(|changes| changes.next().now_or_never())
            {
                self.take(batch, &mut out);
            }
            if !out.is_empty() {
                return Some(out.into());
            }
        }
    }

    fn take(&mut self, batch: Option<Result<drystone_store::WatchBatch, StoreError>>, out: &mut Vec<u8>) {
        match batch {
            Some(Ok(batch)) => {
                for event in &batch.events {
                    self.tell_change(change(event), out);
                }
                self.revision = self.revision.max(batch.revision);
            }
            Some(Err(error @ StoreError::Compacted { .. })) => {
                self.writer.error(&store_failure(error), out);
                self.changes = None;
            }
            // The client was too slow, or the server stops: the stream ends, and the client knows where to go on.
            Some(Err(_)) | None => self.changes = None,
        }
    }

    fn tell_change(&mut self, change: Change, out: &mut Vec<u8>) {
        let everything = self.selection.is_everything();
        let selected = |stored: &Stored| everything || self.selection.selects_stored(stored);
        match change {
            Change::Put { object, previous } => {
                let before = previous.as_ref().is_some_and(selected);
                match (before, selected(&object)) {
                    (false, true) => self.tell("ADDED", &object, out),
                    (true, true) => self.tell("MODIFIED", &object, out),
                    (true, false) => {
                        if let Some(previous) = previous {
                            let left = Stored { revision: object.revision, ..previous };
                            self.tell("DELETED", &left, out);
                        }
                    }
                    (false, false) => {}
                }
            }
            Change::Deleted(last) if !last.bytes.is_empty() && selected(&last) => {
                self.tell("DELETED", &last, out);
            }
            Change::Deleted(_) => {}
        }
    }

    fn tell(&mut self, kind: &str, stored: &Stored, out: &mut Vec<u8>) {
        if let Err(error) = self.writer.event(kind, stored, out) {
            tracing::error!(%error, "a watch cannot go on");
            self.writer.error(&error, out);
            self.changes = None;
            self.initial = Vec::new().into_iter();
        }
    }
}

/// Writes events in the form that the client wants.
struct EventWriter {
    resource: Arc<ResourceInfo>,
    shape: Shape,
    tables: Option<Renderer>,
}

impl EventWriter {
    fn new(call: &Call, accept: Accept) -> Result<Self, ApiError> {
        let tables = match accept.shape {
            Shape::Table(version) => Some(Renderer::new(call, version)?),
            _ => None,
        };
        Ok(Self { resource: Arc::clone(&call.resource), shape: accept.shape, tables })
    }

    fn event(&mut self, kind: &str, stored: &Stored, out: &mut Vec<u8>) -> Result<(), ApiError> {
        let begin = out.len();
        out.extend_from_slice(format!(r#"{{"type":"{kind}","object":"#).as_bytes());
        let written = match (self.shape, &mut self.tables) {
            (Shape::Table(_), Some(tables)) => tables.event(stored).map(|table| write_value(&table, out)),
            (Shape::Metadata(version), _) => {
                present::metadata_only(stored, version).map(|object| write_value(&object, out))
            }
            _ => present::write_object(&self.resource, stored, out),
        };
        if written.is_err() {
            out.truncate(begin);
        } else {
            out.extend_from_slice(b"}\n");
        }
        written
    }

    fn bookmark(&self, revision: u64, initial_end: bool, out: &mut Vec<u8>) {
        let (kind, api_version) = match self.shape {
            Shape::Table(version) => ("Table", format!("meta.k8s.io/{version}")),
            Shape::Metadata(version) => ("PartialObjectMetadata", format!("meta.k8s.io/{version}")),
            _ => (self.resource.kind.as_str(), self.resource.api_version.clone()),
        };
        let mut metadata = json!({"resourceVersion": revision.to_string()});
        if initial_end {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let object = json!({"kind": kind, "apiVersion": api_version, "metadata": metadata});
        write_value(&json!({"type": "BOOKMARK", "object": object}), out);
        out.push(b'\n');
    }

    fn error(&self, error: &ApiError, out: &mut Vec<u8>) {
        write_value(&json!({"type": "ERROR", "object": error.to_status()}), out);
        out.push(b'\n');
    }
}

fn write_value(value: &Value, out: &mut Vec<u8>) {
    // Writing a JSON value to memory does not fail.
    let _ = serde_json::to_writer(out, value);
}
