//! Values: as Go's `encoding/json` writes them, and reading what others wrote in their place.

use std::fmt::Write as _;

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

/// What Go prints for something that is not there, and EMCO then keeps.
const NIL: &str = "<nil>";

/// A text as a JSON string. Go also escapes what could end a script in HTML.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + text.len() / 16 + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\0'..='\u{1f}' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                // Writing to a string does not fail.
                let _ = write!(quoted, "\\u{:04x}", u32::from(character));
            }
            _ => quoted.push(character),
        }
    }
    quoted.push('"');
    quoted
}

/// A value as JSON text. What is escaped in strings cannot be anywhere else in it.
pub(super) fn text_of(value: &impl Serialize) -> String {
    // Nothing here has keys that are no strings, which is all that can go wrong.
    let text = serde_json::to_string(value).unwrap_or_default();
    if !text.contains(['<', '>', '&', '\u{2028}', '\u{2029}']) {
        return text;
    }
    let mut escaped = String::with_capacity(text.len() + 32);
    for character in text.chars() {
        match character {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                let _ = write!(escaped, "\\u{:04x}", u32::from(character));
            }
            _ => escaped.push(character),
        }
    }
    escaped
}

/// The text of a JSON string; of any other value, the value as it was written.
pub(super) fn text(bytes: &[u8]) -> Option<String> {
    if bytes.first() == Some(&b'"') {
        return serde_json::from_slice(bytes).ok();
    }
    let text = std::str::from_utf8(bytes).ok()?;
    (!text.is_empty() && text != "null").then(|| text.to_owned())
}

/// A value, or a string with the JSON text of one.
pub(super) fn value<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    match serde_json::from_slice(bytes).ok()? {
        Value::String(text) => {
            serde_json::from_str(&text).ok().or_else(|| serde_json::from_value(Value::String(text)).ok())
        }
        value => serde_json::from_value(value).ok(),
    }
}

/// A number, or a string with one; whatever Go prints for nothing is nothing.
pub(super) fn word(bytes: &[u8]) -> Option<String> {
    match serde_json::from_slice(bytes).ok()? {
        Value::String(text) => Some(clean(text)),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// `true`, `"true"`, and so on.
pub(super) fn truth(bytes: &[u8]) -> Option<bool> {
    match serde_json::from_slice(bytes).ok()? {
        Value::Bool(truth) => Some(truth),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

/// A text that Go did not have.
pub(super) fn clean(text: String) -> String {
    if text == NIL { String::new() } else { text }
}
