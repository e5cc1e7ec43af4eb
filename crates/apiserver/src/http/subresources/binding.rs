//! `pods/binding`: assigns a pod to a node, once.

use axum::body::Body;
use http::{Response, StatusCode};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::http::call::Call;
use crate::http::reply;
use crate::machinery::field_error::FieldError;
use crate::machinery::group::GroupKind;
use crate::machinery::status::ApiError;
use crate::operations::modify::{self, Change, OnConflict, Ownership, Part};
use crate::operations::{Writer, metadata};
use crate::request::options::WriteOptions;
use crate::server::state::State;

/// Answers a `POST`.
pub(crate) async fn answer(state: &State, call: &Call, body: Body) -> Result<Response<Body>, ApiError> {
    let accept = call.accept()?;
    let options = WriteOptions::parse(&call.query, &call.parts.headers)?;
    let binding = super::read(state, call, body, "v1", "Binding").await?;
    let kind = binding["target"]["kind"].as_str().unwrap_or_default();
    let node = binding["target"]["name"].as_str().unwrap_or_default();
    let mut errors = Vec::new();
    if !matches!(kind, "" | "Node") {
        errors.push(FieldError::not_supported("target.kind", kind, ["Node", "<empty>"]));
    }
    if node.is_empty() {
        errors.push(FieldError::required("target.name", ""));
    }
    if !errors.is_empty() {
        return Err(ApiError::invalid(GroupKind::new("", "Binding"), call.path.name.as_str(), errors));
    }
    let target = call.target();
    let uid = metadata::text(&binding, "uid");
    let make = |pod: &Value| {
        if !uid.is_empty() && uid != metadata::text(pod, "uid") {
            return Err(target.conflict(format!(
                "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
                metadata::text(pod, "uid")
            )));
        }
        if metadata::is_deleting(pod) {
            return Err(target
                .conflict(format!("pod {} is being deleted, cannot be assigned to a host", target.name)));
        }
        let assigned = pod["spec"]["nodeName"].as_str().unwrap_or_default();
        if !assigned.is_empty() {
            return Err(
                target.conflict(format!("pod {} is already assigned to node {assigned:?}", target.name))
            );
        }
        Ok((assign(pod.clone(), node, &binding), Ownership::Changed))
    };
    let change = Change { part: Part::Binding, on_conflict: OnConflict::Retry, make: &make };
    let mut writer = Writer::new(&call.user, &options);
    modify::modify(state, &target, &change, &mut writer).await?;
    let success =
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
    Ok(reply::object(StatusCode::CREATED, accept.representation, &success))
}

fn assign(mut pod: Value, node: &str, binding: &Value) -> Value {
    pod["spec"]["nodeName"] = node.into();
    if let Some(annotations) = binding["metadata"]["annotations"].as_object() {
        for (key, value) in annotations {
            pod["metadata"]["annotations"][key] = value.clone();
        }
    }
    let scheduled = json!({
        "type": "PodScheduled", "status": "True", "lastProbeTime": null,
        "lastTransitionTime": metadata::timestamp(Timestamp::now()),
    });
    let mut conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions.retain(|condition| condition["type"] != "PodScheduled");
    conditions.push(scheduled);
    pod["status"]["conditions"] = conditions.into();
    pod
}
