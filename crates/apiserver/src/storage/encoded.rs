//! The bytes of a stored object.
//!
//! They start with `{"apiVersion":"…","kind":"…","metadata":{`, and `metadata` has no `resourceVersion`: it can be put
//! right behind that brace, since metadata is never empty. An object of a kind with several versions is stored in one of
//! them; for the others only the `apiVersion` differs.

use bytes::Bytes;
use serde::ser::{SerializeMap, Serializer};
use serde_json::{Map, Value};

use drystone_store::{KeyValue, Revision};

const METADATA: &[u8] = br#""metadata":{"#;
const API_VERSION: &[u8] = br#"{"apiVersion":""#;

/// An object, encoded as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    bytes: Bytes,
}

/// Stored bytes that are no object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the object stored at {key} is damaged: {problem}")]
pub struct DamagedObject {
    key: String,
    problem: String,
}

impl Encoded {
    /// Encodes an object; its `metadata.resourceVersion` is left out.
    ///
    /// # Errors
    /// If it is no JSON object with metadata.
    pub fn new(object: &Value) -> Result<Self, serde_json::Error> {
        let mut bytes = Vec::with_capacity(1024);
        let mut serializer = serde_json::Serializer::new(&mut bytes);
        write(object, &mut serializer)?;
        Ok(Self { bytes: bytes.into() })
    }

    /// The bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The bytes.
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }
}

fn write<S: Serializer>(object: &Value, serializer: S) -> Result<S::Ok, S::Error> {
    use serde::ser::Error;
    let fields = object.as_object().ok_or_else(|| S::Error::custom("it is no JSON object"))?;
    let metadata = fields.get("metadata").and_then(Value::as_object);
    let metadata = metadata.ok_or_else(|| S::Error::custom("it has no metadata"))?;
    let mut map = serializer.serialize_map(None)?;
    for name in ["apiVersion", "kind"] {
        let value = fields.get(name).and_then(Value::as_str);
        map.serialize_entry(name, value.ok_or_else(|| S::Error::custom(format_args!("it has no {name}")))?)?;
    }
    map.serialize_entry("metadata", &Metadata(metadata))?;
    for (name, value) in fields {
        if !matches!(name.as_str(), "apiVersion" | "kind" | "metadata") {
            map.serialize_entry(name, value)?;
        }
    }
    map.end()
}

/// Metadata without its resourceVersion.
struct Metadata<'a>(&'a Map<String, Value>);

impl serde::Serialize for Metadata<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let fields = self.0.iter().filter(|(name, _)| *name != "resourceVersion");
        serializer.collect_map(fields)
    }
}

/// An object as it is in the store, or was at some revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its key.
    pub key: Bytes,
    /// Its bytes.
    pub bytes: Bytes,
    /// Its resourceVersion.
    pub revision: Revision,
}

impl From<KeyValue> for Stored {
    fn from(pair: KeyValue) -> Self {
        Self { key: pair.key, bytes: pair.value, revision: pair.mod_revision }
    }
}

impl From<&KeyValue> for Stored {
    fn from(pair: &KeyValue) -> Self {
        Self { key: pair.key.clone(), bytes: pair.value.clone(), revision: pair.mod_revision }
    }
}

impl Stored {
    /// Decodes the object.
    ///
    /// # Errors
    /// [`DamagedObject`] if the bytes are no object.
    pub fn decode(&self) -> Result<Value, DamagedObject> {
        let mut object: Value =
            serde_json::from_slice(&self.bytes).map_err(|error| self.damaged(&error.to_string()))?;
        let metadata = object.get_mut("metadata").and_then(Value::as_object_mut);
        let metadata = metadata.ok_or_else(|| self.damaged("it has no metadata"))?;
        metadata.insert("resourceVersion".into(), self.revision.to_string().into());
        Ok(object)
    }

    /// Appends the object's JSON, with its resourceVersion and, if given, another `apiVersion` than the stored one.
    ///
    /// # Errors
    /// [`DamagedObject`] if the bytes are no object.
    pub fn write(&self, api_version: Option<&str>, out: &mut Vec<u8>) -> Result<(), DamagedObject> {
        let bytes = &self.bytes;
        // The two fields before are short; nothing is searched that grows with the object.
        let head = &bytes[..bytes.len().min(1024)];
        let at = head.windows(METADATA.len()).position(|window| window == METADATA);
        let at = at.ok_or_else(|| self.damaged("it has no metadata where they should be"))? + METADATA.len();
        out.reserve(bytes.len() + 48);
        let mut from = 0;
        if let Some(api_version) = api_version {
            let rest = bytes.strip_prefix(API_VERSION);
            let end = rest.and_then(|rest| rest.iter().position(|byte| *byte == b'"'));
            let end = end.ok_or_else(|| self.damaged("it has no apiVersion where it should be"))?;
            out.extend_from_slice(API_VERSION);
            out.extend_from_slice(api_version.as_bytes());
            from = API_VERSION.len() + end;
        }
        out.extend_from_slice(&bytes[from..at]);
        out.extend_from_slice(br#""resourceVersion":""#);
        write_number(self.revision, out);
        out.extend_from_slice(br#"","#);
        out.extend_from_slice(&bytes[at..]);
        Ok(())
    }

    /// The last segment of the key.
    pub fn name(&self) -> &str {
        self.segments().next().unwrap_or_default()
    }

    /// The last segment but one of the key: the namespace of a namespaced object.
    pub fn namespace(&self) -> &str {
        self.segments().nth(1).unwrap_or_default()
    }

    fn segments(&self) -> impl Iterator<Item = &str> {
        std::str::from_utf8(&self.key).unwrap_or_default().rsplit('/')
    }

    fn damaged(&self, problem: &str) -> DamagedObject {
        DamagedObject { key: String::from_utf8_lossy(&self.key).into_owned(), problem: problem.to_owned() }
    }
}

/// Appends a number in decimal, without allocating.
fn write_number(mut number: u64, out: &mut Vec<u8>) {
    let mut digits = [0_u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(number % 10).unwrap_or(0);
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn stored(object: &Value, revision: Revision) -> Stored {
        let bytes = Encoded::new(object).unwrap().into_bytes();
        Stored { key: Bytes::from_static(b"/registry/core/configmaps/ns/a"), bytes, revision }
    }

    #[test]
    fn the_resource_version_is_spliced_in() {
        let object = json!({
            "apiVersion": "v1", "data": {"metadata": "\"metadata\":{"}, "kind": "ConfigMap",
            "metadata": {"name": "a", "resourceVersion": "7"},
        });
        let stored = stored(&object, 12345);
        assert!(!String::from_utf8_lossy(&stored.bytes).contains("resourceVersion"));
        let mut out = Vec::new();
        stored.write(None, &mut out).unwrap();
        let read: Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(read["metadata"], json!({"name": "a", "resourceVersion": "12345"}));
        assert_eq!(read["data"], object["data"]);
        assert_eq!(stored.decode().unwrap(), read);
    }

    #[test]
    fn the_api_version_can_be_another() {
        let object = json!({"apiVersion": "a.b/v1", "kind": "X", "metadata": {"name": "a"}, "spec": 1});
        let mut out = Vec::new();
        stored(&object, 2).write(Some("a.b/v2beta1"), &mut out).unwrap();
        let read: Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(read["apiVersion"], "a.b/v2beta1");
        assert_eq!(read["spec"], 1);
    }

    #[test]
    fn names_come_from_the_key() {
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}});
        let stored = stored(&object, 2);
        assert_eq!((stored.namespace(), stored.name()), ("ns", "a"));
    }

    #[test]
    fn damage_is_an_error() {
        let damaged = Stored { key: Bytes::new(), bytes: Bytes::from_static(b"{}"), revision: 2 };
        assert!(damaged.write(None, &mut Vec::new()).is_err());
        assert!(damaged.decode().is_err());
    }

    #[test]
    fn numbers() {
        for number in [0, 9, 10, u64::MAX] {
            let mut out = Vec::new();
            write_number(number, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), number.to_string());
        }
    }
}
