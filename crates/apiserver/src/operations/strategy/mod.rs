//! What single built-in kinds need besides defaults and validation: fields that the server fills in, and fields that only
//! some writes may change.

mod certificates;
mod pods;
mod services;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use drystone_identity::UserInfo;
use serde_json::{Map, Value, json};

use super::modify::Part;
use crate::machinery::field_error::FieldError;
use crate::machinery::status::ApiError;
use crate::registry::{ResourceInfo, Source};

/// Fills in a new object.
///
/// # Errors
/// [`ApiError::Invalid`] if the client gave what cannot be filled in.
pub(crate) fn begin(resource: &ResourceInfo, object: &mut Value, user: &UserInfo) -> Result<(), ApiError> {
    if !matches!(resource.source, Source::BuiltIn) {
        return Ok(());
    }
    // A node reports itself together with its status; all else begins without one.
    if resource.behaviour.status && resource.kind != "Node" {
        remove(object, "status");
    }
    match (resource.group.as_str(), resource.kind.as_str()) {
        ("", "Namespace") => {
            let name = super::metadata::text(object, "name").to_owned();
            object["spec"] = json!({"finalizers": ["kubernetes"]});
            object["metadata"]["labels"]["kubernetes.io/metadata.name"] = name.into();
            object["status"] = json!({"phase": "Active"});
        }
        ("", "Pod") => pods::begin(object),
        ("", "Secret") => merge_string_data(resource, object)?,
        ("", "Service") => object["status"] = json!({"loadBalancer": {}}),
        ("", "PersistentVolume" | "PersistentVolumeClaim") => object["status"] = json!({"phase": "Pending"}),
        ("batch", "Job") => select_by_uid(object),
        ("certificates.k8s.io", "CertificateSigningRequest") => certificates::begin(object, user)?,
        _ => {}
    }
    Ok(())
}

/// Restores, in the new form of an object, what this write may not change, and completes what it may.
///
/// # Errors
/// [`ApiError::Invalid`] if the client changed what cannot be changed.
pub(crate) fn revise(
    resource: &ResourceInfo,
    part: Part,
    new: &mut Value,
    old: &Value,
) -> Result<(), ApiError> {
    if !matches!(resource.source, Source::BuiltIn) {
        return Ok(());
    }
    match (resource.group.as_str(), resource.kind.as_str()) {
        ("", "Namespace") => {
            if part == Part::Main {
                new["spec"]["finalizers"] = old["spec"]["finalizers"].clone();
            }
            let name = super::metadata::text(old, "name").to_owned();
            new["metadata"]["labels"]["kubernetes.io/metadata.name"] = name.into();
        }
        ("", "Secret") => merge_string_data(resource, new)?,
        ("", "Service") if part == Part::Main => services::revise(new, old),
        ("certificates.k8s.io", "CertificateSigningRequest") => certificates::revise(part, new, old)?,
        _ => {}
    }
    Ok(())
}

fn remove(object: &mut Value, field: &str) {
    if let Some(fields) = object.as_object_mut() {
        fields.remove(field);
    }
}

/// `stringData` is a way to write `data` without encoding it; it is never read back.
fn merge_string_data(resource: &ResourceInfo, object: &mut Value) -> Result<(), ApiError> {
    let Some(texts) = object.as_object_mut().and_then(|fields| fields.remove("stringData")) else {
        return Ok(());
    };
    let Value::Object(texts) = texts else { return Ok(()) };
    if object["data"].is_null() {
        object["data"] = Value::Object(Map::new());
    }
    for (key, text) in texts {
        let Some(text) = text.as_str() else {
            let errors = vec![FieldError::invalid(format!("stringData[{key}]"), text, "must be a string")];
            return Err(ApiError::invalid(
                resource.group_kind(),
                super::metadata::text(object, "name"),
                errors,
            ));
        };
        object["data"][key] = STANDARD.encode(text).into();
    }
    Ok(())
}

/// A job finds its pods by its UID, unless its author wants to select them.
fn select_by_uid(object: &mut Value) {
    if object["spec"]["manualSelector"] == true || object["spec"]["template"].is_null() {
        return;
    }
    let uid = super::metadata::text(object, "uid").to_owned();
    let name = super::metadata::text(object, "name").to_owned();
    let labels = &mut object["spec"]["template"]["metadata"]["labels"];
    for prefix in ["batch.kubernetes.io/", ""] {
        labels[format!("{prefix}controller-uid")] = uid.as_str().into();
        labels[format!("{prefix}job-name")] = name.as_str().into();
    }
    object["spec"]["selector"] = json!({"matchLabels": {"batch.kubernetes.io/controller-uid": uid}});
}
