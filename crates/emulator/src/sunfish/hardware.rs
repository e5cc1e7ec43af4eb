//! What a Sunfish agent shows: its rooms, the appliances with their adapters and memory, the fabric between them and the
//! hosts. Bodies are made on request.

use std::sync::atomic::Ordering;

use serde_json::{Value, json};
use uuid::Uuid;

use super::{SUBSCRIPTION, SunfishAgent, objects::Kind};
use crate::{faults::MANAGER, site::ApplianceSpec};

const CHASSIS: &str = "/redfish/v1/Chassis";
const METHODS: &str = "/redfish/v1/AggregationService/ConnectionMethods";
const SUBSCRIPTIONS: &str = "/redfish/v1/EventService/Subscriptions";

/// A fabric adapter: an appliance and the number of the adapter, from 1.
#[derive(Debug, Clone, Copy)]
pub(super) struct Adapter<'a> {
    pub(super) appliance: &'a ApplianceSpec,
    pub(super) number: u32,
}

impl Adapter<'_> {
    /// URI of something that the appliance has one of for each adapter.
    pub(super) fn uri(self, room: &str) -> String {
        format!("{CHASSIS}/{}/{room}/{}", self.appliance.name, self.number)
    }

    /// Id of its endpoint in the fabric.
    pub(super) fn endpoint(self) -> String {
        format!("{}-{}", self.appliance.name, self.number)
    }
}

fn link(uri: impl Into<String>) -> Value {
    json!({"@odata.id": uri.into()})
}

fn collection(schema: &str, uri: &str, ids: impl IntoIterator<Item = String>) -> Value {
    let members: Vec<Value> = ids.into_iter().map(|id| link(format!("{uri}/{id}"))).collect();
    json!({"@odata.id": uri, "@odata.type": format!("#{schema}Collection.{schema}Collection"),
        "Name": format!("{schema} collection"), "Members@odata.count": members.len(), "Members": members})
}

impl SunfishAgent {
    /// URI of something in the fabric.
    pub(super) fn fabric_uri(&self, rest: &str) -> String {
        format!("/redfish/v1/Fabrics/{}{rest}", self.spec.id)
    }

    /// Where the core finds how to talk to the agent.
    pub(super) fn connection_method_uri(&self) -> String {
        format!("{METHODS}/{}", self.spec.id)
    }

    pub(super) fn adapters(&self) -> impl Iterator<Item = Adapter<'_>> {
        self.spec
            .appliances
            .iter()
            .flat_map(|appliance| (1..=appliance.adapters).map(move |number| Adapter { appliance, number }))
    }

    /// The adapter of an appliance with this number.
    pub(super) fn adapter(&self, appliance: &str, number: &str) -> Option<Adapter<'_>> {
        self.adapters()
            .find(|adapter| adapter.appliance.name == appliance && adapter.number.to_string() == number)
    }

    /// A resource by the parts of its path after `/redfish/v1`.
    pub(super) fn read(&self, path: &[&str], uri: &str) -> Option<Value> {
        if let Some(object) = self.object(uri) {
            return Some(object);
        }
        match path {
            ["Chassis", appliance, rest @ ..] => self.read_chassis(appliance, rest, uri),
            ["Fabrics", id, rest @ ..] if *id == self.spec.id => self.read_fabric(rest, uri),
            [] => Some(self.root()),
            ["Chassis"] => Some(collection(
                "Chassis",
                uri,
                self.spec.appliances.iter().map(|appliance| appliance.name.clone()),
            )),
            ["Fabrics"] => Some(collection("Fabric", uri, [self.spec.id.clone()])),
            ["Managers"] => Some(collection("Manager", uri, ["1".to_owned()])),
            ["Managers", "1"] => Some(self.manager()),
            ["AggregationService"] => {
                Some(json!({"@odata.id": uri, "@odata.type": "#AggregationService.v1_0_3.AggregationService",
                "Id": "AggregationService", "Name": "Aggregation service", "ServiceEnabled": true, "ConnectionMethods": link(METHODS)}))
            }
            ["AggregationService", "ConnectionMethods"] => {
                Some(collection("ConnectionMethod", uri, [self.spec.id.clone()]))
            }
            ["AggregationService", "ConnectionMethods", id] if *id == self.spec.id => {
                Some(json!({"@odata.id": uri,
                "@odata.type": "#ConnectionMethod.v1_1_1.ConnectionMethod", "Id": id, "Name": format!("Agent of {id}"),
                "ConnectionMethodType": "Redfish", "ConnectionMethodVariant": "Contoso"}))
            }
            ["EventService"] => Some(
                json!({"@odata.id": uri, "@odata.type": "#EventService.v1_12_0.EventService", "Id": "EventService",
                "Name": "Event service", "ServiceEnabled": true, "EventFormatTypes": ["Event"], "Subscriptions": link(SUBSCRIPTIONS)}),
            ),
            ["EventService", "Subscriptions"] => {
                Some(collection("EventDestination", uri, ["SunfishServer".to_owned()]))
            }
            ["EventService", "Subscriptions", "SunfishServer"] => Some(self.subscription()),
            _ => None,
        }
    }

    fn root(&self) -> Value {
        let rooms = ["Chassis", "Fabrics", "Managers", "AggregationService", "EventService"];
        let mut root = json!({"@odata.id": "/redfish/v1", "@odata.type": "#ServiceRoot.v1_20_0.ServiceRoot", "Id": "RootService",
            "Name": "Root service", "RedfishVersion": "1.23.0", "UUID": Uuid::new_v5(&self.spec.uuid, b"agent"),
            "Product": "Drystone emulated Sunfish agent"});
        for room in rooms {
            root[room] = link(format!("/redfish/v1/{room}"));
        }
        root
    }

    fn manager(&self) -> Value {
        let mut oem = self.faults.shown(std::time::Instant::now());
        oem["Registered"] = json!(self.registered.load(Ordering::Relaxed));
        oem["Core"] = json!(self.core);
        json!({"@odata.id": MANAGER, "@odata.type": "#Manager.v1_24_0.Manager", "Id": "1", "Name": format!("Agent of {}", self.spec.id),
            "ManagerType": "FabricManager", "UUID": Uuid::new_v5(&self.spec.uuid, b"manager"),
            "FirmwareVersion": env!("CARGO_PKG_VERSION"), "Links": {"ManagerForFabrics": [link(self.fabric_uri(""))]},
            "Actions": {"Oem": self.faults.actions()}, "Oem": {"Drystone": oem}, "Status": {"State": "Enabled", "Health": "OK"}})
    }

    /// The subscription that the core sets its context in.
    pub(super) fn subscription(&self) -> Value {
        let core = self.core.as_deref().unwrap_or("http://localhost:5000").trim_end_matches('/');
        json!({"@odata.id": SUBSCRIPTION, "@odata.type": "#EventDestination.v1_16_0.EventDestination", "Id": "SunfishServer",
            "Name": "Sunfish server", "Destination": format!("{core}/EventListener"), "Protocol": "Redfish",
            "SubscriptionType": "RedfishEvent", "EventFormatType": "Event", "Context": self.kept().context,
            "OriginResources": [link("/redfish/v1/Fabrics")], "SubordinateResources": true, "RegistryPrefixes": ["ResourceEvent"]})
    }

    fn read_chassis(&self, appliance: &str, path: &[&str], uri: &str) -> Option<Value> {
        let spec = self.spec.appliances.iter().find(|spec| spec.name == appliance)?;
        let numbers = || (1..=spec.adapters).map(|number| number.to_string());
        match path {
            [] => {
                let mut chassis = json!({"@odata.id": uri, "@odata.type": "#Chassis.v1_28_0.Chassis", "Id": appliance,
                    "Name": format!("Memory appliance {appliance}"), "ChassisType": "Shelf", "PowerState": "On",
                    "Manufacturer": "Drystone", "Model": "Emulated memory appliance", "Status": {"State": "Enabled", "Health": "OK"}});
                for room in ["FabricAdapters", "MemoryDomains", "Memory"] {
                    chassis[room] = link(format!("{uri}/{room}"));
                }
                Some(chassis)
            }
            ["FabricAdapters"] => Some(collection("FabricAdapter", uri, numbers())),
            ["MemoryDomains"] => Some(collection("MemoryDomain", uri, numbers())),
            ["Memory"] => Some(collection("Memory", uri, numbers())),
            [room, number, rest @ ..] => self.read_adapter(self.adapter(appliance, number)?, room, rest, uri),
            [_] => None,
        }
    }

    fn read_adapter(&self, adapter: Adapter<'_>, room: &str, rest: &[&str], uri: &str) -> Option<Value> {
        let number = adapter.number.to_string();
        let status = json!({"State": "Enabled", "Health": "OK"});
        let size = adapter.appliance.memory_mib;
        match (room, rest) {
            ("FabricAdapters", []) => {
                Some(json!({"@odata.id": uri, "@odata.type": "#FabricAdapter.v1_5_3.FabricAdapter",
                "Id": number, "Name": format!("Fabric adapter {number}"), "FabricType": "CXL",
                "UUID": Uuid::new_v5(&self.spec.uuid, adapter.uri("FabricAdapters").as_bytes()), "Ports": link(format!("{uri}/Ports")),
                "Links": {"Endpoints": [link(self.endpoint_uri(&adapter.endpoint()))], "MemoryDomains": [link(adapter.uri("MemoryDomains"))]},
                "Status": status}))
            }
            ("FabricAdapters", ["Ports"]) => Some(collection("Port", uri, ["1".to_owned()])),
            ("FabricAdapters", ["Ports", "1"]) => {
                Some(json!({"@odata.id": uri, "@odata.type": "#Port.v1_18_0.Port", "Id": "1",
                "Name": "Port 1", "PortId": "1", "PortProtocol": "CXL", "PortType": "UpstreamPort", "LinkStatus": "LinkUp",
                "Links": {"AssociatedEndpoints": [link(self.endpoint_uri(&adapter.endpoint()))],
                    "ConnectedSwitchPorts": [link(self.switch_port_uri(&adapter.endpoint()))],
                    "ConnectedSwitches": [link(self.fabric_uri("/Switches/switch-1"))]}, "Status": status}))
            }
            ("MemoryDomains", []) => Some(
                json!({"@odata.id": uri, "@odata.type": "#MemoryDomain.v1_5_1.MemoryDomain", "Id": number,
                "Name": format!("Memory domain {number}"), "AllowsMemoryChunkCreation": true, "MemorySizeMiB": size,
                "MemoryChunkIncrementMiB": 1, "InterleavableMemorySets": [{"MemorySet": [link(adapter.uri("Memory"))]}],
                "MemoryChunks": link(format!("{uri}/MemoryChunks")),
                "Links": {"FabricAdapters": [link(adapter.uri("FabricAdapters"))]}, "Status": status}),
            ),
            ("MemoryDomains", ["MemoryChunks"]) => {
                Some(collection("MemoryChunks", uri, self.object_ids(uri)))
            }
            ("Memory", []) => {
                Some(json!({"@odata.id": uri, "@odata.type": "#Memory.v1_23_0.Memory", "Id": number,
                "Name": format!("Memory {number}"), "MemoryType": "DRAM", "MemoryDeviceType": "DDR5", "CapacityMiB": size,
                "Regions": [{"RegionId": "1", "MemoryClassification": "Volatile", "OffsetMiB": 0, "SizeMiB": size}], "Status": status}))
            }
            _ => None,
        }
    }

    /// URI of an endpoint.
    pub(super) fn endpoint_uri(&self, id: &str) -> String {
        self.fabric_uri(&format!("/Endpoints/{id}"))
    }

    fn switch_port_uri(&self, endpoint: &str) -> String {
        self.fabric_uri(&format!("/Switches/switch-1/Ports/{endpoint}"))
    }

    /// Ids of all endpoints: those of adapters, then those of hosts.
    fn endpoint_ids(&self) -> Vec<String> {
        let hosts = self.hosts.iter().map(|(name, _)| format!("host.{name}"));
        self.adapters().map(Adapter::endpoint).chain(hosts).collect()
    }

    fn read_fabric(&self, path: &[&str], uri: &str) -> Option<Value> {
        let status = json!({"State": "Enabled", "Health": "OK"});
        match path {
            [] => {
                let mut fabric = json!({"@odata.id": uri, "@odata.type": "#Fabric.v1_4_0.Fabric", "Id": self.spec.id,
                    "Name": format!("Fabric {}", self.spec.id), "FabricType": "CXL", "UUID": self.spec.uuid, "Status": status});
                for room in ["Switches", "Endpoints", "Zones", "Connections"] {
                    fabric[room] = link(format!("{uri}/{room}"));
                }
                Some(fabric)
            }
            ["Switches"] => Some(collection("Switch", uri, ["switch-1".to_owned()])),
            ["Switches", "switch-1"] => {
                Some(json!({"@odata.id": uri, "@odata.type": "#Switch.v1_11_0.Switch", "Id": "switch-1",
                "Name": "CXL switch 1", "SwitchType": "CXL", "SupportedProtocols": ["CXL"],
                "UUID": Uuid::new_v5(&self.spec.uuid, b"switch-1"), "Ports": link(format!("{uri}/Ports")), "Status": status}))
            }
            ["Switches", "switch-1", "Ports"] => Some(collection("Port", uri, self.endpoint_ids())),
            ["Switches", "switch-1", "Ports", id] if self.endpoint_ids().iter().any(|known| known == id) => {
                Some(
                    json!({"@odata.id": uri, "@odata.type": "#Port.v1_18_0.Port", "Id": id, "Name": format!("Port {id}"),
                    "PortId": id, "PortProtocol": "CXL", "PortType": if id.starts_with("host.") { "UpstreamPort" } else { "DownstreamPort" },
                    "LinkStatus": "LinkUp", "Links": {"AssociatedEndpoints": [link(self.endpoint_uri(id))]}, "Status": status}),
                )
            }
            ["Endpoints"] => Some(collection("Endpoint", uri, self.endpoint_ids())),
            ["Endpoints", id] => self.endpoint(id, uri),
            [room @ ("Zones" | "Connections")] => {
                Some(collection(room.trim_end_matches('s'), uri, self.object_ids(uri)))
            }
            _ => None,
        }
    }

    fn endpoint(&self, id: &str, uri: &str) -> Option<Value> {
        let mut links = json!({"Zones": self.objects_with(Kind::Zone, uri), "Connections": self.objects_with(Kind::Connection, uri),
            "ConnectedPorts": [link(self.switch_port_uri(id))]});
        let host = self.hosts.iter().find(|(name, _)| format!("host.{name}") == id);
        let entity = match (self.adapters().find(|adapter| adapter.endpoint() == id), host) {
            (Some(adapter), _) => {
                links["LocalPorts"] = json!([link(format!("{}/Ports/1", adapter.uri("FabricAdapters")))]);
                json!({"EntityType": "FabricBridge", "EntityRole": "Target", "EntityLink": link(adapter.uri("FabricAdapters"))})
            }
            (None, Some((_, uuid))) => json!({"EntityType": "RootComplex", "EntityRole": "Initiator",
                "Identifiers": [{"DurableName": uuid, "DurableNameFormat": "UUID"}]}),
            (None, None) => return None,
        };
        Some(
            json!({"@odata.id": uri, "@odata.type": "#Endpoint.v1_8_2.Endpoint", "Id": id, "Name": format!("Endpoint {id}"),
            "EndpointProtocol": "CXL", "ConnectedEntities": [entity], "Links": links, "Status": {"State": "Enabled", "Health": "OK"}}),
        )
    }
}
