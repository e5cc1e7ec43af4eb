//! Create, read, change and delete objects over HTTP.

use axum::body::Body;
use drystone_store::StoreError;
use futures::{StreamExt, TryStreamExt};
use http::{Method, Response, StatusCode};
use serde_json::{Value, json};

use super::call::Call;
use super::{present, reply};
use crate::machinery::document::Document;
use crate::machinery::status::{self, ApiError};
use crate::operations::modify::{Change, OnConflict, Ownership, Part};
use crate::operations::{Target, Writer, Written, create, delete, metadata, modify, read, rules};
use crate::registry::Source;
use crate::request::body::{decode_object, object_encoding};
use crate::request::options::{DeleteOptions, ListOptions, Version, WriteOptions};
use crate::server::state::{State, store_failure};
use crate::storage::{PageRequest, Stored};

/// `GET` of one object.
pub(crate) async fn get(state: &State, call: &Call) -> Result<Response<Body>, ApiError> {
    let accept = call.accept()?;
    let stored = read::get(state, &call.target()).await?;
    present::one(call, accept, StatusCode::OK, &stored)
}

/// `GET` of many.
pub(crate) async fn list(state: &State, call: &Call) -> Result<Response<Body>, ApiError> {
    let accept = call.accept()?;
    let options = ListOptions::parse(&call.query)?;
    let selection = super::watch::Selection::new(&call.resource, options.selectors)?;
    let prefix = call.resource.namespace_prefix(&call.path.namespace);
    let revision = match options.version {
        Version::Exact(revision) => Some(revision),
        Version::NotOlderThan(revision) => {
            wait_for(state, revision).await?;
            None
        }
        Version::Latest | Version::Any => None,
    };
    let request = PageRequest { limit: options.limit, revision, next: options.next };
    let keep = |stored: &Stored| selection.selects_stored(stored);
    let keep: Option<&(dyn Fn(&Stored) -> bool + Sync)> =
        if selection.is_everything() { None } else { Some(&keep) };
    let page = state.objects.page(&prefix, &request, keep).await.map_err(|error| match error {
        StoreError::Compacted { .. } if request.next.is_some() => ApiError::Expired(
            "The provided continue parameter is too old to display a consistent list result. You must start a new \
             list without the continue parameter."
                .into(),
        ),
        error => store_failure(error),
    })?;
    present::list(call, accept, page)
}

/// How long a request waits for a revision that is not yet there.
const LONGEST_WAIT: std::time::Duration = std::time::Duration::from_secs(3);
/// How often it looks.
const LOOK_EVERY: std::time::Duration = std::time::Duration::from_millis(50);

/// Waits until the store has reached a revision.
pub(super) async fn wait_for(state: &State, requested: u64) -> Result<(), ApiError> {
    let deadline = tokio::time::Instant::now() + LONGEST_WAIT;
    loop {
        let current = state.objects.store().revision().await.map_err(store_failure)?;
        if current >= requested {
            return Ok(());
        }
        if tokio::time::Instant::now() >= deadline {
            return Err(ApiError::ResourceVersionTooLarge { requested, current });
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// `POST`.
pub(crate) async fn create(state: &State, call: &Call, body: Body) -> Result<Response<Body>, ApiError> {
    let accept = call.accept()?;
    let options = WriteOptions::parse(&call.query, &call.parts.headers)?;
    let mut writer = Writer::new(&call.user, &options);
    let object = read_object(state, call, body, &mut writer).await?;
    let object = stored_form(call, object);
    let target = stored_target(call);
    let written = create::create(state, &target, object, &mut writer).await?;
    answer(call, accept, &written, &writer)
}

/// `PUT` and `PATCH`, of an object or of one of its parts; `GET` of the part.
pub(crate) async fn part(
    state: &State,
    call: &Call,
    body: Body,
    part: Part,
) -> Result<Response<Body>, ApiError> {
    match call.parts.method {
        Method::PUT => update(state, call, body, part).await,
        Method::PATCH => super::resources_patch::patch(state, call, body, part).await,
        _ => get(state, call).await,
    }
}

async fn update(state: &State, call: &Call, body: Body, part: Part) -> Result<Response<Body>, ApiError> {
    let accept = call.accept()?;
    let options = WriteOptions::parse(&call.query, &call.parts.headers)?;
    let mut writer = Writer::new(&call.user, &options);
    let object = read_object(state, call, body, &mut writer).await?;
    let object = stored_form(call, object);
    let target = stored_target(call);
    let make = |_: &Value| Ok((object.clone(), Ownership::Changed));
    // Without a resourceVersion the client wants to overwrite whatever is there.
    let pinned = !metadata::text(&object, "resourceVersion").is_empty();
    let may_overwrite = target.resource.behaviour.unconditional_update;
    let on_conflict = if pinned || !may_overwrite { OnConflict::Fail } else { OnConflict::Overwrite };
    let change = Change { part, on_conflict, make: &make };
    let written = match modify::modify(state, &target, &change, &mut writer).await {
        Err(ApiError::NotFound { .. })
            if part == Part::Main && target.resource.behaviour.create_on_update && !pinned =>
        {
            create::create(state, &target, object.clone(), &mut writer).await?
        }
        done => done?,
    };
    answer(call, accept, &written, &writer)
}

/// Reads the object in a body and checks its fields.
async fn read_object(
    state: &State,
    call: &Call,
    body: Body,
    writer: &mut Writer<'_>,
) -> Result<Value, ApiError> {
    let encoding = object_encoding(&call.parts.headers)?;
    let bytes = call.read_body(state, body).await?;
    let Document { value: mut object, duplicates } = decode_object(&bytes, encoding)?;
    metadata::check_type(&mut object, &call.resource.api_version, &call.resource.kind)?;
    rules::check_fields(&call.resource, &mut object, &duplicates, writer)?;
    Ok(object)
}

/// The target in the form in which it is stored, which for events is that of the core group.
pub(super) fn stored_target(call: &Call) -> Target {
    match call.resource.source {
        Source::EventView => {
            let core = call.catalog.resource("", "v1", &call.resource.plural);
            Target::new(core.unwrap_or(&call.resource), &call.path.namespace, &call.path.name)
        }
        _ => call.target(),
    }
}

/// The object in the form in which it is stored.
pub(super) fn stored_form(call: &Call, object: Value) -> Value {
    match call.resource.source {
        Source::EventView => super::events::to_core(object),
        _ => object,
    }
}

/// The answer to a write.
pub(super) fn answer(
    call: &Call,
    accept: crate::request::Accept,
    written: &Written,
    writer: &Writer<'_>,
) -> Result<Response<Body>, ApiError> {
    let status = if written.created { StatusCode::CREATED } else { StatusCode::OK };
    let mut response = present::one(call, accept, status, &written.object)?;
    reply::warn(&mut response, &writer.warnings);
    if let Some(warning) = call.resource.custom().and_then(|custom| custom.deprecation.clone()) {
        reply::warn(&mut response, &[warning]);
    }
    Ok(response)
}

/// `DELETE` of one object.
pub(crate) async fn delete(state: &State, call: &Call, body: Body) -> Result<Response<Body>, ApiError> {
    let accept = call.accept()?;
    let options = delete_options(state, call, body).await?;
    let target = stored_target(call);
    state.admission.admit_delete(state, &target, &call.user).await?;
    match delete::delete(state, &target, &options).await? {
        delete::Deleted::Marked(stored) => present::one(call, accept, StatusCode::OK, &stored),
        delete::Deleted::Gone(object) => {
            let mut details = json!({
                "name": metadata::text(&object, "name"),
                "kind": call.resource.plural,
                "uid": metadata::text(&object, "uid"),
            });
            if !call.resource.group.is_empty() {
                details["group"] = call.resource.group.as_str().into();
            }
            Ok(reply::object(StatusCode::OK, accept.representation, &status::success(details)))
        }
    }
}

async fn delete_options(state: &State, call: &Call, body: Body) -> Result<DeleteOptions, ApiError> {
    let bytes = call.read_body(state, body).await?;
    let value = if bytes.is_empty() {
        None
    } else {
        Some(decode_object(&bytes, object_encoding(&call.parts.headers)?)?.value)
    };
    DeleteOptions::parse(value, &call.query)
}

/// Objects that are deleted at the same time.
const DELETIONS_AT_ONCE: usize = 32;

/// `DELETE` of many: all that are there when it begins.
pub(crate) async fn delete_collection(
    state: &State,
    call: &Call,
    body: Body,
) -> Result<Response<Body>, ApiError> {
    let accept = call.accept()?;
    let list = ListOptions::parse(&call.query)?;
    let options = delete_options(state, call, body).await?;
    let selection = super::watch::Selection::new(&call.resource, list.selectors)?;
    let keep = |stored: &Stored| selection.selects_stored(stored);
    let prefix = call.resource.namespace_prefix(&call.path.namespace);
    let request = PageRequest { limit: list.limit, revision: None, next: list.next };
    let page = state.objects.page(&prefix, &request, Some(&keep)).await.map_err(store_failure)?;
    let resource = stored_target(call).resource;
    let targets: Vec<Target> =
        page.items.iter().map(|stored| Target::new(&resource, stored.namespace(), stored.name())).collect();
    futures::stream::iter(targets)
        .map(|target| delete_one(state, call, target, &options))
        .buffer_unordered(DELETIONS_AT_ONCE)
        .try_collect::<Vec<()>>()
        .await?;
    present::list(call, accept, page)
}

/// Deletes one of many; that it is gone already is as good.
async fn delete_one(
    state: &State,
    call: &Call,
    target: Target,
    options: &DeleteOptions,
) -> Result<(), ApiError> {
    state.admission.admit_delete(state, &target, &call.user).await?;
    match delete::delete(state, &target, options).await {
        Ok(_) | Err(ApiError::NotFound { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}
