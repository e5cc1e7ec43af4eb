//! Path elements of managed fields: how a field, or an entry of a list, is told apart from its siblings.
//! Source: Kubernetes `FieldsV1`, the format of `metadata.managedFields[].fieldsV1`.

use serde_json::{Map, Value};

/// One step of a path. Keys and values are kept as canonical JSON, so that elements can be ordered and compared.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PathElement {
    /// A field of an object or an entry of a map.
    Field(String),
    /// An entry of a list of objects, by its key fields: `{"name":"x"}`.
    Key(String),
    /// An entry of a set, by its value.
    Value(String),
    /// An entry of a list, by its position.
    Index(u64),
}

/// Text that is no path element.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no path element; they start with f:, k:, v: or i:")]
pub struct BadPathElement(pub String);

/// JSON with sorted keys and no spaces.
pub(super) fn canonical(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let mut names: Vec<&String> = fields.keys().collect();
            names.sort_unstable();
            let each = names
                .into_iter()
                .map(|name| format!("{}:{}", Value::from(name.as_str()), canonical(&fields[name])));
            format!("{{{}}}", each.collect::<Vec<_>>().join(","))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(canonical).collect::<Vec<_>>().join(",")),
        other => other.to_string(),
    }
}

impl PathElement {
    /// The entry of a set.
    pub fn of_value(value: &Value) -> Self {
        Self::Value(canonical(value))
    }

    /// The entry of a list of objects; absent keys are left out of the element.
    pub fn of_keys<'a>(item: &Value, keys: impl IntoIterator<Item = &'a str>) -> Self {
        let present: Map<String, Value> = keys
            .into_iter()
            .filter_map(|key| item.get(key).map(|value| (key.to_owned(), value.clone())))
            .collect();
        Self::Key(canonical(&Value::Object(present)))
    }

    /// As a name in `fieldsV1`.
    pub fn encode(&self) -> String {
        match self {
            Self::Field(name) => format!("f:{name}"),
            Self::Key(keys) => format!("k:{keys}"),
            Self::Value(value) => format!("v:{value}"),
            Self::Index(index) => format!("i:{index}"),
        }
    }

    /// Reads a name in `fieldsV1`.
    ///
    /// # Errors
    /// [`BadPathElement`].
    pub fn decode(text: &str) -> Result<Self, BadPathElement> {
        let bad = || BadPathElement(text.to_owned());
        let (kind, rest) = text.split_once(':').ok_or_else(bad)?;
        let json = || serde_json::from_str::<Value>(rest).map(|value| canonical(&value)).map_err(|_| bad());
        match kind {
            "f" => Ok(Self::Field(rest.to_owned())),
            "k" => {
                let keys = json()?;
                if keys.starts_with('{') { Ok(Self::Key(keys)) } else { Err(bad()) }
            }
            "v" => Ok(Self::Value(json()?)),
            "i" => rest.parse().map(Self::Index).map_err(|_| bad()),
            _ => Err(bad()),
        }
    }
}

/// As shown to people: `.name`, `[name="x"]`, `[="x"]`, `[0]`.
impl std::fmt::Display for PathElement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Field(name) => write!(f, ".{name}"),
            Self::Key(keys) => match serde_json::from_str::<Map<String, Value>>(keys) {
                Ok(keys) => {
                    let each = keys.iter().map(|(name, value)| format!("{name}={value}"));
                    write!(f, "[{}]", each.collect::<Vec<_>>().join(","))
                }
                Err(_) => write!(f, "[{keys}]"),
            },
            Self::Value(value) => write!(f, "[={value}]"),
            Self::Index(index) => write!(f, "[{index}]"),
        }
    }
}
