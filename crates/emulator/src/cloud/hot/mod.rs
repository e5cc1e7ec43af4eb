//! HOT, the language of Heat's templates, as far as an emulated cloud understands it: parsing, parameters and functions. No I/O.
//!
//! What is understood: `parameters` (types, defaults, `allowed_values`, `length`, `range`, `hidden`), `conditions`, `resources`, `outputs`, and
//! the functions `get_param`, `get_resource`, `get_attr`, `get_file`, `str_replace`, `str_replace_strict`, `list_join`, `str_split`, `map_merge`,
//! `list_concat`, `if`, `equals`, `not`, `and`, `or`. Whatever else a template says is refused with its place, and never passed over.

mod functions;
mod parameters;
mod template;

pub(super) use functions::{Scope, evaluate, holds};
pub(super) use parameters::{resolve, shown};
pub(super) use template::{Definition, Parameter, Template, parse_text};

/// Why a template cannot be used: where, and what is wrong there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {message}")]
pub(super) struct HotError {
    /// Where: `resources.VDU1.properties.flavor`.
    pub(super) path: String,
    /// What is wrong, and what may stand there.
    pub(super) message: String,
}

impl HotError {
    pub(super) fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into() }
    }

    /// The same inside something larger.
    pub(super) fn within(self, outer: &str) -> Self {
        let path = if self.path.is_empty() { outer.to_owned() } else { format!("{outer}.{}", self.path) };
        Self { path, ..self }
    }
}

/// What a value is called in messages.
pub(super) fn kind_of(value: &serde_json::Value) -> &'static str {
    use serde_json::Value;
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    }
}

/// A value as text, as templates put it into texts.
pub(super) fn text_of(value: &serde_json::Value) -> String {
    use serde_json::Value;
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
