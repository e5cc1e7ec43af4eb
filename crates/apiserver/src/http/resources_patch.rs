//! `PATCH`: the four kinds of patches.

use axum::body::Body;
use bytes::Bytes;
use http::Response;
use jiff::Timestamp;
use serde_json::Value;

use super::call::Call;
use super::resources::{answer, stored_target};
use crate::machinery::document::Document;
use crate::machinery::patch::{json_patch, merge_patch, strategic_merge};
use crate::machinery::status::ApiError;
use crate::operations::modify::{self, Change, OnConflict, Ownership, Part};
use crate::operations::{Writer, Written, create, managed, metadata, rules};
use crate::registry::Source;
use crate::request::body::{self, Encoding};
use crate::request::options::WriteOptions;
use crate::server::state::State;

/// What kind of patch a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PatchType {
    /// RFC 6902.
    Json,
    /// RFC 7386.
    Merge,
    /// Kubernetes' own, which knows how to merge lists.
    Strategic,
    /// The fields that one manager wants.
    Apply,
}

impl PatchType {
    fn of(call: &Call) -> Result<(Self, Encoding), ApiError> {
        let media_type = body::media_type(&call.parts.headers);
        let found = match media_type.as_str() {
            "application/json-patch+json" => (Self::Json, Encoding::Json),
            "application/merge-patch+json" => (Self::Merge, Encoding::Json),
            "application/strategic-merge-patch+json" if call.resource.custom().is_none() => {
                (Self::Strategic, Encoding::Json)
            }
            "application/apply-patch+yaml" => (Self::Apply, Encoding::Yaml),
            other => {
                let strategic = if call.resource.custom().is_none() {
                    ", application/strategic-merge-patch+json"
                } else {
                    ""
                };
                return Err(ApiError::UnsupportedMediaType(format!(
                    "the body of the request was in an unknown format - accepted media types include: \
                     application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml\
                     {strategic}; it is {other:?}"
                )));
            }
        };
        Ok(found)
    }
}

/// Answers a `PATCH` of an object or of one of its parts.
pub(super) async fn patch(
    state: &State,
    call: &Call,
    body: Body,
    part: Part,
) -> Result<Response<Body>, ApiError> {
    let accept = call.accept()?;
    let (kind, encoding) = PatchType::of(call)?;
    let options = WriteOptions::parse(&call.query, &call.parts.headers)?;
    if options.force && kind != PatchType::Apply {
        return Err(ApiError::bad_request("force may only be set for apply patches"));
    }
    let bytes = call.read_body(state, body).await?;
    let mut writer = Writer::new(&call.user, &options);
    let written = match kind {
        PatchType::Apply => apply(state, call, &bytes, encoding, part, &mut writer).await?,
        _ => merge(state, call, &bytes, kind, part, &mut writer).await?,
    };
    answer(call, accept, &written, &writer)
}

async fn merge(
    state: &State,
    call: &Call,
    bytes: &Bytes,
    kind: PatchType,
    part: Part,
    writer: &mut Writer<'_>,
) -> Result<Written, ApiError> {
    let Document { value: patch, duplicates } = match kind {
        PatchType::Json => body::decode(bytes, Encoding::Json)?,
        _ => body::decode_object(bytes, Encoding::Json)?,
    };
    let schema = rules::schema(&call.resource);
    let target = stored_target(call);
    let options = writer.options;
    let user = writer.user;
    let warnings = std::sync::Mutex::new(Vec::new());
    let make = |current: &Value| {
        let current = match call.resource.source {
            Source::EventView => super::events::from_core(current.clone()),
            _ => current.clone(),
        };
        let mut new = match kind {
            PatchType::Json => json_patch(&current, &patch)?,
            PatchType::Merge => merge_patch(&current, &patch)?,
            PatchType::Strategic | PatchType::Apply => {
                let schema = schema.as_ref().ok_or_else(|| {
                    ApiError::UnsupportedMediaType(format!(
                        "{} take no strategic merge patch",
                        call.resource.plural
                    ))
                })?;
                strategic_merge(&current, &patch, schema)?
            }
        };
        let mut checker = Writer::new(user, options);
        rules::check_fields(&call.resource, &mut new, &duplicates, &mut checker)?;
        if let Ok(mut warnings) = warnings.lock() {
            *warnings = checker.warnings;
        }
        if matches!(call.resource.source, Source::EventView) {
            new = super::events::to_core(new);
        }
        Ok((new, Ownership::Changed))
    };
    let change = Change { part, on_conflict: OnConflict::Retry, make: &make };
    let written = modify::modify(state, &target, &change, writer).await;
    writer.warnings.extend(warnings.into_inner().unwrap_or_default());
    written
}

async fn apply(
    state: &State,
    call: &Call,
    bytes: &Bytes,
    encoding: Encoding,
    part: Part,
    writer: &mut Writer<'_>,
) -> Result<Written, ApiError> {
    if !writer.options.manager_named {
        return Err(ApiError::bad_request(
            "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch",
        ));
    }
    if matches!(call.resource.source, Source::EventView) {
        return Err(ApiError::UnsupportedMediaType("apply events in the core group, version v1".into()));
    }
    let Document { value: mut config, duplicates } = body::decode_object(bytes, encoding)?;
    metadata::check_type(&mut config, &call.resource.api_version, &call.resource.kind)?;
    rules::check_fields(&call.resource, &mut config, &duplicates, writer)?;
    let target = call.target();
    metadata::adopt_path(&mut config, &call.resource, &call.path.namespace, &call.path.name)?;
    let pinned = metadata::text(&config, "resourceVersion").to_owned();
    let options = writer.options;
    let make = |current: &Value| {
        if !pinned.is_empty() && pinned != metadata::text(current, "resourceVersion") {
            return Err(target.stale());
        }
        let new = managed::apply(
            &call.resource,
            Some(current),
            &config,
            options,
            part.subresource(),
            Timestamp::now(),
        )?;
        Ok((new, Ownership::Settled))
    };
    let change = Change { part, on_conflict: OnConflict::Retry, make: &make };
    let checked = writer.warnings.clone();
    match modify::modify(state, &target, &change, writer).await {
        Err(ApiError::NotFound { .. }) if part == Part::Main && pinned.is_empty() => {
            writer.warnings = checked;
            create::apply(state, &target, config, writer).await
        }
        done => done,
    }
}
