//! Endpoint groups and connections of a fabric.

mod connections;

use std::sync::Arc;

use drystone_api::{EndpointGroup, EndpointGroupSpec, EndpointGroupType, SYSTEM_NAMESPACE};
use drystone_engine::{
    harness::{seen, unseen},
    reference::{ObjectKey, is_conflict, is_not_found},
};
use drystone_redfish::{
    error::ServiceError,
    etag::{Condition, ETag},
    message,
    server::{Properties, Reply, WriteRequest},
};
use http::header;
use kube::{
    Api, Resource, ResourceExt as _,
    api::{DeleteParams, PostParams},
};

use super::{
    Inner, fabric_links, refused,
    replace::{Replaced, replace, take_back},
    zones::read_id,
};
use crate::{
    names::key_of,
    render::{
        fabric::endpoint_uri,
        zone::{DESCRIPTION, DISPLAY_NAME, group_uri},
    },
};

/// Values of `GroupType` that Drystone tells apart.
const TYPES: [&str; 2] = ["Initiator", "Target"];

/// A write in `EndpointGroups` or `Connections`.
pub(super) async fn write(
    inner: &Arc<Inner>,
    fabric: &str,
    room: &str,
    rest: &[&str],
    request: WriteRequest<'_>,
) -> Result<Reply, ServiceError> {
    let fabric = fabric_links::unescaped(fabric);
    match (room, request.method.as_str(), rest) {
        ("Connections", "POST", []) => connections::create(inner, &fabric, request).await,
        ("Connections", "PATCH", [id]) => connections::change(inner, &fabric, id, request).await,
        ("Connections", "DELETE", [id]) => connections::delete(inner, &fabric, id, request.target.uri).await,
        ("EndpointGroups", "POST", []) => create(inner, &fabric, request).await,
        ("EndpointGroups", "PATCH", [id]) => change(inner, &fabric, id, request).await,
        ("EndpointGroups", "DELETE", [id]) => delete(inner, &fabric, id, request.target.uri).await,
        _ => Err(ServiceError::not_found(request.target.uri)),
    }
}

/// Reads the texts that every resource may have into annotations.
pub(super) fn read_texts<K: Resource>(properties: &mut Properties, object: &mut K) {
    for (name, annotation) in [("Name", DISPLAY_NAME), ("Description", DESCRIPTION)] {
        if let Some(text) = properties.nullable_string(name) {
            match text.filter(|text| !text.is_empty()) {
                Some(text) => drop(object.annotations_mut().insert(annotation.to_owned(), text)),
                None => drop(object.annotations_mut().remove(annotation)),
            }
        }
    }
}

/// What is made by a cluster or another object is theirs to change.
pub(super) fn refuse_owned<K: Resource>(object: &K) -> Result<(), ServiceError> {
    let owned = object.owner_references().iter().any(|owner| owner.controller == Some(true));
    if owned { Err(ServiceError::conflict(message::resource_in_use())) } else { Ok(()) }
}

/// Compares `If-Match` under the lock.
pub(super) fn still_the_one(
    inner: &Inner,
    uri: &str,
    request: &WriteRequest<'_>,
) -> Result<(), ServiceError> {
    let condition = Condition::from_headers(request.headers, &header::IF_MATCH);
    let tag = inner.tree.get(uri).and_then(|ready| ready.etag());
    tag.map_or(Ok(()), |tag| condition.check(&ETag::from_header(tag), false))
}

async fn create(inner: &Arc<Inner>, fabric: &str, request: WriteRequest<'_>) -> Result<Reply, ServiceError> {
    let mut properties = Properties::create(request.body.required()?);
    let id = read_id(&mut properties, "group");
    let mut group =
        EndpointGroup::new(&id, EndpointGroupSpec { fabric: fabric.to_owned(), ..Default::default() });
    read_texts(&mut properties, &mut group);
    read(&mut properties, inner, &mut group.spec, false);
    properties.finish()?;
    let _turn = inner.fabrics.lock().await;
    let api: Api<EndpointGroup> = Api::namespaced(inner.client.clone(), SYSTEM_NAMESPACE);
    match api.create(&PostParams::default(), &group).await {
        Ok(created) => {
            inner.feed.show_endpoint_group(&created);
            seen(&inner.feed.sources().groups, &created).await;
            shown(inner, &group_uri(fabric, &id)).map(Reply::created)
        }
        Err(error) if is_conflict(&error) => {
            Err(ServiceError::conflict(message::resource_already_exists("EndpointGroup", "Id", &id)))
        }
        Err(error) => Err(refused(&error)),
    }
}

/// The body of a resource that was just put into the tree.
fn shown(inner: &Inner, uri: &str) -> Result<serde_json::Value, ServiceError> {
    inner.tree.value(uri).ok_or_else(|| ServiceError::not_found(uri))
}

fn read(properties: &mut Properties, inner: &Inner, spec: &mut EndpointGroupSpec, changes: bool) {
    match properties.choice("GroupType", &TYPES).as_deref() {
        Some("Initiator") => spec.kind = Some(EndpointGroupType::Initiator),
        Some("Target") => spec.kind = Some(EndpointGroupType::Target),
        _ => {}
    }
    let old: Option<Vec<String>> =
        changes.then(|| spec.endpoints.iter().map(|id| endpoint_uri(&spec.fabric, id)).collect());
    let fabric = spec.fabric.clone();
    properties.object("Links", |links| {
        if let Some(ids) =
            fabric_links::ids(links, "Endpoints", old.as_deref(), &inner.tree, &fabric, "Endpoints")
        {
            spec.endpoints = ids;
        }
        links.read_only(&["Connections"]);
    });
}

fn find(inner: &Inner, fabric: &str, id: &str, uri: &str) -> Result<Arc<EndpointGroup>, ServiceError> {
    let group = inner.feed.sources().groups.get(&key_of(id));
    group.filter(|group| group.spec.fabric == fabric).ok_or_else(|| ServiceError::not_found(uri))
}

async fn change(
    inner: &Arc<Inner>,
    fabric: &str,
    id: &str,
    mut request: WriteRequest<'_>,
) -> Result<Reply, ServiceError> {
    let body = std::mem::take(&mut request.body).required()?;
    let turn = inner.turn_of_fabrics().await;
    let known = find(inner, fabric, id, request.target.uri)?;
    let mut group = (*known).clone();
    let mut properties = Properties::update(body);
    read_texts(&mut properties, &mut group);
    read(&mut properties, inner, &mut group.spec, true);
    properties.read_only(&["Status", "Id"]);
    properties.finish()?;
    refuse_owned(&group)?;
    still_the_one(inner, request.target.uri, &request)?;
    let namespace = group.namespace().unwrap_or_default();
    let api: Api<EndpointGroup> = Api::namespaced(inner.client.clone(), &namespace);
    let (uri, work) = (group_uri(fabric, id), inner.clone());
    let title = format!("Change endpoint group {id} of fabric {fabric}");
    inner
        .tasks
        .carry_out(title, async move {
            let in_force = connections::in_force(&work, &ObjectKey::of(&group));
            let Replaced { before, written } = replace(&api, &uri, &known, group, |_| Ok(())).await?;
            work.feed.show_endpoint_group(&written);
            seen(&work.feed.sources().groups, &written).await;
            drop(turn);
            let outcome = connections::follow_group(&work, &in_force, &written).await;
            if let Err(error) = outcome {
                let restore = |current: &mut EndpointGroup| {
                    current.spec = before.spec.clone();
                    current.metadata.annotations.clone_from(&before.metadata.annotations);
                };
                if let Some(back) = take_back(&api, &written, restore).await? {
                    work.feed.show_endpoint_group(&back);
                    seen(&work.feed.sources().groups, &back).await;
                }
                return Err(error);
            }
            shown(&work, &uri).map(Reply::updated)
        })
        .await
}

async fn delete(inner: &Arc<Inner>, fabric: &str, id: &str, uri: &str) -> Result<Reply, ServiceError> {
    let _turn = inner.fabrics.lock().await;
    let group = find(inner, fabric, id, uri)?;
    refuse_owned(group.as_ref())?;
    let key = ObjectKey::of(group.as_ref());
    let used = inner.feed.sources().connections.list_where(|connection| {
        connection.namespace().unwrap_or_default() == key.namespace
            && (connection.spec.initiator_groups.contains(&key.name)
                || connection.spec.target_groups.contains(&key.name))
    });
    if !used.is_empty() {
        return Err(ServiceError::conflict(message::resource_in_use()));
    }
    let api: Api<EndpointGroup> = Api::namespaced(inner.client.clone(), &key.namespace);
    match api.delete(&key.name, &DeleteParams::default()).await {
        Ok(_) => {}
        Err(error) if is_not_found(&error) => {}
        Err(error) => return Err(refused(&error)),
    }
    let uid = group.uid().unwrap_or_default();
    unseen(&inner.feed.sources().groups, &key, &uid).await;
    inner.feed.forget("group", &key, &uid);
    Ok(Reply::no_content())
}
