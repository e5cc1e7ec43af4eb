//! `metadata.managedFields`: who owns what, as entries of an object.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::field_set::{BadFields, FieldSet};

/// How a manager writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// By server-side apply.
    Apply,
    /// By any other write.
    Update,
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManagerEntry {
    /// Name of the manager.
    pub manager: String,
    /// How it writes.
    pub operation: Operation,
    /// In which version of the kind.
    pub api_version: String,
    /// Through which subresource; empty for the object itself.
    pub subresource: String,
    /// When its set of fields changed last.
    pub time: Option<String>,
    /// Its fields.
    pub fields: FieldSet,
}

/// Most entries of updaters; beyond, the oldest are merged into one.
const MAX_UPDATERS: usize = 10;

/// Manager that the oldest updaters are merged into.
const ANCIENT: &str = "ancient-changes";

impl ManagerEntry {
    /// Whether two entries are one manager's: updaters are told apart by version too.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        (&self.manager, self.operation, &self.subresource)
            == (&other.manager, other.operation, &other.subresource)
            && (self.operation == Operation::Apply || self.api_version == other.api_version)
    }

    /// As shown to people.
    pub(super) fn wording(&self) -> String {
        let version = match self.operation {
            Operation::Apply => String::new(),
            Operation::Update => format!(" using {}", self.api_version),
        };
        format!("{:?}{version}", self.manager)
    }

    fn decode(value: &Value) -> Result<Self, BadFields> {
        let text = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let operation = if text("operation") == "Apply" { Operation::Apply } else { Operation::Update };
        let fields = value.get("fieldsV1").map_or(Ok(FieldSet::default()), FieldSet::decode)?;
        Ok(Self {
            manager: text("manager"),
            operation,
            api_version: text("apiVersion"),
            subresource: text("subresource"),
            time: Some(text("time")).filter(|time| !time.is_empty()),
            fields,
        })
    }

    fn encode(&self) -> Value {
        let mut entry = Map::new();
        entry.insert("manager".to_owned(), json!(self.manager));
        let operation = if self.operation == Operation::Apply { "Apply" } else { "Update" };
        entry.insert("operation".to_owned(), json!(operation));
        entry.insert("apiVersion".to_owned(), json!(self.api_version));
        if let Some(time) = &self.time {
            entry.insert("time".to_owned(), json!(time));
        }
        entry.insert("fieldsType".to_owned(), json!("FieldsV1"));
        entry.insert("fieldsV1".to_owned(), self.fields.encode());
        if !self.subresource.is_empty() {
            entry.insert("subresource".to_owned(), json!(self.subresource));
        }
        Value::Object(entry)
    }
}

/// All entries of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Managers {
    /// The entries.
    pub entries: Vec<ManagerEntry>,
}

impl Managers {
    /// Reads an object's entries.
    ///
    /// # Errors
    /// [`BadFields`].
    pub fn of(object: &Value) -> Result<Self, BadFields> {
        let list = object.pointer("/metadata/managedFields").and_then(Value::as_array);
        let entries = list.into_iter().flatten().map(ManagerEntry::decode).collect::<Result<_, _>>()?;
        Ok(Self { entries })
    }

    /// Writes the entries into an object: appliers first, then by time and name.
    pub fn write_to(mut self, object: &mut Value) {
        self.entries.retain(|entry| !entry.fields.is_empty());
        self.merge_ancient();
        self.entries.sort_by(|a, b| {
            (a.operation, &a.time, &a.manager, &a.subresource).cmp(&(
                b.operation,
                &b.time,
                &b.manager,
                &b.subresource,
            ))
        });
        let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else { return };
        if self.entries.is_empty() {
            metadata.remove("managedFields");
        } else {
            let entries = self.entries.iter().map(ManagerEntry::encode).collect();
            metadata.insert("managedFields".to_owned(), Value::Array(entries));
        }
    }

    fn merge_ancient(&mut self) {
        loop {
            let updaters = self.entries.iter().filter(|entry| entry.operation == Operation::Update);
            if updaters.count() <= MAX_UPDATERS {
                return;
            }
            let mut oldest: Vec<usize> = (0..self.entries.len())
                .filter(|i| {
                    self.entries[*i].operation == Operation::Update && self.entries[*i].manager != ANCIENT
                })
                .collect();
            oldest.sort_by(|a, b| self.entries[*a].time.cmp(&self.entries[*b].time));
            let Some(first) = oldest.first().copied() else { return };
            let entry = self.entries.remove(first);
            let bucket = |other: &ManagerEntry| {
                other.manager == ANCIENT
                    && other.api_version == entry.api_version
                    && other.subresource == entry.subresource
            };
            match self.entries.iter_mut().find(|other| bucket(other)) {
                Some(bucket) => {
                    bucket.fields = bucket.fields.union(&entry.fields);
                    bucket.time = bucket.time.clone().max(entry.time);
                }
                None => self.entries.push(ManagerEntry { manager: ANCIENT.to_owned(), ..entry }),
            }
        }
    }
}

/// A time as `managedFields` has it.
pub(super) fn time_of(now: Timestamp) -> String {
    now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
