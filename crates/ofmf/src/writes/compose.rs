//! `CompositionService.Compose`: a manifest becomes a Composition, of which the composing manager says what it would, or did, choose.
//!
//! Each `ComposeSystem` stanza asks for one system by what it must have (constrained composition). `Preview` claims nothing and
//! leaves nothing, `PreviewReserve` claims hosts for a while, `Apply` for good: those of a reservation, or new ones.

use std::{sync::Arc, time::Duration};

use drystone_api::{
    AcceleratorRequirement, AcceleratorType, Composition, CompositionGroup, CompositionMember,
    CompositionMode, CompositionPhase, CompositionSpec, CompositionStatus, HostRequirement,
    NetworkRequirement, SYSTEM_NAMESPACE,
    quantity::{Bandwidth, Memory},
};
use drystone_engine::{
    harness::{seen, until},
    reference::{ObjectKey, is_not_found},
};
use drystone_redfish::{
    error::ServiceError,
    message,
    server::{Parameters, Reply, WriteRequest},
};
use http::{HeaderMap, StatusCode};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams},
};
use rand::Rng as _;
use serde_json::{Map, Value, json};

use super::{Inner, refused};
use crate::names::{SYSTEMS, id_of, key_of};

/// Where a manifest says what it wants.
const STANZAS: &str = "Manifest/Stanzas";
const ACTION: &str = "CompositionService.Compose";
/// How long a choice may take, and claims until they are made.
const LIMIT: Duration = Duration::from_secs(300);
/// Most stanzas of a manifest: as many as a composition has groups.
const MOST_STANZAS: usize = 64;

/// One stanza: its place in the manifest is that of its group.
struct Stanza {
    id: String,
    host: HostRequirement,
}

/// The action.
pub(super) async fn compose(inner: &Arc<Inner>, request: WriteRequest<'_>) -> Result<Reply, ServiceError> {
    let body = request.body.into_object();
    let manifest = body.get("Manifest").cloned();
    let mut parameters = Parameters::action(ACTION, body);
    parameters.require("RequestFormat");
    parameters.choice("RequestFormat", &["Manifest"]);
    parameters.require("RequestType");
    let kind = parameters.choice("RequestType", &["Preview", "PreviewReserve", "Apply"]).unwrap_or_default();
    let reservation = parameters.string("ReservationId");
    parameters.take("Manifest");
    if reservation.is_some() && kind != "Apply" && !kind.is_empty() {
        parameters.reject(message::property_value_conflict("ReservationId", "RequestType"));
    }
    if reservation.is_none() && manifest.is_none() {
        parameters.reject(message::action_parameter_missing(ACTION, "Manifest"));
    }
    parameters.finish()?;
    if let Some(id) = reservation {
        return apply_reservation(inner, &id).await;
    }
    let manifest = manifest.unwrap_or_default();
    let stanzas = read_manifest(&manifest)?;
    let mode = match kind.as_str() {
        "Preview" => CompositionMode::Preview,
        "PreviewReserve" => CompositionMode::Reserve,
        _ => CompositionMode::Apply,
    };
    let work = inner.clone();
    inner
        .tasks
        .carry_out(format!("{kind} of {} systems", stanzas.len()), async move {
            choose(&work, mode, &kind, manifest, &stanzas).await
        })
        .await
}

/// Makes a Composition of the stanzas and tells what became of it.
async fn choose(
    inner: &Inner,
    mode: CompositionMode,
    kind: &str,
    manifest: Value,
    stanzas: &[Stanza],
) -> Result<Reply, ServiceError> {
    let groups = stanzas.iter().enumerate().map(|(index, stanza)| CompositionGroup {
        name: format!("stanza-{index}"),
        count: 1,
        host: stanza.host.clone(),
        ..CompositionGroup::default()
    });
    let letters: String = (0..10).map(|_| char::from(rand::rng().random_range(b'a'..=b'z'))).collect();
    let spec = CompositionSpec { groups: groups.collect(), mode, ..CompositionSpec::default() };
    let mut composition = Composition::new(&format!("redfish-{letters}"), spec);
    composition.metadata =
        ObjectMeta { namespace: Some(SYSTEM_NAMESPACE.to_owned()), ..composition.metadata };
    let api: Api<Composition> = Api::namespaced(inner.client.clone(), SYSTEM_NAMESPACE);
    let created = api.create(&PostParams::default(), &composition).await.map_err(|error| refused(&error))?;
    seen(&inner.feed.sources().compositions, &created).await;
    let status = settled(inner, &created).await;
    // Whoever asks next for what the reply names finds it.
    inner.feed.show_composition(&ObjectKey::of(&created));
    let feasible = status.as_ref().is_some_and(|status| status.phase != CompositionPhase::Infeasible);
    if mode == CompositionMode::Preview || !feasible {
        remove(inner, &api, &created).await?;
    }
    let status = status.ok_or_else(|| {
        ServiceError::unavailable(message::operation_failed("no choice was made in time"), 10)
    })?;
    if !feasible && mode != CompositionMode::Preview {
        return Err(infeasible(&status, Some(STANZAS)));
    }
    let chosen = if mode == CompositionMode::Preview { &status.proposal } else { &status.members };
    let id = id_of(&ObjectKey::of(&created));
    let reservation = (mode == CompositionMode::Reserve).then_some(id);
    Ok(reply(kind, reservation, manifest, stanzas, chosen, &status))
}

/// The manifest with a response in each stanza.
fn reply(
    kind: &str,
    reservation: Option<String>,
    mut manifest: Value,
    stanzas: &[Stanza],
    chosen: &[CompositionMember],
    status: &CompositionStatus,
) -> Reply {
    let list = manifest.get_mut("Stanzas").and_then(Value::as_array_mut).into_iter().flatten();
    for ((index, place), stanza) in list.enumerate().zip(stanzas) {
        let member = chosen.iter().find(|member| member.group == format!("stanza-{index}"));
        let response = member.map_or_else(
            || infeasible(status, Some(STANZAS)).body(),
            |member| {
                let system = id_of(&ObjectKey::new(member.host_namespace.clone(), &member.host));
                json!({"@odata.id": format!("{SYSTEMS}/{system}")})
            },
        );
        place["StanzaId"] = stanza.id.clone().into();
        place["Response"] = response;
    }
    let mut body = Map::new();
    body.insert("RequestFormat".to_owned(), "Manifest".into());
    body.insert("RequestType".to_owned(), kind.into());
    body.insert("Manifest".to_owned(), manifest);
    if let Some(reservation) = reservation {
        body.insert("ReservationId".to_owned(), reservation.into());
    }
    Reply::with(StatusCode::OK, HeaderMap::new(), Some(Value::Object(body)))
}

/// Why nothing was chosen: what is missing, and the reasons of the composing manager. `path` is the property that asked for it.
pub(super) fn infeasible(status: &CompositionStatus, path: Option<&str>) -> ServiceError {
    let message = message::no_resource_match("ComputerSystem");
    let mut messages = vec![match path {
        Some(path) => message.about(path),
        None => message,
    }];
    if let Some(explanation) = &status.explanation {
        messages.push(message::operation_failed(&explanation.summary));
        if !explanation.relaxation.is_empty() {
            messages.push(message::operation_failed(&explanation.relaxation));
        }
    } else if !status.message.is_empty() {
        messages.push(message::operation_failed(&status.message));
    }
    ServiceError::several(StatusCode::CONFLICT, messages)
}

/// Waits until a Composition is granted, previewed or refused.
pub(super) async fn settled(inner: &Inner, composition: &Composition) -> Option<CompositionStatus> {
    let (uid, generation) = (composition.uid(), composition.metadata.generation);
    let look = |found: Option<&Composition>| {
        let found = found.filter(|found| found.uid() == uid)?;
        let status = found.status.as_ref().filter(|status| status.observed_generation >= generation)?;
        let done = matches!(
            status.phase,
            CompositionPhase::Reserved | CompositionPhase::Infeasible | CompositionPhase::Previewed
        );
        done.then(|| status.clone())
    };
    until(&inner.feed.sources().compositions, &ObjectKey::of(composition), LIMIT, look).await
}

/// `Apply` of a reservation: the same hosts, for good.
async fn apply_reservation(inner: &Arc<Inner>, id: &str) -> Result<Reply, ServiceError> {
    let key = key_of(id);
    let found = inner.feed.sources().compositions.get(&key);
    let reserved = found.filter(|found| {
        found.spec.mode == CompositionMode::Reserve
            && found.status.as_ref().is_some_and(|status| status.phase == CompositionPhase::Reserved)
    });
    if reserved.is_none() {
        let message = message::action_parameter_value_not_in_list(id, "ReservationId", ACTION);
        return Err(ServiceError::bad_request(message));
    }
    let api: Api<Composition> = Api::namespaced(inner.client.clone(), &key.namespace);
    let work = inner.clone();
    let id = id.to_owned();
    inner
        .tasks
        .carry_out(format!("Apply reservation {id}"), async move {
            let patch = json!({"spec": {"mode": "Apply"}});
            let applied = api.patch(&key.name, &PatchParams::default(), &Patch::Merge(&patch)).await;
            let applied = applied.map_err(|error| refused(&error))?;
            let status = settled(&work, &applied).await.unwrap_or_default();
            work.feed.show_composition(&key);
            if status.phase != CompositionPhase::Reserved {
                return Err(infeasible(&status, Some(STANZAS)));
            }
            let systems = status.members.iter().map(|member| {
                let system = id_of(&ObjectKey::new(member.host_namespace.clone(), &member.host));
                json!({"StanzaType": "ComposeSystem", "StanzaId": member.group,
                    "Response": {"@odata.id": format!("{SYSTEMS}/{system}")}})
            });
            let manifest = json!({"Stanzas": systems.collect::<Vec<_>>()});
            Ok(reply("Apply", Some(id), manifest, &[], &[], &status))
        })
        .await
}

/// DELETE of a reservation: its hosts are given back.
pub(super) async fn release(inner: &Arc<Inner>, id: &str, uri: &str) -> Result<Reply, ServiceError> {
    let key = key_of(id);
    let found = inner.feed.sources().compositions.get(&key).ok_or_else(|| ServiceError::not_found(uri))?;
    if found.owner_references().iter().any(|owner| owner.controller == Some(true)) {
        return Err(ServiceError::conflict(message::resource_in_use()));
    }
    let api: Api<Composition> = Api::namespaced(inner.client.clone(), &key.namespace);
    let work = inner.clone();
    inner
        .tasks
        .carry_out(format!("Release reservation {id}"), async move {
            remove(&work, &api, &found).await?;
            Ok(Reply::no_content())
        })
        .await
}

pub(super) async fn remove(
    inner: &Inner,
    api: &Api<Composition>,
    composition: &Composition,
) -> Result<(), ServiceError> {
    let uid = composition.uid().unwrap_or_default();
    match api.delete(&composition.name_any(), &DeleteParams::default()).await {
        Ok(_) => {}
        Err(error) if is_not_found(&error) => {}
        Err(error) => return Err(refused(&error)),
    }
    let key = ObjectKey::of(composition);
    let gone = |found: Option<&Composition>| {
        found.is_none_or(|found| found.uid().as_deref() != Some(&uid)).then_some(())
    };
    until(&inner.feed.sources().compositions, &key, LIMIT, gone).await.ok_or_else(|| {
        ServiceError::unavailable(message::operation_failed("the hosts are still being given back"), 10)
    })?;
    inner.feed.forget("composition", &key, &uid);
    Ok(())
}

/// Reads the stanzas of a manifest.
fn read_manifest(manifest: &Value) -> Result<Vec<Stanza>, ServiceError> {
    let bad = |value: &Value, path: &str| {
        ServiceError::bad_request(message::action_parameter_value_type_error(
            &value.to_string(),
            path,
            ACTION,
        ))
    };
    let list = manifest.get("Stanzas").and_then(Value::as_array);
    let list = list.ok_or_else(|| bad(manifest, "Manifest/Stanzas"))?;
    if list.is_empty() || list.len() > MOST_STANZAS {
        let (count, path) = (list.len().to_string(), "Manifest/Stanzas");
        let message = message::action_parameter_value_out_of_range(&count, path, ACTION);
        return Err(ServiceError::bad_request(message));
    }
    let mut stanzas = Vec::with_capacity(list.len());
    for (index, stanza) in list.iter().enumerate() {
        let path = format!("Manifest/Stanzas/{index}");
        if stanza.get("StanzaType") != Some(&json!("ComposeSystem")) {
            let kind = stanza.get("StanzaType").map(ToString::to_string).unwrap_or_default();
            let path = format!("{path}/StanzaType");
            let message = message::action_parameter_value_not_in_list(&kind, &path, ACTION);
            return Err(ServiceError::bad_request(message));
        }
        let request = stanza.get("Request").filter(|request| request.is_object());
        let request = request.ok_or_else(|| bad(stanza, &format!("{path}/Request")))?;
        let host = requirement(request).map_err(|property| {
            let path = format!("{path}/Request/{property}");
            ServiceError::bad_request(message::property_unknown(&path))
        })?;
        let id = stanza.get("StanzaId").and_then(Value::as_str).map(str::to_owned);
        stanzas.push(Stanza { id: id.unwrap_or_else(|| index.to_string()), host });
    }
    Ok(stanzas)
}

/// What a system must have; the property that is not understood, if there is one.
pub(super) fn requirement(request: &Value) -> Result<HostRequirement, String> {
    let mut host = HostRequirement::default();
    for (name, value) in request.as_object().into_iter().flatten() {
        match name.as_str() {
            "Name" | "Description" | "@Redfish.ZoneAffinity" => {}
            "Processors" => members(value).try_for_each(|member| processor(&mut host, member))?,
            "Memory" => {
                let size: u64 =
                    members(value).map(|member| count(member) * number(member, "CapacityMiB")).sum();
                host.memory = Some(Memory::from_mebibytes(size));
            }
            "Storage" => {
                let drives =
                    members(value).filter_map(|member| member.get("Drives").and_then(Value::as_array));
                let size: u64 =
                    drives.flatten().map(|drive| count(drive) * number(drive, "CapacityBytes")).sum();
                host.storage = Some(Memory::from_mebibytes(size >> 20));
            }
            "NetworkInterfaces" | "EthernetInterfaces" => {
                let fastest = members(value)
                    .map(|member| number(member, "MaxSpeedGbps").max(number(member, "SpeedMbps") / 1000));
                let bandwidth = fastest.max().filter(|speed| *speed > 0).map(Bandwidth::from_gigabits);
                host.network =
                    Some(NetworkRequirement { min_bandwidth: bandwidth, ..NetworkRequirement::default() });
            }
            other => return Err(other.to_owned()),
        }
    }
    Ok(host)
}

fn members(value: &Value) -> impl Iterator<Item = &Value> {
    value.get("Members").and_then(Value::as_array).into_iter().flatten()
}

/// How many are asked for; one, unless said.
fn count(member: &Value) -> u64 {
    member.get("@Redfish.RequestedCount").and_then(Value::as_u64).unwrap_or(1).min(65_536)
}

/// A number of a member; so small that products of them do not overflow.
fn number(member: &Value, name: &str) -> u64 {
    member.get(name).and_then(Value::as_u64).unwrap_or(0).min(1 << 46)
}

fn processor(host: &mut HostRequirement, member: &Value) -> Result<(), String> {
    let kind = member.get("ProcessorType").and_then(Value::as_str).unwrap_or("CPU");
    let accelerator = match kind {
        "CPU" => {
            let cores = count(member) * number(member, "TotalCores").min(65_536);
            host.cores = host.cores.saturating_add(u32::try_from(cores).unwrap_or(u32::MAX));
            return Ok(());
        }
        "GPU" => AcceleratorType::GPU,
        "FPGA" => AcceleratorType::FPGA,
        "DSP" => AcceleratorType::DSP,
        "Accelerator" => AcceleratorType::Accelerator,
        _ => return Err("Processors/Members/ProcessorType".to_owned()),
    };
    host.accelerators.push(AcceleratorRequirement {
        kind: accelerator,
        model: member.get("Model").and_then(Value::as_str).map(str::to_owned),
        count: u32::try_from(count(member)).unwrap_or(u32::MAX),
        ..AcceleratorRequirement::default()
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_constrained_request_says_what_a_host_must_have() {
        let host = requirement(&json!({"Name": "x", "Processors": {"Members": [
            {"@Redfish.RequestedCount": 2, "ProcessorType": "CPU", "TotalCores": 16},
            {"@Redfish.RequestedCount": 4, "ProcessorType": "GPU", "Model": "A100"}]},
            "Memory": {"Members": [{"@Redfish.RequestedCount": 4, "CapacityMiB": 8192}]}}))
        .unwrap();
        assert_eq!((host.cores, host.memory.unwrap().mebibytes()), (32, 32_768));
        assert_eq!((host.accelerators[0].count, host.accelerators[0].model.as_deref()), (4, Some("A100")));
        assert_eq!(requirement(&json!({"Colour": 1})), Err("Colour".to_owned()));
    }
}
