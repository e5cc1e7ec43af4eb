//! Systems that are composed: of resource blocks that the client names (specific composition), of what fits a description
//! (constrained composition), or of named blocks that fit one.
//!
//! A composed system is a Composition that says so. Its blocks are hosts, so that adding one is a larger group, and removing
//! one is that block first.

use std::{collections::BTreeMap, sync::Arc};

use drystone_api::{
    BareMetalHost, Composition, CompositionGroup, CompositionMode, CompositionPhase, CompositionSpec,
    ResourceBlockType, SITE_LABEL, SYSTEM_NAMESPACE,
};
use drystone_engine::{
    harness::seen,
    reference::{ObjectKey, is_conflict},
};
use drystone_redfish::{
    error::ServiceError,
    etag::Condition,
    message,
    server::{Parameters, Properties, Reply, WriteRequest},
};
use http::{HeaderValue, StatusCode, header};
use kube::{Api, ResourceExt as _, api::PostParams};
use serde_json::{Map, Value};

use super::{
    Inner,
    compose::{infeasible, remove, requirement, settled},
    groups::{read_texts, refuse_owned},
    refused,
    replace::{Replaced, replace, take_back},
    zones::{read_id, still_the_one},
};
use crate::{
    names::{COMPOSITION, SYSTEMS, id_of, key_of},
    render::composition::{COMPOSED, GROUP, block_uri, is_composed},
};

/// Actions that change the blocks of a composed system.
pub(super) const ADD: &str = "ComputerSystem.AddResourceBlock";
pub(super) const REMOVE: &str = "ComputerSystem.RemoveResourceBlock";

/// Properties that describe what a system must have.
const CONSTRAINTS: [&str; 5] = ["Processors", "Memory", "Storage", "NetworkInterfaces", "EthernetInterfaces"];

/// Most blocks of a system.
const MOST_BLOCKS: usize = 65_536;

/// A block that somebody names: its URI, its host, and the site that both are in.
struct Block {
    uri: String,
    host: ObjectKey,
    site: Option<String>,
}

/// The composed system of an id, if it is one.
pub(super) fn find(inner: &Inner, id: &str) -> Option<Arc<Composition>> {
    inner.feed.sources().compositions.get(&key_of(id)).filter(|composition| is_composed(composition))
}

/// POST of a system.
pub(super) async fn create(inner: &Arc<Inner>, request: WriteRequest<'_>) -> Result<Reply, ServiceError> {
    let body = request.body.required()?;
    // A resource zone is a site.
    let site = body.get("@Redfish.ZoneAffinity").and_then(Value::as_str).map(str::to_owned);
    let mut properties = Properties::create(body);
    let id = read_id(&mut properties, "system");
    let mut composition = Composition::new(&id, CompositionSpec::default());
    read_texts(&mut properties, &mut composition);
    composition.annotations_mut().insert(COMPOSED.to_owned(), "true".to_owned());
    let mut named = false;
    let blocks = properties.object("Links", |links| {
        named = links.has("ResourceBlocks");
        let uris = links.links("ResourceBlocks").unwrap_or_default();
        named &= !uris.is_empty();
        let path = |index| format!("ResourceBlocks/{index}");
        read_blocks(inner, links, &uris, path)
    });
    let blocks = blocks.unwrap_or_default();
    let host = read_constraints(&mut properties);
    if !named && host.is_none() {
        properties.reject(message::create_failed_missing_property("Links/ResourceBlocks"));
    }
    properties.finish()?;
    let uri = format!("{SYSTEMS}/{id}");
    let taken = || ServiceError::conflict(message::resource_already_exists("ComputerSystem", "Id", &id));
    if inner.tree.contains(&uri) {
        return Err(taken());
    }
    check_free(inner, &blocks, None)?;
    composition.spec.site = site;
    composition.spec.groups = vec![group(&blocks, host.unwrap_or_default())];
    let api: Api<Composition> = Api::namespaced(inner.client.clone(), SYSTEM_NAMESPACE);
    let work = inner.clone();
    let title = format!("Compose system {id}");
    inner
        .tasks
        .carry_out(title, async move {
            let created = match api.create(&PostParams::default(), &composition).await {
                Ok(created) => created,
                Err(error) if is_conflict(&error) => {
                    return Err(ServiceError::conflict(message::resource_already_exists(
                        "ComputerSystem",
                        "Id",
                        &composition.name_any(),
                    )));
                }
                Err(error) => return Err(refused(&error)),
            };
            seen(&work.feed.sources().compositions, &created).await;
            if let Err(error) = granted(&work, &created).await {
                remove(&work, &api, &created).await?;
                return Err(error);
            }
            work.tree.value(&uri).map(Reply::created).ok_or_else(|| ServiceError::not_found(&uri))
        })
        .await
}

/// PATCH of a composed system: its texts, and its blocks as a list.
pub(super) async fn change(
    inner: &Arc<Inner>,
    id: &str,
    request: WriteRequest<'_>,
) -> Result<Reply, ServiceError> {
    let system = find(inner, id).ok_or_else(|| not_composed(inner, request.target.uri))?;
    let mut changed = (*system).clone();
    let mut properties = Properties::update(request.body.required()?);
    read_texts(&mut properties, &mut changed);
    let old: Vec<String> = members(&system).into_iter().map(|(block, _)| block).collect();
    let blocks = properties.object("Links", |links| {
        let uris = links.changed_links("ResourceBlocks", &old)?;
        let path = |index| format!("ResourceBlocks/{index}");
        Some(read_blocks(inner, links, &uris, path))
    });
    properties.read_only(&["Id", "SystemType", "PowerState", "Status", "Actions", "UUID", "Boot"]);
    let blocks = blocks.flatten();
    if blocks.as_ref().is_some_and(Vec::is_empty) {
        properties.reject(message::property_value_conflict("Links/ResourceBlocks", "SystemType"));
    }
    properties.finish()?;
    if let Some(blocks) = blocks {
        check_free(inner, &blocks, Some(&system))?;
        take_over(&mut changed, &system, &blocks);
    }
    let condition = Condition::from_headers(request.headers, &header::IF_MATCH);
    apply(inner, system, changed, condition).await
}

/// `ComputerSystem.AddResourceBlock` and `ComputerSystem.RemoveResourceBlock`.
pub(super) async fn act(
    inner: &Arc<Inner>,
    id: &str,
    action: &str,
    request: WriteRequest<'_>,
) -> Result<Reply, ServiceError> {
    let Some(system) = find(inner, id) else {
        let whole = inner.tree.contains(&format!("{SYSTEMS}/{id}"));
        // A host is what it is made of.
        return Err(if whole {
            ServiceError::bad_request(message::action_not_supported(action))
        } else {
            ServiceError::not_found(request.target.uri)
        });
    };
    let mut parameters = Parameters::action(action, request.body.into_object());
    parameters.require("ResourceBlock");
    let uri = parameters.link("ResourceBlock");
    let tags = [("ResourceBlockETag", uri.clone()), ("ComputerSystemETag", Some(format!("{SYSTEMS}/{id}")))];
    let tags = tags.map(|(name, of)| (parameters.string(name), of));
    let uris: Vec<String> = uri.into_iter().collect();
    let named = read_blocks(inner, &mut parameters, &uris, |_| "ResourceBlock".to_owned());
    parameters.finish()?;
    for (tag, of) in tags {
        let current = of.and_then(|of| inner.tree.get(&of)).and_then(|ready| ready.etag());
        if tag.is_some() && tag != current {
            let message = message::precondition_required();
            return Err(ServiceError::new(StatusCode::PRECONDITION_REQUIRED, message));
        }
    }
    let members = members(&system);
    let mut blocks: Vec<Block> = members.into_iter().filter_map(|(uri, _)| block_of(inner, &uri)).collect();
    let before = blocks.len();
    for block in named {
        match action {
            ADD if !blocks.iter().any(|other| other.uri == block.uri) => blocks.push(block),
            REMOVE => blocks.retain(|other| other.uri != block.uri),
            _ => {}
        }
    }
    if blocks.len() == before {
        return Ok(Reply::no_operation());
    }
    if blocks.is_empty() {
        // Without a block it is no system; DELETE decomposes it.
        return Err(ServiceError::conflict(message::resource_in_use()));
    }
    check_free(inner, &blocks, Some(&system))?;
    let mut changed = (*system).clone();
    take_over(&mut changed, &system, &blocks);
    let reply = apply(inner, system, changed, Condition::None).await?;
    if reply.status() == StatusCode::ACCEPTED { Ok(reply) } else { Ok(Reply::message(&message::success())) }
}

/// DELETE: a composed system is decomposed, anything else stays.
pub(super) async fn delete(inner: &Arc<Inner>, id: &str, uri: &str) -> Result<Reply, ServiceError> {
    let system = find(inner, id).ok_or_else(|| not_composed(inner, uri))?;
    refuse_owned(system.as_ref())?;
    let api: Api<Composition> =
        Api::namespaced(inner.client.clone(), &system.namespace().unwrap_or_default());
    let work = inner.clone();
    inner
        .tasks
        .carry_out(format!("Decompose system {id}"), async move {
            remove(&work, &api, &system).await?;
            Ok(Reply::no_content())
        })
        .await
}

/// What is answered to a write that only composed systems take.
pub(super) fn not_composed(inner: &Inner, uri: &str) -> ServiceError {
    if inner.tree.contains(uri) {
        ServiceError::method_not_allowed(HeaderValue::from_static("GET, HEAD"))
    } else {
        ServiceError::not_found(uri)
    }
}

/// Blocks of a composed system, by URI, with their hosts.
pub(super) fn members(system: &Composition) -> Vec<(String, ObjectKey)> {
    let members = system.status.iter().flat_map(|status| &status.members);
    let key = |member: &drystone_api::CompositionMember| {
        ObjectKey::new(member.host_namespace.clone(), member.host.clone())
    };
    members.map(key).map(|key| (block_uri(&id_of(&key)), key)).collect()
}

/// Reads links to blocks that a system can be composed of.
fn read_blocks(
    inner: &Inner,
    properties: &mut Properties,
    uris: &[String],
    path: impl Fn(usize) -> String,
) -> Vec<Block> {
    let mut first: BTreeMap<&str, usize> = BTreeMap::new();
    let mut blocks = Vec::with_capacity(uris.len());
    for (index, uri) in uris.iter().enumerate().take(MOST_BLOCKS) {
        let at = properties.path_of(&path(index));
        if let Some(first) = first.insert(uri, index) {
            let first = properties.path_of(&path(first));
            properties.reject(message::property_value_conflict(&at, &first));
            continue;
        }
        match block_of(inner, uri) {
            Some(block) => blocks.push(block),
            None if inner.tree.contains(uri) => {
                properties.reject(message::property_value_not_in_list(uri, &at));
            }
            None => properties.reject(message::resource_missing_at_uri(uri).about(&at)),
        }
    }
    blocks
}

fn block_of(inner: &Inner, uri: &str) -> Option<Block> {
    let id = uri.strip_prefix(COMPOSITION)?.strip_prefix("/ResourceBlocks/")?;
    let block = inner.feed.sources().blocks.get(&key_of(id))?;
    let whole = block.spec.kind == ResourceBlockType::ComputerSystem;
    let host = block.spec.host.clone().filter(|_| whole)?;
    Some(Block {
        uri: uri.to_owned(),
        host: ObjectKey::new(block.namespace().unwrap_or_default(), host),
        site: block.labels().get(SITE_LABEL).cloned(),
    })
}

/// Reads what a system must have, if the body says so.
fn read_constraints(properties: &mut Properties) -> Option<drystone_api::HostRequirement> {
    let given = CONSTRAINTS.iter().filter_map(|name| Some(((*name).to_owned(), properties.take(name)?)));
    let given: Map<String, Value> = given.collect();
    if given.is_empty() {
        return None;
    }
    match requirement(&Value::Object(given)) {
        Ok(host) => Some(host),
        Err(property) => {
            properties.reject(message::property_unknown(&property));
            None
        }
    }
}

fn group(blocks: &[Block], host: drystone_api::HostRequirement) -> CompositionGroup {
    CompositionGroup {
        name: GROUP.to_owned(),
        count: u32::try_from(blocks.len().max(1)).unwrap_or(u32::MAX),
        host,
        only_hosts: blocks.iter().map(|block| block.host.name.clone()).collect(),
        ..CompositionGroup::default()
    }
}

/// Makes other blocks the system's own.
fn take_over(changed: &mut Composition, before: &Composition, blocks: &[Block]) {
    let host = before.spec.groups.first().map(|group| group.host.clone()).unwrap_or_default();
    changed.spec.groups = vec![group(blocks, host)];
}

/// That blocks are in one zone, and nobody else's.
fn check_free(inner: &Inner, blocks: &[Block], own: Option<&Composition>) -> Result<(), ServiceError> {
    if blocks.iter().any(|block| block.site != blocks[0].site) {
        return Err(ServiceError::conflict(message::incompatible_zone()));
    }
    let own = own.map(ObjectKey::of);
    let taken = |block: &Block| {
        let host = inner.feed.sources().hosts.get(&block.host)?;
        let holder = host.spec.consumer_ref.as_ref()?;
        let key = ObjectKey::new(holder.namespace.clone(), holder.name.clone());
        if holder.kind == "Composition" && own.as_ref() == Some(&key) {
            return None;
        }
        let reserved = inner.feed.sources().compositions.get(&key).filter(|composition| {
            holder.kind == "Composition" && composition.spec.mode == CompositionMode::Reserve
        });
        Some(if reserved.is_some() {
            let reservation = format!("{COMPOSITION}/CompositionReservations/{}", id_of(&key));
            message::specified_resource_already_reserved(&block.uri, &reservation)
        } else {
            message::resource_block_in_use(&block.uri)
        })
    };
    let messages: Vec<_> = blocks.iter().filter_map(taken).collect();
    if messages.is_empty() { Ok(()) } else { Err(ServiceError::several(StatusCode::CONFLICT, messages)) }
}

/// Waits until a system has its blocks, or cannot have them.
async fn granted(inner: &Inner, system: &Composition) -> Result<(), ServiceError> {
    let status = settled(inner, system).await.ok_or_else(|| {
        ServiceError::unavailable(message::operation_failed("no choice was made in time"), 10)
    })?;
    inner.feed.show_composition(&ObjectKey::of(system));
    if status.phase == CompositionPhase::Reserved { Ok(()) } else { Err(infeasible(&status, None)) }
}

/// Writes a changed system, waits until it has its blocks, and takes it back if it cannot have them.
async fn apply(
    inner: &Arc<Inner>,
    known: Arc<Composition>,
    changed: Composition,
    condition: Condition,
) -> Result<Reply, ServiceError> {
    refuse_owned(&changed)?;
    let key = ObjectKey::of(&changed);
    let uri = format!("{SYSTEMS}/{}", id_of(&key));
    let api: Api<Composition> = Api::namespaced(inner.client.clone(), &key.namespace);
    let work = inner.clone();
    inner
        .tasks
        .carry_out(format!("Change system {}", id_of(&key)), async move {
            let check = |_: &Composition| still_the_one(&work, &uri, &condition);
            let Replaced { before, written } = replace(&api, &uri, &known, changed, check).await?;
            seen(&work.feed.sources().compositions, &written).await;
            if let Err(error) = granted(&work, &written).await {
                // On the heap: it is seldom needed.
                Box::pin(undo(&work, &api, &before, &written)).await?;
                return Err(error);
            }
            work.tree.value(&uri).map(Reply::updated).ok_or_else(|| ServiceError::not_found(&uri))
        })
        .await
}

/// Brings a system back to what it was before a change that it cannot have the blocks for.
async fn undo(
    inner: &Inner,
    api: &Api<Composition>,
    before: &Composition,
    written: &Composition,
) -> Result<(), ServiceError> {
    let restore = |current: &mut Composition| {
        current.spec = before.spec.clone();
        current.metadata.annotations.clone_from(&before.metadata.annotations);
    };
    if let Some(restored) = take_back(api, written, restore).await? {
        seen(&inner.feed.sources().compositions, &restored).await;
        // Whether it has its blocks again is told by its status; the reply is about the change.
        let _ = granted(inner, &restored).await;
    }
    Ok(())
}

/// The hosts that a system stands for: those of its blocks, or itself.
pub(super) fn hosts_of(inner: &Inner, id: &str) -> Vec<Arc<BareMetalHost>> {
    let hosts = &inner.feed.sources().hosts;
    match find(inner, id) {
        Some(system) => members(&system).iter().filter_map(|(_, key)| hosts.get(key)).collect(),
        None => hosts.get(&key_of(id)).into_iter().collect(),
    }
}
