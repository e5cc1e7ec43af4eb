//! Serves what CustomResourceDefinitions describe: publishes the resources of each, and only then says in its status that
//! it is established; empties a definition that is being deleted.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use drystone_store::StoreError;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::contents;
use super::namespaces::set_condition;
use crate::machinery::status::ApiError;
use crate::operations::delete;
use crate::operations::modify::{self, Change as Modification, OnConflict, Ownership, Part};
use crate::operations::{Target, Writer, metadata, read, system};
use crate::registry::resource::key_prefix;
use crate::registry::{CustomResources, ResourceInfo};
use crate::server::state::State;
use crate::storage::Stored;
use crate::storage::follow::{Change, Follower, Told};

const GROUP: &str = "apiextensions.k8s.io";
const PLURAL: &str = "customresourcedefinitions";

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

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
    let mut emptying: JoinSet<String> = JoinSet::new();
    let mut busy: HashSet<String> = HashSet::new();
    loop {
        let changed = tokio::select! {
            told = follower.next() => match told {
                None => break,
                Some(Told::State(all)) => {
                    withdraw_all_but(&state, &all);
                    all
                }
                Some(Told::Change(Change::Put { object, .. })) => vec![object],
                Some(Told::Change(Change::Deleted(last))) => {
                    state.registry.withdraw(last.name());
                    // Another of this name may have come, and have been served already.
                    present(&state, last.name()).await.into_iter().collect()
                }
            },
            Some(done) = emptying.join_next() => {
                let name = done.unwrap_or_default();
                busy.remove(&name);
                // Another of this name may have come, and been told to go, meanwhile.
                present(&state, &name).await.into_iter().collect()
            }
        };
        for stored in changed {
            let definition = read::decode(&stored);
            let deleting = definition.as_ref().is_ok_and(metadata::is_deleting);
            consider(&state, stored.name(), definition).await;
            if deleting && busy.insert(stored.name().to_owned()) {
                let (state, name) = (Arc::clone(&state), stored.name().to_owned());
                emptying.spawn(async move {
                    empty(&state, &name).await;
                    name
                });
            }
        }
    }
    emptying.shutdown().await;
}

/// The definition of this name that there is now.
async fn present(state: &State, name: &str) -> Option<Stored> {
    state.objects.get(&format!("{}{name}", key_prefix(GROUP, PLURAL))).await.ok().flatten()
}

/// Stops serving what has gone while nobody followed.
fn withdraw_all_but(state: &State, all: &[Stored]) {
    let present: HashSet<&str> = all.iter().map(Stored::name).collect();
    let catalog = state.registry.catalog();
    let served = catalog.stored().filter_map(|resource| Some(resource.custom()?.definition.as_str()));
    for gone in served.filter(|name| !present.contains(name)) {
        state.registry.withdraw(gone);
    }
}

/// Deletes all objects of a definition that is being deleted, then lets it go.
async fn empty(state: &State, name: &str) {
    let mut pause = FIRST_PAUSE;
    loop {
        match empty_once(state, name).await {
            Ok(true) => return,
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(name, %error, "objects of a CustomResourceDefinition cannot be deleted yet");
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// One round; whether nothing is left and the definition may go.
async fn empty_once(state: &State, name: &str) -> Result<bool, ApiError> {
    let catalog = state.registry.catalog();
    let of_definition =
        |resource: &&Arc<ResourceInfo>| resource.custom().is_some_and(|custom| custom.definition == name);
    if let Some(resource) = catalog.stored().find(of_definition)
        && contents::delete_all(state, resource, "").await?.count > 0
    {
        return Ok(false);
    }
    let resource = catalog.resource(GROUP, "v1", PLURAL).ok_or(ApiError::NoSuchResource)?;
    delete::remove_finalizer(state, &Target::new(resource, "", name), delete::CLEANUP).await?;
    Ok(true)
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
    if metadata::is_deleting(definition) {
        let message = "CustomResource deletion is in progress";
        set_condition(definition, "Terminating", true, "InstanceDeletionInProgress", message);
    }
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
