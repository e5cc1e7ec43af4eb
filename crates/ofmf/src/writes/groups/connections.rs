//! Connections: which endpoints may use what of each other.

use std::{sync::Arc, time::Duration};

use drystone_api::{
    Connection, ConnectionPhase, ConnectionSpec, ConnectionType, EndpointGroup, EndpointGroupType,
    SYSTEM_NAMESPACE, Zone,
};
use drystone_engine::{
    harness::{seen, until},
    reference::{ObjectKey, is_conflict, is_not_found},
};
use drystone_redfish::{
    error::ServiceError,
    message,
    server::{Properties, Reply, WriteRequest},
};
use http::StatusCode;
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams, PostParams},
};
use serde_json::Value;

use super::{
    Inner, Replaced, fabric_links, read_id, read_texts, refuse_owned, refused, replace, shown, still_the_one,
    take_back,
};
use crate::{
    names::{id_of, key_of},
    render::{
        fabric::{endpoint_uri, fabric_uri},
        zone::group_uri,
    },
};

/// How long a connection may take to be carried out before the task that waits for it gives up.
const LIMIT: Duration = Duration::from_secs(900);
const TYPES: [&str; 2] = ["Storage", "Memory"];
/// What is handed to agents as it is.
const FOR_AGENTS: [&str; 3] = ["VolumeInfo", "MemoryChunkInfo", "MemoryRegionInfo"];

fn connection_uri(fabric: &str, id: &str) -> String {
    format!("{}/Connections/{id}", fabric_uri(fabric))
}

/// POST of a connection.
pub(super) async fn create(
    inner: &Arc<Inner>,
    fabric: &str,
    request: WriteRequest<'_>,
) -> Result<Reply, ServiceError> {
    let mut properties = Properties::create(request.body.required()?);
    let id = read_id(&mut properties, "connection");
    let spec = ConnectionSpec { fabric: fabric.to_owned(), ..ConnectionSpec::default() };
    let mut connection = Connection::new(&id, spec);
    read_texts(&mut properties, &mut connection);
    match properties.choice("ConnectionType", &TYPES).as_deref() {
        Some("Storage") => connection.spec.kind = Some(ConnectionType::Storage),
        Some("Memory") => connection.spec.kind = Some(ConnectionType::Memory),
        _ => {}
    }
    read(&mut properties, inner, &mut connection.spec, false);
    properties.finish()?;
    check(inner, &connection.spec)?;
    let uri = connection_uri(fabric, &id);
    let api: Api<Connection> = Api::namespaced(inner.client.clone(), SYSTEM_NAMESPACE);
    let work = inner.clone();
    let title = format!("Create connection {id} in fabric {fabric}");
    inner
        .tasks
        .carry_out(title, async move {
            let created = match api.create(&PostParams::default(), &connection).await {
                Ok(created) => created,
                Err(error) if is_conflict(&error) => {
                    let message = message::resource_already_exists("Connection", "Id", &id);
                    return Err(ServiceError::conflict(message));
                }
                Err(error) => return Err(refused(&error)),
            };
            work.feed.show_connection(&created);
            seen(&work.feed.sources().connections, &created).await;
            match settle(&work, &created).await {
                Ok(()) => shown(&work, &uri).map(Reply::created),
                Err(error) => {
                    remove(&work, &api, &created).await?;
                    Err(error)
                }
            }
        })
        .await
}

/// PATCH of a connection.
pub(super) async fn change(
    inner: &Arc<Inner>,
    fabric: &str,
    id: &str,
    mut request: WriteRequest<'_>,
) -> Result<Reply, ServiceError> {
    let body = std::mem::take(&mut request.body).required()?;
    let known = find(inner, fabric, id, request.target.uri)?;
    let mut changed = (*known).clone();
    let mut properties = Properties::update(body);
    read_texts(&mut properties, &mut changed);
    read(&mut properties, inner, &mut changed.spec, true);
    properties.read_only(&["ConnectionType", "Status", "Id"]);
    properties.finish()?;
    refuse_owned(known.as_ref())?;
    check(inner, &changed.spec)?;
    still_the_one(inner, request.target.uri, &request)?;
    let uri = connection_uri(fabric, id);
    let namespace = changed.namespace().unwrap_or_default();
    let api: Api<Connection> = Api::namespaced(inner.client.clone(), &namespace);
    let work = inner.clone();
    let title = format!("Change connection {id} of fabric {fabric}");
    inner
        .tasks
        .carry_out(title, async move {
            let Replaced { before, written } = replace(&api, &uri, &known, changed, |_| Ok(())).await?;
            work.feed.show_connection(&written);
            // Whoever changes it next starts from here.
            seen(&work.feed.sources().connections, &written).await;
            if let Err(error) = settle(&work, &written).await {
                let restore = |current: &mut Connection| current.spec = before.spec.clone();
                if let Some(back) = take_back(&api, &written, restore).await? {
                    work.feed.show_connection(&back);
                    seen(&work.feed.sources().connections, &back).await;
                }
                return Err(error);
            }
            shown(&work, &uri).map(Reply::updated)
        })
        .await
}

/// DELETE of a connection.
pub(super) async fn delete(
    inner: &Arc<Inner>,
    fabric: &str,
    id: &str,
    uri: &str,
) -> Result<Reply, ServiceError> {
    let connection = find(inner, fabric, id, uri)?;
    refuse_owned(connection.as_ref())?;
    let api: Api<Connection> =
        Api::namespaced(inner.client.clone(), &connection.namespace().unwrap_or_default());
    let work = inner.clone();
    inner
        .tasks
        .carry_out(format!("Delete connection {id} of fabric {fabric}"), async move {
            remove(&work, &api, &connection).await?;
            Ok(Reply::no_content())
        })
        .await
}

fn find(inner: &Inner, fabric: &str, id: &str, uri: &str) -> Result<Arc<Connection>, ServiceError> {
    let connection = inner.feed.sources().connections.get(&key_of(id));
    connection
        .filter(|connection| connection.spec.fabric == fabric)
        .ok_or_else(|| ServiceError::not_found(uri))
}

fn read(properties: &mut Properties, inner: &Inner, spec: &mut ConnectionSpec, changes: bool) {
    for name in FOR_AGENTS {
        match properties.take(name) {
            None => {}
            Some(Value::Array(list)) => drop(spec.redfish.insert(name.to_owned(), Value::Array(list))),
            Some(other) => {
                properties.reject(message::property_value_type_error(&other.to_string(), name));
            }
        }
    }
    let fabric = spec.fabric.clone();
    properties.object("Links", |links| {
        let endpoints = |list: &[String]| list.iter().map(|id| endpoint_uri(&fabric, id)).collect::<Vec<_>>();
        let named = |name: &String| group_uri(&fabric, &id_of(&ObjectKey::new(SYSTEM_NAMESPACE, name)));
        let groups = |list: &[String]| list.iter().map(named).collect::<Vec<_>>();
        let mut sides = [
            ("InitiatorEndpoints", "Endpoints", endpoints(&spec.initiators), &mut spec.initiators),
            ("TargetEndpoints", "Endpoints", endpoints(&spec.targets), &mut spec.targets),
            (
                "InitiatorEndpointGroups",
                "EndpointGroups",
                groups(&spec.initiator_groups),
                &mut spec.initiator_groups,
            ),
            ("TargetEndpointGroups", "EndpointGroups", groups(&spec.target_groups), &mut spec.target_groups),
        ];
        for (name, room, old, place) in &mut sides {
            let old = changes.then_some(old.as_slice());
            if let Some(ids) = fabric_links::ids(links, name, old, &inner.tree, &fabric, room) {
                **place = ids
                    .into_iter()
                    .map(|id| if *room == "Endpoints" { id } else { key_of(&id).name })
                    .collect();
            }
        }
    });
}

/// What must be true of a connection by itself: one kind of each side, and groups on the side that they are for.
fn check(inner: &Inner, spec: &ConnectionSpec) -> Result<(), ServiceError> {
    let mut wrong = Vec::new();
    for (endpoints, groups, side) in [
        (&spec.initiators, &spec.initiator_groups, "Initiator"),
        (&spec.targets, &spec.target_groups, "Target"),
    ] {
        let (one, other) = (format!("Links/{side}Endpoints"), format!("Links/{side}EndpointGroups"));
        match (endpoints.is_empty(), groups.is_empty()) {
            (false, false) => wrong.push(message::property_value_conflict(&one, &other)),
            (true, true) => wrong.push(message::create_failed_missing_property(&one)),
            _ => {}
        }
        for (index, name) in groups.iter().enumerate() {
            let group = inner.feed.sources().groups.get(&ObjectKey::new(SYSTEM_NAMESPACE, name));
            let kind = group.and_then(|group| group.spec.kind);
            let fits = match kind {
                None => true,
                Some(EndpointGroupType::Initiator) => side == "Initiator",
                Some(EndpointGroupType::Target) => side == "Target",
            };
            if !fits {
                let uri = group_uri(&spec.fabric, name);
                let path = format!("{other}/{index}");
                wrong.push(message::property_value_not_in_list(&uri, &path));
            }
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(ServiceError::several(StatusCode::BAD_REQUEST, wrong)) }
}

async fn settle(inner: &Inner, written: &Connection) -> Result<(), ServiceError> {
    let (uid, generation) = (written.uid(), written.metadata.generation);
    let look = |connection: Option<&Connection>| {
        let connection = connection.filter(|connection| connection.uid() == uid)?;
        let status = connection.status.as_ref().filter(|status| status.observed_generation >= generation)?;
        match status.phase {
            ConnectionPhase::Ready => Some((Ok(()), connection.clone())),
            ConnectionPhase::Failed => {
                let message = message::operation_failed(&status.message);
                Some((Err(ServiceError::conflict(message)), connection.clone()))
            }
            ConnectionPhase::Pending => None,
        }
    };
    match until(&inner.feed.sources().connections, &ObjectKey::of(written), LIMIT, look).await {
        Some((outcome, connection)) => {
            inner.feed.show_connection(&connection);
            outcome
        }
        None => Err(ServiceError::new(
            StatusCode::SERVICE_UNAVAILABLE,
            message::operation_failed("the connection was not carried out in time"),
        )),
    }
}

/// Connections that are carried out and name a group.
pub(super) fn in_force(inner: &Inner, group: &ObjectKey) -> Vec<ObjectKey> {
    let names = |connection: &Connection| {
        let (spec, name) = (&connection.spec, &group.name);
        connection.namespace().unwrap_or_default() == group.namespace
            && (spec.initiator_groups.contains(name) || spec.target_groups.contains(name))
            && connection.status.as_ref().is_some_and(|status| status.phase == ConnectionPhase::Ready)
    };
    let found = inner.feed.sources().connections.list_where(names);
    found.iter().map(|connection| ObjectKey::of(connection.as_ref())).collect()
}

/// Waits until connections are carried out with a group as it was written, or one of them cannot be.
pub(super) async fn follow_group(
    inner: &Inner,
    connections: &[ObjectKey],
    group: &EndpointGroup,
) -> Result<(), ServiceError> {
    let (name, generation) = (group.name_any(), group.metadata.generation.unwrap_or_default());
    for key in connections {
        let look = |connection: Option<&Connection>| {
            let Some(connection) = connection else { return Some(Ok(())) };
            let status = connection.status.as_ref()?;
            if status.groups.get(&name).is_none_or(|known| *known < generation) {
                return None;
            }
            match status.phase {
                ConnectionPhase::Ready => Some(Ok(())),
                ConnectionPhase::Failed => {
                    let reason = format!("connection {}: {}", key.name, status.message);
                    Some(Err(ServiceError::conflict(message::operation_failed(&reason))))
                }
                ConnectionPhase::Pending => None,
            }
        };
        let done = until(&inner.feed.sources().connections, key, LIMIT, look).await;
        done.unwrap_or_else(|| {
            Err(ServiceError::new(
                StatusCode::SERVICE_UNAVAILABLE,
                message::operation_failed("the connections of the group were not carried out in time"),
            ))
        })?;
    }
    Ok(())
}

async fn remove(inner: &Inner, api: &Api<Connection>, connection: &Connection) -> Result<(), ServiceError> {
    let uid = connection.uid().unwrap_or_default();
    match api.delete(&connection.name_any(), &DeleteParams::default()).await {
        Ok(_) => {}
        Err(error) if is_not_found(&error) => {}
        Err(error) => return Err(refused(&error)),
    }
    let key = ObjectKey::of(connection);
    let gone = |found: Option<&Connection>| {
        found.is_none_or(|found| found.uid().as_deref() != Some(&uid)).then_some(())
    };
    until(&inner.feed.sources().connections, &key, LIMIT, gone).await.ok_or_else(|| {
        ServiceError::new(
            StatusCode::SERVICE_UNAVAILABLE,
            message::operation_failed("the connection is still being removed"),
        )
    })?;
    inner.feed.forget("connection", &key, &uid);
    closed(inner, &key).await
}

/// Waits until no zone counts a connection that is gone any more: only then are its ways closed in the switches.
async fn closed(inner: &Inner, key: &ObjectKey) -> Result<(), ServiceError> {
    let api: Api<Zone> = Api::namespaced(inner.client.clone(), &key.namespace);
    let zones = api.list(&ListParams::default()).await.map_err(|error| refused(&error))?;
    let version = |zone: &Zone| zone.resource_version().and_then(|version| version.parse::<u64>().ok());
    let counts = |zone: &Zone| {
        let connections = zone.status.iter().flat_map(|status| &status.connections);
        connections.into_iter().any(|known| known.name == key.name)
    };
    for zone in zones.iter().filter(|zone| counts(zone)) {
        // The watch may not have come to what was read here.
        let done = |now: Option<&Zone>| {
            now.is_none_or(|now| version(now) >= version(zone) && !counts(now)).then_some(())
        };
        until(&inner.feed.sources().zones, &ObjectKey::of(zone), LIMIT, done).await.ok_or_else(|| {
            ServiceError::new(
                StatusCode::SERVICE_UNAVAILABLE,
                message::operation_failed("the connection is still being removed from the switches"),
            )
        })?;
    }
    Ok(())
}
