//! Composition: resource blocks in their pools, and compositions as reservations.

use std::sync::Arc;

use drystone_api::{
    BareMetalHost, BlockPool, Composition, CompositionPhase, OperationalStatus, ResourceBlock,
    ResourceBlockType, SITE_LABEL,
};
use drystone_engine::reference::ObjectKey;
use drystone_redfish::tree::Item;
use kube::ResourceExt as _;
use serde_json::{Value, json};

use super::{
    link, links, number, resource, status,
    system::{RESET_TYPES, rack_uri},
    text,
    zone::{DESCRIPTION, display_name, site_zone_uri},
};
use crate::names::{CHASSIS, COMPOSITION, MANAGERS, SYSTEMS, id_of};

/// Annotation of a Composition that is shown as one system.
pub const COMPOSED: &str = "drystone.dev/composed-system";

/// The only group of such a Composition.
pub const GROUP: &str = "system";

/// A host, and what was found in it.
pub type HostAndBlock = (Arc<BareMetalHost>, Option<Arc<ResourceBlock>>);

/// Whether a Composition is shown as one system.
pub fn is_composed(composition: &Composition) -> bool {
    composition.annotations().contains_key(COMPOSED)
}

/// A composed system, while it has its blocks.
pub fn composed_system(
    composition: &Composition,
    host_of: &dyn Fn(&ObjectKey) -> Option<HostAndBlock>,
) -> Vec<Item> {
    let empty = Vec::new();
    let members = composition.status.as_ref().map_or(&empty, |status| &status.members);
    if !is_composed(composition) || members.is_empty() {
        return Vec::new();
    }
    let keys: Vec<ObjectKey> = members
        .iter()
        .map(|member| ObjectKey::new(member.host_namespace.clone(), member.host.clone()))
        .collect();
    let hosts: Vec<HostAndBlock> = keys.iter().filter_map(host_of).collect();
    let id = id_of(&ObjectKey::of(composition));
    let uri = format!("{SYSTEMS}/{id}");
    let blocks: Vec<String> = keys.iter().map(|key| block_uri(&id_of(key))).collect();
    let below = |room: &str| links(keys.iter().map(|key| format!("{room}/{}", id_of(key))));
    let action = |name: &str| format!("{uri}/Actions/ComputerSystem.{name}");
    let mut items = vec![resource(
        &uri,
        "#ComputerSystem.v1_27_0.ComputerSystem",
        &display_name(composition),
        json!({
            "SystemType": "Composed", "UUID": composition.uid(), "PowerState": power(&hosts),
            "Description": text(composition.annotations().get(DESCRIPTION).map_or("", String::as_str)),
            "Status": composed_status(&hosts),
            "ProcessorSummary": processors(&hosts), "MemorySummary": memory(&hosts),
            "Links": {
                "Chassis": below(CHASSIS), "ManagedBy": below(MANAGERS), "ResourceBlocks": links(blocks.clone()),
                "SupplyingComputerSystems": below(SYSTEMS)},
            "Actions": {
                "#ComputerSystem.Reset": {
                    "target": action("Reset"), "ResetType@Redfish.AllowableValues": RESET_TYPES},
                "#ComputerSystem.AddResourceBlock": {"target": action("AddResourceBlock")},
                "#ComputerSystem.RemoveResourceBlock": {"target": action("RemoveResourceBlock")}}}),
    )];
    items.extend(blocks.into_iter().map(|block| Item::link(block, "Links/ComputerSystems", &uri)));
    items
}

/// On when all are, off when none is; else on the way.
fn power(hosts: &[HostAndBlock]) -> &'static str {
    let on = |host: &BareMetalHost| host.status.as_ref().is_some_and(|status| status.powered_on);
    let running = hosts.iter().filter(|(host, _)| on(host)).count();
    match running {
        0 => "Off",
        all if all == hosts.len() => "On",
        _ if hosts.iter().any(|(host, _)| host.spec.online && !on(host)) => "PoweringOn",
        _ => "PoweringOff",
    }
}

fn composed_status(hosts: &[HostAndBlock]) -> Value {
    let failed = |host: &BareMetalHost| {
        host.status.as_ref().is_some_and(|status| status.operational_status == OperationalStatus::Error)
    };
    let health = if hosts.iter().any(|(host, _)| failed(host)) { "Critical" } else { "OK" };
    let mut value = status(if power(hosts) == "Off" { "StandbyOffline" } else { "Enabled" }, health);
    value["HealthRollup"] = health.into();
    value
}

fn processors(hosts: &[HostAndBlock]) -> Value {
    let blocks = hosts.iter().filter_map(|(_, block)| block.as_ref()?.status.as_ref());
    let cores: u32 = blocks.map(|status| status.cores).sum();
    json!({"Count": hosts.len(), "CoreCount": number(cores)})
}

fn memory(hosts: &[HostAndBlock]) -> Value {
    let of = |host: &BareMetalHost| {
        let hardware = host.status.as_ref().and_then(|status| status.hardware.as_ref());
        hardware.map_or(0, |hardware| hardware.ram_mebibytes)
    };
    let mebibytes: u64 = hosts.iter().map(|(host, _)| of(host)).sum();
    #[allow(clippy::cast_precision_loss)] // Exact far beyond any memory that there is.
    let gibibytes = (mebibytes > 0).then(|| mebibytes as f64 / 1024.0);
    json!({"TotalSystemMemoryGiB": gibibytes})
}

/// What can be composed: a description for each way to ask for it (`@Redfish.CollectionCapabilities`).
pub fn capabilities(zone: Option<&str>) -> Value {
    let one = |use_case: &str, object: &str| {
        json!({
            "UseCase": use_case, "CapabilitiesObject": link(format!("{SYSTEMS}/{object}")),
            "Links": {"TargetCollection": link(SYSTEMS), "RelatedItem": links(zone.map(str::to_owned))}})
    };
    json!({"@Redfish.CollectionCapabilities": {
        "@odata.type": "#CollectionCapabilities.v1_4_1.CollectionCapabilities",
        "Capabilities": [
            one("ComputerSystemComposition", CAPABILITIES),
            one("ComputerSystemConstrainedComposition", CONSTRAINED_CAPABILITIES)]}})
}

/// Ids of the descriptions. They are no systems, and no host has a name with a capital.
pub const CAPABILITIES: &str = "Capabilities";
/// Description of a request that says what a system must have.
pub const CONSTRAINED_CAPABILITIES: &str = "ConstrainedCapabilities";

/// A description of what a POST to the systems may say.
pub fn capabilities_object(id: &str) -> Option<Value> {
    let mut object = json!({
        "@odata.id": format!("{SYSTEMS}/{id}"), "@odata.type": "#ComputerSystem.v1_27_0.ComputerSystem", "Id": id,
        "Name": "What can be said of a new system",
        "Name@Redfish.OptionalOnCreate": true, "Name@Redfish.UpdatableAfterCreate": true,
        "Description@Redfish.OptionalOnCreate": true, "Description@Redfish.UpdatableAfterCreate": true,
    });
    match id {
        CAPABILITIES => {
            object["Links@Redfish.RequiredOnCreate"] = true.into();
            object["Links"] = json!({
                "ResourceBlocks@Redfish.RequiredOnCreate": true,
                "ResourceBlocks@Redfish.UpdatableAfterCreate": true});
        }
        CONSTRAINED_CAPABILITIES => {
            for name in ["Processors", "Memory", "Storage", "EthernetInterfaces", "NetworkInterfaces"] {
                object[format!("{name}@Redfish.OptionalOnCreate")] = true.into();
                object[format!("{name}@Redfish.SetOnlyOnCreate")] = true.into();
            }
        }
        _ => return None,
    }
    Some(object)
}

/// URI of a block.
pub fn block_uri(id: &str) -> String {
    format!("{COMPOSITION}/ResourceBlocks/{id}")
}

/// A block, with its place in the pools and in the zone of its site.
pub fn block(block: &ResourceBlock) -> Vec<Item> {
    let key = ObjectKey::of(block);
    let uri = block_uri(&id_of(&key));
    let found = block.status.clone().unwrap_or_default();
    let (pool, state, reserved) = match found.pool {
        BlockPool::Unassigned => ("Unassigned", "Unavailable", false),
        BlockPool::Free | BlockPool::Online => ("Free", "Unused", false),
        BlockPool::Reserved => ("Active", "Composing", true),
        BlockPool::Active => ("Active", "Composed", false),
        BlockPool::Failed => ("Unassigned", "Failed", false),
    };
    let kind = match block.spec.kind {
        ResourceBlockType::ComputerSystem => "ComputerSystem",
        ResourceBlockType::Processor => "Processor",
        ResourceBlockType::Memory => "Memory",
        ResourceBlockType::Storage => "Storage",
        ResourceBlockType::Network => "Network",
    };
    let host = block.spec.host.as_ref().map(|host| id_of(&ObjectKey::new(key.namespace.clone(), host)));
    let chassis = host.as_ref().map(|host| format!("{CHASSIS}/{host}"));
    let chassis = chassis.or_else(|| (!found.chassis.is_empty()).then(|| rack_uri(&found.chassis)));
    let site = block.labels().get(SITE_LABEL).map(|site| site_zone_uri(site));
    let client = found.consumer.as_ref().filter(|_| pool == "Active").map(ToString::to_string);
    let composed = u32::from(state == "Composed");
    let mut items = vec![resource(
        &uri,
        "#ResourceBlock.v1_4_3.ResourceBlock",
        &block.name_any(),
        json!({
            "ResourceBlockType": [kind], "Pool": pool, "Client": client,
            "Status": match state {
                "Failed" => status("UnavailableOffline", "Critical"),
                "Unavailable" => status("Disabled", "OK"),
                _ => status("Enabled", "OK")},
            "Description": text(&found.message),
            "CompositionStatus": {
                "CompositionState": state, "Reserved": reserved, "SharingCapable": false, "MaxCompositions": 1,
                "NumberOfCompositions": composed},
            "ComputerSystems": links(host.map(|host| format!("{SYSTEMS}/{host}"))),
            "Links": {"Chassis": links(chassis), "Zones": links(site.clone())}}),
    )];
    let pool = match pool {
        "Free" => Some("FreePool"),
        "Active" => Some("ActivePool"),
        _ => None,
    };
    items.extend(
        pool.map(|pool| Item::Member { collection: format!("{COMPOSITION}/{pool}"), uri: uri.clone() }),
    );
    items.extend(site.map(|site| Item::link(site, "Links/ResourceBlocks", &uri)));
    items
}

/// A composition that holds hosts, as a reservation of their blocks.
pub fn reservation(composition: &Composition) -> Vec<Item> {
    let found = composition.status.clone().unwrap_or_default();
    if found.members.is_empty()
        || !matches!(found.phase, CompositionPhase::Reserved | CompositionPhase::Reserving)
    {
        return Vec::new();
    }
    let key = ObjectKey::of(composition);
    let uri = format!("{COMPOSITION}/CompositionReservations/{}", id_of(&key));
    let blocks = found
        .members
        .iter()
        .map(|member| block_uri(&id_of(&ObjectKey::new(member.host_namespace.clone(), &member.host))));
    let created = composition.creation_timestamp().map(|time| format!("{:.0}", time.0));
    vec![resource(
        &uri,
        "#CompositionReservation.v1_0_2.CompositionReservation",
        &composition.name_any(),
        json!({
            "ReservationTime": created, "Client": key.to_string(), "ReservedResourceBlocks": links(blocks),
            "Description": text(&found.explanation.map(|explanation| explanation.summary).unwrap_or_default())}),
    )]
}
