//! Fabric services that speak Redfish: switches with Drystone's forwarding table, and fabric agents.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use drystone_api::{FabricEndpoint, FabricLink, FabricSwitch, FabricTopology};
use drystone_redfish::{
    client::{CertificateCheck, Client, CrawlOptions, Options, RedfishError, Resource},
    types::{Endpoint, Fabric, Port, Switch, from_body},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{Answer, Credentials, DriverError, Drivers, FabricService, TableChange, ZoneRecord};
use crate::model::ForwardingTable;

/// Where fabrics are.
const FABRICS: &str = "/redfish/v1/Fabrics";

/// Requests at one time while crawling.
const CRAWL_CONCURRENCY: usize = 16;

/// Limits of a request: switches answer at once or not at all.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);
const REQUEST_LIMIT: Duration = Duration::from_secs(15);

/// Makes Redfish drivers.
#[derive(Debug, Clone, Copy, Default)]
pub struct RedfishDrivers;

impl Drivers for RedfishDrivers {
    fn open(
        &self,
        address: &str,
        credentials: &Credentials,
        verify_tls: bool,
    ) -> Result<Box<dyn FabricService>, DriverError> {
        let check = if verify_tls { CertificateCheck::Platform } else { CertificateCheck::Disabled };
        let options = Options::new(address)
            .credentials(&credentials.username, &credentials.password)
            .certificates(check)
            .timeouts(CONNECT_LIMIT, REQUEST_LIMIT);
        let client = Client::new(options).map_err(|error| DriverError::Refused {
            service: address.to_owned(),
            doing: "reading the address".to_owned(),
            reason: error.to_string(),
        })?;
        Ok(Box::new(RedfishService { client }))
    }
}

struct RedfishService {
    client: Client,
}

impl RedfishService {
    fn error(&self, doing: &str, error: &RedfishError) -> DriverError {
        let service = self.client.base().to_string();
        match error {
            RedfishError::Unauthorized { .. } => DriverError::Unauthorized { service },
            RedfishError::Timeout { .. } | RedfishError::Unreachable { .. } => {
                DriverError::Unreachable { service, reason: error.to_string() }
            }
            _ => DriverError::Refused { service, doing: doing.to_owned(), reason: error.to_string() },
        }
    }

    fn table_uri(fabric: &str, switch: &str) -> String {
        format!("{FABRICS}/{fabric}/Switches/{switch}/Oem/Drystone/ForwardingTable")
    }

    fn parse_table(&self, body: &Value) -> Result<ForwardingTable, DriverError> {
        serde_json::from_value(body.clone()).map_err(|error| DriverError::Refused {
            service: self.client.base().to_string(),
            doing: "reading a forwarding table".to_owned(),
            reason: error.to_string(),
        })
    }

    async fn table(&self, fabric: &str, switch: &str) -> Result<ForwardingTable, DriverError> {
        let resource = self.client.get(&Self::table_uri(fabric, switch)).await;
        let resource = resource.map_err(|error| self.error("reading a forwarding table", &error))?;
        self.parse_table(&resource.body)
    }
}

impl FabricService for RedfishService {
    fn crawl(&self) -> Answer<'_, Vec<FabricTopology>> {
        Box::pin(async {
            let options = CrawlOptions::new([FABRICS]).within(FABRICS).concurrency(CRAWL_CONCURRENCY);
            let crawl =
                self.client.crawl(&options).await.map_err(|error| self.error("crawling fabrics", &error))?;
            Ok(topologies(&crawl.resources))
        })
    }

    fn read_table<'a>(&'a self, fabric: &'a str, switch: &'a str) -> Answer<'a, ForwardingTable> {
        Box::pin(self.table(fabric, switch))
    }

    fn change_table<'a>(
        &'a self,
        fabric: &'a str,
        switch: &'a str,
        change: &'a TableChange,
    ) -> Answer<'a, ForwardingTable> {
        Box::pin(async move {
            let body = json!({"Zones": change});
            let needed = |present: &Value| {
                let zones = present.get("Zones");
                let differs = change.iter().any(|(id, wanted)| {
                    let now = zones
                        .and_then(|zones| zones.get(id))
                        .and_then(|zone| serde_json::from_value(zone.clone()).ok());
                    now.as_ref() != wanted.as_ref()
                });
                differs.then(|| body.clone())
            };
            let changed = self.client.modify(&Self::table_uri(fabric, switch), needed).await;
            changed.map_err(|error| self.error("changing a forwarding table", &error))?;
            // Read back: what counts is what the switch says it has.
            self.table(fabric, switch).await
        })
    }

    fn record_zone<'a>(
        &'a self,
        fabric: &'a str,
        id: &'a str,
        zone: Option<&'a ZoneRecord>,
    ) -> Answer<'a, Option<String>> {
        Box::pin(async move {
            let collection = format!("{FABRICS}/{fabric}/Zones");
            let uri = format!("{collection}/{id}");
            let doing = "showing a zone";
            let Some(zone) = zone else {
                let deleted = self.client.delete(&uri).await;
                return match deleted {
                    Err(error) if !takes_no_zones(&error) => Err(self.error(doing, &error)),
                    _ => Ok(None),
                };
            };
            if self.client.get(&uri).await.is_ok() {
                self.client.delete(&uri).await.map_err(|error| self.error(doing, &error))?;
            }
            let links: Vec<Value> = zone
                .endpoints
                .iter()
                .map(|id| json!({"@odata.id": format!("{FABRICS}/{fabric}/Endpoints/{id}")}))
                .collect();
            let body = json!({
                "@odata.id": uri, "Id": zone.id, "Name": zone.id, "ZoneType": "ZoneOfEndpoints",
                "DefaultRoutingEnabled": true, "Links": {"Endpoints": links},
            });
            match self.client.create(&collection, &body).await {
                Ok(outcome) => Ok(Some(outcome.location().map_or(uri, str::to_owned))),
                Err(error) if takes_no_zones(&error) => Ok(None),
                Err(error) => Err(self.error(doing, &error)),
            }
        })
    }
}

/// A service that only forwards: it has no zones of its own to show, or knows only a part of the zone's endpoints.
fn takes_no_zones(error: &RedfishError) -> bool {
    matches!(error.status(), Some(400 | 404 | 405 | 501))
}

fn parsed<T: DeserializeOwned>(resource: &Resource) -> Option<T> {
    from_body(resource.body.clone()).ok()
}

/// The part of a URI between `prefix/` and the next slash.
fn segment<'a>(uri: &'a str, prefix: &str) -> Option<&'a str> {
    let rest = uri.strip_prefix(prefix)?.strip_prefix('/')?;
    Some(rest.split('/').next().unwrap_or(rest)).filter(|segment| !segment.is_empty())
}

/// What a crawl says of each fabric.
fn topologies(resources: &BTreeMap<String, Resource>) -> Vec<FabricTopology> {
    let of_kind = |kind: &str| {
        let wanted = format!("#{kind}.");
        resources.iter().filter(move |(_, resource)| {
            resource
                .body
                .get("@odata.type")
                .and_then(Value::as_str)
                .is_some_and(|name| name.starts_with(&wanted) && !name.contains("Collection"))
        })
    };
    of_kind("Fabric")
        .filter_map(|(uri, resource)| {
            let fabric: Fabric = parsed(resource)?;
            let ports: HashMap<&str, Port> = of_kind("Port")
                .filter(|(port, _)| port.starts_with(&format!("{uri}/")))
                .filter_map(|(uri, resource)| Some((uri.as_str(), parsed(resource)?)))
                .collect();
            let switches = of_kind("Switch").filter(|(switch, _)| switch.starts_with(&format!("{uri}/")));
            let endpoints =
                of_kind("Endpoint").filter(|(endpoint, _)| endpoint.starts_with(&format!("{uri}/")));
            Some(FabricTopology {
                fabric: fabric.id,
                fabric_type: fabric.fabric_type.unwrap_or_default(),
                uuid: fabric.uuid.unwrap_or_default(),
                switches: switches
                    .filter_map(|(uri, resource)| switch_of(uri, &parsed(resource)?, &ports))
                    .collect(),
                endpoints: endpoints
                    .filter_map(|(_, resource)| endpoint_of(uri, &parsed(resource)?, &ports))
                    .collect(),
            })
        })
        .collect()
}

fn switch_of(uri: &str, switch: &Switch, ports: &HashMap<&str, Port>) -> Option<FabricSwitch> {
    let mut links: Vec<FabricLink> = ports
        .iter()
        .filter(|(port, _)| port.starts_with(&format!("{uri}/")))
        .filter(|(_, port)| port.link_status.as_deref().is_none_or(|status| status == "LinkUp"))
        .filter_map(|(_, port)| {
            let peer = port.links.connected_switches.first()?;
            let peer_port = port.links.connected_switch_ports.first().map(|link| link.id().to_owned());
            Some(FabricLink {
                port: port.id.clone(),
                peer_switch: peer.id().to_owned(),
                peer_port: peer_port.unwrap_or_default(),
                speed_gbps: speed(port),
            })
        })
        .collect();
    links.sort_by(|a, b| a.port.cmp(&b.port));
    (!switch.id.is_empty()).then(|| FabricSwitch { id: switch.id.clone(), links })
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "speeds are small, whole and positive"
)]
fn speed(port: &Port) -> u32 {
    port.current_speed_gbps.or(port.max_speed_gbps).unwrap_or_default().clamp(0.0, 1e6) as u32
}

fn endpoint_of(fabric: &str, endpoint: &Endpoint, ports: &HashMap<&str, Port>) -> Option<FabricEndpoint> {
    let entity = endpoint.connected_entities.first();
    let own = endpoint.identifiers.iter();
    let identifiers = own.chain(entity.into_iter().flat_map(|entity| entity.identifiers.iter()));
    let mac = identifiers
        .filter(|identifier| identifier.durable_name_format.as_deref() == Some("MACAddress"))
        .find_map(|identifier| identifier.durable_name.clone())?;
    let port_uri = &endpoint.links.connected_ports.first()?.odata_id;
    let switches = format!("{fabric}/Switches");
    let switch = segment(port_uri, &switches)?;
    let port = segment(port_uri, &format!("{switches}/{switch}/Ports"))?;
    Some(FabricEndpoint {
        id: endpoint.id.clone(),
        mac: mac.to_ascii_lowercase(),
        switch: switch.to_owned(),
        port: port.to_owned(),
        speed_gbps: ports.get(port_uri.as_str()).map(speed).unwrap_or_default(),
        shared: entity.and_then(|entity| entity.entity_role.as_deref()) == Some("Target"),
    })
}

#[cfg(test)]
mod tests {
    use drystone_hostile::distorted;
    use proptest::prelude::*;

    use super::*;
    use crate::model::merge;

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
            let found = topologies(&with_uri.map(resource).collect());
            for fabric in merge(found.iter().map(|topology| ("agent", topology))) {
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
        let endpoint = json!({"@odata.id": format!("{f}/Endpoints/e1"), "@odata.type": "#Endpoint.v1_8_2.Endpoint", "Id": "e1",
            "Name": "e1", "ConnectedEntities": [{"EntityType": "NetworkController", "EntityRole": "Both"}],
            "Identifiers": [{"DurableName": "02:AA:00:00:00:01", "DurableNameFormat": "MACAddress"}],
            "Links": {"ConnectedPorts": [{"@odata.id": format!("{f}/Switches/s1/Ports/p1")}]}});
        let resources: BTreeMap<String, Resource> = [
            resource(json!({"@odata.id": f, "@odata.type": "#Fabric.v1_4_0.Fabric", "Id": "E", "Name": "E", "FabricType": "Ethernet", "UUID": "u"})),
            resource(json!({"@odata.id": format!("{f}/Switches/s1"), "@odata.type": "#Switch.v1_11_0.Switch", "Id": "s1", "Name": "s1"})),
            resource(json!({"@odata.id": format!("{f}/Switches"), "@odata.type": "#SwitchCollection.SwitchCollection", "Name": "x", "Members": []})),
            port("p1", json!({})),
            port("isl0", peer),
            resource(endpoint),
        ]
        .into();
        let found = topologies(&resources);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].switches.len(), 1);
        assert_eq!(found[0].switches[0].links[0].peer_switch, "s2");
        let endpoint = &found[0].endpoints[0];
        assert_eq!(
            (endpoint.mac.as_str(), endpoint.switch.as_str(), endpoint.port.as_str()),
            ("02:aa:00:00:00:01", "s1", "p1")
        );
        assert_eq!((endpoint.speed_gbps, endpoint.shared), (25, false));
    }
}
