//! What the columns of the built-in kinds read objects with: whatever is missing or of the wrong type reads as empty.

use jiff::Timestamp;
use serde_json::Value;

use crate::machinery::age;

/// What is shown for something that is not there.
pub(super) const NONE: &str = "<none>";

/// What is shown for something that is not there yet, or not known.
pub(super) const UNSET: &str = "<unset>";

/// An object, or a part of one, at the moment for which its row is made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Object<'a> {
    value: &'a Value,
    now: Timestamp,
}

impl<'a> Object<'a> {
    pub(super) fn new(value: &'a Value, now: Timestamp) -> Self {
        Self { value, now }
    }

    /// What is at a path such as `/spec/nodeName` (JSON Pointer, RFC 6901); null if nothing is.
    pub(super) fn at(self, pointer: &str) -> &'a Value {
        self.value.pointer(pointer).unwrap_or(&Value::Null)
    }

    /// A part of the object, read in the same way.
    pub(super) fn part(self, pointer: &str) -> Self {
        Self { value: self.at(pointer), now: self.now }
    }

    pub(super) fn has(self, pointer: &str) -> bool {
        !self.at(pointer).is_null()
    }

    pub(super) fn is_true(self, pointer: &str) -> bool {
        self.at(pointer) == true
    }

    pub(super) fn text(self, pointer: &str) -> &'a str {
        self.at(pointer).as_str().unwrap_or_default()
    }

    /// The text at a path, or `otherwise` if there is none or it is empty.
    pub(super) fn text_or(self, pointer: &str, otherwise: &'a str) -> &'a str {
        match self.text(pointer) {
            "" => otherwise,
            text => text,
        }
    }

    pub(super) fn number(self, pointer: &str) -> i64 {
        self.at(pointer).as_i64().unwrap_or_default()
    }

    /// The entries of a list; nothing if there is no list.
    pub(super) fn list(
        self,
        pointer: &str,
    ) -> impl DoubleEndedIterator<Item = Self> + ExactSizeIterator + use<'a> {
        let entries = self.at(pointer).as_array().map(Vec::as_slice).unwrap_or_default();
        let now = self.now;
        entries.iter().map(move |value| Self { value, now })
    }

    /// The texts of a list of texts.
    pub(super) fn texts(self, pointer: &str) -> Vec<&'a str> {
        self.list(pointer).filter_map(|entry| entry.value.as_str()).collect()
    }

    /// The fields of a map; nothing if there is no map.
    pub(super) fn fields(self, pointer: &str) -> impl Iterator<Item = (&'a str, &'a Value)> + use<'a> {
        self.at(pointer).as_object().into_iter().flatten().map(|(name, value)| (name.as_str(), value))
    }

    /// The number of fields of a map, or of entries of a list.
    pub(super) fn count(self, pointer: &str) -> i64 {
        let count = match self.at(pointer) {
            Value::Array(entries) => entries.len(),
            Value::Object(fields) => fields.len(),
            _ => 0,
        };
        i64::try_from(count).unwrap_or(i64::MAX)
    }

    pub(super) fn name(self) -> Value {
        self.text("/metadata/name").into()
    }

    /// How long ago the object was created.
    pub(super) fn age(self) -> Value {
        self.since("/metadata/creationTimestamp").into()
    }

    /// When the object was created.
    pub(super) fn created(self) -> Value {
        self.text("/metadata/creationTimestamp").into()
    }

    /// How long ago the time at a path was.
    pub(super) fn since(self, pointer: &str) -> String {
        age::since(self.at(pointer).as_str(), self.now)
    }

    /// The time at a path.
    pub(super) fn time(self, pointer: &str) -> Option<Timestamp> {
        self.text(pointer).parse().ok()
    }

    /// How long ago a time was.
    pub(super) fn elapsed(self, then: Timestamp) -> String {
        age::human_duration(self.now.duration_since(then).as_secs())
    }

    /// How long it is from `then` to now, or to `end`.
    pub(super) fn duration(self, then: Timestamp, end: Option<Timestamp>) -> String {
        age::human_duration(end.unwrap_or(self.now).duration_since(then).as_secs())
    }

    /// The condition of a type in `status.conditions`.
    pub(super) fn condition(self, condition_type: &str) -> Option<Self> {
        self.list("/status/conditions").find(|condition| condition.text("/type") == condition_type)
    }
}

/// A map as `name=value,name=value`.
pub(super) fn join_map(object: Object<'_>, pointer: &str) -> String {
    let pairs: Vec<String> = object
        .fields(pointer)
        .map(|(name, value)| format!("{name}={}", value.as_str().unwrap_or_default()))
        .collect();
    if pairs.is_empty() { NONE.to_owned() } else { pairs.join(",") }
}

/// A scalar as text: numbers and texts alike (`IntOrString`), empty if there is none.
pub(super) fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Bool(truth) => truth.to_string(),
        _ => String::new(),
    }
}

/// A label selector as text: `app=web,tier in (a,b),!legacy`.
pub(super) fn selector(object: Object<'_>, pointer: &str) -> String {
    let selector = object.part(pointer);
    let mut terms: Vec<String> = selector
        .fields("/matchLabels")
        .map(|(name, value)| format!("{name}={}", value.as_str().unwrap_or_default()))
        .collect();
    terms.extend(selector.list("/matchExpressions").map(|expression| {
        let key = expression.text("/key");
        let mut values = expression.texts("/values");
        values.sort_unstable();
        match expression.text("/operator") {
            "In" => format!("{key} in ({})", values.join(",")),
            "NotIn" => format!("{key} notin ({})", values.join(",")),
            "DoesNotExist" => format!("!{key}"),
            _ => key.to_owned(),
        }
    }));
    if terms.is_empty() { NONE.to_owned() } else { terms.join(",") }
}

/// Names and images of the containers of a pod template, each joined by commas.
pub(super) fn containers(object: Object<'_>, pod_spec: &str) -> [Value; 2] {
    let join = |field: &str| {
        let texts: Vec<&str> =
            object.part(pod_spec).list("/containers").map(|container| container.text(field)).collect();
        Value::from(texts.join(","))
    };
    [join("/name"), join("/image")]
}
