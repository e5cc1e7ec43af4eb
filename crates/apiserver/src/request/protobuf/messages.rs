//! The table of messages.

use std::collections::HashMap;
use std::sync::OnceLock;

/// The type of a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FieldType {
    /// UTF-8.
    Text,
    /// True or false.
    Boolean,
    /// Up to 64 bits, signed.
    Integer,
    /// Base64 in JSON.
    Bytes,
    /// `resource.Quantity`: a message with a text.
    Quantity,
    /// `intstr.IntOrString`.
    IntOrString,
    /// `meta/v1` `Time`.
    Time,
    /// `meta/v1` `MicroTime`.
    MicroTime,
    /// A message with JSON in it.
    Json,
    /// A message with a list of texts in it.
    Texts,
    /// Another message.
    Message(&'static str),
    /// A list.
    List(Box<FieldType>),
    /// A map from text.
    Map(Box<FieldType>),
}

/// A field of a message.
#[derive(Debug)]
pub(crate) struct Field {
    /// Its number on the wire.
    pub(crate) number: u32,
    /// Its name in JSON; `None` if its own fields belong to the outer message.
    pub(crate) name: Option<&'static str>,
    /// Its type.
    pub(crate) kind: FieldType,
    /// An empty value is not the same as none.
    pub(crate) keeps_empty: bool,
}

/// The fields of a message of the table.
pub(crate) fn message(name: &str) -> Option<&'static [Field]> {
    static MESSAGES: OnceLock<HashMap<&'static str, Vec<Field>>> = OnceLock::new();
    MESSAGES.get_or_init(read).get(name).map(Vec::as_slice)
}

/// The name of the message of a kind.
pub(crate) fn message_name(api_version: &str, kind: &str) -> String {
    if kind == "DeleteOptions" {
        return "meta.v1.DeleteOptions".into();
    }
    let (group, version) = crate::registry::resource::split_api_version(api_version);
    let package = if group.is_empty() { "core" } else { group.split('.').next().unwrap_or(group) };
    format!("{package}.{version}.{kind}")
}

fn read() -> HashMap<&'static str, Vec<Field>> {
    let mut messages: HashMap<&'static str, Vec<Field>> = HashMap::new();
    let mut current = "";
    for line in include_str!("messages.txt").lines().filter(|line| !line.starts_with('#') && !line.is_empty())
    {
        match line.strip_prefix(' ').and_then(field) {
            Some(field) => messages.entry(current).or_default().push(field),
            None => {
                current = line;
                messages.entry(current).or_default();
            }
        }
    }
    messages
}

fn field(line: &'static str) -> Option<Field> {
    let mut parts = line.split(' ');
    let (number, name, kind) = (parts.next()?.parse().ok()?, parts.next()?, parts.next()?);
    let (kind, keeps_empty) = kind.strip_suffix('*').map_or((kind, false), |kind| (kind, true));
    Some(Field { number, name: (name != "!").then_some(name), kind: field_type(kind), keeps_empty })
}

fn field_type(text: &'static str) -> FieldType {
    match text {
        "s" => FieldType::Text,
        "b" => FieldType::Boolean,
        "i" => FieldType::Integer,
        "y" => FieldType::Bytes,
        "q" => FieldType::Quantity,
        "o" => FieldType::IntOrString,
        "t" => FieldType::Time,
        "u" => FieldType::MicroTime,
        "x" => FieldType::Json,
        "e" => FieldType::Texts,
        _ => match (text.strip_prefix('['), text.strip_prefix('{')) {
            (Some(item), _) => FieldType::List(Box::new(field_type(item))),
            (_, Some(value)) => FieldType::Map(Box::new(field_type(value))),
            _ => FieldType::Message(text),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(kind: &FieldType) -> Option<&'static str> {
        match kind {
            FieldType::Message(name) => Some(name),
            FieldType::List(inner) | FieldType::Map(inner) => named(inner),
            _ => None,
        }
    }

    #[test]
    fn every_message_that_is_named_is_there() {
        for (name, fields) in read() {
            for field in fields {
                let missing = named(&field.kind).filter(|inner| message(inner).is_none());
                assert_eq!(missing, None, "{name} field {}", field.number);
            }
        }
    }

    #[test]
    fn names() {
        assert_eq!(message_name("v1", "Pod"), "core.v1.Pod");
        assert_eq!(message_name("rbac.authorization.k8s.io/v1", "Role"), "rbac.v1.Role");
        assert_eq!(message_name("policy/v1", "DeleteOptions"), "meta.v1.DeleteOptions");
        assert!(message("apps.v1.Deployment").is_some());
    }
}
