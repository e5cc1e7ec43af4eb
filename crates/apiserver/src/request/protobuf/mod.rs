//! Objects of the built-in kinds in Protocol Buffers (`application/vnd.kubernetes.protobuf`), which clients written in Go
//! send. They are read into the JSON form that everything else works on; answers are always JSON.
//!
//! Source: Kubernetes "API concepts", section "Kubernetes Protobuf encoding": four bytes `k8s\0`, then a message
//! `runtime.Unknown` that names the kind and holds the object.

mod messages;
mod wire;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Map, Value};

use self::messages::{Field, FieldType, message, message_name};
use self::wire::{Fields, Malformed, WireValue};

/// The media type.
pub(crate) const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";

const MAGIC: &[u8] = b"k8s\0";
/// Deepest nesting of messages.
const DEPTH_MAX: usize = 64;

/// A body that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ProtobufError {
    /// It does not begin as it must.
    #[error("it does not begin with \"k8s\\0\"")]
    NoMagic,
    /// The wire format is violated.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// It is of a kind that is only read as JSON and YAML.
    #[error("{kind} of {api_version} is not read in this form, send it as JSON")]
    UnknownKind {
        /// What it says it is.
        api_version: String,
        /// What it says it is.
        kind: String,
    },
}

/// Reads an object.
///
/// # Errors
/// [`ProtobufError`] if it cannot be read.
pub(crate) fn decode(body: &[u8]) -> Result<Value, ProtobufError> {
    let envelope = body.strip_prefix(MAGIC).ok_or(ProtobufError::NoMagic)?;
    let (mut api_version, mut kind, mut object) = ("", "", &[][..]);
    for field in Fields::of(envelope) {
        match field? {
            (1, types) => {
                for field in Fields::of(types.bytes()?) {
                    match field? {
                        (1, value) => api_version = value.text()?,
                        (2, value) => kind = value.text()?,
                        _ => {}
                    }
                }
            }
            (2, value) => object = value.bytes()?,
            _ => {}
        }
    }
    let name = message_name(api_version, kind);
    let Some(fields) = message(&name) else {
        return Err(ProtobufError::UnknownKind { api_version: api_version.into(), kind: kind.into() });
    };
    let mut decoded = Map::new();
    decode_into(&mut decoded, fields, object, 0)?;
    decoded.insert("apiVersion".into(), api_version.into());
    decoded.insert("kind".into(), kind.into());
    Ok(Value::Object(decoded))
}

fn decode_into(
    object: &mut Map<String, Value>,
    fields: &[Field],
    message: &[u8],
    depth: usize,
) -> Result<(), Malformed> {
    if depth > DEPTH_MAX {
        return Err(Malformed("messages are nested too deep"));
    }
    for entry in Fields::of(message) {
        let (number, value) = entry?;
        // Fields of later versions are not known here, and dropped as unknown fields are.
        let Some(field) = fields.iter().find(|field| field.number == number) else { continue };
        let Some(name) = field.name else {
            if let FieldType::Message(inner) = &field.kind {
                decode_into(object, self::message(inner).unwrap_or_default(), value.bytes()?, depth + 1)?;
            }
            continue;
        };
        match &field.kind {
            FieldType::List(item) => {
                let place = object.entry(name).or_insert_with(|| Value::Array(Vec::new()));
                if let Value::Array(items) = place {
                    decode_item(items, item, value, depth)?;
                }
            }
            FieldType::Map(item) => {
                let (key, decoded) = decode_entry(item, value.bytes()?, depth)?;
                let place = object.entry(name).or_insert_with(|| Value::Object(Map::new()));
                place[key] = decoded;
            }
            kind => {
                let decoded = decode_value(kind, value, depth)?;
                if field.keeps_empty || !is_empty(&decoded) {
                    object.insert(name.into(), decoded);
                }
            }
        }
    }
    Ok(())
}

/// Numbers in a list may be packed into one run of bytes.
fn decode_item(
    items: &mut Vec<Value>,
    kind: &FieldType,
    value: WireValue<'_>,
    depth: usize,
) -> Result<(), Malformed> {
    if let (FieldType::Integer, WireValue::Bytes(packed)) = (kind, value) {
        let mut numbers = Fields::of(packed);
        while !numbers.is_empty() {
            items.push(numbers.varint()?.cast_signed().into());
        }
        return Ok(());
    }
    items.push(decode_value(kind, value, depth)?);
    Ok(())
}

fn decode_entry(kind: &FieldType, message: &[u8], depth: usize) -> Result<(String, Value), Malformed> {
    let (mut key, mut decoded) = (String::new(), None);
    for field in Fields::of(message) {
        match field? {
            (1, value) => key = value.text()?.to_owned(),
            (2, value) => decoded = Some(decode_value(kind, value, depth)?),
            _ => {}
        }
    }
    let decoded = match decoded {
        Some(decoded) => decoded,
        None => decode_value(kind, WireValue::Bytes(&[]), depth)?,
    };
    Ok((key, decoded))
}

fn decode_value(kind: &FieldType, value: WireValue<'_>, depth: usize) -> Result<Value, Malformed> {
    Ok(match kind {
        FieldType::Text => value.text()?.into(),
        FieldType::Boolean => (value.integer()? != 0).into(),
        FieldType::Integer => value.integer()?.into(),
        FieldType::Bytes => STANDARD.encode(value.bytes()?).into(),
        FieldType::Quantity => only_text(value.bytes()?)?.into(),
        FieldType::IntOrString => int_or_string(value.bytes()?)?,
        FieldType::Time => time(value.bytes()?, false)?,
        FieldType::MicroTime => time(value.bytes()?, true)?,
        FieldType::Json => {
            let bytes = Fields::of(value.bytes()?).next().transpose()?.map(|(_, inner)| inner.bytes());
            let bytes = bytes.transpose()?.unwrap_or(b"null");
            serde_json::from_slice(bytes).map_err(|_| Malformed("JSON inside of it is malformed"))?
        }
        FieldType::Texts => {
            let items = Fields::of(value.bytes()?).map(|field| Ok(field?.1.text()?.into()));
            Value::Array(items.collect::<Result<_, Malformed>>()?)
        }
        FieldType::Message(name) => {
            let mut object = Map::new();
            decode_into(&mut object, message(name).unwrap_or_default(), value.bytes()?, depth + 1)?;
            Value::Object(object)
        }
        FieldType::List(item) => {
            let mut items = Vec::new();
            decode_item(&mut items, item, value, depth)?;
            Value::Array(items)
        }
        FieldType::Map(_) => return Err(Malformed("a map is where none can be")),
    })
}

/// Where an empty value is the same as none, JSON has none.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_i64() == Some(0),
        Value::String(text) => text.is_empty(),
        Value::Array(_) | Value::Object(_) => false,
    }
}

fn only_text(message: &[u8]) -> Result<&str, Malformed> {
    Fields::of(message).next().transpose()?.map_or(Ok(""), |(_, value)| value.text())
}

fn int_or_string(message: &[u8]) -> Result<Value, Malformed> {
    let (mut is_text, mut number, mut text) = (false, 0, "");
    for field in Fields::of(message) {
        match field? {
            (1, value) => is_text = value.integer()? == 1,
            (2, value) => number = value.integer()?,
            (3, value) => text = value.text()?,
            _ => {}
        }
    }
    Ok(if is_text { text.into() } else { number.into() })
}

/// A time; an empty message is none.
fn time(message: &[u8], micro: bool) -> Result<Value, Malformed> {
    let (mut seconds, mut nanoseconds) = (0, 0);
    for field in Fields::of(message) {
        match field? {
            (1, value) => seconds = value.integer()?,
            (2, value) => nanoseconds = value.integer()?,
            _ => {}
        }
    }
    if message.is_empty() {
        return Ok(Value::Null);
    }
    let nanoseconds = if micro { i32::try_from(nanoseconds).unwrap_or(0) } else { 0 };
    let time = Timestamp::new(seconds, nanoseconds).map_err(|_| Malformed("a time is out of range"))?;
    Ok(if micro { format!("{time:.6}").into() } else { time.to_string().into() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    /// A field of bytes.
    fn bytes(number: u8, content: &[u8]) -> Vec<u8> {
        let mut field = vec![(number << 3) | 2, u8::try_from(content.len()).unwrap()];
        field.extend_from_slice(content);
        field
    }

    fn varint(number: u8, value: u8) -> Vec<u8> {
        vec![number << 3, value]
    }

    fn object(api_version: &str, kind: &str, message: &[u8]) -> Vec<u8> {
        let types = [bytes(1, api_version.as_bytes()), bytes(2, kind.as_bytes())].concat();
        [MAGIC.to_vec(), bytes(1, &types), bytes(2, message)].concat()
    }

    #[test]
    fn a_config_map() {
        let entry = [bytes(1, b"key"), bytes(2, b"value")].concat();
        let metadata = [bytes(1, b"a"), bytes(2, b""), bytes(8, b"")].concat();
        let map = [bytes(1, &metadata), bytes(2, &entry)].concat();
        assert_eq!(
            decode(&object("v1", "ConfigMap", &map)).unwrap(),
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"key": "value"}})
        );
    }

    #[test]
    fn empty_values_stay_where_they_mean_something() {
        // replicas is 0, paused is false: the one was said, the other was not.
        let spec = [varint(1, 0), varint(7, 0)].concat();
        let deployment = bytes(2, &spec);
        let decoded = decode(&object("apps/v1", "Deployment", &deployment)).unwrap();
        assert_eq!(decoded["spec"], json!({"replicas": 0}));
    }

    #[test]
    fn fields_of_inlined_messages_belong_to_the_outer_one() {
        // A volume with a config map: Volume.volumeSource.configMap.localObjectReference.name.
        let config_map = bytes(1, &bytes(1, b"cm"));
        let volume = [
            bytes(1, b"v"),
            bytes(2, &[vec![0x9a, 0x01], vec![u8::try_from(config_map.len()).unwrap()], config_map].concat()),
        ];
        let pod = bytes(2, &bytes(1, &volume.concat()));
        let decoded = decode(&object("v1", "Pod", &pod)).unwrap();
        assert_eq!(decoded["spec"]["volumes"], json!([{"name": "v", "configMap": {"name": "cm"}}]));
    }

    #[test]
    fn what_is_no_message_is_refused() {
        assert_eq!(decode(b"{}"), Err(ProtobufError::NoMagic));
        assert!(matches!(decode(&object("v9", "Pod", b"")), Err(ProtobufError::UnknownKind { .. })));
        assert!(decode(&object("v1", "Pod", &[0xff])).is_err());
    }

    proptest! {
        #[test]
        fn nothing_makes_it_fall_over(message in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = decode(&object("v1", "Pod", &message));
            let _ = decode(&[MAGIC, &message].concat());
        }
    }
}
