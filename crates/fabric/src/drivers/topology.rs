//! From the resources of a Redfish service to switches, links and endpoints. Pure.

use std::collections::{BTreeMap, HashMap};

use drystone_api::{
    EndpointRole, FabricRouting, SwitchEndpoint, SwitchLink, SwitchSpec, SwitchState, SwitchStatus,
};
use drystone_redfish::{
    client::Resource,
    types::{Endpoint, Fabric, Port, Switch, from_body},
};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// A fabric, or the part of it that one service knows.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CrawledFabric {
    /// Fabric id; parts with the same id and UUID are one fabric.
    pub id: String,
    /// Redfish `FabricType`: `Ethernet`, `InfiniBand`, `CXL` …
    pub fabric_type: String,
    /// UUID.
    pub uuid: String,
    /// Who computes its routes.
    pub routing: FabricRouting,
    /// Its switches in order of id; `agent` is left to the caller.
    pub switches: Vec<(SwitchSpec, SwitchStatus)>,
    /// Number of endpoints, with those that are on no switch.
    pub endpoint_count: usize,
}

/// Resources by URI with a type, in order of URI.
type Typed<'a> = Vec<(&'a str, &'a Resource)>;

/// What a crawl says of each fabric.
pub fn topologies(resources: &BTreeMap<String, Resource>) -> Vec<CrawledFabric> {
    let mut by_type: HashMap<&str, Typed<'_>> = HashMap::new();
    for (uri, resource) in resources {
        if let Some(kind) = resource.body.get("@odata.type").and_then(Value::as_str).and_then(schema) {
            by_type.entry(kind).or_default().push((uri, resource));
        }
    }
    let typed = |kind: &str| by_type.get(kind).cloned().unwrap_or_default();
    let (switches, ports, endpoints) = (typed("Switch"), typed("Port"), typed("Endpoint"));
    let fabrics = typed("Fabric").into_iter().filter_map(|(uri, resource)| {
        let fabric: Fabric = parsed(resource)?;
        Some(fabric_of(uri, fabric, below(&switches, uri), below(&ports, uri), below(&endpoints, uri)))
    });
    fabrics.collect()
}

/// `Switch` of `#Switch.v1_11_0.Switch`; nothing for collections, whose name has two parts.
fn schema(odata_type: &str) -> Option<&str> {
    let mut parts = odata_type.strip_prefix('#')?.split('.');
    let (kind, _version, _same) = (parts.next()?, parts.next()?, parts.next()?);
    Some(kind)
}

fn parsed<T: DeserializeOwned>(resource: &Resource) -> Option<T> {
    from_body(resource.body.clone()).ok()
}

/// The part of a list, in order of URI, that lies below a URI.
fn below<'l, 'a>(list: &'l [(&'a str, &'a Resource)], uri: &str) -> &'l [(&'a str, &'a Resource)] {
    let prefix = format!("{uri}/");
    let from = list.partition_point(|(other, _)| *other < prefix.as_str());
    let count = list[from..].partition_point(|(other, _)| other.starts_with(&prefix));
    &list[from..from + count]
}

fn fabric_of(
    uri: &str,
    fabric: Fabric,
    switches: &[(&str, &Resource)],
    ports: &[(&str, &Resource)],
    endpoints: &[(&str, &Resource)],
) -> CrawledFabric {
    let mut found = CrawledFabric {
        id: fabric.id,
        fabric_type: fabric.fabric_type.unwrap_or_default(),
        uuid: fabric.uuid.unwrap_or_default(),
        endpoint_count: endpoints.len(),
        routing: FabricRouting::Agent,
        switches: Vec::new(),
    };
    let mut position: HashMap<String, usize> = HashMap::new();
    let mut speeds: HashMap<&str, u32> = HashMap::new();
    for (uri, resource) in switches {
        let Some(switch) = parsed::<Switch>(resource).filter(|switch| !switch.id.is_empty()) else {
            continue;
        };
        if has_table(&resource.body) {
            found.routing = FabricRouting::Drystone;
        }
        let ports: Vec<(&str, Port)> =
            below(ports, uri).iter().filter_map(|(uri, port)| Some((*uri, parsed(port)?))).collect();
        speeds.extend(ports.iter().map(|(uri, port)| (*uri, speed(port))));
        let spec = SwitchSpec {
            id: switch.id.clone(),
            fabric: found.id.clone(),
            fabric_uuid: found.uuid.clone(),
            fabric_type: found.fabric_type.clone(),
            agent: String::new(),
            uri: (*uri).to_owned(),
        };
        position.insert(switch.id.clone(), found.switches.len());
        found.switches.push((spec, status_of(&switch, &ports)));
    }
    for (_, resource) in endpoints {
        let Some(endpoint) = parsed::<Endpoint>(resource) else { continue };
        let Some((switch, attached)) = endpoint_of(uri, &endpoint, &speeds) else { continue };
        if let Some(position) = position.get(switch) {
            found.switches[*position].1.endpoints.push(attached);
        }
    }
    for (_, status) in &mut found.switches {
        status.endpoints.sort_by(|a, b| a.id.cmp(&b.id));
        status.endpoint_count = u32::try_from(status.endpoints.len()).unwrap_or(u32::MAX);
    }
    found.switches.sort_by(|(a, _), (b, _)| a.id.cmp(&b.id));
    found
}

/// Whether a switch takes forwarding tables.
fn has_table(switch: &Value) -> bool {
    switch.pointer("/Oem/Drystone/ForwardingTable/@odata.id").is_some()
}

fn status_of(switch: &Switch, ports: &[(&str, Port)]) -> SwitchStatus {
    let mut links: Vec<SwitchLink> = ports.iter().filter_map(|(_, port)| link_of(port)).collect();
    links.sort_by(|a, b| a.port.cmp(&b.port));
    let count = |down: bool| links.iter().filter(|link| link.down == down).count();
    let (up, down) = (count(false), count(true));
    let off =
        switch.power_state.as_ref().is_some_and(|state| *state == drystone_redfish::types::PowerState::Off);
    let disabled = switch.status.state.as_deref().is_some_and(|state| {
        matches!(state, "Disabled" | "StandbyOffline" | "UnavailableOffline" | "Absent")
    });
    SwitchStatus {
        state: if off || disabled { SwitchState::Down } else { SwitchState::Up },
        links,
        link_count: u32::try_from(up).unwrap_or(u32::MAX),
        links_down: u32::try_from(down).unwrap_or(u32::MAX),
        ..SwitchStatus::default()
    }
}

/// A port with another switch at its far end is a link, also while it carries nothing.
fn link_of(port: &Port) -> Option<SwitchLink> {
    let peer = port.links.connected_switches.first()?;
    let peer_port = port.links.connected_switch_ports.first().map(|link| link.id().to_owned());
    let up = port.link_status.as_deref().is_none_or(|status| status == "LinkUp")
        && port.link_state.as_deref() != Some("Disabled")
        && port.interface_enabled != Some(false);
    Some(SwitchLink {
        port: port.id.clone(),
        peer_switch: peer.id().to_owned(),
        peer_port: peer_port.unwrap_or_default(),
        speed_gbps: speed(port),
        down: !up,
    })
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "speeds are small, whole and positive"
)]
fn speed(port: &Port) -> u32 {
    port.current_speed_gbps.or(port.max_speed_gbps).unwrap_or_default().clamp(0.0, 1e6) as u32
}

/// An endpoint and the switch that it is cabled to.
fn endpoint_of<'a>(
    fabric: &str,
    endpoint: &'a Endpoint,
    speeds: &HashMap<&str, u32>,
) -> Option<(&'a str, SwitchEndpoint)> {
    let entity = endpoint.connected_entities.first();
    let own = endpoint.identifiers.iter();
    let identifiers = own.chain(entity.into_iter().flat_map(|entity| entity.identifiers.iter()));
    let mac = identifiers
        .filter(|identifier| identifier.durable_name_format.as_deref() == Some("MACAddress"))
        .find_map(|identifier| identifier.durable_name.clone())
        .unwrap_or_default();
    let port_uri = &endpoint.links.connected_ports.first()?.odata_id;
    let (switch, rest) = port_uri.strip_prefix(fabric)?.strip_prefix("/Switches/")?.split_once("/Ports/")?;
    let port = rest.split('/').next().filter(|port| !port.is_empty())?;
    let role = match entity.and_then(|entity| entity.entity_role.as_deref()) {
        Some("Target") => EndpointRole::Target,
        Some("Initiator") => EndpointRole::Initiator,
        _ => EndpointRole::Both,
    };
    let attached = SwitchEndpoint {
        id: endpoint.id.clone(),
        mac: mac.to_ascii_lowercase(),
        port: port.to_owned(),
        speed_gbps: speeds.get(port_uri.as_str()).copied().unwrap_or_default(),
        role,
        excludes: Vec::new(),
    };
    (!switch.is_empty() && !endpoint.id.is_empty()).then_some((switch, attached))
}

#[cfg(test)]
mod tests {
    use drystone_hostile::distorted;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::model::{ForwardingTable, merge};

    fn objects(found: Vec<CrawledFabric>) -> Vec<drystone_api::Switch> {
        let switches = found.into_iter().flat_map(|fabric| fabric.switches);
        let object = |(spec, status)| {
            let mut switch = drystone_api::Switch::new("s", spec);
            switch.status = Some(status);
            switch
        };
        switches.map(object).collect()
    }

    proptest! {
        /// Whatever services say of their fabrics, there is a topology of it that planners can walk.
        #[test]
        fn any_tree_becomes_a_topology(bodies in distorted(
            json!([
                {"@odata.id": "/f/E", "@odata.type": "#Fabric.v1_4_0.Fabric", "Id": "E", "FabricType": "Ethernet", "UUID": "u"},
                {"@odata.id": "/f/E/Switches/s1", "@odata.type": "#Switch.v1_11_0.Switch", "Id": "s1"},
                {"@odata.id": "/f/E/Switches/s2", "@odata.type": "#Switch.v1_11_0.Switch", "Id": "s2"},
                {"@odata.id": "/f/E/Switches/s1/Ports/i", "@odata.type": "#Port.v1_18_0.Port", "Id": "i", "CurrentSpeedGbps": 1e300,
                    "Links": {"ConnectedSwitches": [{"@odata.id": "/f/E/Switches/s2"}], "ConnectedSwitchPorts": [{"@odata.id": "/"}]}},
                {"@odata.id": "/f/E/Endpoints/e", "@odata.type": "#Endpoint.v1_8_2.Endpoint", "Id": "e",
                    "ConnectedEntities": [{"EntityRole": "Target"}],
                    "Identifiers": [{"DurableName": "02:AA:00:00:00:01", "DurableNameFormat": "MACAddress"}],
                    "Links": {"ConnectedPorts": [{"@odata.id": "/f/E/Switches/s1/Ports/p"}]}},
                {"Zones": {"z": {"Tag": 5, "Members": {"02:aa:00:00:00:01": {"Port": "p", "Shared": true}}, "FloodPorts": ["p"]}}},
            ]),
            &["@odata.id", "@odata.type", "Id", "Links", "ConnectedPorts", "/f/E/Switches/", "/f/E/Switches/s1", "Zones", "Members"])) {
            let list = bodies.as_array().cloned().unwrap_or_default();
            for body in &list {
                let _ = serde_json::from_value::<ForwardingTable>(body.clone());
            }
            let with_uri = list.into_iter().filter(|body| body["@odata.id"].is_string());
            let found = objects(topologies(&with_uri.map(resource).collect()));
            for fabric in merge(&found) {
                let count = fabric.switch_count();
                let mut links = (0..count).flat_map(|switch| fabric.links_of(switch));
                prop_assert!(links.all(|(_, link)| link.peer < count));
                prop_assert!(fabric.endpoints().all(|(_, endpoint)| endpoint.switch < count));
            }
        }
    }

    fn resource(body: Value) -> (String, Resource) {
        let uri = body["@odata.id"].as_str().expect("an id").to_owned();
        (uri.clone(), Resource { uri, etag: None, body })
    }

    #[test]
    fn a_tree_becomes_a_topology() {
        let f = "/redfish/v1/Fabrics/E";
        let port = |id: &str, extra: Value| {
            let mut body = json!({"@odata.id": format!("{f}/Switches/s1/Ports/{id}"), "@odata.type": "#Port.v1_18_0.Port",
                                  "Id": id, "Name": id, "CurrentSpeedGbps": 25, "LinkStatus": "LinkUp"});
            body.as_object_mut().expect("an object").extend(extra.as_object().expect("an object").clone());
            resource(body)
        };
        let peer = json!({"Links": {"ConnectedSwitches": [{"@odata.id": format!("{f}/Switches/s2")}],
                                    "ConnectedSwitchPorts": [{"@odata.id": format!("{f}/Switches/s2/Ports/isl0")}]}});
        let broken = json!({"LinkStatus": "LinkDown", "Links": {"ConnectedSwitches": [{"@odata.id": format!("{f}/Switches/s3")}]}});
        let endpoint = json!({"@odata.id": format!("{f}/Endpoints/e1"), "@odata.type": "#Endpoint.v1_8_2.Endpoint", "Id": "e1",
            "Name": "e1", "ConnectedEntities": [{"EntityType": "NetworkController", "EntityRole": "Target"}],
            "Identifiers": [{"DurableName": "02:AA:00:00:00:01", "DurableNameFormat": "MACAddress"}],
            "Links": {"ConnectedPorts": [{"@odata.id": format!("{f}/Switches/s1/Ports/p1")}]}});
        let resources: BTreeMap<String, Resource> = [
            resource(json!({"@odata.id": f, "@odata.type": "#Fabric.v1_4_0.Fabric", "Id": "E", "Name": "E", "FabricType": "Ethernet", "UUID": "u"})),
            resource(json!({"@odata.id": format!("{f}/Switches/s1"), "@odata.type": "#Switch.v1_11_0.Switch", "Id": "s1", "Name": "s1",
                            "Oem": {"Drystone": {"ForwardingTable": {"@odata.id": "t"}}}})),
            resource(json!({"@odata.id": format!("{f}/Switches"), "@odata.type": "#SwitchCollection.SwitchCollection", "Name": "x", "Members": []})),
            port("p1", json!({})),
            port("isl0", peer),
            port("isl1", broken),
            resource(endpoint),
        ]
        .into();
        let found = topologies(&resources);
        assert_eq!((found.len(), found[0].routing, found[0].endpoint_count), (1, FabricRouting::Drystone, 1));
        let (spec, status) = &found[0].switches[0];
        assert_eq!((spec.id.as_str(), spec.fabric.as_str(), spec.fabric_uuid.as_str()), ("s1", "E", "u"));
        let links: Vec<_> = status.links.iter().map(|link| (link.peer_switch.as_str(), link.down)).collect();
        assert_eq!((links, status.links_down), (vec![("s2", false), ("s3", true)], 1));
        let endpoint = &status.endpoints[0];
        assert_eq!((endpoint.mac.as_str(), endpoint.port.as_str()), ("02:aa:00:00:00:01", "p1"));
        assert_eq!((endpoint.speed_gbps, endpoint.role), (25, EndpointRole::Target));
    }

    #[test]
    fn a_switch_that_is_off_is_down() {
        let body = json!({"Id": "s", "Name": "s", "PowerState": "Off"});
        assert_eq!(status_of(&from_body(body).expect("a switch"), &[]).state, SwitchState::Down);
        let body = json!({"Id": "s", "Name": "s", "Status": {"State": "Disabled"}});
        assert_eq!(status_of(&from_body(body).expect("a switch"), &[]).state, SwitchState::Down);
    }
}
