//! Messages of the Redfish registries: what happened, in a form that programs tell apart by `MessageId`.
//!
//! One function per message keeps the arguments in the registry's order. Texts are Drystone's own; DSP0266 lets a service
//! word them, and clients go by `MessageId` and `MessageArgs`.

mod base;
mod composition;
pub mod events;

use serde::{Deserialize, Serialize};

pub use base::*;
pub use composition::*;

/// Type of a message object.
const MESSAGE_TYPE: &str = "#Message.v1_3_0.Message";

/// How grave a message is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Severity {
    /// Informational.
    #[default]
    OK,
    /// Needs attention.
    Warning,
    /// Needs attention at once.
    Critical,
}

/// A message (`Message` schema), as in `@Message.ExtendedInfo`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Message {
    #[serde(rename = "@odata.type", default, skip_serializing_if = "String::is_empty")]
    odata_type: String,
    /// Registry, version and key: `Base.1.22.PropertyUnknown`.
    #[serde(default)]
    pub message_id: String,
    /// The text.
    #[serde(default)]
    pub message: String,
    /// What was put into the text, in the registry's order.
    #[serde(default)]
    pub message_args: Vec<String>,
    /// How grave it is.
    #[serde(default)]
    pub message_severity: Severity,
    /// What to do about it.
    #[serde(default)]
    pub resolution: String,
    /// Properties of the request that it is about, as JSON pointers in a URI fragment: `#/Boot/BootSourceOverrideTarget`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub related_properties: Vec<String>,
}

impl Message {
    /// A message. In `text`, `%1` … `%9` stand for the arguments.
    pub fn new(
        registry: &str,
        key: &str,
        severity: Severity,
        text: &str,
        args: &[&str],
        resolution: &str,
    ) -> Self {
        Self {
            odata_type: MESSAGE_TYPE.to_owned(),
            message_id: format!("{registry}.{key}"),
            message: fill(text, args),
            message_args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            message_severity: severity,
            resolution: resolution.to_owned(),
            related_properties: Vec::new(),
        }
    }

    /// Names the property that the message is about: `Boot/BootSourceOverrideTarget`.
    #[must_use]
    pub fn about(mut self, property: &str) -> Self {
        self.related_properties.push(format!("#/{property}"));
        self
    }

    /// The last part of the id, the same in every version of the registry: `PropertyUnknown`.
    pub fn key(&self) -> &str {
        self.message_id.rsplit('.').next().unwrap_or_default()
    }
}

/// Replaces `%1` … `%9` in one pass, so that an argument that holds such a sign stays as it is.
fn fill(text: &str, args: &[&str]) -> String {
    let mut filled = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let number = if c == '%' { chars.peek().and_then(|next| next.to_digit(10)) } else { None };
        match number.and_then(|number| args.get((number as usize).checked_sub(1)?)) {
            Some(arg) => {
                filled.push_str(arg);
                chars.next();
            }
            None => filled.push(c),
        }
    }
    filled
}

/// A message as its registry describes it: what [`Message`]s are made of, and what registry files show.
#[derive(Debug, Clone, Copy)]
pub struct Definition {
    /// Key: `PropertyUnknown`.
    pub key: &'static str,
    /// How grave it is.
    pub severity: Severity,
    /// The text, with `%1` … `%9` for the arguments.
    pub text: &'static str,
    /// How many arguments it has.
    pub arguments: usize,
    /// What to do about it.
    pub resolution: &'static str,
}

/// A registry: its name and version, and the messages of it that Drystone emits.
#[derive(Debug, Clone, Copy)]
pub struct Registry {
    /// Name and version: `Base.1.22`.
    pub id: &'static str,
    /// The messages.
    pub definitions: &'static [Definition],
}

/// Every registry that messages are of.
pub const REGISTRIES: [&Registry; 5] =
    [&base::BASE, &composition::COMPOSITION, &events::FABRIC, &events::RESOURCE_EVENT, &events::TASK_EVENT];

/// Makes a registry and a function for each of its messages: `name(arguments) [about property] => key, severity, text, resolution`.
macro_rules! messages {
    ($registry:ident, $id:literal { $($(#[$doc:meta])* $name:ident($($arg:ident),*) $(about $property:ident)?
        => $key:literal, $severity:ident, $text:literal, $resolution:literal;)* }) => {
        /// The registry.
        pub const $registry: $crate::message::Registry = $crate::message::Registry {
            id: $id,
            definitions: &[$($crate::message::Definition {
                key: $key,
                severity: $crate::message::Severity::$severity,
                text: $text,
                arguments: { const NAMES: &[&str] = &[$(stringify!($arg)),*]; NAMES.len() },
                resolution: $resolution,
            }),*],
        };
        $($(#[$doc])* pub fn $name($($arg: &str),*) -> Message {
            let message = Message::new($id, $key, $crate::message::Severity::$severity, $text, &[$($arg),*], $resolution);
            $(let message = message.about($property);)?
            message
        })*
    };
}
use messages;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_filled_in_once() {
        assert_eq!(fill("%1 and %2, 5% of %3", &["a%2", "b"]), "a%2 and b, 5% of %3");
        assert_eq!(fill("%0 %", &["a"]), "%0 %");
    }

    #[test]
    fn every_text_uses_its_arguments_and_no_other() {
        for registry in REGISTRIES {
            for definition in registry.definitions {
                let highest =
                    (1..=9).filter(|n| definition.text.contains(&format!("%{n}"))).max().unwrap_or(0);
                assert!(highest <= definition.arguments, "{}.{}", registry.id, definition.key);
            }
        }
    }

    #[test]
    fn a_message_names_its_property_and_key() {
        let message = property_value_not_in_list("x", "Boot/BootSourceOverrideTarget");
        assert_eq!(message.related_properties, ["#/Boot/BootSourceOverrideTarget"]);
        assert_eq!(message.message_args, ["x", "Boot/BootSourceOverrideTarget"]);
        assert_eq!(message.key(), "PropertyValueNotInList");
    }
}
