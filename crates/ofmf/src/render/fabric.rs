//! Fabrics: switches, their ports, and the endpoints on them.

use std::collections::BTreeMap;

use drystone_api::{EndpointRole, Switch, SwitchEndpoint, SwitchLink, SwitchSpec, SwitchState};
use drystone_redfish::tree::Item;
use serde_json::{Value, json};

use super::{link, links, resource, status, text};
use crate::names::{DRYSTONE, FABRICS, segment};

/// Most zones of a fabric.
pub const MAX_ZONES: u32 = 4096;

/// Values of `FabricType` and of `EndpointProtocol`, `SwitchType` and `PortProtocol` alike (enumeration `Protocol`).
const PROTOCOLS: [&str; 12] = [
    "Ethernet",
    "InfiniBand",
    "PCIe",
    "CXL",
    "GenZ",
    "NVMe",
    "NVMeOverFabrics",
    "SAS",
    "FC",
    "NVLink",
    "UALink",
    "OEM",
];

/// The protocol as Redfish spells it; `OEM` for one that it does not know.
pub fn protocol(fabric_type: &str) -> &'static str {
    PROTOCOLS.into_iter().find(|known| known.eq_ignore_ascii_case(fabric_type)).unwrap_or("OEM")
}

/// URI of a fabric.
pub fn fabric_uri(id: &str) -> String {
    format!("{FABRICS}/{}", segment(id))
}

/// URI of an endpoint.
pub fn endpoint_uri(fabric: &str, id: &str) -> String {
    format!("{}/Endpoints/{}", fabric_uri(fabric), segment(id))
}

/// URI of a switch.
pub fn switch_uri(fabric: &str, id: &str) -> String {
    format!("{}/Switches/{}", fabric_uri(fabric), segment(id))
}

/// A fabric, of which any of its switches tells.
pub fn fabric(spec: &SwitchSpec) -> Vec<Item> {
    let uri = fabric_uri(&spec.fabric);
    let rooms = [
        ("Switches", "Switch"),
        ("Endpoints", "Endpoint"),
        ("Zones", "Zone"),
        ("Connections", "Connection"),
        ("EndpointGroups", "EndpointGroup"),
        ("AddressPools", "AddressPool"),
    ];
    let mut rest = json!({
        "FabricType": protocol(&spec.fabric_type), "UUID": text(&spec.fabric_uuid), "MaxZones": MAX_ZONES,
        "Status": status("Enabled", "OK"), "Links": {"ManagedBy": links([DRYSTONE.to_owned()])},
    });
    let mut items = Vec::new();
    for (room, schema) in rooms {
        let collection = format!("{uri}/{room}");
        rest[room] = link(&collection);
        items.push(Item::collection(collection, schema));
    }
    items.push(resource(&uri, "#Fabric.v1_4_0.Fabric", &spec.fabric, rest));
    items
}

/// A switch with its ports and endpoints. `interface_of` tells which interface of a system has a MAC address.
pub fn switch(switch: &Switch, interface_of: &dyn Fn(&str) -> Option<String>) -> Vec<Item> {
    let spec = &switch.spec;
    let uri = switch_uri(&spec.fabric, &spec.id);
    let empty = drystone_api::SwitchStatus::default();
    let found = switch.status.as_ref().unwrap_or(&empty);
    let works = found.state == SwitchState::Up;
    let degraded = found.links_down > 0;
    let state = match (works, degraded) {
        (false, _) => status("UnavailableOffline", "Critical"),
        (true, true) => status("Enabled", "Warning"),
        (true, false) => status("Enabled", "OK"),
    };
    let mut items = vec![
        resource(
            &uri,
            "#Switch.v1_11_0.Switch",
            &spec.id,
            json!({
                "SwitchType": protocol(&spec.fabric_type), "Enabled": true, "Status": state,
                "Ports": link(format!("{uri}/Ports")), "Links": {"ManagedBy": links([DRYSTONE.to_owned()])}}),
        ),
        Item::collection(format!("{uri}/Ports"), "Port"),
    ];
    items.extend(found.links.iter().map(|found| interswitch_port(spec, &uri, found)));
    let mut edge: BTreeMap<&str, Vec<&SwitchEndpoint>> = BTreeMap::new();
    for endpoint in &found.endpoints {
        edge.entry(endpoint.port.as_str()).or_default().push(endpoint);
        items.push(endpoint_item(spec, &uri, endpoint, interface_of));
    }
    let edge = edge.into_iter().filter(|(port, _)| !port.is_empty());
    items.extend(edge.map(|(port, endpoints)| edge_port(spec, &uri, port, &endpoints)));
    items
}

fn interswitch_port(spec: &SwitchSpec, switch: &str, found: &SwitchLink) -> Item {
    let peer = switch_uri(&spec.fabric, &found.peer_switch);
    let peer_port =
        (!found.peer_port.is_empty()).then(|| format!("{peer}/Ports/{}", segment(&found.peer_port)));
    resource(
        &format!("{switch}/Ports/{}", segment(&found.port)),
        "#Port.v1_18_0.Port",
        &found.port,
        json!({
            "PortId": found.port, "PortProtocol": protocol(&spec.fabric_type), "PortType": "InterswitchPort",
            "LinkState": "Enabled", "LinkStatus": if found.down { "LinkDown" } else { "LinkUp" },
            "InterfaceEnabled": true, "CurrentSpeedGbps": speed(if found.down { 0 } else { found.speed_gbps }),
            "MaxSpeedGbps": speed(found.speed_gbps),
            "Status": if found.down { status("Enabled", "Warning") } else { status("Enabled", "OK") },
            "Links": {"ConnectedSwitches": links([peer]), "ConnectedSwitchPorts": links(peer_port)}}),
    )
}

fn edge_port(spec: &SwitchSpec, switch: &str, port: &str, endpoints: &[&SwitchEndpoint]) -> Item {
    let macs: Vec<&str> =
        endpoints.iter().map(|endpoint| endpoint.mac.as_str()).filter(|mac| !mac.is_empty()).collect();
    let fastest = endpoints.iter().map(|endpoint| endpoint.speed_gbps).max().unwrap_or(0);
    resource(
        &format!("{switch}/Ports/{}", segment(port)),
        "#Port.v1_18_0.Port",
        port,
        json!({
            "PortId": port, "PortProtocol": protocol(&spec.fabric_type), "PortType": "DownstreamPort",
            "LinkState": "Enabled", "LinkStatus": "LinkUp", "InterfaceEnabled": true,
            "CurrentSpeedGbps": speed(fastest), "Status": status("Enabled", "OK"),
            "Ethernet": {"AssociatedMACAddresses": macs},
            "Links": {"AssociatedEndpoints":
                links(endpoints.iter().map(|endpoint| endpoint_uri(&spec.fabric, &endpoint.id)))}}),
    )
}

fn endpoint_item(
    spec: &SwitchSpec,
    switch: &str,
    endpoint: &SwitchEndpoint,
    interface_of: &dyn Fn(&str) -> Option<String>,
) -> Item {
    let role = match endpoint.role {
        EndpointRole::Initiator => "Initiator",
        EndpointRole::Target => "Target",
        EndpointRole::Both => "Both",
    };
    let port = (!endpoint.port.is_empty()).then(|| format!("{switch}/Ports/{}", segment(&endpoint.port)));
    let identifiers = if endpoint.mac.is_empty() {
        Value::Null
    } else {
        json!([{"DurableName": endpoint.mac, "DurableNameFormat": "MACAddress"}])
    };
    resource(
        &endpoint_uri(&spec.fabric, &endpoint.id),
        "#Endpoint.v1_8_2.Endpoint",
        &endpoint.id,
        json!({
            "EndpointProtocol": protocol(&spec.fabric_type), "Status": status("Enabled", "OK"),
            "ConnectedEntities": [{
                "EntityType": "NetworkController", "EntityRole": role,
                "EntityLink": interface_of(&endpoint.mac).map(link)}],
            "Identifiers": identifiers,
            "Links": {
                "ConnectedPorts": links(port),
                "MutuallyExclusiveEndpoints":
                    links(endpoint.excludes.iter().map(|other| endpoint_uri(&spec.fabric, other)))}}),
    )
}

fn speed(gbps: u32) -> Value {
    if gbps == 0 { Value::Null } else { f64::from(gbps).into() }
}
