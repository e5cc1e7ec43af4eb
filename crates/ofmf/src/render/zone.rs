//! Zones, connections, endpoint groups and address pools, in the fabrics that they are about.

use std::collections::BTreeSet;

use drystone_api::{
    AddressPool, Connection, ConnectionPhase, ConnectionType, EndpointGroup, EndpointGroupType, Isolation,
    NumberRange, Zone, ZonePhase, ZoneType,
};
use drystone_engine::reference::ObjectKey;
use drystone_redfish::tree::Item;
use ipnet::IpNet;
use kube::ResourceExt as _;
use serde_json::{Value, json};

use super::{
    fabric::{endpoint_uri, fabric_uri, switch_uri},
    links, resource, text,
};
use crate::names::id_of;

/// Fabrics that a zone is in, as far as is known.
pub fn fabrics_of(zone: &Zone) -> BTreeSet<String> {
    let mut fabrics: BTreeSet<String> = zone.spec.fabric.iter().cloned().collect();
    fabrics.extend(zone.spec.members.iter().filter_map(|member| member.fabric.clone()));
    let status = zone.status.iter();
    fabrics.extend(status.flat_map(|status| &status.fabrics).map(|fabric| fabric.fabric.clone()));
    fabrics
}

/// URI of a zone in a fabric.
pub fn zone_uri(fabric: &str, id: &str) -> String {
    format!("{}/Zones/{id}", fabric_uri(fabric))
}

/// URI of an address pool in a fabric.
pub fn pool_uri(fabric: &str, id: &str) -> String {
    format!("{}/AddressPools/{id}", fabric_uri(fabric))
}

/// A zone in each of its fabrics, and what it adds to others: endpoints and pools know their zones.
pub fn zone(zone: &Zone) -> Vec<Item> {
    fabrics_of(zone).iter().flat_map(|fabric| zone_in(zone, fabric)).collect()
}

/// Ids of a zone's endpoints in a fabric: those that members were resolved to, or that the specification lists.
fn endpoints_in(zone: &Zone, fabric: &str) -> BTreeSet<String> {
    let resolved = zone.status.iter().flat_map(|status| &status.members);
    let mut endpoints: BTreeSet<String> =
        resolved.filter(|member| member.fabric == fabric).map(|member| member.endpoint.clone()).collect();
    let listed = zone.spec.members.iter();
    let listed =
        listed.filter(|member| member.fabric.as_deref().or(zone.spec.fabric.as_deref()) == Some(fabric));
    endpoints.extend(listed.filter_map(|member| member.endpoint.clone()));
    endpoints
}

fn zone_in(zone: &Zone, fabric: &str) -> Vec<Item> {
    let key = ObjectKey::of(zone);
    let in_namespace = |name: &String| id_of(&ObjectKey::new(key.namespace.clone(), name));
    let uri = zone_uri(fabric, &id_of(&key));
    let endpoints: Vec<String> =
        endpoints_in(zone, fabric).iter().map(|endpoint| endpoint_uri(fabric, endpoint)).collect();
    let pools: Vec<String> =
        zone.spec.address_pools.iter().map(|pool| pool_uri(fabric, &in_namespace(pool))).collect();
    let containers: Vec<String> =
        zone.spec.contained_by.iter().map(|other| zone_uri(fabric, &in_namespace(other))).collect();
    let switches = zone.spec.involved_switches.iter().map(|switch| switch_uri(fabric, switch));
    let kind = match zone.spec.kind {
        ZoneType::ZoneOfEndpoints => "ZoneOfEndpoints",
        ZoneType::ZoneOfZones => "ZoneOfZones",
        ZoneType::Default => "Default",
    };
    let actions = (zone.spec.kind == ZoneType::ZoneOfEndpoints).then(|| {
        json!({
            "#Zone.AddEndpoint": {"target": format!("{uri}/Actions/Zone.AddEndpoint")},
            "#Zone.RemoveEndpoint": {"target": format!("{uri}/Actions/Zone.RemoveEndpoint")}})
    });
    let mut items = vec![resource(
        &uri,
        "#Zone.v1_6_3.Zone",
        &display_name(zone),
        json!({
            "ZoneType": kind, "DefaultRoutingEnabled": zone.spec.default_routing,
            "ExternalAccessibility": "ZoneOnly", "Status": zone_status(zone),
            "Description": text(zone.annotations().get(DESCRIPTION).map_or("", String::as_str)),
            "Links": {
                "Endpoints": links(endpoints.clone()), "AddressPools": links(pools.clone()),
                "InvolvedSwitches": links(switches), "ContainedByZones": links(containers.clone())},
            "Actions": actions,
            "Oem": {"Drystone": {
                "@odata.type": "#DrystoneZone.v1_0_0.Zone", "Isolation": isolation(zone.spec.isolation),
                "Gateways": zone.spec.gateways,
                "Proven": zone.status.as_ref().and_then(|status| status.isolation.as_ref()).map(|proof| proof.proven)}}}),
    )];
    items.extend(endpoints.into_iter().map(|endpoint| Item::link(endpoint, "Links/Zones", &uri)));
    items.extend(pools.into_iter().map(|pool| Item::link(pool, "Links/Zones", &uri)));
    items.extend(containers.into_iter().map(|container| Item::link(container, "Links/ContainsZones", &uri)));
    items
}

/// Annotation that keeps the name that a client gave to a resource.
pub const DISPLAY_NAME: &str = "drystone.dev/display-name";

/// Name of an object for people: what a client called it, or its own.
pub(super) fn display_name<K: kube::Resource>(object: &K) -> String {
    object.annotations().get(DISPLAY_NAME).cloned().unwrap_or_else(|| object.name_any())
}

/// Annotation that keeps what a client calls a resource's description.
pub const DESCRIPTION: &str = "drystone.dev/description";

fn isolation(isolation: Isolation) -> &'static str {
    match isolation {
        Isolation::Exclusive => "Exclusive",
        Isolation::ServiceOnly => "ServiceOnly",
        Isolation::Shared => "Shared",
    }
}

fn zone_status(zone: &Zone) -> Value {
    let empty = drystone_api::ZoneStatus::default();
    let found = zone.status.as_ref().unwrap_or(&empty);
    let (state, health) = match found.phase {
        ZonePhase::Pending => ("Starting", "OK"),
        ZonePhase::Programming => ("Updating", "OK"),
        ZonePhase::Ready => ("Enabled", "OK"),
        ZonePhase::Failed => ("UnavailableOffline", "Critical"),
        ZonePhase::Deleting => ("Disabled", "OK"),
    };
    described(state, health, &found.message)
}

/// State and health, and, if health is not good, why.
fn described(state: &str, health: &str, message: &str) -> Value {
    let mut status = super::status(state, health);
    if health != "OK" && !message.is_empty() {
        status["Conditions"] = json!([{
            "MessageId": "Base.1.22.OperationFailed", "Message": message, "MessageArgs": [message], "Severity": health}]);
    }
    status
}

/// A connection.
pub fn connection(connection: &Connection) -> Vec<Item> {
    let key = ObjectKey::of(connection);
    let spec = &connection.spec;
    let uri = format!("{}/Connections/{}", fabric_uri(&spec.fabric), id_of(&key));
    let endpoints =
        |ids: &[String]| -> Vec<String> { ids.iter().map(|id| endpoint_uri(&spec.fabric, id)).collect() };
    let groups = |names: &[String]| -> Vec<String> {
        let id = |name: &String| id_of(&ObjectKey::new(key.namespace.clone(), name));
        names.iter().map(|name| group_uri(&spec.fabric, &id(name))).collect()
    };
    let kind = spec.kind.map(|kind| match kind {
        ConnectionType::Storage => "Storage",
        ConnectionType::Memory => "Memory",
    });
    let empty = drystone_api::ConnectionStatus::default();
    let found = connection.status.as_ref().unwrap_or(&empty);
    let (state, health) = match found.phase {
        ConnectionPhase::Pending => ("Starting", "OK"),
        ConnectionPhase::Ready => ("Enabled", "OK"),
        ConnectionPhase::Failed => ("UnavailableOffline", "Critical"),
    };
    let (initiators, targets) = (endpoints(&spec.initiators), endpoints(&spec.targets));
    let (initiator_groups, target_groups) = (groups(&spec.initiator_groups), groups(&spec.target_groups));
    let mut rest = json!({
        "ConnectionType": kind, "Status": described(state, health, &found.message),
        "Description": text(connection.annotations().get(DESCRIPTION).map_or("", String::as_str)),
        "Links": {
            "InitiatorEndpoints": links(initiators.clone()), "TargetEndpoints": links(targets.clone()),
            "InitiatorEndpointGroups": links(initiator_groups.clone()),
            "TargetEndpointGroups": links(target_groups.clone())}});
    for (name, value) in &spec.redfish {
        rest[name.as_str()] = value.clone();
    }
    let mut items = vec![resource(&uri, "#Connection.v1_4_0.Connection", &display_name(connection), rest)];
    let ends: BTreeSet<String> =
        initiators.into_iter().chain(targets).chain(initiator_groups).chain(target_groups).collect();
    items.extend(ends.into_iter().map(|end| Item::link(end, "Links/Connections", &uri)));
    items
}

/// URI of an endpoint group.
pub fn group_uri(fabric: &str, id: &str) -> String {
    format!("{}/EndpointGroups/{id}", fabric_uri(fabric))
}

/// An endpoint group.
pub fn endpoint_group(group: &EndpointGroup) -> Vec<Item> {
    let spec = &group.spec;
    let kind = spec.kind.map(|kind| match kind {
        EndpointGroupType::Initiator => "Initiator",
        EndpointGroupType::Target => "Target",
    });
    vec![resource(
        &group_uri(&spec.fabric, &id_of(&ObjectKey::of(group))),
        "#EndpointGroup.v1_3_4.EndpointGroup",
        &display_name(group),
        json!({
            "GroupType": kind,
            "Description": text(group.annotations().get(DESCRIPTION).map_or("", String::as_str)),
            "Links": {"Endpoints": links(spec.endpoints.iter().map(|id| endpoint_uri(&spec.fabric, id)))}}),
    )]
}

/// A pool of addresses, in its fabric, or in each of `ethernet` if it is for any.
pub fn address_pool(pool: &AddressPool, ethernet: &BTreeSet<String>) -> Vec<Item> {
    let own: BTreeSet<String> = pool.spec.fabric.iter().cloned().collect();
    let fabrics = if own.is_empty() { ethernet } else { &own };
    fabrics.iter().map(|fabric| pool_in(pool, fabric)).collect()
}

fn pool_in(pool: &AddressPool, fabric: &str) -> Item {
    let spec = &pool.spec;
    let vlans = spec.vlans.map(range);
    let first = spec.ranges.iter().find_map(|range| match range {
        IpNet::V4(range) => Some(json!({"Lower": range.network(), "Upper": range.broadcast()})),
        IpNet::V6(_) => None,
    });
    let gateway = spec.gateway.filter(std::net::IpAddr::is_ipv4);
    resource(
        &pool_uri(fabric, &id_of(&ObjectKey::of(pool))),
        "#AddressPool.v1_3_0.AddressPool",
        &display_name(pool),
        json!({
            "Status": super::status("Enabled", "OK"),
            "Description": text(pool.annotations().get(DESCRIPTION).map_or("", String::as_str)),
            "Ethernet": {
                "IPv4": {
                    "HostAddressRange": first, "GatewayIPAddress": gateway, "VLANIdentifierAddressRange": vlans},
                "BGPEvpn": {"EVINumberRange": spec.vnis.map(range)}},
            // The standard has one range, and none of IPv6.
            "Oem": {"Drystone": {
                "@odata.type": "#DrystoneAddressPool.v1_0_0.AddressPool",
                "Ranges": spec.ranges.iter().map(ToString::to_string).collect::<Vec<_>>(),
                "BlockPrefixLength": spec.block_prefix_length,
                "LeasedBlocks": pool.status.as_ref().map(|status| status.leased_blocks),
                "TotalBlocks": pool.status.as_ref().map(|status| status.total_blocks)}}}),
    )
}

fn range(range: NumberRange) -> Value {
    json!({"Lower": range.lower, "Upper": range.upper})
}

/// A zone of resource blocks: those of a site can be composed with each other.
pub fn site_zone(site: &str) -> Item {
    let mut body = json!({"ZoneType": "ZoneOfResourceBlocks", "Status": super::status("Enabled", "OK")});
    if let (Value::Object(body), Value::Object(capabilities)) =
        (&mut body, super::composition::capabilities(Some(&site_zone_uri(site))))
    {
        body.extend(capabilities);
    }
    resource(&site_zone_uri(site), "#Zone.v1_6_3.Zone", &format!("Blocks of the site {site}"), body)
}

/// URI of the zone of a site's blocks.
pub fn site_zone_uri(site: &str) -> String {
    format!("{}/ResourceZones/{site}", crate::names::COMPOSITION)
}
