//! Serves what CustomResourceDefinitions describe: publishes the resources of each, and only then says in its status that
//! it is established; empties a definition that is being deleted.

use std::sync::Arc;

use drystone_store::StoreError;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::machinery::status::ApiError;
use crate::operations::modify::{self, Change as Modification, OnConflict, Ownership, Part};
use crate::operations::{Target, Writer, metadata, read, system};
use crate::registry::resource::key_prefix;
use crate::registry::{CustomResources, ResourceInfo};
use crate::server::state::State;
use crate::storage::follow::{Change, Follower, Told};

const GROUP: &str = "apiextensions.k8s.io";
const PLURAL: &str = "customresourcedefinitions";

/// Serves, before the server starts, what was served when it stopped.
pub(super) async fn load(state: &State) -> Result<(), StoreError> {
    let (stored, _) = state.objects.all(&key_prefix(GROUP, PLURAL)).await?;
    for stored in stored {
        match read::decode(&stored) {
            Ok(definition) if is_established(&definition) => publish(state, &definition),
            Ok(_) => {}
            Err(error) => tracing::error!(%error, "a CustomResourceDefinition cannot be served"),
        }
    }
    Ok(())
}

/// Follows definitions until the server stops.
pub(super) async fn run(state: Arc<State>) {
    let mut follower = Follower::new(&state.objects, key_prefix(GROUP, PLURAL), &state.stopping);
    while let Some(told) = follower.next().await {
        match told {
            Told::State(stored) => {
                for stored in stored {
                    consider(&state, stored.name(), read::decode(&stored)).await;
                }
            }
            Told::Change(Change::Put { object, .. }) => {
                consider(&state, object.name(), read::decode(&object)).await;
            }
            Told::Change(Change::Deleted(last)) => state.registry.withdraw(last.name()),
        }
    }
}

fn is_established(definition: &Value) -> bool {
    condition(definition, "Established") == Some("True")
}

fn condition<'d>(definition: &'d Value, kind: &str) -> Option<&'d str> {
    let mut conditions = definition["status"]["conditions"].as_array()?.iter();
    conditions.find(|condition| condition["type"] == kind)?["status"].as_str()
}

async fn consider(state: &State, name: &str, definition: Result<Value, ApiError>) {
    let considered = match definition {
        Ok(definition) => accept(state, name, &definition).await,
        Err(error) => Err(error),
    };
    match considered {
        Ok(()) | Err(ApiError::NotFound { .. }) => {}
        Err(error) => tracing::error!(name, %error, "a CustomResourceDefinition cannot be served"),
    }
}

fn publish(state: &State, definition: &Value) {
    let name = metadata::text(definition, "name");
    match CustomResources::read(definition) {
        Ok(resources) => state.registry.publish(name, resources),
        Err(error) => {
            state.registry.withdraw(name);
            tracing::error!(name, %error, "a CustomResourceDefinition cannot be served");
        }
    }
}

/// Decides about the names that a definition wants, serves it, and says so in its status.
async fn accept(state: &State, name: &str, definition: &Value) -> Result<(), ApiError> {
    let conflict = name_conflict(state, name, definition);
    let mut wanted = definition.clone();
    set_status(&mut wanted, conflict.as_deref());
    if conflict.is_none() || is_established(definition) {
        publish(state, &wanted);
    }
    if wanted["status"] == definition["status"] {
        return Ok(());
    }
    let catalog = state.registry.catalog();
    let resource = catalog.resource(GROUP, "v1", PLURAL).ok_or(ApiError::NoSuchResource)?;
    let target = Target::new(resource, "", name);
    let make = |current: &Value| {
        let mut new = current.clone();
        // The definition may have changed meanwhile; then the change itself is considered again.
        set_status(&mut new, conflict.as_deref());
        Ok((new, Ownership::Changed))
    };
    let change = Modification { part: Part::Status, on_conflict: OnConflict::Retry, make: &make };
    let (user, options) = system();
    modify::modify(state, &target, &change, &mut Writer::new(&user, &options)).await?;
    Ok(())
}

/// Why the names cannot be had: another definition of the group, or a built-in kind, has them.
fn name_conflict(state: &State, name: &str, definition: &Value) -> Option<String> {
    let names = &definition["spec"]["names"];
    let group = definition["spec"]["group"].as_str()?;
    let catalog = state.registry.catalog();
    let others: Vec<&Arc<ResourceInfo>> = catalog
        .all()
        .filter(|resource| resource.group == group)
        .filter(|resource| resource.custom().is_none_or(|custom| custom.definition != name))
        .collect();
    let plural = names["plural"].as_str().unwrap_or_default();
    let kind = names["kind"].as_str().unwrap_or_default();
    let list_kind = names["listKind"].as_str().unwrap_or_default();
    if others.iter().any(|other| other.plural == plural || other.singular == plural) {
        return Some(format!("{plural:?} is already in use"));
    }
    if others.iter().any(|other| other.kind == kind || other.list_kind == kind) {
        return Some(format!("{kind:?} is already in use"));
    }
    if !list_kind.is_empty()
        && others.iter().any(|other| other.kind == list_kind || other.list_kind == list_kind)
    {
        return Some(format!("{list_kind:?} is already in use"));
    }
    let short_names = names["shortNames"].as_array().into_iter().flatten().filter_map(Value::as_str);
    short_names
        .chain(names["singular"].as_str())
        .find(|short| {
            others
                .iter()
                .any(|other| other.singular == *short || other.short_names.iter().any(|own| own == short))
        })
        .map(|short| format!("{short:?} is already in use"))
}

/// Writes what was decided into the status.
fn set_status(definition: &mut Value, conflict: Option<&str>) {
    let mut names = definition["spec"]["names"].clone();
    let kind = names["kind"].as_str().unwrap_or_default().to_owned();
    if names["singular"].as_str().unwrap_or_default().is_empty() {
        names["singular"] = kind.to_lowercase().into();
    }
    if names["listKind"].as_str().unwrap_or_default().is_empty() {
        names["listKind"] = format!("{kind}List").into();
    }
    let storage: Vec<&str> = definition["spec"]["versions"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|version| version["storage"] == true)
        .filter_map(|version| version["name"].as_str())
        .collect();
    let mut versions: Vec<String> = definition["status"]["storedVersions"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|version| version.as_str().map(str::to_owned))
        .collect();
    versions.extend(
        storage
            .iter()
            .filter(|version| !versions.iter().any(|own| own == *version))
            .map(|version| (*version).to_owned())
            .collect::<Vec<_>>(),
    );
    if !definition["status"].is_object() {
        definition["status"] = json!({});
    }
    let established = is_established(definition) || conflict.is_none();
    if conflict.is_none() {
        definition["status"]["acceptedNames"] = names;
    } else if definition["status"]["acceptedNames"].is_null() {
        definition["status"]["acceptedNames"] = json!({"plural": "", "kind": ""});
    }
    definition["status"]["storedVersions"] = json!(versions);
    match conflict {
        None => {
            set_condition(definition, "NamesAccepted", true, "NoConflicts", "no conflicts found");
            set_condition(
                definition,
                "Established",
                established,
                "InitialNamesAccepted",
                "the initial names have been accepted",
            );
        }
        Some(problem) => {
            set_condition(definition, "NamesAccepted", false, "NameConflict", problem);
            if !established {
                set_condition(definition, "Established", false, "NotAccepted", "not all names are accepted");
            }
        }
    }
}

fn set_condition(definition: &mut Value, kind: &str, holds: bool, reason: &str, message: &str) {
    let status = if holds { "True" } else { "False" };
    let mut conditions = definition["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let wanted = |condition: &Value| condition["type"] == kind;
    match conditions.iter_mut().find(|condition| wanted(condition)) {
        Some(condition) => {
            if condition["status"] != status {
                condition["status"] = status.into();
                condition["lastTransitionTime"] = metadata::timestamp(Timestamp::now()).into();
            }
            condition["reason"] = reason.into();
            condition["message"] = message.into();
        }
        None => conditions.push(json!({
            "type": kind, "status": status, "reason": reason, "message": message,
            "lastTransitionTime": metadata::timestamp(Timestamp::now()),
        })),
    }
    definition["status"]["conditions"] = conditions.into();
}
