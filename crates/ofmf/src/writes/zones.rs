//! Zones of a fabric: POST, PATCH, DELETE, `Zone.AddEndpoint`, `Zone.RemoveEndpoint`.

use std::{sync::Arc, time::Duration};

use drystone_api::{
    Isolation, SYSTEM_NAMESPACE, ZONE_FINALIZER, Zone, ZoneMember, ZonePhase, ZoneSpec, ZoneType,
};
use drystone_engine::{
    harness::{seen, seen_ending, until},
    reference::{ObjectKey, is_conflict, is_not_found},
};
use drystone_redfish::{
    error::ServiceError,
    etag::{Condition, ETag},
    message,
    server::{Parameters, Properties, Reply, WriteRequest},
};
use http::{StatusCode, header};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, PostParams},
};
use rand::Rng as _;

use super::{
    Inner, fabric_links,
    groups::{read_texts, refuse_owned},
    refused,
    replace::{Replaced, replace, take_back},
    zone_checks::check,
};
use crate::{
    names::{id_of, is_good_id, key_of},
    render::{
        fabric::{endpoint_uri, switch_uri},
        zone::{fabrics_of, pool_uri, zone_uri},
    },
};

/// How long a zone may take to be carried out before the task that waits for it gives up.
const ZONE_LIMIT: Duration = Duration::from_secs(900);
const ADD: &str = "Zone.AddEndpoint";
const REMOVE: &str = "Zone.RemoveEndpoint";
/// Values of `ZoneType` in a fabric.
const TYPES: [&str; 3] = ["ZoneOfEndpoints", "ZoneOfZones", "Default"];
const ISOLATIONS: [&str; 3] = ["Exclusive", "ServiceOnly", "Shared"];

/// Name of a resource that a client names: its `Id`, or one that nobody has.
pub(super) fn read_id(properties: &mut Properties, prefix: &str) -> String {
    match properties.string("Id") {
        Some(id) if is_good_id(&id) => id,
        Some(id) => {
            properties.format_error::<()>("Id", &id);
            id
        }
        None => {
            let letters = (0..10).map(|_| char::from(rand::rng().random_range(b'a'..=b'z')));
            format!("{prefix}-{}", letters.collect::<String>())
        }
    }
}

/// POST of a zone.
pub(super) async fn create(
    inner: &Arc<Inner>,
    fabric: &str,
    request: WriteRequest<'_>,
) -> Result<Reply, ServiceError> {
    let mut properties = Properties::create(request.body.required()?);
    let key = ObjectKey::new(SYSTEM_NAMESPACE, read_id(&mut properties, "zone"));
    let mut zone = Zone::new(&key.name, ZoneSpec::default());
    // Its controller would set it before all else: that is one write less.
    zone.metadata.finalizers = Some(vec![ZONE_FINALIZER.to_owned()]);
    read_texts(&mut properties, &mut zone);
    let fabric_id = fabric_links::unescaped(fabric);
    let spec = &mut zone.spec;
    spec.fabric = Some(fabric_id.clone());
    // A client lists its members; none joins that it did not name, unless it says so.
    spec.gateways = false;
    spec.isolation = Isolation::ServiceOnly;
    if let Some(kind) = properties.choice("ZoneType", &TYPES) {
        spec.kind = match kind.as_str() {
            "ZoneOfZones" => ZoneType::ZoneOfZones,
            "Default" => ZoneType::Default,
            _ => ZoneType::ZoneOfEndpoints,
        };
    }
    spec.default_routing = properties.boolean("DefaultRoutingEnabled").unwrap_or(true);
    properties.choice("ExternalAccessibility", &["ZoneOnly"]);
    read_links(&mut properties, inner, &fabric_id, spec, None);
    read_oem(&mut properties, spec);
    properties.finish()?;
    let uri = zone_uri(&fabric_id, &id_of(&key));
    let api: Api<Zone> = Api::namespaced(inner.client.clone(), &key.namespace);
    let title = format!("Create zone {} in fabric {fabric_id}", key.name);
    let work = inner.clone();
    inner
        .tasks
        .carry_out(title, async move {
            let created = {
                let _turn = work.fabrics.lock().await;
                check(&work, &fabric_id, &key, &zone.spec, &|index| format!("Links/Endpoints/{index}"))?;
                let taken =
                    || ServiceError::conflict(message::resource_already_exists("Zone", "Id", &key.name));
                match api.create(&PostParams::default(), &zone).await {
                    Ok(created) => {
                        work.feed.show_zone(&created);
                        seen(&work.feed.sources().zones, &created).await;
                        created
                    }
                    Err(error) if is_conflict(&error) => return Err(taken()),
                    Err(error) => return Err(refused(&error)),
                }
            };
            match settle(&work, &created).await {
                Ok(()) => {
                    work.tree.value(&uri).map(Reply::created).ok_or_else(|| ServiceError::not_found(&uri))
                }
                Err(error) => {
                    // What could not be carried out leaves nothing behind.
                    give_up(&work, &api, &created).await?;
                    gone(&work, &created).await?;
                    Err(error)
                }
            }
        })
        .await
}

/// PATCH of a zone.
pub(super) async fn change(
    inner: &Arc<Inner>,
    fabric: &str,
    id: &str,
    request: WriteRequest<'_>,
) -> Result<Reply, ServiceError> {
    let fabric_id = fabric_links::unescaped(fabric);
    let zone = find(inner, &fabric_id, id, request.target.uri)?;
    let mut changed = (*zone).clone();
    let mut properties = Properties::update(request.body.required()?);
    read_texts(&mut properties, &mut changed);
    if let Some(routing) = properties.boolean("DefaultRoutingEnabled") {
        changed.spec.default_routing = routing;
    }
    properties.choice("ExternalAccessibility", &["ZoneOnly"]);
    properties.read_only(&["ZoneType", "Status", "Actions", "Id"]);
    read_links(&mut properties, inner, &fabric_id, &mut changed.spec, Some(id));
    read_oem(&mut properties, &mut changed.spec);
    properties.finish()?;
    refuse_owned(zone.as_ref())?;
    refuse_ending(&zone)?;
    let condition = Condition::from_headers(request.headers, &header::IF_MATCH);
    let path = |index| format!("Links/Endpoints/{index}");
    apply(inner, &fabric_id, zone, changed, condition, path).await
}

/// `Zone.AddEndpoint` and `Zone.RemoveEndpoint`.
pub(super) async fn act(
    inner: &Arc<Inner>,
    fabric: &str,
    id: &str,
    action: &str,
    request: WriteRequest<'_>,
) -> Result<Reply, ServiceError> {
    let fabric_id = fabric_links::unescaped(fabric);
    let zone = find(inner, &fabric_id, id, request.target.uri)?;
    if zone.spec.kind != ZoneType::ZoneOfEndpoints {
        return Err(ServiceError::bad_request(message::action_not_supported(action)));
    }
    let mut parameters = Parameters::action(action, request.body.into_object());
    parameters.require("Endpoint");
    let uri = parameters.link("Endpoint");
    let (endpoint_tag, zone_tag) = (parameters.string("EndpointETag"), parameters.string("ZoneETag"));
    parameters.finish()?;
    let uri = uri.unwrap_or_default();
    if !inner.tree.contains(&uri) {
        return Err(ServiceError::bad_request(message::resource_missing_at_uri(&uri).about("Endpoint")));
    }
    let prefix = endpoint_uri(&fabric_id, "");
    let Some(endpoint) = uri.strip_prefix(&prefix).map(fabric_links::unescaped) else {
        let message = message::action_parameter_value_not_in_list(&uri, "Endpoint", action);
        return Err(ServiceError::bad_request(message));
    };
    for (tag, of) in [(endpoint_tag, &uri), (zone_tag, &zone_uri(&fabric_id, id))] {
        if tag.is_some() && tag != inner.tree.get(of).and_then(|ready| ready.etag()) {
            let message = message::precondition_required();
            return Err(ServiceError::new(StatusCode::PRECONDITION_REQUIRED, message));
        }
    }
    refuse_owned(zone.as_ref())?;
    refuse_ending(&zone)?;
    let mut changed = (*zone).clone();
    let members = &mut changed.spec.members;
    let before = members.len();
    let is_it = |member: &ZoneMember| member.endpoint.as_deref() == Some(endpoint.as_str());
    match action {
        ADD if !members.iter().any(is_it) => members.push(member(&fabric_id, endpoint.clone())),
        REMOVE => members.retain(|member| !is_it(member)),
        _ => {}
    }
    if members.len() == before {
        return Ok(Reply::no_operation());
    }
    let path = |_| "Endpoint".to_owned();
    let reply = apply(inner, &fabric_id, zone, changed, Condition::None, path).await?;
    if reply.status() == StatusCode::ACCEPTED { Ok(reply) } else { Ok(Reply::message(&message::success())) }
}

/// DELETE of a zone.
pub(super) async fn delete(
    inner: &Arc<Inner>,
    fabric: &str,
    id: &str,
    uri: &str,
) -> Result<Reply, ServiceError> {
    let fabric_id = fabric_links::unescaped(fabric);
    let turn = inner.turn_of_fabrics().await;
    let zone = find(inner, &fabric_id, id, uri)?;
    refuse_owned(zone.as_ref())?;
    let key = ObjectKey::of(zone.as_ref());
    let contains = |other: &Zone| {
        other.namespace().unwrap_or_default() == key.namespace && other.spec.contained_by.contains(&key.name)
    };
    if inner.feed.sources().zones.any(contains) {
        return Err(ServiceError::conflict(message::resource_in_use()));
    }
    let api: Api<Zone> = Api::namespaced(inner.client.clone(), &key.namespace);
    let work = inner.clone();
    inner
        .tasks
        .carry_out(format!("Delete zone {id} of fabric {fabric_id}"), async move {
            give_up(&work, &api, &zone).await?;
            drop(turn);
            gone(&work, &zone).await?;
            Ok(Reply::no_content())
        })
        .await
}

/// A zone that is being deleted is not carried out any more, whatever is changed of it.
fn refuse_ending(zone: &Zone) -> Result<(), ServiceError> {
    let ends = zone.metadata.deletion_timestamp.is_some();
    if ends { Err(ServiceError::conflict(message::resource_in_use())) } else { Ok(()) }
}

/// The zone of a URI.
fn find(inner: &Inner, fabric: &str, id: &str, uri: &str) -> Result<Arc<Zone>, ServiceError> {
    let zone = inner.feed.sources().zones.get(&key_of(id));
    zone.filter(|zone| fabrics_of(zone).contains(fabric)).ok_or_else(|| ServiceError::not_found(uri))
}

fn member(fabric: &str, endpoint: String) -> ZoneMember {
    ZoneMember { fabric: Some(fabric.to_owned()), endpoint: Some(endpoint), ..ZoneMember::default() }
}

/// Reads `Links`. `old` is the id of a zone that is changed: lists of links are then changes of its own.
fn read_links(
    properties: &mut Properties,
    inner: &Inner,
    fabric: &str,
    spec: &mut ZoneSpec,
    old: Option<&str>,
) {
    properties.object("Links", |links| {
        let old_list = |uris: Vec<String>| old.map(|_| uris);
        let endpoints = spec.members.iter().filter_map(|member| member.endpoint.as_deref());
        let endpoints = old_list(endpoints.map(|id| endpoint_uri(fabric, id)).collect());
        if let Some(ids) =
            fabric_links::ids(links, "Endpoints", endpoints.as_deref(), &inner.tree, fabric, "Endpoints")
        {
            spec.members.retain(|member| member.endpoint.is_none());
            spec.members.extend(ids.into_iter().map(|id| member(fabric, id)));
        }
        let switches = old_list(spec.involved_switches.iter().map(|id| switch_uri(fabric, id)).collect());
        if let Some(ids) =
            fabric_links::ids(links, "InvolvedSwitches", switches.as_deref(), &inner.tree, fabric, "Switches")
        {
            spec.involved_switches = ids;
        }
        let named = |name: &String| id_of(&ObjectKey::new(SYSTEM_NAMESPACE, name));
        let pools = old_list(spec.address_pools.iter().map(|name| pool_uri(fabric, &named(name))).collect());
        if let Some(ids) =
            fabric_links::ids(links, "AddressPools", pools.as_deref(), &inner.tree, fabric, "AddressPools")
        {
            spec.address_pools = own_names(links, "AddressPools", ids);
        }
        let zones = old_list(spec.contained_by.iter().map(|name| zone_uri(fabric, &named(name))).collect());
        if let Some(ids) =
            fabric_links::ids(links, "ContainedByZones", zones.as_deref(), &inner.tree, fabric, "Zones")
        {
            spec.contained_by = own_names(links, "ContainedByZones", ids);
        }
        links.read_only(&["ContainsZones", "ResourceBlocks"]);
    });
}

/// Names of objects that a zone refers to; they must be in its own namespace.
fn own_names(links: &mut Properties, property: &str, ids: Vec<String>) -> Vec<String> {
    let mut names = Vec::with_capacity(ids.len());
    for (index, id) in ids.into_iter().enumerate() {
        let key = key_of(&id);
        if key.namespace == SYSTEM_NAMESPACE {
            names.push(key.name);
        } else {
            let path = links.path_of(&format!("{property}/{index}"));
            links.reject(message::property_value_not_in_list(&id, &path));
        }
    }
    names
}

/// Reads what Drystone adds to a zone.
fn read_oem(properties: &mut Properties, spec: &mut ZoneSpec) {
    properties.object("Oem", |oem| {
        oem.object("Drystone", |own| {
            match own.choice("Isolation", &ISOLATIONS).as_deref() {
                Some("Exclusive") => spec.isolation = Isolation::Exclusive,
                Some("ServiceOnly") => spec.isolation = Isolation::ServiceOnly,
                Some("Shared") => spec.isolation = Isolation::Shared,
                _ => {}
            }
            spec.gateways = own.boolean("Gateways").unwrap_or(spec.gateways);
            spec.symmetric_connections =
                own.boolean("SymmetricConnections").unwrap_or(spec.symmetric_connections);
            own.read_only(&["Proven"]);
        });
    });
}

/// Writes a changed zone, waits until it is carried out, and takes it back if it cannot be.
async fn apply(
    inner: &Arc<Inner>,
    fabric: &str,
    known: Arc<Zone>,
    changed: Zone,
    condition: Condition,
    path_of: impl Fn(usize) -> String + Send + Sync + 'static,
) -> Result<Reply, ServiceError> {
    let key = ObjectKey::of(&changed);
    let uri = zone_uri(fabric, &id_of(&key));
    let fabric = fabric.to_owned();
    let api: Api<Zone> = Api::namespaced(inner.client.clone(), &key.namespace);
    let work = inner.clone();
    let title = format!("Change zone {} of fabric {fabric}", key.name);
    inner
        .tasks
        .carry_out(title, async move {
            let turn = work.turn_of_fabrics().await;
            check(&work, &fabric, &key, &changed.spec, &path_of)?;
            let same = |_: &Zone| still_the_one(&work, &uri, &condition);
            let Replaced { before, written } = replace(&api, &uri, &known, changed, same).await?;
            work.feed.show_zone(&written);
            seen(&work.feed.sources().zones, &written).await;
            drop(turn);
            if let Err(error) = settle(&work, &written).await {
                let restore = |current: &mut Zone| {
                    current.spec = before.spec.clone();
                    current.metadata.annotations.clone_from(&before.metadata.annotations);
                };
                if let Some(restored) = take_back(&api, &written, restore).await? {
                    work.feed.show_zone(&restored);
                    // Whether it works again is told by its status; the reply is about the change.
                    let _ = settle(&work, &restored).await;
                }
                return Err(error);
            }
            work.tree.value(&uri).map(Reply::updated).ok_or_else(|| ServiceError::not_found(&uri))
        })
        .await
}

/// Compares `If-Match` once more, now that nobody else changes zones.
pub(super) fn still_the_one(inner: &Inner, uri: &str, condition: &Condition) -> Result<(), ServiceError> {
    let tag = inner.tree.get(uri).and_then(|ready| ready.etag());
    tag.map_or(Ok(()), |tag| condition.check(&ETag::from_header(tag), false))
}

/// Waits until a zone is carried out as it was written, or cannot be.
async fn settle(inner: &Inner, written: &Zone) -> Result<(), ServiceError> {
    let (uid, generation) = (written.uid(), written.metadata.generation);
    let key = ObjectKey::of(written);
    let look = |zone: Option<&Zone>| {
        let zone = zone.filter(|zone| zone.uid() == uid)?;
        let status = zone.status.as_ref().filter(|status| status.observed_generation >= generation)?;
        match status.phase {
            ZonePhase::Ready => Some((Ok(()), zone.clone())),
            ZonePhase::Failed => {
                let message = message::operation_failed(&status.message);
                Some((Err(ServiceError::conflict(message)), zone.clone()))
            }
            _ => None,
        }
    };
    match until(&inner.feed.sources().zones, &key, ZONE_LIMIT, look).await {
        Some((outcome, zone)) => {
            inner.feed.show_zone(&zone);
            outcome
        }
        None => Err(ServiceError::new(
            StatusCode::SERVICE_UNAVAILABLE,
            message::operation_failed("the zone was not carried out in time"),
        )),
    }
}

/// Has a zone deleted. From then on no other goes into it.
async fn give_up(inner: &Inner, api: &Api<Zone>, zone: &Zone) -> Result<(), ServiceError> {
    match api.delete(&zone.name_any(), &DeleteParams::default()).await {
        Ok(_) => {}
        Err(error) if is_not_found(&error) => {}
        Err(error) => return Err(refused(&error)),
    }
    let uid = zone.uid().unwrap_or_default();
    seen_ending(&inner.feed.sources().zones, &ObjectKey::of(zone), &uid).await;
    Ok(())
}

/// Waits until nothing of a zone is left in the switches.
async fn gone(inner: &Inner, zone: &Zone) -> Result<(), ServiceError> {
    let uid = zone.uid().unwrap_or_default();
    let key = ObjectKey::of(zone);
    let gone =
        |zone: Option<&Zone>| zone.is_none_or(|zone| zone.uid().as_deref() != Some(&uid)).then_some(());
    until(&inner.feed.sources().zones, &key, ZONE_LIMIT, gone).await.ok_or_else(|| {
        ServiceError::new(
            StatusCode::SERVICE_UNAVAILABLE,
            message::operation_failed("the zone is still being removed from the switches"),
        )
    })?;
    inner.feed.forget("zone", &key, &uid);
    Ok(())
}
