//! `metadata`: what the server sets, what it keeps, and what it checks, for objects of every kind.

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::machinery::field_error::FieldError;
use crate::machinery::names;
use crate::machinery::status::ApiError;
use crate::registry::ResourceInfo;

/// The largest sum of the lengths of all annotations, in bytes.
const MOST_ANNOTATION_BYTES: usize = 256 * 1024;

/// The object's metadata, which is made if it is missing.
///
/// # Errors
/// [`ApiError::BadRequest`] if object or metadata are no JSON objects.
pub(crate) fn of(object: &mut Value) -> Result<&mut Map<String, Value>, ApiError> {
    let fields = object.as_object_mut().ok_or_else(|| ApiError::bad_request("the body is no object"))?;
    let metadata = fields.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
    if metadata.is_null() {
        *metadata = Value::Object(Map::new());
    }
    metadata.as_object_mut().ok_or_else(|| ApiError::bad_request("metadata: must be an object"))
}

/// A text of the metadata; empty if there is none.
pub(crate) fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object["metadata"][field].as_str().unwrap_or_default()
}

/// Whether deletion of the object has begun.
pub(crate) fn is_deleting(object: &Value) -> bool {
    object["metadata"]["deletionTimestamp"].is_string()
}

/// The finalizers of the object.
pub(crate) fn finalizers(object: &Value) -> impl Iterator<Item = &str> {
    object["metadata"]["finalizers"].as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// The time as metadata has it: RFC 3339, whole seconds.
pub(crate) fn timestamp(now: Timestamp) -> String {
    Timestamp::from_second(now.as_second()).unwrap_or(now).to_string()
}

/// Checks that a body is of the kind that its URL says, and gives it that kind if it says none.
///
/// # Errors
/// [`ApiError::BadRequest`] if it is of another.
pub(crate) fn check_type(object: &mut Value, api_version: &str, kind: &str) -> Result<(), ApiError> {
    let fields = object.as_object_mut().ok_or_else(|| ApiError::bad_request("the body is no object"))?;
    for (field, expected) in [("apiVersion", api_version), ("kind", kind)] {
        match fields.get(field).and_then(Value::as_str).unwrap_or_default() {
            "" => {
                fields.insert(field.into(), expected.into());
            }
            found if found == expected => {}
            found => {
                return Err(ApiError::bad_request(format!(
                    "{field} in the data ({found}) does not match the expected {field} ({expected})"
                )));
            }
        }
    }
    Ok(())
}

/// Takes name and namespace from the URL where the body has none.
///
/// # Errors
/// [`ApiError::BadRequest`] if the body has others.
pub(crate) fn adopt_path(
    object: &mut Value,
    resource: &ResourceInfo,
    namespace: &str,
    name: &str,
) -> Result<(), ApiError> {
    let metadata = of(object)?;
    if resource.namespaced() {
        adopt(metadata, "namespace", namespace)?;
    } else if metadata
        .remove("namespace")
        .is_some_and(|namespace| namespace.as_str().is_some_and(|n| !n.is_empty()))
    {
        return Err(ApiError::bad_request(
            "the namespace of the provided object does not match: the resource has none",
        ));
    }
    if !name.is_empty() {
        adopt(metadata, "name", name)?;
    }
    Ok(())
}

fn adopt(metadata: &mut Map<String, Value>, field: &str, from_path: &str) -> Result<(), ApiError> {
    match metadata.get(field).and_then(Value::as_str).unwrap_or_default() {
        "" => {
            metadata.insert(field.to_owned(), from_path.into());
            Ok(())
        }
        found if found == from_path => Ok(()),
        found => Err(ApiError::bad_request(format!(
            "the {field} of the provided object does not match the {field} sent on the request ({found} != {from_path})"
        ))),
    }
}

/// Sets what only the server sets in a new object.
///
/// # Errors
/// [`ApiError`] if the client set something that a new object cannot have.
pub(crate) fn begin(
    object: &mut Value,
    resource: &ResourceInfo,
    uid: String,
    now: Timestamp,
) -> Result<(), ApiError> {
    let metadata = of(object)?;
    if metadata.get("resourceVersion").and_then(Value::as_str).is_some_and(|version| !version.is_empty()) {
        return Err(ApiError::bad_request("resourceVersion should not be set on objects to be created"));
    }
    for field in
        ["resourceVersion", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "generation"]
    {
        metadata.remove(field);
    }
    metadata.insert("uid".into(), uid.into());
    metadata.insert("creationTimestamp".into(), timestamp(now).into());
    if resource.behaviour.generation {
        metadata.insert("generation".into(), 1.into());
    }
    drop_empty(metadata);
    Ok(())
}

/// Keeps, in the new form of an object, what only the server sets. `resourceVersion` stays as the client gave it.
///
/// # Errors
/// [`ApiError::Invalid`] if the client changed something that cannot be changed.
pub(crate) fn carry_over(new: &mut Value, old: &Value, resource: &ResourceInfo) -> Result<(), ApiError> {
    let old_metadata = old["metadata"].as_object().cloned().unwrap_or_default();
    let name = text(old, "name").to_owned();
    let metadata = of(new)?;
    let given = metadata.get("uid").and_then(Value::as_str).unwrap_or_default();
    let kept = old_metadata.get("uid").and_then(Value::as_str).unwrap_or_default();
    if !given.is_empty() && given != kept {
        return Err(ApiError::Conflict {
            resource: resource.group_resource(),
            name,
            reason: format!("Precondition failed: UID in precondition: {given}, UID in object meta: {kept}"),
        });
    }
    for field in ["uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation"]
    {
        match old_metadata.get(field) {
            Some(value) => metadata.insert(field.into(), value.clone()),
            None => metadata.remove(field),
        };
    }
    for field in ["name", "namespace", "generateName"] {
        if let Some(value) = old_metadata.get(field) {
            metadata.entry(field).or_insert_with(|| value.clone());
        }
    }
    metadata.remove("selfLink");
    drop_empty(metadata);
    if is_deleting(old) {
        let before: Vec<_> = finalizers(old).collect();
        let added: Vec<_> = finalizers(new).filter(|finalizer| !before.contains(finalizer)).collect();
        if !added.is_empty() {
            let message = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers {added:?}"
            );
            let errors = vec![FieldError::forbidden("metadata.finalizers", message)];
            return Err(ApiError::invalid(resource.group_kind(), text(old, "name"), errors));
        }
    }
    Ok(())
}

/// Empty maps and lists mean nothing, and are not kept.
fn drop_empty(metadata: &mut Map<String, Value>) {
    for field in ["labels", "annotations", "finalizers", "ownerReferences", "generateName", "namespace"] {
        let empty = metadata.get(field).is_some_and(|value| match value {
            Value::Null => true,
            Value::Object(map) => map.is_empty(),
            Value::Array(list) => list.is_empty(),
            Value::String(text) => text.is_empty(),
            _ => false,
        });
        if empty {
            metadata.remove(field);
        }
    }
}

/// Counts a change of anything but metadata and, where it has a subresource of its own, status.
pub(crate) fn count_generation(new: &mut Value, old: &Value, resource: &ResourceInfo) {
    if !resource.behaviour.generation {
        return;
    }
    let counts = |name: &str| match name {
        "metadata" | "apiVersion" | "kind" => false,
        "status" => !resource.behaviour.status,
        _ => true,
    };
    let (Some(after), Some(before)) = (new.as_object(), old.as_object()) else { return };
    let changed = after.iter().any(|(name, value)| counts(name) && before.get(name) != Some(value))
        || before.keys().any(|name| counts(name) && !after.contains_key(name));
    if changed {
        bump_generation(new);
    }
}

/// Raises `metadata.generation` by one.
pub(crate) fn bump_generation(object: &mut Value) {
    let generation = object["metadata"]["generation"].as_i64().unwrap_or(0);
    object["metadata"]["generation"] = (generation + 1).into();
}

/// Checks the metadata of an object that is to be stored.
///
/// # Errors
/// [`ApiError::Invalid`] with all that is wrong.
pub(crate) fn validate(object: &Value, resource: &ResourceInfo) -> Result<(), ApiError> {
    let mut errors = Vec::new();
    let name = text(object, "name");
    if name.is_empty() {
        errors.push(FieldError::required("metadata.name", "name or generateName is required"));
    } else {
        let problems = name_problems(resource, name);
        errors
            .extend(problems.into_iter().map(|problem| FieldError::invalid("metadata.name", name, problem)));
    }
    check_strings(
        &object["metadata"]["labels"],
        "metadata.labels",
        &mut errors,
        |key, value, path, errors| {
            let key_problems = names::qualified_name(key);
            errors.extend(key_problems.into_iter().map(|problem| FieldError::invalid(path, key, problem)));
            let problems = names::label_value(value);
            errors.extend(problems.into_iter().map(|problem| FieldError::invalid(path, value, problem)));
        },
    );
    let mut annotation_bytes = 0;
    let annotations = &object["metadata"]["annotations"];
    check_strings(annotations, "metadata.annotations", &mut errors, |key, value, path, errors| {
        annotation_bytes += key.len() + value.len();
        let problems = names::qualified_name(&key.to_lowercase());
        errors.extend(problems.into_iter().map(|problem| FieldError::invalid(path, key, problem)));
    });
    if annotation_bytes > MOST_ANNOTATION_BYTES {
        errors.push(FieldError::too_long("metadata.annotations", MOST_ANNOTATION_BYTES));
    }
    check_finalizers(&object["metadata"]["finalizers"], &mut errors);
    check_owners(&object["metadata"]["ownerReferences"], &mut errors);
    if errors.is_empty() { Ok(()) } else { Err(ApiError::invalid(resource.group_kind(), name, errors)) }
}

fn name_problems(resource: &ResourceInfo, name: &str) -> Vec<String> {
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "namespaces") => names::dns1123_label(name),
        ("", "services") => names::dns1035_label(name),
        ("rbac.authorization.k8s.io", _) => names::path_segment(name),
        _ => names::dns1123_subdomain(name),
    }
}

fn check_strings(
    map: &Value,
    path: &str,
    errors: &mut Vec<FieldError>,
    mut each: impl FnMut(&str, &str, &str, &mut Vec<FieldError>),
) {
    let entries = match map {
        Value::Null => return,
        Value::Object(entries) => entries,
        other => {
            errors.push(FieldError::invalid(path, other.clone(), "must be a map of strings"));
            return;
        }
    };
    for (key, value) in entries {
        match value.as_str() {
            Some(value) => each(key, value, path, errors),
            None => {
                errors.push(FieldError::invalid(format!("{path}[{key}]"), value.clone(), "must be a string"));
            }
        }
    }
}

fn check_finalizers(list: &Value, errors: &mut Vec<FieldError>) {
    let path = "metadata.finalizers";
    match list {
        Value::Null => {}
        Value::Array(items) => {
            for item in items {
                let problems = match item.as_str() {
                    Some(finalizer) => names::qualified_name(finalizer),
                    None => vec!["must be a string".into()],
                };
                errors.extend(
                    problems.into_iter().map(|problem| FieldError::invalid(path, item.clone(), problem)),
                );
            }
            let of_policy = |name: &str| items.iter().any(|item| item == name);
            if of_policy("orphan") && of_policy("foregroundDeletion") {
                errors.push(FieldError::invalid(
                    path,
                    list.clone(),
                    "finalizer orphan and foregroundDeletion cannot be both set",
                ));
            }
        }
        other => errors.push(FieldError::invalid(path, other.clone(), "must be a list of strings")),
    }
}

fn check_owners(list: &Value, errors: &mut Vec<FieldError>) {
    let owners = match list {
        Value::Null => return,
        Value::Array(owners) => owners,
        other => {
            errors.push(FieldError::invalid("metadata.ownerReferences", other.clone(), "must be a list"));
            return;
        }
    };
    let mut controllers = 0;
    for (index, owner) in owners.iter().enumerate() {
        for field in ["apiVersion", "kind", "name", "uid"] {
            if owner[field].as_str().unwrap_or_default().is_empty() {
                let path = format!("metadata.ownerReferences[{index}].{field}");
                errors.push(FieldError::required(path, "must not be empty"));
            }
        }
        controllers += usize::from(owner["controller"] == true);
    }
    if controllers > 1 {
        let message = "Only one reference can have Controller set to true";
        errors.push(FieldError::invalid("metadata.ownerReferences", list.clone(), message));
    }
}
