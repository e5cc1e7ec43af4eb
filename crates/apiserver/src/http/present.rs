//! Objects in the form in which the client wants them.

use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::call::Call;
use super::table::Renderer;
use super::{events, reply};
use crate::machinery::status::ApiError;
use crate::machinery::table::partial_metadata;
use crate::operations::{read, rules};
use crate::registry::{ResourceInfo, Source};
use crate::request::{Accept, Representation, Shape};
use crate::storage::{Page, Stored};

/// How many bytes of a list are encoded before they are sent.
const PIECE: usize = 64 * 1024;

/// Appends an object as the resource's version shows it.
pub(crate) fn write_object(
    resource: &ResourceInfo,
    stored: &Stored,
    out: &mut Vec<u8>,
) -> Result<(), ApiError> {
    if needs_decoding(resource) {
        let object = read_object(resource, stored)?;
        return serde_json::to_writer(out, &object).map_err(|error| ApiError::Internal(error.to_string()));
    }
    let same = resource.api_version == resource.storage_api_version;
    let api_version = (!same).then_some(resource.api_version.as_str());
    stored.write(api_version, out).map_err(|error| ApiError::Internal(error.to_string()))
}

/// Whether what is stored is not what is shown.
fn needs_decoding(resource: &ResourceInfo) -> bool {
    match &resource.source {
        Source::EventView => true,
        Source::Custom(custom) => custom.changed,
        Source::BuiltIn | Source::Virtual => false,
    }
}

/// Decodes an object as the resource's version shows it.
pub(crate) fn read_object(resource: &ResourceInfo, stored: &Stored) -> Result<Value, ApiError> {
    let mut object = read::decode(stored)?;
    if matches!(resource.source, Source::EventView) {
        return Ok(events::from_core(object));
    }
    if resource.api_version != resource.storage_api_version {
        object["apiVersion"] = resource.api_version.as_str().into();
    }
    if needs_decoding(resource) {
        rules::default_stored(resource, &mut object);
    }
    Ok(object)
}

/// The metadata of an object alone.
pub(crate) fn metadata_only(stored: &Stored, version: &str) -> Result<Value, ApiError> {
    Ok(partial_metadata(read::decode(stored)?, version))
}

/// An answer with one object.
pub(crate) fn one(
    call: &Call,
    accept: Accept,
    status: StatusCode,
    stored: &Stored,
) -> Result<Response<Body>, ApiError> {
    match accept.shape {
        Shape::Table(version) => {
            let metadata = json!({"resourceVersion": stored.revision.to_string()});
            let table = Renderer::new(call, version)?.render(std::slice::from_ref(stored), &metadata)?;
            Ok(reply::object(status, accept.representation, &table))
        }
        Shape::Metadata(version) => {
            Ok(reply::object(status, accept.representation, &metadata_only(stored, version)?))
        }
        Shape::Object | Shape::Discovery(_) => {
            let mut json = Vec::new();
            write_object(&call.resource, stored, &mut json)?;
            Ok(reply::encoded(status, accept.representation, json))
        }
    }
}

fn list_metadata(page: &Page) -> Value {
    let mut metadata = json!({"resourceVersion": page.revision.to_string()});
    if let Some(next) = &page.next {
        metadata["continue"] = next.to_token().into();
    }
    if let Some(remaining) = page.remaining {
        metadata["remainingItemCount"] = remaining.into();
    }
    metadata
}

/// An answer with a list.
pub(crate) fn list(call: &Call, accept: Accept, page: Page) -> Result<Response<Body>, ApiError> {
    let metadata = list_metadata(&page);
    match accept.shape {
        Shape::Table(version) => {
            let table = Renderer::new(call, version)?.render(&page.items, &metadata)?;
            Ok(reply::object(StatusCode::OK, accept.representation, &table))
        }
        Shape::Metadata(version) => {
            let items = page.items.iter().map(|stored| metadata_only(stored, version));
            let list = json!({
                "kind": "PartialObjectMetadataList",
                "apiVersion": format!("meta.k8s.io/{version}"),
                "metadata": metadata,
                "items": items.collect::<Result<Vec<_>, _>>()?,
            });
            Ok(reply::object(StatusCode::OK, accept.representation, &list))
        }
        Shape::Object | Shape::Discovery(_) => full_list(call, accept.representation, page.items, &metadata),
    }
}

/// A list of whole objects. A long one is encoded piece by piece as it is sent, so that it never is in memory at once.
fn full_list(
    call: &Call,
    representation: Representation,
    items: Vec<Stored>,
    metadata: &Value,
) -> Result<Response<Body>, ApiError> {
    let resource = &call.resource;
    let mut head = Vec::with_capacity(256);
    let (kind, api_version) = (&resource.list_kind, &resource.api_version);
    head.extend_from_slice(
        format!(r#"{{"kind":"{kind}","apiVersion":"{api_version}","metadata":{metadata},"items":["#)
            .as_bytes(),
    );
    let mut pieces =
        Pieces { resource: Arc::clone(resource), items: items.into_iter(), out: head, first: true };
    let whole = pieces.items.as_slice().iter().map(|stored| stored.bytes.len() + 64).sum::<usize>() < PIECE;
    if whole || representation == Representation::Yaml {
        let mut json = Vec::new();
        for piece in pieces {
            json.extend_from_slice(&piece?);
        }
        return Ok(reply::encoded(StatusCode::OK, representation, json));
    }
    // The first piece tells whether encoding works at all, while the answer can still be an error.
    let first = pieces.next().transpose()?.unwrap_or_default();
    let stream = futures::stream::iter(std::iter::once(Ok(first)).chain(pieces));
    Ok(reply::streaming(StatusCode::OK, representation.media_type(), Body::from_stream(stream)))
}

/// The JSON of a list in pieces.
struct Pieces {
    resource: Arc<ResourceInfo>,
    items: std::vec::IntoIter<Stored>,
    out: Vec<u8>,
    first: bool,
}

impl Iterator for Pieces {
    type Item = Result<Bytes, ApiError>;

    fn next(&mut self) -> Option<Self::Item> {
        // Nothing in hand and nothing to come: the end was sent.
        if self.out.is_empty() {
            return None;
        }
        let mut out = std::mem::take(&mut self.out);
        while out.len() < PIECE {
            let Some(stored) = self.items.next() else {
                out.extend_from_slice(b"]}");
                return Some(Ok(out.into()));
            };
            if !std::mem::replace(&mut self.first, false) {
                out.push(b',');
            }
            if let Err(error) = write_object(&self.resource, &stored, &mut out) {
                tracing::error!(%error, "a list cannot be completed");
                return Some(Err(error));
            }
        }
        // Keep one byte back so that the end is known to be due.
        self.out.reserve(PIECE + PIECE / 4);
        self.out.extend(out.pop());
        Some(Ok(out.into()))
    }
}
