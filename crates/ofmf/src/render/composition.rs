//! Composition: resource blocks in their pools, and compositions as reservations.

use drystone_api::{BlockPool, Composition, CompositionPhase, ResourceBlock, ResourceBlockType, SITE_LABEL};
use drystone_engine::reference::ObjectKey;
use drystone_redfish::tree::Item;
use kube::ResourceExt as _;
use serde_json::json;

use super::{links, resource, status, system::rack_uri, text, zone::site_zone_uri};
use crate::names::{CHASSIS, COMPOSITION, SYSTEMS, id_of};

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
