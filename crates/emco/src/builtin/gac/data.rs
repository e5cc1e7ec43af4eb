//! Files as data of ConfigMaps and Secrets.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use drystone_api::emco::{CustomizationSpec, DataKeyOption};
use serde_json::Value;

use super::{apply::bare, is_true};
use crate::builtin::manifest;

/// Kinds that files become data of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    ConfigMap,
    Secret,
}

impl Kind {
    pub(super) fn of(kind: &str) -> Option<Self> {
        if kind.eq_ignore_ascii_case("configmap") {
            Some(Self::ConfigMap)
        } else if kind.eq_ignore_ascii_case("secret") {
            Some(Self::Secret)
        } else {
            None
        }
    }

    /// One without data.
    pub(super) fn empty(self, name: &str) -> Value {
        match self {
            Self::ConfigMap => bare("ConfigMap", name),
            Self::Secret => {
                let mut secret = bare("Secret", name);
                secret["type"] = "Opaque".into();
                secret
            }
        }
    }

    /// Puts a file in under a key.
    pub(super) fn put(self, object: &mut Value, key: &str, content: &[u8], new: bool) -> Result<(), String> {
        check_key(key)?;
        if new && ["data", "binaryData", "stringData"].iter().any(|field| object[*field].get(key).is_some()) {
            return Err(format!("there is data under {key} already; give it another keyName"));
        }
        let (field, value) = match (self, std::str::from_utf8(content)) {
            (Self::Secret, _) => ("data", STANDARD.encode(content)),
            (Self::ConfigMap, Ok(text)) => ("data", text.to_owned()),
            (Self::ConfigMap, Err(_)) => ("binaryData", STANDARD.encode(content)),
        };
        // A key is in one of them only, or the API server refuses the object.
        for other in ["data", "binaryData", "stringData"] {
            if let Some(map) = object.get_mut(other).and_then(Value::as_object_mut) {
                map.remove(key);
            }
        }
        let map = manifest::object_at(object, &[field]).ok_or_else(|| format!("{field} is not a mapping"))?;
        map.insert(key.to_owned(), value.into());
        Ok(())
    }
}

/// What is said of a file.
fn option<'a>(spec: &'a CustomizationSpec, kind: Kind, file: &str) -> Option<&'a DataKeyOption> {
    let options = match kind {
        Kind::ConfigMap => &spec.config_map_options,
        Kind::Secret => &spec.secret_options,
    };
    options.as_ref()?.data_key_options.iter().find(|option| option.file_name == file)
}

/// Whether a file is a merge patch, not data.
pub(super) fn is_merged(spec: &CustomizationSpec, kind: Kind, file: &str) -> bool {
    option(spec, kind, file).is_some_and(|option| is_true(&option.merge_patch))
}

/// Key of a file's content.
pub(super) fn key_of(spec: &CustomizationSpec, kind: Kind, file: &str) -> String {
    let named =
        option(spec, kind, file).map(|option| option.key_name.as_str()).filter(|name| !name.is_empty());
    named.unwrap_or(file).to_owned()
}

/// What Kubernetes takes as a key.
fn check_key(key: &str) -> Result<(), String> {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
    if (1..=253).contains(&key.len()) && key.chars().all(plain) && key != "." && !key.starts_with("..") {
        return Ok(());
    }
    Err(format!(
        "{key:?} is no key of data: use letters, digits, `-`, `_` and `.`, at most 253; give it a keyName"
    ))
}
