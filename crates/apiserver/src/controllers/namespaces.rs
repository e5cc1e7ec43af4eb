//! Namespaces: each gets a service account and the certificates that pods need to trust this server; one that is deleted is
//! emptied, and then goes.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::bootstrap::ensure_object;
use super::contents::{self, Left};
use crate::machinery::group::GroupResource;
use crate::machinery::status::ApiError;
use crate::operations::modify::{self, Change as Modification, OnConflict, Ownership, Part};
use crate::operations::{Target, Writer, metadata, read, system};
use crate::registry::resource::key_prefix;
use crate::server::state::State;
use crate::storage::Stored;
use crate::storage::follow::{Change, Follower, Told};

const ROOT_CERTIFICATES: &str = "kube-root-ca.crt";
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Follows namespaces, and what each must have, until the server stops.
pub(super) async fn run(state: Arc<State>) {
    let follow = |plural: &str| Follower::new(&state.objects, key_prefix("", plural), &state.stopping);
    let (mut namespaces, mut accounts, mut maps) =
        (follow("namespaces"), follow("serviceaccounts"), follow("configmaps"));
    let (done_sender, mut done) = mpsc::channel::<String>(64);
    let mut emptying: HashSet<String> = HashSet::new();
    let mut tasks = JoinSet::new();
    loop {
        let changed = tokio::select! {
            told = namespaces.next() => match told {
                None => break,
                Some(Told::State(all)) => all,
                Some(Told::Change(Change::Put { object, .. })) => vec![object],
                Some(Told::Change(Change::Deleted(_))) => Vec::new(),
            },
            told = accounts.next() => match told {
                None => break,
                Some(told) => bereft(&state, told, "default").await,
            },
            told = maps.next() => match told {
                None => break,
                Some(told) => bereft(&state, told, ROOT_CERTIFICATES).await,
            },
            Some(name) = done.recv() => {
                emptying.remove(&name);
                // Another of this name may have come, and been told to go, meanwhile.
                find(&state, &name).await
            }
            Some(_) = tasks.join_next() => Vec::new(),
        };
        for stored in changed {
            let Ok(namespace) = read::decode(&stored) else { continue };
            let name = stored.name().to_owned();
            if !metadata::is_deleting(&namespace) {
                furnish(&state, &name).await;
            } else if emptying.insert(name.clone()) {
                let (state, sender) = (Arc::clone(&state), done_sender.clone());
                tasks.spawn(async move {
                    tokio::select! {
                        () = state.stopping.cancelled() => {}
                        () = empty(&state, &name) => {}
                    }
                    // The receiver lives as long as this task.
                    let _ = sender.send(name).await;
                });
            }
        }
    }
    tasks.shutdown().await;
}

/// The namespaces that may have lost the object of this name, which each must have.
async fn bereft(state: &State, told: Told, wanted: &str) -> Vec<Stored> {
    let lost = match told {
        // What went away before it was followed is told by nobody.
        Told::State(_) => {
            let all = state.objects.all(&key_prefix("", "namespaces")).await;
            return all.map(|(all, _)| all).unwrap_or_default();
        }
        Told::Change(Change::Deleted(last)) => last,
        // The certificates are to stay what they are.
        Told::Change(Change::Put { object, previous: Some(_) }) if wanted == ROOT_CERTIFICATES => object,
        _ => return Vec::new(),
    };
    if lost.name() == wanted { find(state, lost.namespace()).await } else { Vec::new() }
}

/// The namespace of this name, if there is one.
async fn find(state: &State, name: &str) -> Vec<Stored> {
    let key = format!("{}{name}", key_prefix("", "namespaces"));
    state.objects.get(&key).await.ok().flatten().into_iter().collect()
}

/// Makes what every namespace has.
async fn furnish(state: &State, name: &str) {
    let account = json!({
        "apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": name},
    });
    report(name, ensure_object(state, account).await);
    let Some(certificates) = &state.config.root_certificates else { return };
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": ROOT_CERTIFICATES, "namespace": name, "annotations": {
            "kubernetes.io/description": "Contains a CA bundle that can be used to verify the kube-apiserver when \
             using internal endpoints such as the internal service IP or kubernetes.default.svc.",
        }},
        "data": {"ca.crt": certificates},
    });
    report(name, ensure_object(state, map).await);
    report(name, restore_certificates(state, name, certificates).await);
}

async fn restore_certificates(state: &State, namespace: &str, certificates: &str) -> Result<(), ApiError> {
    let catalog = state.registry.catalog();
    let resource = catalog.resource("", "v1", "configmaps").ok_or(ApiError::NoSuchResource)?;
    let target = Target::new(resource, namespace, ROOT_CERTIFICATES);
    let make = |current: &Value| {
        let mut new = current.clone();
        new["data"] = json!({"ca.crt": certificates});
        Ok((new, Ownership::Changed))
    };
    let change = Modification { part: Part::Main, on_conflict: OnConflict::Retry, make: &make };
    let (user, options) = system();
    modify::modify(state, &target, &change, &mut Writer::new(&user, &options)).await.map(|_| ())
}

fn report(name: &str, result: Result<(), ApiError>) {
    match result {
        Ok(()) | Err(ApiError::NotFound { .. } | ApiError::NamespaceTerminating { .. }) => {}
        Err(error) => tracing::warn!(namespace = name, %error, "a namespace does not have what it should"),
    }
}

/// Deletes everything in a namespace until nothing is left, then lets the namespace go.
async fn empty(state: &State, name: &str) {
    let mut pause = FIRST_PAUSE;
    loop {
        match empty_once(state, name).await {
            Ok(true) => return,
            Ok(false) => {}
            Err(error) => tracing::warn!(namespace = name, %error, "a namespace cannot be emptied yet"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// One round; whether the namespace is empty and has gone, or been told to.
async fn empty_once(state: &State, name: &str) -> Result<bool, ApiError> {
    let catalog = state.registry.catalog();
    let namespaces = catalog.resource("", "v1", "namespaces").ok_or(ApiError::NoSuchResource)?;
    let target = Target::new(namespaces, "", name);
    let Some(stored) = read::find(state, &target).await? else { return Ok(true) };
    if !metadata::is_deleting(&read::decode(&stored)?) {
        return Ok(true);
    }
    let mut left: BTreeMap<GroupResource, Left> = BTreeMap::new();
    for resource in catalog.stored().filter(|resource| resource.namespaced()) {
        let rest = contents::delete_all(state, resource, name).await?;
        if rest.count > 0 {
            left.insert(resource.group_resource(), rest);
        }
    }
    let part = if left.is_empty() { Part::Finalize } else { Part::Status };
    let make = |current: &Value| {
        let new = if left.is_empty() { without_finalizer(current) } else { with_conditions(current, &left) };
        Ok((new, Ownership::Changed))
    };
    let change = Modification { part, on_conflict: OnConflict::Retry, make: &make };
    let (user, options) = system();
    match modify::modify(state, &target, &change, &mut Writer::new(&user, &options)).await {
        Ok(_) | Err(ApiError::NotFound { .. }) => Ok(left.is_empty()),
        Err(error) => Err(error),
    }
}

fn without_finalizer(namespace: &Value) -> Value {
    let mut new = namespace.clone();
    let finalizers = namespace["spec"]["finalizers"].as_array().into_iter().flatten();
    new["spec"]["finalizers"] = finalizers.filter(|finalizer| *finalizer != "kubernetes").cloned().collect();
    new
}

/// The namespace with conditions that say what its end waits for.
fn with_conditions(namespace: &Value, left: &BTreeMap<GroupResource, Left>) -> Value {
    let resources: Vec<_> = left
        .iter()
        .map(|(resource, left)| format!("{resource} has {} resource instances", left.count))
        .collect();
    let mut waiting: BTreeMap<&str, usize> = BTreeMap::new();
    for (finalizer, count) in left.values().flat_map(|left| &left.finalizers) {
        *waiting.entry(finalizer).or_default() += count;
    }
    let finalizers: Vec<_> = waiting
        .iter()
        .map(|(finalizer, count)| format!("{finalizer} in {count} resource instances"))
        .collect();
    let mut new = namespace.clone();
    let content = format!("Some resources are remaining: {}", resources.join(", "));
    set_condition(&mut new, "NamespaceContentRemaining", true, "SomeResourcesRemain", &content);
    let remaining = !finalizers.is_empty();
    let (reason, message) = if remaining {
        (
            "SomeFinalizersRemain",
            format!("Some content in the namespace has finalizers remaining: {}", finalizers.join(", ")),
        )
    } else {
        ("ContentHasNoFinalizers", "All content-preserving finalizers finished".to_owned())
    };
    set_condition(&mut new, "NamespaceFinalizersRemaining", remaining, reason, &message);
    for (kind, reason) in [
        ("NamespaceDeletionDiscoveryFailure", "ResourcesDiscovered"),
        ("NamespaceDeletionGroupVersionParsingFailure", "ParsedGroupVersions"),
        ("NamespaceDeletionContentFailure", "ContentDeleted"),
    ] {
        set_condition(&mut new, kind, false, reason, "All went well so far");
    }
    new
}

/// Sets a condition; the time of its last transition changes only with its status.
pub(super) fn set_condition(object: &mut Value, kind: &str, holds: bool, reason: &str, message: &str) {
    let status = if holds { "True" } else { "False" };
    let mut conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let now = metadata::timestamp(Timestamp::now());
    let before = conditions.iter().find(|condition| condition["type"] == kind);
    let since = before.filter(|condition| condition["status"] == status);
    let since = since.and_then(|condition| condition["lastTransitionTime"].as_str()).unwrap_or(&now);
    let condition = json!({
        "type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": since,
    });
    match conditions.iter_mut().find(|condition| condition["type"] == kind) {
        Some(place) => *place = condition,
        None => conditions.push(condition),
    }
    if !object["status"].is_object() {
        object["status"] = json!({});
    }
    object["status"]["conditions"] = conditions.into();
}
