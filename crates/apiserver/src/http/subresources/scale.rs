//! `scale`: the number of replicas of any kind that has one, as `autoscaling/v1` `Scale`.

use axum::body::Body;
use http::{Method, Response, StatusCode};
use serde_json::{Value, json};

use crate::http::call::Call;
use crate::http::reply;
use crate::machinery::field_error::FieldError;
use crate::machinery::group::GroupKind;
use crate::machinery::patch::{json_patch, merge_patch};
use crate::machinery::selector::LabelSelector;
use crate::machinery::status::ApiError;
use crate::operations::modify::{self, Change, OnConflict, Ownership, Part};
use crate::operations::{Writer, metadata, read};
use crate::request::body::{self, Encoding, decode, decode_object};
use crate::request::options::WriteOptions;
use crate::server::state::State;

const API_VERSION: &str = "autoscaling/v1";

/// Answers a request for the subresource.
pub(crate) async fn answer(state: &State, call: &Call, body: Body) -> Result<Response<Body>, ApiError> {
    let accept = call.accept()?;
    let target = call.target();
    let scale = if call.parts.method == Method::GET {
        let object = modify::in_version(read::get_value(state, &target).await?, &target);
        scale_of(call, &object)?
    } else {
        let written = write(state, call, body).await?;
        let object = modify::in_version(read::decode(&written.object)?, &target);
        scale_of(call, &object)?
    };
    Ok(reply::object(StatusCode::OK, accept.representation, &scale))
}

/// What the client wants of the present scale.
enum Wanted {
    Replaced(Value),
    JsonPatched(Value),
    Merged(Value),
}

async fn write(state: &State, call: &Call, body: Body) -> Result<crate::operations::Written, ApiError> {
    let options = WriteOptions::parse(&call.query, &call.parts.headers)?;
    let wanted = if call.parts.method == Method::PUT {
        Wanted::Replaced(super::read(state, call, body, API_VERSION, "Scale").await?)
    } else {
        let bytes = call.read_body(state, body).await?;
        match body::media_type(&call.parts.headers).as_str() {
            "application/json-patch+json" => Wanted::JsonPatched(decode(&bytes, Encoding::Json)?.value),
            // A scale has no lists, so that these are the same.
            "application/merge-patch+json" | "application/strategic-merge-patch+json" => {
                Wanted::Merged(decode_object(&bytes, Encoding::Json)?.value)
            }
            "application/apply-patch+yaml" => Wanted::Merged(decode_object(&bytes, Encoding::Yaml)?.value),
            other => return Err(ApiError::UnsupportedMediaType(format!("{other:?} is no patch of a scale"))),
        }
    };
    let make = |object: &Value| {
        let present = scale_of(call, object)?;
        let scale = match &wanted {
            Wanted::Replaced(scale) => scale.clone(),
            Wanted::JsonPatched(patch) => json_patch(&present, patch)?,
            Wanted::Merged(patch) => merge_patch(&present, patch)?,
        };
        let mut object = object.clone();
        let version = metadata::text(&scale, "resourceVersion");
        if !version.is_empty() {
            object["metadata"]["resourceVersion"] = version.into();
        }
        set_replicas(call, &mut object, &scale)?;
        Ok((object, Ownership::Changed))
    };
    let pinned =
        matches!(&wanted, Wanted::Replaced(scale) if !metadata::text(scale, "resourceVersion").is_empty());
    let on_conflict = if pinned { OnConflict::Fail } else { OnConflict::Retry };
    let change = Change { part: Part::Scale, on_conflict, make: &make };
    modify::modify(state, &call.target(), &change, &mut Writer::new(&call.user, &options)).await
}

/// The scale of an object.
fn scale_of(call: &Call, object: &Value) -> Result<Value, ApiError> {
    let (wanted, observed, selector) = match call.resource.custom().and_then(|custom| custom.scale.as_ref()) {
        Some(paths) => {
            let selector = paths.label_selector.as_deref().and_then(|path| at(object, path));
            let wanted = at(object, &paths.spec_replicas);
            (wanted, at(object, &paths.status_replicas), selector.and_then(Value::as_str).map(str::to_owned))
        }
        None => {
            let selector = &object["spec"]["selector"];
            // A ReplicationController selects by plain labels.
            let selector = if call.resource.kind == "ReplicationController" {
                Some(LabelSelector::from_labels(selector))
            } else {
                LabelSelector::from_object(selector).ok().flatten()
            };
            let text = selector.map(|selector| selector.to_string());
            (object["spec"].get("replicas"), object["status"].get("replicas"), text)
        }
    };
    let number = |value: Option<&Value>| value.and_then(Value::as_i64).unwrap_or(0);
    let mut scale = json!({
        "kind": "Scale",
        "apiVersion": API_VERSION,
        "metadata": {},
        "spec": {"replicas": number(wanted)},
        "status": {"replicas": number(observed)},
    });
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = object["metadata"].get(field) {
            scale["metadata"][field] = value.clone();
        }
    }
    if let Some(selector) = selector {
        scale["status"]["selector"] = selector.into();
    }
    Ok(scale)
}

fn set_replicas(call: &Call, object: &mut Value, scale: &Value) -> Result<(), ApiError> {
    let replicas = &scale["spec"]["replicas"];
    let replicas = if replicas.is_null() { &json!(0) } else { replicas };
    let name = metadata::text(scale, "name");
    let invalid = |message: &str| {
        let errors = vec![FieldError::invalid("spec.replicas", replicas.clone(), message)];
        ApiError::invalid(GroupKind::new("autoscaling", "Scale"), call.path.name.as_str(), errors)
    };
    if !name.is_empty() && name != call.path.name {
        return Err(ApiError::bad_request(format!(
            "the name of the provided object does not match the name sent on the request ({name} != {})",
            call.path.name
        )));
    }
    match replicas.as_i64() {
        None => return Err(invalid("must be an integer")),
        Some(count) if count < 0 => return Err(invalid("must be greater than or equal to 0")),
        Some(count) if count > i64::from(i32::MAX) => return Err(invalid("must be a 32-bit integer")),
        Some(_) => {}
    }
    let path = call.resource.custom().and_then(|custom| custom.scale.as_ref());
    let path = path.map_or(".spec.replicas", |paths| paths.spec_replicas.as_str());
    let mut place = object;
    for field in fields(path) {
        if !place.is_object() {
            *place = json!({});
        }
        place = &mut place[field];
    }
    *place = replicas.clone();
    Ok(())
}

/// The fields of a path such as `.spec.replicas`.
fn fields(path: &str) -> impl Iterator<Item = &str> {
    path.split('.').filter(|field| !field.is_empty())
}

fn at<'o>(object: &'o Value, path: &str) -> Option<&'o Value> {
    fields(path).try_fold(object, |place, field| place.get(field))
}
