//! Aggregates: systems under one name, which are reset together, a batch at a time. Kept as ConfigMaps.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use drystone_api::SYSTEM_NAMESPACE;
use drystone_engine::{
    harness::{seen, unseen},
    reference::{ObjectKey, is_conflict, is_not_found},
};
use drystone_redfish::{
    error::ServiceError,
    message,
    server::{Parameters, Properties, Reply, WriteRequest},
};
use futures::future::join_all;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ObjectMeta, PostParams},
};
use serde_json::Value;

use super::{
    Inner,
    groups::{read_texts, still_the_one},
    host::{PowerChange, bring_to, change_of, check_resettable},
    refused, systems,
    zones::read_id,
};
use crate::{
    names::SYSTEMS,
    render::{
        aggregation::{AGGREGATE_LABEL, ELEMENTS, aggregate_uri, elements_of},
        system::RESET_TYPES,
    },
};

/// Most systems of an aggregate, or of one reset.
const MOST: usize = 65_536;
/// Longest pause between two batches of a reset, in seconds.
const LONGEST_PAUSE: u64 = 3_600;

/// A write in `Aggregates`.
pub(super) async fn write(
    inner: &Arc<Inner>,
    rest: &[&str],
    request: WriteRequest<'_>,
) -> Result<Reply, ServiceError> {
    match (request.method.as_str(), rest) {
        ("POST", []) => create(inner, request).await,
        ("DELETE", [id]) => delete(inner, id, request.target.uri).await,
        ("POST", [id, "Actions", action @ ("Aggregate.AddElements" | "Aggregate.RemoveElements")]) => {
            change(inner, id, action, request).await
        }
        ("POST", [id, "Actions", "Aggregate.Reset"]) => {
            let aggregate = find(inner, id, request.target.uri)?;
            let uris = elements_of(&aggregate);
            reset(inner, "Aggregate.Reset", Some(uris), request).await
        }
        _ => Err(ServiceError::not_found(request.target.uri)),
    }
}

/// `AggregationService.Reset`: systems that the request names.
pub(super) async fn reset_all(inner: &Arc<Inner>, request: WriteRequest<'_>) -> Result<Reply, ServiceError> {
    reset(inner, "AggregationService.Reset", None, request).await
}

fn api(inner: &Inner) -> Api<ConfigMap> {
    Api::namespaced(inner.client.clone(), SYSTEM_NAMESPACE)
}

fn find(inner: &Inner, id: &str, uri: &str) -> Result<Arc<ConfigMap>, ServiceError> {
    let found = inner.feed.sources().aggregates.get(&ObjectKey::new(SYSTEM_NAMESPACE, id));
    found.ok_or_else(|| ServiceError::not_found(uri))
}

async fn create(inner: &Arc<Inner>, request: WriteRequest<'_>) -> Result<Reply, ServiceError> {
    let mut properties = Properties::create(request.body.required()?);
    let id = read_id(&mut properties, "aggregate");
    let mut aggregate = ConfigMap { metadata: ObjectMeta::default(), ..ConfigMap::default() };
    aggregate.metadata.name = Some(id.clone());
    aggregate.labels_mut().insert(AGGREGATE_LABEL.0.to_owned(), AGGREGATE_LABEL.1.to_owned());
    read_texts(&mut properties, &mut aggregate);
    properties.require("Elements");
    let elements = read_systems(inner, &mut properties, "Elements");
    properties.finish()?;
    write_elements(&mut aggregate, &elements);
    match api(inner).create(&PostParams::default(), &aggregate).await {
        Ok(created) => {
            seen(&inner.feed.sources().aggregates, &created).await;
            inner.feed.show_aggregate(&ObjectKey::of(&created));
            let uri = aggregate_uri(&id);
            inner.tree.value(&uri).map(Reply::created).ok_or_else(|| ServiceError::not_found(&uri))
        }
        Err(error) if is_conflict(&error) => {
            Err(ServiceError::conflict(message::resource_already_exists("Aggregate", "Id", &id)))
        }
        Err(error) => Err(refused(&error)),
    }
}

/// `Aggregate.AddElements` and `Aggregate.RemoveElements`.
async fn change(
    inner: &Arc<Inner>,
    id: &str,
    action: &str,
    mut request: WriteRequest<'_>,
) -> Result<Reply, ServiceError> {
    let body = std::mem::take(&mut request.body).into_object();
    let _turn = inner.fabrics.lock().await;
    let aggregate = find(inner, id, request.target.uri)?;
    let before = elements_of(&aggregate);
    let mut parameters = Parameters::action(action, body);
    parameters.require("Elements");
    let adds = action.ends_with("AddElements");
    let after: Vec<String> = if adds {
        let named = read_systems(inner, &mut parameters, "Elements");
        let new = named.into_iter().filter(|uri| !before.contains(uri));
        before.iter().cloned().chain(new).collect()
    } else {
        // What is gone may be taken out too.
        let named: BTreeSet<String> = parameters.links("Elements").into_iter().flatten().collect();
        before.iter().filter(|uri| !named.contains(*uri)).cloned().collect()
    };
    parameters.finish()?;
    still_the_one(inner, &aggregate_uri(id), &request)?;
    if after == before {
        return Ok(Reply::no_operation());
    }
    let mut changed = (*aggregate).clone();
    write_elements(&mut changed, &after);
    let written = api(inner).replace(id, &PostParams::default(), &changed).await;
    let written = written.map_err(|error| refused(&error))?;
    seen(&inner.feed.sources().aggregates, &written).await;
    inner.feed.show_aggregate(&ObjectKey::of(&written));
    Ok(Reply::message(&message::success()))
}

async fn delete(inner: &Arc<Inner>, id: &str, uri: &str) -> Result<Reply, ServiceError> {
    let aggregate = find(inner, id, uri)?;
    match api(inner).delete(id, &DeleteParams::default()).await {
        Ok(_) => {}
        Err(error) if is_not_found(&error) => {}
        Err(error) => return Err(refused(&error)),
    }
    let (key, uid) = (ObjectKey::of(aggregate.as_ref()), aggregate.uid().unwrap_or_default());
    unseen(&inner.feed.sources().aggregates, &key, &uid).await;
    inner.feed.forget("aggregate", &key, &uid);
    Ok(Reply::no_content())
}

/// Reads links to systems.
fn read_systems(inner: &Inner, properties: &mut Properties, name: &str) -> Vec<String> {
    let uris = properties.links(name).unwrap_or_default();
    check_systems(inner, properties, name, uris)
}

/// Keeps those that are systems, each once; tells of all others.
fn check_systems(inner: &Inner, properties: &mut Properties, name: &str, uris: Vec<String>) -> Vec<String> {
    let mut systems: Vec<String> = Vec::with_capacity(uris.len());
    for (index, uri) in uris.into_iter().enumerate().take(MOST) {
        let path = properties.path_of(&format!("{name}/{index}"));
        let id = uri.strip_prefix(SYSTEMS).and_then(|rest| rest.strip_prefix('/'));
        let is_system = id.is_some_and(|id| !systems::hosts_of(inner, id).is_empty());
        if is_system {
            if !systems.contains(&uri) {
                systems.push(uri);
            }
        } else if inner.tree.contains(&uri) {
            properties.reject(message::property_value_not_in_list(&uri, &path));
        } else {
            properties.reject(message::resource_missing_at_uri(&uri).about(&path));
        }
    }
    systems
}

fn write_elements(aggregate: &mut ConfigMap, elements: &[String]) {
    let text = Value::from(elements.to_vec()).to_string();
    aggregate.data.get_or_insert_default().insert(ELEMENTS.to_owned(), text);
}

/// Resets systems, a batch at a time. `uris` are those of an aggregate; without, the request names them.
async fn reset(
    inner: &Arc<Inner>,
    action: &str,
    uris: Option<Vec<String>>,
    request: WriteRequest<'_>,
) -> Result<Reply, ServiceError> {
    let mut parameters = Parameters::action(action, request.body.into_object());
    parameters.require("ResetType");
    let reset_type = parameters.choice("ResetType", &RESET_TYPES).unwrap_or_default();
    let most = u64::try_from(MOST).unwrap_or(u64::MAX);
    let batch = parameters.unsigned("BatchSize", 0, most).unwrap_or(0);
    let pause = parameters.unsigned("DelayBetweenBatchesInSeconds", 0, LONGEST_PAUSE).unwrap_or(0);
    let uris = match uris {
        Some(uris) => uris,
        None => {
            parameters.require("TargetURIs");
            let named = parameters.links("TargetURIs").unwrap_or_default();
            check_systems(inner, &mut parameters, "TargetURIs", named)
        }
    };
    parameters.finish()?;
    let batches = batches(inner, &uris, &reset_type, usize::try_from(batch).unwrap_or(usize::MAX))?;
    if batches.is_empty() {
        return Ok(Reply::no_operation());
    }
    let title = format!("{reset_type} of {} systems", uris.len());
    let work = inner.clone();
    inner
        .tasks
        .carry_out(title, async move {
            let mut left = batches.len();
            for batch in &batches {
                let each = batch.iter().map(|(key, change)| bring_to(&work, key, *change));
                join_all(each).await.into_iter().collect::<Result<(), ServiceError>>()?;
                left -= 1;
                if left > 0 {
                    tokio::time::sleep(Duration::from_secs(pause)).await;
                }
            }
            Ok(Reply::message(&message::success()))
        })
        .await
}

/// Hosts that change together, each once.
type Batch = Vec<(ObjectKey, PowerChange)>;

/// What becomes of which hosts, all checked before the first one changes; systems whose hosts are so already are left out. A
/// batch size of 0 makes one batch.
fn batches(
    inner: &Inner,
    uris: &[String],
    reset_type: &str,
    size: usize,
) -> Result<Vec<Batch>, ServiceError> {
    let mut seen: BTreeSet<ObjectKey> = BTreeSet::new();
    let mut systems: Vec<Batch> = Vec::new();
    for uri in uris {
        let Some(id) = uri.strip_prefix(SYSTEMS).and_then(|rest| rest.strip_prefix('/')) else { continue };
        let hosts = systems::hosts_of(inner, id);
        let composed = systems::find(inner, id).is_some();
        let Some(change) = change_of(reset_type, &hosts) else { continue };
        check_resettable(&hosts, reset_type, change, composed)?;
        let keys = hosts.iter().map(|host| ObjectKey::of(host.as_ref()));
        let new: Batch = keys.filter(|key| seen.insert(key.clone())).map(|key| (key, change)).collect();
        if !new.is_empty() {
            systems.push(new);
        }
    }
    let size = if size == 0 { systems.len().max(1) } else { size };
    Ok(systems.chunks(size).map(<[Batch]>::concat).collect())
}
