//! What is wrong with one field of an object, in the words Kubernetes uses for it.

use std::fmt;

use serde_json::Value;

/// Why a field is refused. [`FieldErrorKind::reason`] is the machine-readable form clients see in `Status.details.causes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FieldErrorKind {
    /// The field must be given.
    Required,
    /// The value is not acceptable.
    Invalid,
    /// The value is not one of the supported ones.
    NotSupported,
    /// The value occurs twice where it must be unique.
    Duplicate,
    /// The field must not be given, or not be changed.
    Forbidden,
    /// The string is longer than allowed.
    TooLong,
    /// The list or map has more entries than allowed.
    TooMany,
    /// The value has the wrong JSON type.
    TypeInvalid,
    /// The value names something that does not exist.
    NotFound,
}

impl FieldErrorKind {
    /// The cause's `reason` in a `Status`.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Required => "FieldValueRequired",
            Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::TypeInvalid => "FieldValueTypeInvalid",
            Self::NotFound => "FieldValueNotFound",
        }
    }

    fn heading(self) -> &'static str {
        match self {
            Self::Required => "Required value",
            Self::Invalid | Self::TypeInvalid => "Invalid value",
            Self::NotSupported => "Unsupported value",
            Self::Duplicate => "Duplicate value",
            Self::Forbidden => "Forbidden",
            Self::TooLong => "Too long",
            Self::TooMany => "Too many",
            Self::NotFound => "Not found",
        }
    }

    /// Whether the heading is followed by the offending value.
    fn shows_value(self) -> bool {
        !matches!(self, Self::Required | Self::Forbidden | Self::TooLong)
    }
}

/// One refused field: where, why, and the value that was refused.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldError {
    /// Path of the field, e.g. `spec.containers[0].name`; the empty path is the object itself.
    pub path: String,
    /// Why it is refused.
    pub kind: FieldErrorKind,
    /// What is wrong with it and what would be right; may be empty when the kind says it all.
    pub message: String,
    /// The refused value; absent for required and forbidden fields. Shown to whoever sent the request.
    pub value: Option<Value>,
}

impl FieldError {
    /// The field must be given.
    pub fn required(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), kind: FieldErrorKind::Required, message: message.into(), value: None }
    }

    /// The value is not acceptable.
    pub fn invalid(path: impl Into<String>, value: impl Into<Value>, message: impl Into<String>) -> Self {
        let value = Some(value.into());
        Self { path: path.into(), kind: FieldErrorKind::Invalid, message: message.into(), value }
    }

    /// The value has the wrong JSON type. `value` is what Kubernetes shows here: the name of the type that was found.
    pub fn wrong_type(path: impl Into<String>, value: impl Into<Value>, message: impl Into<String>) -> Self {
        let value = Some(value.into());
        Self { path: path.into(), kind: FieldErrorKind::TypeInvalid, message: message.into(), value }
    }

    /// The value is not one of `supported`.
    pub fn not_supported<S: AsRef<str>>(
        path: impl Into<String>,
        value: impl Into<Value>,
        supported: impl IntoIterator<Item = S>,
    ) -> Self {
        let mut names: Vec<String> =
            supported.into_iter().map(|name| format!("{:?}", name.as_ref())).collect();
        names.sort();
        let message =
            if names.is_empty() { String::new() } else { format!("supported values: {}", names.join(", ")) };
        Self { path: path.into(), kind: FieldErrorKind::NotSupported, message, value: Some(value.into()) }
    }

    /// The value occurs twice.
    pub fn duplicate(path: impl Into<String>, value: impl Into<Value>) -> Self {
        let value = Some(value.into());
        Self { path: path.into(), kind: FieldErrorKind::Duplicate, message: String::new(), value }
    }

    /// The field must not be given or not be changed.
    pub fn forbidden(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), kind: FieldErrorKind::Forbidden, message: message.into(), value: None }
    }

    /// The string is longer than `maximum` bytes.
    pub fn too_long(path: impl Into<String>, maximum: usize) -> Self {
        let message = format!("may not be more than {maximum} bytes");
        Self { path: path.into(), kind: FieldErrorKind::TooLong, message, value: None }
    }

    /// The list or map has `actual` entries where `maximum` are allowed.
    pub fn too_many(path: impl Into<String>, actual: usize, maximum: usize) -> Self {
        let message = format!("must have at most {maximum} items");
        Self { path: path.into(), kind: FieldErrorKind::TooMany, message, value: Some(actual.into()) }
    }

    /// The value names something that does not exist.
    pub fn not_found(path: impl Into<String>, value: impl Into<Value>) -> Self {
        let value = Some(value.into());
        Self { path: path.into(), kind: FieldErrorKind::NotFound, message: String::new(), value }
    }

    /// The message without the path: what a `Status` cause carries beside its `field`.
    pub fn body(&self) -> String {
        let mut text = String::from(self.kind.heading());
        if let Some(value) = self.value.as_ref().filter(|_| self.kind.shows_value()) {
            text.push_str(": ");
            text.push_str(&shown(value));
        }
        if !self.message.is_empty() {
            text.push_str(": ");
            text.push_str(&self.message);
        }
        text
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = if self.path.is_empty() { "<nil>" } else { &self.path };
        write!(f, "{path}: {}", self.body())
    }
}

/// A value as an error message shows it: compact JSON, which for strings is the quoted form.
fn shown(value: &Value) -> String {
    value.to_string()
}

/// Appends `.name` to a path.
pub fn child(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// Appends `[index]` to a path.
pub fn index(path: &str, index: usize) -> String {
    format!("{path}[{index}]")
}

/// Appends `[key]` to a path, for entries of a map.
pub fn key(path: &str, key: &str) -> String {
    format!("{path}[{key}]")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn words_are_those_of_kubernetes() {
        let cases = [
            (FieldError::required("spec.selector", ""), "spec.selector: Required value"),
            (
                FieldError::wrong_type(
                    "spec.replicas",
                    "string",
                    "spec.replicas in body must be of type integer: \"string\"",
                ),
                "spec.replicas: Invalid value: \"string\": spec.replicas in body must be of type integer: \"string\"",
            ),
            (
                FieldError::not_supported("spec.type", "X", ["NodePort", "ClusterIP"]),
                "spec.type: Unsupported value: \"X\": supported values: \"ClusterIP\", \"NodePort\"",
            ),
            (FieldError::duplicate("a[1]", json!({"k": 1})), "a[1]: Duplicate value: {\"k\":1}"),
            (FieldError::forbidden("spec", "is immutable"), "spec: Forbidden: is immutable"),
            (FieldError::too_long("a", 3), "a: Too long: may not be more than 3 bytes"),
            (FieldError::too_many("a", 4, 3), "a: Too many: 4: must have at most 3 items"),
        ];
        for (error, text) in cases {
            assert_eq!(error.to_string(), text);
        }
    }
}
