//! Server-side apply and managed fields: who owns which field of an object, and what happens when two want the same.
//! Source: Kubernetes "Server-Side Apply"; the format `FieldsV1`.
//!
//! [`apply()`] merges what one manager wants into an object; [`track()`] notes what any other write changed. Both are pure:
//! the clock is an argument.

mod client_side;
mod field_set;
mod managers;
mod merge;
mod path;
#[cfg(test)]
mod tests;
mod walk;

use jiff::Timestamp;
use serde_json::{Map, Value};

pub use field_set::{BadFields, FieldSet, display};
pub use managers::{ManagerEntry, Managers, Operation};
pub use path::{BadPathElement, PathElement};

use super::schema::SchemaNode;
use super::status::{ApiError, FieldConflict};
use managers::time_of;
use walk::{compare, fields_of, repeated};

/// Manager of what was in an object before anybody's fields were tracked.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";

/// The manager that comes after client-side apply: see [`client_side`].
const KUBECTL: &str = "kubectl";

/// Fields of metadata that nobody owns.
const UNTRACKED_METADATA: [&str; 9] = [
    "name",
    "namespace",
    "creationTimestamp",
    "deletionTimestamp",
    "selfLink",
    "uid",
    "generation",
    "managedFields",
    "resourceVersion",
];

/// Who writes, and how.
#[derive(Clone, Copy, Debug)]
pub struct Writer<'a> {
    /// Name of the manager.
    pub manager: &'a str,
    /// Version in which it writes: `apps/v1`.
    pub api_version: &'a str,
    /// Subresource through which it writes, if any.
    pub subresource: Option<&'a str>,
    /// Now.
    pub now: Timestamp,
}

/// Why a configuration was not applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// Others own fields that it would change.
    #[error("{} fields are owned by others", .0.len())]
    Conflicts(Vec<FieldConflict>),
    /// The object's managed fields cannot be read.
    #[error("metadata.managedFields: {0}")]
    BadFields(#[from] BadFields),
    /// The configuration carries managed fields of its own.
    #[error("metadata.managedFields must be nil")]
    ManagedFieldsInConfig,
    /// Two entries of a list of the configuration cannot be told apart.
    #[error("failed to create typed patch object: {list}: duplicate entries for key {key}")]
    Repeated {
        /// Path of the list, e.g. `.spec.containers`.
        list: String,
        /// What the entries share, e.g. `[name="a"]`.
        key: String,
    },
}

impl From<ApplyError> for ApiError {
    fn from(error: ApplyError) -> Self {
        match error {
            ApplyError::Conflicts(conflicts) => Self::ApplyConflict(conflicts),
            ApplyError::BadFields(_) => Self::Internal(error.to_string()),
            ApplyError::ManagedFieldsInConfig | ApplyError::Repeated { .. } => {
                Self::BadRequest(error.to_string())
            }
        }
    }
}

/// A copy without what nobody owns.
fn tracked(object: &Value) -> Value {
    let mut copy = object.clone();
    if let Value::Object(fields) = &mut copy {
        fields.remove("apiVersion");
        fields.remove("kind");
        let empty = match fields.get_mut("metadata") {
            Some(Value::Object(metadata)) => {
                metadata.retain(|name, _| !UNTRACKED_METADATA.contains(&name.as_str()));
                metadata.is_empty()
            }
            _ => false,
        };
        if empty {
            fields.remove("metadata");
        }
    }
    copy
}

fn owned(schema: Option<SchemaNode<'_>>, object: &Value) -> FieldSet {
    let copy = tracked(object);
    if copy.as_object().is_some_and(Map::is_empty) { FieldSet::default() } else { fields_of(schema, &copy) }
}

/// The object after applying `config`: `live` is the stored object, or `None` to create one. Identity and other system
/// fields of the live object stay. When nothing changes the result equals `live`.
///
/// # Errors
/// [`ApplyError`]; conflicts only without `force`.
pub fn apply(
    schema: Option<SchemaNode<'_>>,
    live: Option<&Value>,
    config: &Value,
    writer: Writer<'_>,
    force: bool,
) -> Result<Value, ApplyError> {
    let claims = config.pointer("/metadata/managedFields").and_then(Value::as_array);
    if claims.is_some_and(|claims| !claims.is_empty()) {
        return Err(ApplyError::ManagedFieldsInConfig);
    }
    if let Some((list, key)) = repeated(schema, config) {
        return Err(ApplyError::Repeated { list: display(&list), key: key.to_string() });
    }
    let config = &confined(config, writer.subresource);
    let empty = Value::Object(Map::new());
    let before = live.unwrap_or(&empty);
    let mut managers = Managers::of(before)?;
    if managers.entries.is_empty() && live.is_some() {
        managers.entries.push(entry(
            BEFORE_FIRST_APPLY,
            Operation::Update,
            writer,
            owned(schema, before),
            None,
        ));
    }
    let wanted = owned(schema, config);
    let me = entry(writer.manager, Operation::Apply, writer, wanted.clone(), None);
    let previous = managers.entries.iter().find(|entry| entry.is_same(&me)).cloned();

    let mut merged = merge::merge(schema, before, &without_managed_fields(config));
    let others = held_by_others(&managers, &me);
    if let Some(previous) = &previous {
        let gone = previous.fields.difference(&wanted);
        merge::remove(schema, &mut merged, &gone, &others.union(&wanted));
    }
    let changed = compare(schema, &tracked(before), &tracked(&merged));
    let taken = changed.modified.union(&changed.added);
    let mut contested = taken.intersection(&wanted);
    if writer.manager == KUBECTL {
        contested = contested.difference(&client_side::unchanged_since(schema, before));
    }
    let conflicts = conflicts(&managers, &me, &contested);
    if !force && !conflicts.is_empty() {
        return Err(ApplyError::Conflicts(conflicts));
    }
    for other in managers.entries.iter_mut().filter(|other| !other.is_same(&me)) {
        other.fields =
            other.fields.difference(&taken.intersection(&wanted)).without_subtrees(&changed.removed);
    }
    managers.entries.retain(|entry| !entry.is_same(&me));
    let unchanged_set = previous.as_ref().is_some_and(|previous| previous.fields == wanted);
    let time = match previous {
        Some(previous) if unchanged_set => previous.time,
        _ => Some(time_of(writer.now)),
    };
    managers.entries.push(ManagerEntry { time, ..me });
    managers.write_to(&mut merged);
    if writer.manager == KUBECTL {
        client_side::note(&mut merged, config);
    }
    Ok(merged)
}

/// What a configuration can say through a subresource: `status` is all that is written through the subresource of that
/// name.
fn confined(config: &Value, subresource: Option<&str>) -> Value {
    let mut config = config.clone();
    if let (Some("status"), Value::Object(fields)) = (subresource, &mut config) {
        fields.retain(|name, _| matches!(name.as_str(), "apiVersion" | "kind" | "status"));
    }
    config
}

fn without_managed_fields(config: &Value) -> Value {
    let mut config = config.clone();
    if let Some(metadata) = config.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    config
}

fn entry(
    manager: &str,
    operation: Operation,
    writer: Writer<'_>,
    fields: FieldSet,
    time: Option<String>,
) -> ManagerEntry {
    ManagerEntry {
        manager: manager.to_owned(),
        operation,
        api_version: writer.api_version.to_owned(),
        subresource: writer.subresource.unwrap_or_default().to_owned(),
        time: time.or_else(|| Some(time_of(writer.now))),
        fields,
    }
}

fn held_by_others(managers: &Managers, me: &ManagerEntry) -> FieldSet {
    let others = managers.entries.iter().filter(|other| !other.is_same(me));
    others.fold(FieldSet::default(), |all, other| all.union(&other.fields))
}

fn conflicts(managers: &Managers, me: &ManagerEntry, taken: &FieldSet) -> Vec<FieldConflict> {
    let others = managers.entries.iter().filter(|other| !other.is_same(me));
    others
        .flat_map(|other| {
            let fields = other.fields.intersection(taken).paths();
            fields.into_iter().map(|path| FieldConflict { manager: other.wording(), field: display(&path) })
        })
        .collect()
}

/// Notes in `new` what a write that is no apply changed: the writer now owns what it added or changed. `old` is the
/// stored object, `None` for a new one. A client that sends empty managed fields (`[]` or `[{}]`) resets them; whatever
/// else it sends of them does not count.
///
/// # Errors
/// [`BadFields`] if the stored entries cannot be read.
pub fn track(
    schema: Option<SchemaNode<'_>>,
    old: Option<&Value>,
    new: &mut Value,
    writer: Writer<'_>,
) -> Result<(), BadFields> {
    if writer.subresource.is_none() && is_reset(new) && old.is_some() {
        Managers::default().write_to(new);
        return Ok(());
    }
    let empty = Value::Object(Map::new());
    let before = old.unwrap_or(&empty);
    let mut managers = Managers::of(before)?;
    let changed = compare(schema, &tracked(before), &tracked(new));
    let taken = changed.added.union(&changed.modified);
    let mut me = entry(writer.manager, Operation::Update, writer, FieldSet::default(), None);
    if !taken.is_empty() || !changed.removed.is_empty() {
        for other in managers.entries.iter_mut().filter(|other| !other.is_same(&me)) {
            other.fields = other.fields.difference(&taken).without_subtrees(&changed.removed);
        }
        let mine = managers
            .entries
            .iter()
            .position(|other| other.is_same(&me))
            .map(|at| managers.entries.remove(at));
        let held = mine.as_ref().map(|mine| mine.fields.clone()).unwrap_or_default();
        me.fields = held.without_subtrees(&changed.removed).union(&taken);
        if let Some(mine) = mine.filter(|mine| mine.fields == me.fields) {
            me.time = mine.time;
        }
        managers.entries.push(me);
    }
    managers.write_to(new);
    Ok(())
}

fn is_reset(new: &Value) -> bool {
    let entries = new.pointer("/metadata/managedFields").and_then(Value::as_array);
    entries.is_some_and(|entries| match entries.as_slice() {
        [] => true,
        [only] => only.as_object().is_some_and(Map::is_empty),
        _ => false,
    })
}
