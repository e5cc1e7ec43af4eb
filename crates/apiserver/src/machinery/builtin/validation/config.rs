//! Configuration, secrets and service accounts.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::field::{Errors, Field};
use crate::machinery::field_error::FieldError;
use crate::machinery::names;

/// Most bytes of a ConfigMap or Secret.
const SIZE_MAX: usize = 1 << 20;

/// A ConfigMap.
pub(super) fn config_map(object: &Field<'_>, errors: &mut Errors) {
    let (data, binary) = (object.get("data"), object.get("binaryData"));
    let mut size = 0;
    for (key, value) in data.entries() {
        config_key(key, &value, errors);
        size += value.text().len();
        if !binary.value[key].is_null() {
            let message = format!("duplicate of key present in binaryData: {key}");
            errors.push(FieldError::invalid(value.path.as_str(), key, message));
        }
    }
    for (key, value) in binary.entries() {
        config_key(key, &value, errors);
        size += decoded_length(value.text());
    }
    if size > SIZE_MAX {
        errors.push(FieldError::too_long("", SIZE_MAX));
    }
}

fn config_key(key: &str, value: &Field<'_>, errors: &mut Errors) {
    for message in names::config_key(key) {
        errors.push(FieldError::invalid(value.path.as_str(), key, message));
    }
}

/// Bytes that base64 text stands for.
fn decoded_length(text: &str) -> usize {
    let padding = text.bytes().rev().take_while(|byte| *byte == b'=').count();
    (text.len() / 4 * 3).saturating_sub(padding)
}

/// What is marked `immutable` stays as it is, and stays marked.
pub(super) fn immutable_change(new: &Field<'_>, old: &Field<'_>, errors: &mut Errors) {
    if !old.get("immutable").is_true() {
        return;
    }
    if !new.get("immutable").is_true() {
        new.get("immutable").forbidden("field is immutable when `immutable` is set", errors);
    }
    for name in ["data", "binaryData"] {
        if new.get(name).value != old.get(name).value {
            new.get(name).forbidden("field is immutable when `immutable` is set", errors);
        }
    }
}

/// A Secret. Its values are in no message.
pub(super) fn secret(object: &Field<'_>, errors: &mut Errors) {
    let data = object.get("data");
    let mut size = 0;
    for (key, value) in data.entries() {
        config_key(key, &value, errors);
        size += decoded_length(value.text());
    }
    if size > SIZE_MAX {
        errors.push(FieldError::too_long("data", SIZE_MAX));
    }
    match object.get("type").text() {
        "kubernetes.io/service-account-token" => {
            let path = "metadata.annotations[kubernetes.io/service-account.name]";
            let name = &object.value["metadata"]["annotations"]["kubernetes.io/service-account.name"];
            if name.as_str().unwrap_or_default().is_empty() {
                errors.push(FieldError::required(path, ""));
            }
        }
        "kubernetes.io/tls" => keys_required(&data, &["tls.crt", "tls.key"], errors),
        "kubernetes.io/ssh-auth" => keys_required(&data, &["ssh-privatekey"], errors),
        "kubernetes.io/basic-auth"
            if data.value["username"].is_null() && data.value["password"].is_null() =>
        {
            keys_required(&data, &["username", "password"], errors);
        }
        "kubernetes.io/dockerconfigjson" => docker_config(&data, ".dockerconfigjson", errors),
        "kubernetes.io/dockercfg" => docker_config(&data, ".dockercfg", errors),
        _ => {}
    }
}

fn keys_required(data: &Field<'_>, keys: &[&str], errors: &mut Errors) {
    for key in keys.iter().filter(|key| data.value[**key].is_null()) {
        errors.push(FieldError::required(format!("{}[{key}]", data.path), ""));
    }
}

fn docker_config(data: &Field<'_>, key: &str, errors: &mut Errors) {
    keys_required(data, &[key], errors);
    let Some(text) = data.value[key].as_str() else { return };
    let decoded = STANDARD.decode(text).unwrap_or_default();
    if serde_json::from_slice::<Value>(&decoded).is_err() {
        let path = format!("{}[{key}]", data.path);
        errors.push(FieldError::invalid(path, "<secret contents redacted>", "must be JSON"));
    }
}

/// A change of a Secret.
pub(super) fn secret_change(new: &Field<'_>, old: &Field<'_>, errors: &mut Errors) {
    new.get("type").unchanged_once_set(&old.get("type"), errors);
    immutable_change(new, old, errors);
}

/// A ServiceAccount.
pub(super) fn service_account(object: &Field<'_>, errors: &mut Errors) {
    for secret in object.get("imagePullSecrets").items() {
        secret.get("name").require(errors);
    }
}
