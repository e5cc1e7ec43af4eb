//! From the resources of a Redfish service to switches, links and endpoints. Pure.

use std::collections::{BTreeMap, HashMap};

use drystone_api::{
    EndpointRole, FabricRouting, SwitchEndpoint, SwitchLink, SwitchSpec, SwitchState, SwitchStatus,
};
use drystone_redfish::types::{Endpoint, Fabric, Port, PowerState, Switch};
use serde::{Deserialize, de::DeserializeOwned};

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

/// Takes resources as they come and keeps of them what makes a topology, so that a crawl of a large fabric is never in memory
/// as a whole.
#[derive(Debug, Default)]
pub struct TopologyBuilder {
    fabrics: BTreeMap<String, Fabric>,
    switches: BTreeMap<String, Switch>,
    /// Links by URI of the port, and the speeds of all ports.
    links: BTreeMap<String, SwitchLink>,
    speeds: HashMap<String, u32>,
    endpoints: BTreeMap<String, EndpointPart>,
}

/// What counts of an endpoint.
#[derive(Debug)]
struct EndpointPart {
    id: String,
    mac: String,
    role: EndpointRole,
    /// URI of the port that it is cabled to.
    port: Option<String>,
    /// Ids of the endpoints that it excludes.
    excludes: Vec<String>,
}

/// A resource's type.
#[derive(Deserialize)]
struct Typed<'a> {
    #[serde(rename = "@odata.type", borrow)]
    odata_type: Option<std::borrow::Cow<'a, str>>,
}

impl TopologyBuilder {
    /// Takes a resource.
    pub fn add(&mut self, uri: &str, body: &[u8]) {
        let Ok(typed) = serde_json::from_slice::<Typed<'_>>(body) else { return };
        let uri = uri.to_owned();
        match typed.odata_type.as_deref().and_then(schema) {
            Some("Fabric") => self.fabrics.extend(parsed(body).map(|fabric| (uri, fabric))),
            Some("Switch") => {
                let named = |switch: &Switch| !switch.id.is_empty();
                self.switches.extend(parsed(body).filter(named).map(|switch| (uri, switch)));
            }
            Some("Port") => {
                let Some(port) = parsed::<Port>(body) else { return };
                self.speeds.insert(uri.clone(), speed(&port));
                self.links.extend(link_of(&port).map(|link| (uri, link)));
            }
            Some("Endpoint") => {
                self.endpoints.extend(parsed(body).map(|endpoint| (uri, endpoint_part(endpoint))));
            }
            _ => {}
        }
    }

    /// What was said of each fabric.
    pub fn fabrics(self) -> Vec<CrawledFabric> {
        let Self { fabrics, switches, links, speeds, endpoints } = self;
        let fabrics = fabrics.into_iter().map(|(uri, fabric)| {
            let mut found = CrawledFabric {
                id: fabric.id,
                fabric_type: fabric.fabric_type.unwrap_or_default(),
                uuid: fabric.uuid.unwrap_or_default(),
                routing: FabricRouting::Agent,
                ..CrawledFabric::default()
            };
            let mut position: HashMap<&str, usize> = HashMap::new();
            for (switch_uri, switch) in below(&switches, &uri) {
                if has_table(switch) {
                    found.routing = FabricRouting::Drystone;
                }
                position.insert(&switch.id, found.switches.len());
                let spec = SwitchSpec {
                    id: switch.id.clone(),
                    fabric: found.id.clone(),
                    fabric_uuid: found.uuid.clone(),
                    fabric_type: found.fabric_type.clone(),
                    agent: String::new(),
                    uri: switch_uri.clone(),
                };
                found
                    .switches
                    .push((spec, status_of(switch, below(&links, switch_uri).map(|(_, link)| link))));
            }
            for (_, endpoint) in below(&endpoints, &uri) {
                found.endpoint_count += 1;
                let Some((switch, attached)) = attached(&uri, endpoint, &speeds) else { continue };
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
        });
        fabrics.collect()
    }

    /// What was said of each switch by its URI: state and links, not endpoints.
    pub fn switches(self) -> BTreeMap<String, SwitchStatus> {
        let Self { switches, links, .. } = self;
        let status = |(uri, switch): (String, Switch)| {
            let status = status_of(&switch, below(&links, &uri).map(|(_, link)| link));
            (uri, status)
        };
        switches.into_iter().map(status).collect()
    }
}

/// `Switch` of `#Switch.v1_11_0.Switch`; nothing for collections, whose name has two parts.
fn schema(odata_type: &str) -> Option<&str> {
    let mut parts = odata_type.strip_prefix('#')?.split('.');
    let (kind, _version, _same) = (parts.next()?, parts.next()?, parts.next()?);
    Some(kind)
}

fn parsed<T: DeserializeOwned>(body: &[u8]) -> Option<T> {
    serde_json::from_slice(body).ok()
}

/// What lies below a URI.
fn below<'a, T>(map: &'a BTreeMap<String, T>, uri: &str) -> impl Iterator<Item = (&'a String, &'a T)> {
    let prefix = format!("{uri}/");
    map.range(prefix.clone()..).take_while(move |(other, _)| other.starts_with(&prefix))
}

/// Whether a switch takes forwarding tables.
fn has_table(switch: &Switch) -> bool {
    let table = switch.oem.get("Drystone").and_then(|ours| ours.pointer("/ForwardingTable/@odata.id"));
    table.is_some()
}

fn status_of<'a>(switch: &Switch, links: impl Iterator<Item = &'a SwitchLink>) -> SwitchStatus {
    let mut links: Vec<SwitchLink> = links.cloned().collect();
    links.sort_by(|a, b| a.port.cmp(&b.port));
    let count =
        |down: bool| u32::try_from(links.iter().filter(|link| link.down == down).count()).unwrap_or(u32::MAX);
    let (link_count, links_down) = (count(false), count(true));
    let off = switch.power_state == Some(PowerState::Off);
    let disabled = switch.status.state.as_deref().is_some_and(|state| {
        matches!(state, "Disabled" | "StandbyOffline" | "UnavailableOffline" | "Absent")
    });
    SwitchStatus {
        state: if off || disabled { SwitchState::Down } else { SwitchState::Up },
        links,
        link_count,
        links_down,
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

fn endpoint_part(endpoint: Endpoint) -> EndpointPart {
    let entity = endpoint.connected_entities.first();
    let own = endpoint.identifiers.iter();
    let identifiers = own.chain(entity.into_iter().flat_map(|entity| entity.identifiers.iter()));
    let mac = identifiers
        .filter(|identifier| identifier.durable_name_format.as_deref() == Some("MACAddress"))
        .find_map(|identifier| identifier.durable_name.as_ref())
        .map(|mac| mac.to_ascii_lowercase())
        .unwrap_or_default();
    let role = match entity.and_then(|entity| entity.entity_role.as_deref()) {
        Some("Target") => EndpointRole::Target,
        Some("Initiator") => EndpointRole::Initiator,
        _ => EndpointRole::Both,
    };
    let port = endpoint.links.connected_ports.first().map(|link| link.odata_id.clone());
    let excludes = endpoint.links.mutually_exclusive_endpoints.iter().map(|link| link.id().to_owned());
    EndpointPart { excludes: excludes.collect(), id: endpoint.id, mac, role, port }
}

/// An endpoint and the switch that it is cabled to.
fn attached<'a>(
    fabric: &str,
    endpoint: &'a EndpointPart,
    speeds: &HashMap<String, u32>,
) -> Option<(&'a str, SwitchEndpoint)> {
    let uri = endpoint.port.as_deref()?;
    let (switch, rest) = uri.strip_prefix(fabric)?.strip_prefix("/Switches/")?.split_once("/Ports/")?;
    let port = rest.split('/').next().filter(|port| !port.is_empty())?;
    let attached = SwitchEndpoint {
        id: endpoint.id.clone(),
        mac: endpoint.mac.clone(),
        port: port.to_owned(),
        speed_gbps: speeds.get(uri).copied().unwrap_or_default(),
        role: endpoint.role,
        excludes: endpoint.excludes.clone(),
    };
    (!switch.is_empty() && !endpoint.id.is_empty()).then_some((switch, attached))
}

#[cfg(test)]
mod tests {
    use drystone_hostile::distorted;
    use drystone_redfish::types::from_body;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::model::{ForwardingTable, by_fabric, merge};

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
            let found = objects(topologies(with_uri));
            for switches in by_fabric(&found).values() {
                let fabric = merge(switches);
                let count = fabric.switch_count();
                let links = (0..count).flat_map(|switch| fabric.links_of(switch)).all(|(_, link)| link.peer < count);
                prop_assert!(links && fabric.endpoints().all(|(_, endpoint)| endpoint.switch < count));
            }
        }
    }

    fn topologies(bodies: impl IntoIterator<Item = Value>) -> Vec<CrawledFabric> {
        let mut builder = TopologyBuilder::default();
        for body in bodies {
            builder.add(body["@odata.id"].as_str().expect("an id"), body.to_string().as_bytes());
        }
        builder.fabrics()
    }

    #[test]
    fn a_tree_becomes_a_topology() {
        let f = "/redfish/v1/Fabrics/E";
        let port = |id: &str, extra: Value| {
            let mut body = json!({"@odata.id": format!("{f}/Switches/s1/Ports/{id}"), "@odata.type": "#Port.v1_18_0.Port",
                                  "Id": id, "Name": id, "CurrentSpeedGbps": 25, "LinkStatus": "LinkUp"});
            body.as_object_mut().expect("an object").extend(extra.as_object().expect("an object").clone());
            body
        };
        let peer = json!({"Links": {"ConnectedSwitches": [{"@odata.id": format!("{f}/Switches/s2")}],
                                    "ConnectedSwitchPorts": [{"@odata.id": format!("{f}/Switches/s2/Ports/isl0")}]}});
        let broken = json!({"LinkStatus": "LinkDown", "Links": {"ConnectedSwitches": [{"@odata.id": format!("{f}/Switches/s3")}]}});
        let endpoint = json!({"@odata.id": format!("{f}/Endpoints/e1"), "@odata.type": "#Endpoint.v1_8_2.Endpoint", "Id": "e1",
            "Name": "e1", "ConnectedEntities": [{"EntityType": "NetworkController", "EntityRole": "Target"}],
            "Identifiers": [{"DurableName": "02:AA:00:00:00:01", "DurableNameFormat": "MACAddress"}],
            "Links": {"ConnectedPorts": [{"@odata.id": format!("{f}/Switches/s1/Ports/p1")}]}});
        let resources = [
            json!({"@odata.id": f, "@odata.type": "#Fabric.v1_4_0.Fabric", "Id": "E", "Name": "E", "FabricType": "Ethernet", "UUID": "u"}),
            json!({"@odata.id": format!("{f}/Switches/s1"), "@odata.type": "#Switch.v1_11_0.Switch", "Id": "s1", "Name": "s1",
                            "Oem": {"Drystone": {"ForwardingTable": {"@odata.id": "t"}}}}),
            json!({"@odata.id": format!("{f}/Switches"), "@odata.type": "#SwitchCollection.SwitchCollection", "Name": "x", "Members": []}),
            port("p1", json!({})),
            port("isl0", peer),
            port("isl1", broken),
            endpoint,
        ];
        let found = topologies(resources);
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
        assert_eq!(
            status_of(&from_body(body).expect("a switch"), std::iter::empty()).state,
            SwitchState::Down
        );
        let body = json!({"Id": "s", "Name": "s", "Status": {"State": "Disabled"}});
        assert_eq!(
            status_of(&from_body(body).expect("a switch"), std::iter::empty()).state,
            SwitchState::Down
        );
    }
}
