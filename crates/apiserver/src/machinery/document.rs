//! Request bodies as JSON values, with the fields that were given twice.
//!
//! A JSON or YAML object with a repeated key keeps the last value, as Go decoders do; that it was repeated must still be
//! told to the client (`fieldValidation` of `Warn` and `Strict`).

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use thiserror::Error;

/// Deepest nesting of a document; deeper ones are refused before they can exhaust the stack.
pub const DEPTH_MAX: usize = 128;
/// Most repeated fields that are named.
const DUPLICATES_MAX: usize = 100;
/// Most bytes of a path that names one: a hundred paths of a megabyte would be more than what was sent.
const DUPLICATE_MAX: usize = 1024;

/// A body that is not what it says.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum DocumentError {
    /// Not JSON.
    #[error("invalid JSON: {0}")]
    Json(String),
    /// Not YAML, or YAML with what JSON does not have.
    #[error("invalid YAML: {0}")]
    Yaml(String),
}

/// A decoded body.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Document {
    /// The value.
    pub value: Value,
    /// Paths of fields that were given more than once, e.g. `spec.replicas`.
    pub duplicates: Vec<String>,
}

impl Document {
    /// Reads JSON.
    ///
    /// # Errors
    /// [`DocumentError::Json`] if it is none, or nested deeper than [`DEPTH_MAX`].
    pub fn from_json(body: &[u8]) -> Result<Self, DocumentError> {
        serde_json::from_slice(body).map_err(|error| DocumentError::Json(error.to_string()))
    }

    /// Reads a single YAML document.
    ///
    /// # Errors
    /// [`DocumentError::Yaml`] if it is none, or holds more than one document.
    pub fn from_yaml(body: &[u8]) -> Result<Self, DocumentError> {
        let text = std::str::from_utf8(body).map_err(|error| DocumentError::Yaml(error.to_string()))?;
        let options = serde_saphyr::options! { duplicate_keys: serde_saphyr::DuplicateKeyPolicy::LastWins };
        serde_saphyr::from_str_with_options(text, options)
            .map_err(|error| DocumentError::Yaml(error.to_string()))
    }
}

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut reader = Reader { path: String::new(), depth: 0, duplicates: Vec::new() };
        let value = Seed(&mut reader).deserialize(deserializer)?;
        Ok(Self { value, duplicates: reader.duplicates })
    }
}

struct Reader {
    path: String,
    depth: usize,
    duplicates: Vec<String>,
}

impl Reader {
    fn within<T, E: serde::de::Error>(
        &mut self,
        segment: fmt::Arguments<'_>,
        read: impl FnOnce(&mut Self) -> Result<T, E>,
    ) -> Result<T, E> {
        if self.depth >= DEPTH_MAX {
            return Err(E::custom(format!("nested deeper than {DEPTH_MAX} levels")));
        }
        let length = self.path.len();
        // Writing to a String cannot fail.
        let _ = fmt::Write::write_fmt(&mut self.path, segment);
        self.depth += 1;
        let result = read(self);
        self.depth -= 1;
        self.path.truncate(length);
        result
    }
}

struct Seed<'a>(&'a mut Reader);

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("a number must be finite"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        loop {
            let index = list.len();
            match self
                .0
                .within(format_args!("[{index}]"), |reader| entries.next_element_seed(Seed(reader)))?
            {
                Some(entry) => list.push(entry),
                None => return Ok(Value::Array(list)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = fields.next_key::<String>()? {
            let separator = if self.0.path.is_empty() { "" } else { "." };
            let path_before = self.0.path.len();
            let segment = format_args!("{separator}{name}");
            let value = self.0.within(segment, |reader| fields.next_value_seed(Seed(reader)))?;
            debug_assert_eq!(self.0.path.len(), path_before);
            if object.contains_key(&name) && self.0.duplicates.len() < DUPLICATES_MAX {
                let path = format!("{}{separator}{name}", self.0.path);
                self.0.duplicates.push(shortened(path));
            }
            object.insert(name, value);
        }
        Ok(Value::Object(object))
    }
}

/// A path that can be told: the end of one that is beyond all reason.
fn shortened(path: String) -> String {
    if path.len() <= DUPLICATE_MAX {
        return path;
    }
    let start = path.ceil_char_boundary(path.len() - DUPLICATE_MAX);
    format!("…{}", &path[start..])
}

/// Whether a value is nested deeper than a document may be: patches can build what no body could contain.
pub fn is_too_deep(value: &Value) -> bool {
    fn exceeds(value: &Value, left: usize) -> bool {
        match value {
            Value::Array(entries) => left == 0 || entries.iter().any(|entry| exceeds(entry, left - 1)),
            Value::Object(fields) => left == 0 || fields.values().any(|field| exceeds(field, left - 1)),
            _ => false,
        }
    }
    exceeds(value, DEPTH_MAX - 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::machinery::arbitrary;

    #[test]
    fn repeated_fields_are_named_and_the_last_wins() {
        let body = br#"{"a": 1, "spec": {"x": [{"y": 1, "y": 2}], "x": [{"y": 3, "y": 4}]}, "a": 2}"#;
        let document = Document::from_json(body).expect("JSON");
        assert_eq!(document.value, json!({"a": 2, "spec": {"x": [{"y": 4}]}}));
        assert_eq!(document.duplicates, ["spec.x[0].y", "spec.x[0].y", "spec.x", "a"]);
    }

    #[test]
    fn yaml_is_read_like_json() {
        let body = b"a: 1\nspec:\n  on: yes\n  text: '1'\n  list: [~, 1.5, -3]\n";
        let document = Document::from_yaml(body).expect("YAML");
        assert_eq!(document.value["spec"]["list"], json!([null, 1.5, -3]));
        assert_eq!(document.value["spec"]["text"], json!("1"));
        let document = Document::from_yaml(b"a: 1\nb: {c: 1, c: 2}\na: 2\n").expect("YAML");
        assert_eq!(document.value, json!({"a": 2, "b": {"c": 2}}));
        assert_eq!(document.duplicates, ["b.c", "a"]);
        assert!(Document::from_yaml(b"a: [").is_err());
    }

    #[test]
    fn depth_is_limited() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(Document::from_json(nested(100).as_bytes()).is_ok());
        assert!(Document::from_json(nested(200).as_bytes()).is_err());
        let mut value = json!(1);
        for _ in 0..200 {
            value = json!([value]);
        }
        assert!(is_too_deep(&value));
        assert!(!is_too_deep(&json!({"a": [1]})));
    }

    proptest! {
        #[test]
        fn values_survive_text(value in arbitrary::json()) {
            let document = Document::from_json(value.to_string().as_bytes()).expect("JSON");
            prop_assert_eq!(&document.value, &serde_json::from_str::<Value>(&value.to_string()).expect("JSON"));
            prop_assert!(document.duplicates.is_empty());
        }

        #[test]
        fn any_bytes_are_read_or_refused(body in prop::collection::vec(any::<u8>(), 0..60), text in "[\\[\\]{}:, a\n&*-]{0,30}") {
            let _ = Document::from_json(&body);
            let _ = Document::from_yaml(&body);
            let _ = Document::from_yaml(text.as_bytes());
        }
    }
}
