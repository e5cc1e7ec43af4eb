//! Validation of a value against a schema, in the words that Kubernetes uses.

use serde_json::{Map, Value};

use super::bounds;
use super::node::{ListType, SchemaNode, ValueType};
use crate::machinery::field_error::FieldError;

/// Most errors that are reported for one object.
const LIMIT: usize = 100;

/// Everything that is wrong with `value`. What equals `old` at the same place is taken as it is.
pub(super) fn validate(node: SchemaNode<'_>, value: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut validator = Validator { path: String::new(), errors: Vec::new() };
    validator.value(node, value, old);
    validator.errors
}

struct Validator {
    path: String,
    errors: Vec<FieldError>,
}

impl Validator {
    fn value(&mut self, node: SchemaNode<'_>, value: &Value, old: Option<&Value>) {
        if old == Some(value) || self.errors.len() >= LIMIT {
            return;
        }
        if value.is_null() && node.node().nullable {
            return;
        }
        if !self.has_type(node, value) {
            return;
        }
        match value {
            Value::Object(fields) => self.object(node, fields, old),
            Value::Array(entries) => self.array(node, entries, old),
            _ => {}
        }
        if let Some(checks) = node.checks() {
            bounds::check(checks, value, &self.path, &mut self.errors);
            self.alternatives(node, value);
        }
    }

    fn has_type(&mut self, node: SchemaNode<'_>, value: &Value) -> bool {
        let facts = node.node();
        let (fits, wanted) = match facts.value_type {
            Some(wanted) => (is_of_type(value, wanted), wanted.name()),
            None if facts.int_or_string => (value.is_string() || is_integer(value), "integer,string"),
            // Built-in kinds leave the type of maps and quantities open; null never was a value there.
            None => return true,
        };
        if !fits {
            let (path, found) = (&self.path, type_name(value));
            let message = format!("{path} in body must be of type {wanted}: {found:?}");
            self.errors.push(FieldError::wrong_type(path.as_str(), found, message));
        }
        fits
    }

    fn object(&mut self, node: SchemaNode<'_>, fields: &Map<String, Value>, old: Option<&Value>) {
        for name in node.required().filter(|name| !fields.contains_key(*name)) {
            let path = self.joined(name);
            self.errors.push(FieldError::required(path, ""));
        }
        if node.node().embedded_resource {
            self.embedded(fields);
        }
        for (name, value) in fields {
            if let Some(node) = node.field(name) {
                let length = self.path.len();
                if !self.path.is_empty() {
                    self.path.push('.');
                }
                self.path.push_str(name);
                self.value(node, value, old.and_then(|old| old.get(name)));
                self.path.truncate(length);
            }
        }
    }

    fn embedded(&mut self, fields: &Map<String, Value>) {
        for name in ["apiVersion", "kind"] {
            if fields.get(name).and_then(Value::as_str).is_none_or(str::is_empty) {
                let path = self.joined(name);
                self.errors.push(FieldError::required(path, "must not be empty"));
            }
        }
    }

    fn array(&mut self, node: SchemaNode<'_>, entries: &[Value], old: Option<&Value>) {
        self.duplicates(node, entries);
        let Some(items) = node.items() else { return };
        let old = old.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        for (index, entry) in entries.iter().enumerate() {
            let length = self.path.len();
            self.path.push_str(&format!("[{index}]"));
            self.value(items, entry, correlated(node, entry, index, old));
            self.path.truncate(length);
        }
    }

    fn duplicates(&mut self, node: SchemaNode<'_>, entries: &[Value]) {
        let keys: Vec<Value> = match node.node().list_type {
            ListType::Atomic => return,
            ListType::Set => entries.to_vec(),
            ListType::Map => entries.iter().map(|entry| map_key(node, entry)).collect(),
        };
        let mut seen = std::collections::HashSet::with_capacity(keys.len());
        for (index, key) in keys.into_iter().enumerate() {
            if !seen.insert(key.to_string()) {
                self.errors.push(FieldError::duplicate(format!("{}[{index}]", self.path), key));
            }
        }
    }

    fn alternatives(&mut self, node: SchemaNode<'_>, value: &Value) {
        for alternative in node.all_of() {
            let errors = self.against(alternative, value);
            self.errors.extend(errors);
        }
        let any_of: Vec<Vec<FieldError>> = node.any_of().map(|schema| self.against(schema, value)).collect();
        if !any_of.is_empty() && !any_of.iter().any(Vec::is_empty) {
            self.alternative_failed("must validate at least one schema (anyOf)");
            self.errors.extend(any_of.into_iter().min_by_key(Vec::len).unwrap_or_default());
        }
        let one_of: Vec<Vec<FieldError>> = node.one_of().map(|schema| self.against(schema, value)).collect();
        match one_of.iter().filter(|errors| errors.is_empty()).count() {
            _ if one_of.is_empty() => {}
            1 => {}
            0 => {
                self.alternative_failed("must validate one and only one schema (oneOf). Found none valid");
                self.errors.extend(one_of.into_iter().min_by_key(Vec::len).unwrap_or_default());
            }
            several => self.alternative_failed(&format!(
                "must validate one and only one schema (oneOf). Found {several} valid alternatives"
            )),
        }
        if node.not().is_some_and(|schema| self.against(schema, value).is_empty()) {
            self.alternative_failed("must not validate the schema (not)");
        }
    }

    fn against(&self, node: SchemaNode<'_>, value: &Value) -> Vec<FieldError> {
        let mut validator = Self { path: self.path.clone(), errors: Vec::new() };
        validator.value(node, value, None);
        validator.errors
    }

    fn alternative_failed(&mut self, message: &str) {
        let message = format!("{:?} {message}", self.path);
        self.errors.push(FieldError::invalid(self.path.as_str(), "", message));
    }

    fn joined(&self, name: &str) -> String {
        crate::machinery::field_error::child(&self.path, name)
    }
}

/// The entry of the old list that `entry` came from: by key in a map list, by position elsewhere.
fn correlated<'a>(node: SchemaNode<'_>, entry: &Value, index: usize, old: &'a [Value]) -> Option<&'a Value> {
    match node.node().list_type {
        ListType::Map => {
            let key = map_key(node, entry);
            old.iter().find(|old| map_key(node, old) == key)
        }
        ListType::Set => old.iter().find(|old| *old == entry),
        ListType::Atomic => old.get(index),
    }
}

/// The key fields of an entry of a map list, with defaults for missing ones.
fn map_key(node: SchemaNode<'_>, entry: &Value) -> Value {
    let keys = node.node().list_map_keys.iter().filter_map(|name| {
        let default = || {
            let default = node.items()?.property(name)?.node().default.as_deref()?;
            Some(default.clone())
        };
        let value = entry.get(&**name).cloned().or_else(default)?;
        Some((name.to_string(), value))
    });
    Value::Object(keys.collect())
}

fn is_of_type(value: &Value, wanted: ValueType) -> bool {
    match wanted {
        ValueType::Object => value.is_object(),
        ValueType::Array => value.is_array(),
        ValueType::String => value.is_string(),
        ValueType::Integer => is_integer(value),
        ValueType::Number => value.is_number(),
        ValueType::Boolean => value.is_boolean(),
    }
}

fn is_integer(value: &Value) -> bool {
    value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|number| number.fract() == 0.0)
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) if is_integer(value) => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}
