//! The network configuration that a plugin reads from its standard input.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{AddResult, CniError, ErrorCode, SpecVersion};

/// One interface of one container.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Attachment {
    /// The runtime's identifier of the container; for pods, of the sandbox.
    #[serde(rename = "containerID")]
    pub container_id: String,
    /// Name of the interface inside.
    #[serde(rename = "ifname")]
    pub interface: String,
}

/// A plugin's network configuration. Keys that the plugin does not know are left alone.
#[derive(Debug, Clone, PartialEq)]
pub struct NetworkConfiguration {
    /// `cniVersion`: the version of the conversation.
    pub version: SpecVersion,
    /// `name` of the network.
    pub name: String,
    /// `type`: name of the plugin.
    pub plugin: String,
    /// `prevResult`: of the plugin before this one; for CHECK and DEL, of the whole ADD.
    pub previous: Option<AddResult>,
    /// `cni.dev/valid-attachments`: what GC must keep.
    pub valid_attachments: BTreeSet<Attachment>,
    raw: Map<String, Value>,
}

impl NetworkConfiguration {
    /// Decodes and checks a configuration.
    ///
    /// # Errors
    /// [`ErrorCode::Decode`] if it is not such JSON, [`ErrorCode::IncompatibleVersion`] for other versions,
    /// [`ErrorCode::InvalidConfiguration`] for a missing or malformed field.
    pub fn parse(text: &[u8]) -> Result<Self, CniError> {
        let raw: Map<String, Value> = serde_json::from_slice(text).map_err(|error| {
            CniError::new(
                ErrorCode::Decode,
                format!("the network configuration is not a JSON object: {error}"),
            )
        })?;
        Self::from_json(raw)
    }

    /// As [`parse`](Self::parse), from JSON.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn from_json(raw: Map<String, Value>) -> Result<Self, CniError> {
        // The specification: without a version it is 0.1.0.
        let version = SpecVersion::parse(text(&raw, "cniVersion")?.unwrap_or("0.1.0"))?;
        let name = text(&raw, "name")?.ok_or_else(|| invalid("name", "it is missing"))?.to_owned();
        check_name(&name)?;
        let plugin = text(&raw, "type")?.ok_or_else(|| invalid("type", "it is missing"))?.to_owned();
        let previous = match raw.get("prevResult") {
            None | Some(Value::Null) => None,
            Some(value) => Some(decode::<AddResult>("prevResult", value)?),
        };
        let valid_attachments = match raw.get("cni.dev/valid-attachments") {
            None | Some(Value::Null) => BTreeSet::new(),
            Some(value) => decode("cni.dev/valid-attachments", value)?,
        };
        Ok(Self { version, name, plugin, previous, valid_attachments, raw })
    }

    /// Whether the key `cni.dev/valid-attachments` was given, which GC needs.
    pub fn lists_attachments(&self) -> bool {
        self.raw.contains_key("cni.dev/valid-attachments")
    }

    /// A text that only this plugin knows, such as the path of the agent's socket.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidConfiguration`] if the key is there but holds no text.
    pub fn own_text(&self, key: &str) -> Result<Option<&str>, CniError> {
        text(&self.raw, key)
    }

    /// The whole configuration, as it came.
    pub fn as_json(&self) -> &Map<String, Value> {
        &self.raw
    }
}

fn text<'a>(raw: &'a Map<String, Value>, key: &str) -> Result<Option<&'a str>, CniError> {
    match raw.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => Err(invalid(key, &format!("{other} is not a string"))),
    }
}

fn decode<T: for<'de> Deserialize<'de>>(key: &str, value: &Value) -> Result<T, CniError> {
    T::deserialize(value).map_err(|error| {
        CniError::new(ErrorCode::Decode, format!("field {key:?} cannot be decoded: {error}"))
    })
}

fn invalid(key: &str, problem: &str) -> CniError {
    CniError::new(
        ErrorCode::InvalidConfiguration,
        format!("field {key:?} of the network configuration: {problem}"),
    )
}

fn check_name(name: &str) -> Result<(), CniError> {
    let starts_well = name.starts_with(|first: char| first.is_ascii_alphanumeric());
    if starts_well && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-')) {
        return Ok(());
    }
    let allowed = "must start with a letter or digit; after it may come letters, digits, '_', '.' and '-'";
    Err(invalid("name", &format!("{name:?} {allowed}")))
}
