//! OpenAPI v2 as far as kubectl needs it: the schemas of all kinds, in the protobuf form of gnostic.
//!
//! Clients older than v3 (kubectl before 1.24) learn types from here alone, and newer ones validate kinds here that the
//! server never patches. They ask for `application/com.github.proto-openapi.spec.v2@v1.0+protobuf` and read definitions with
//! their kinds; of paths they look for `dryRun` alone, so paths are left out, and such a client refuses
//! `--dry-run=server`.
//!
//! v2 knows no alternatives: where v3 has `oneOf` or `anyOf`, any value is allowed here.
//!
//! Source: gnostic, `openapiv2/OpenAPIv2.proto`; Protocol Buffers encoding.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// The media types by which clients ask for the document.
pub const ACCEPTED: [&str; 2] = ["application/com.github.proto-openapi.spec.v2@v1.0+protobuf", CONTENT_TYPE];

/// The media type of the answer: with `@`, as clients ask, it would be none that they can read.
pub const CONTENT_TYPE: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

const GVK: &str = "x-kubernetes-group-version-kind";

/// Numbers of the fields that are used of gnostic's messages.
mod field {
    pub(super) mod document {
        pub(in super::super) const SWAGGER: u32 = 1;
        pub(in super::super) const INFO: u32 = 2;
        pub(in super::super) const PATHS: u32 = 8;
        pub(in super::super) const DEFINITIONS: u32 = 9;
    }
    pub(super) mod schema {
        pub(in super::super) const REF: u32 = 1;
        pub(in super::super) const FORMAT: u32 = 2;
        pub(in super::super) const DESCRIPTION: u32 = 4;
        pub(in super::super) const REQUIRED: u32 = 19;
        pub(in super::super) const ADDITIONAL_PROPERTIES: u32 = 21;
        pub(in super::super) const TYPE: u32 = 22;
        pub(in super::super) const ITEMS: u32 = 23;
        pub(in super::super) const PROPERTIES: u32 = 25;
        pub(in super::super) const VENDOR_EXTENSION: u32 = 31;
    }
    /// `NamedSchema` and `NamedAny`.
    pub(super) mod named {
        pub(in super::super) const NAME: u32 = 1;
        pub(in super::super) const VALUE: u32 = 2;
    }
    /// Messages of which one field is used, or that only repeat one.
    pub(super) const ONLY: u32 = 1;
    /// `Any`.
    pub(super) const YAML: u32 = 2;
    /// `Info`.
    pub(super) const VERSION: u32 = 2;
}

/// The v2 document of everything that the v3 `documents` define.
pub fn document<'a>(documents: impl IntoIterator<Item = &'a Value>) -> Vec<u8> {
    let mut definitions: BTreeMap<&str, &Value> = BTreeMap::new();
    for document in documents {
        for (name, schema) in document["components"]["schemas"].as_object().into_iter().flatten() {
            // A document marks a schema with its kind if it is a kind of its own, another that only refers to it does not.
            if schema.get(GVK).is_some() || !definitions.contains_key(name.as_str()) {
                definitions.insert(name, schema);
            }
        }
    }
    let mut info = Message::default();
    info.text(field::ONLY, "Kubernetes");
    info.text(field::VERSION, "unversioned");
    let mut message = Message::default();
    message.text(field::document::SWAGGER, "2.0");
    message.message(field::document::INFO, &info);
    message.message(field::document::PATHS, &Message::default());
    message.message(field::document::DEFINITIONS, &named_schemas(definitions));
    message.bytes
}

/// `Definitions` and `Properties`.
fn named_schemas<'a>(schemas: impl IntoIterator<Item = (&'a str, &'a Value)>) -> Message {
    let mut all = Message::default();
    for (name, value) in schemas {
        let mut named = Message::default();
        named.text(field::named::NAME, name);
        named.message(field::named::VALUE, &schema(value));
        all.message(field::ONLY, &named);
    }
    all
}

/// `Schema`.
fn schema(value: &Value) -> Message {
    let mut message = Message::default();
    let text = |name: &str| value.get(name).and_then(Value::as_str);
    if let Some(target) = reference(value) {
        message.text(field::schema::REF, &format!("#/definitions/{target}"));
    }
    // Alternatives, and types that allow more than one, are left open.
    let open = ["oneOf", "anyOf", "not"].iter().any(|keyword| value.get(keyword).is_some())
        || value["x-kubernetes-int-or-string"] == true;
    if !open {
        message.optional_text(field::schema::FORMAT, text("format"));
    }
    message.optional_text(field::schema::DESCRIPTION, text("description"));
    if !open {
        structure(&mut message, value);
    }
    for (name, extension) in
        value.as_object().into_iter().flatten().filter(|(name, _)| name.starts_with("x-"))
    {
        message.message(field::schema::VENDOR_EXTENSION, &named_any(name, extension));
    }
    message
}

/// What a schema says about fields and entries, in the order of the field numbers.
fn structure(message: &mut Message, value: &Value) {
    for name in value["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        message.text(field::schema::REQUIRED, name);
    }
    // Objects whose unknown fields are kept look like maps of anything, else clients would refuse those fields.
    let keeps = value["x-kubernetes-preserve-unknown-fields"] == true;
    if let Some(values @ Value::Object(_)) = value.get("additionalProperties") {
        let mut item = Message::default();
        item.message(field::ONLY, &schema(values));
        message.message(field::schema::ADDITIONAL_PROPERTIES, &item);
    }
    if let (Some(name), false) = (value["type"].as_str(), keeps) {
        let mut item = Message::default();
        item.text(field::ONLY, name);
        message.message(field::schema::TYPE, &item);
    }
    if let Some(entries @ Value::Object(_)) = value.get("items") {
        let mut item = Message::default();
        item.message(field::ONLY, &schema(entries));
        message.message(field::schema::ITEMS, &item);
    }
    let empty = Map::new();
    let properties = value["properties"].as_object().unwrap_or(&empty);
    if !properties.is_empty() && !keeps {
        let named = properties.iter().map(|(name, value)| (name.as_str(), value));
        message.message(field::schema::PROPERTIES, &named_schemas(named));
    }
}

/// The name of the schema that stands in for this one: `$ref`, or `allOf` with one `$ref`, as v3 must write it where a
/// description stands beside.
fn reference(value: &Value) -> Option<&str> {
    let target = match value.get("allOf").and_then(Value::as_array).map(Vec::as_slice) {
        Some([only]) => only.get("$ref"),
        _ => value.get("$ref"),
    };
    target?.as_str()?.rsplit('/').next()
}

/// `NamedAny`; JSON is YAML too.
fn named_any(name: &str, value: &Value) -> Message {
    let mut any = Message::default();
    any.text(field::YAML, &value.to_string());
    let mut named = Message::default();
    named.text(field::named::NAME, name);
    named.message(field::named::VALUE, &any);
    named
}

/// A protobuf message under construction. All fields in use are length-delimited (wire type 2).
#[derive(Default)]
struct Message {
    bytes: Vec<u8>,
}

impl Message {
    fn text(&mut self, field: u32, text: &str) {
        self.delimited(field, text.as_bytes());
    }

    fn optional_text(&mut self, field: u32, text: Option<&str>) {
        if let Some(text) = text {
            self.text(field, text);
        }
    }

    fn message(&mut self, field: u32, message: &Self) {
        self.delimited(field, &message.bytes);
    }

    fn delimited(&mut self, field: u32, content: &[u8]) {
        self.varint(u64::from(field << 3 | 2));
        self.varint(content.len() as u64);
        self.bytes.extend_from_slice(content);
    }

    fn varint(&mut self, mut number: u64) {
        loop {
            let low = number.to_le_bytes()[0] & 0x7f;
            number >>= 7;
            if number == 0 {
                return self.bytes.push(low);
            }
            self.bytes.push(low | 0x80);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn lengths_and_numbers_are_encoded_as_protobuf_says() {
        let mut message = Message::default();
        message.varint(300);
        assert_eq!(message.bytes, [0xac, 0x02]);
        let mut message = Message::default();
        message.text(field::schema::VENDOR_EXTENSION, "ab");
        assert_eq!(message.bytes, [0xfa, 0x01, 2, b'a', b'b']);
    }

    #[test]
    fn a_reference_keeps_its_description() {
        let message = schema(&json!({"allOf": [{"$ref": "#/components/schemas/a.b"}], "description": "D"}));
        assert_eq!(message.bytes, b"\x0a\x11#/definitions/a.b\x22\x01D");
    }

    #[test]
    fn alternatives_are_left_open() {
        let value = json!({"oneOf": [{"type": "string"}], "type": "string", "format": "int-or-string"});
        assert_eq!(schema(&value).bytes, b"");
    }

    #[test]
    fn the_schema_that_knows_its_kind_is_taken() {
        let marked = json!({"components": {"schemas": {"a": {GVK: [{"kind": "A"}]}}}});
        let plain = json!({"components": {"schemas": {"a": {"type": "object"}}}});
        assert_eq!(document([&marked, &plain]), document([&plain, &marked]));
        assert_eq!(document([&marked, &plain]), document([&marked]));
    }
}
