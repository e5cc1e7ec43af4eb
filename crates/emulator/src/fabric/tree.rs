//! Fabric, switches, ports, endpoints and the manager that stands for them.

use std::time::Instant;

use drystone_redfish::{
    error::ServiceError,
    server::{Properties, Reply, RequestBody},
    types::{ConnectedEntity, Endpoint, Fabric, Identifier, Link, Manager, Port, PowerState, Status, Switch},
};
use serde_json::{Value, json};

use super::{Attached, FabricService, backend_failed, endpoint_id, lock};
use crate::{
    bmc::{body, changed, collection},
    faults::{self, Faults},
    site::{Cable, PortSpec, SwitchSpec},
};

const FABRIC_TYPE: &str = "Ethernet";
/// Most zones of a fabric.
pub(super) const MAX_ZONES: u32 = 4094;

impl FabricService {
    /// Reads something in the fabric, given by the parts of its path there.
    pub(super) fn read_fabric(&self, path: &[&str], uri: &str) -> Result<Value, ServiceError> {
        match path {
            [] => self.fabric(),
            ["Switches"] => {
                collection("Switch", uri, self.switches.iter().map(|switch| switch.name.as_str()))
            }
            ["Switches", name, rest @ ..] => {
                let switch = self.switch(name).ok_or_else(|| ServiceError::not_found(uri))?;
                match rest {
                    [] => self.switch_resource(switch),
                    ["Ports"] => collection("Port", uri, switch.ports.iter().map(|port| port.name.as_str())),
                    ["Ports", name] => {
                        let port = switch.port(name).ok_or_else(|| ServiceError::not_found(uri))?;
                        self.port(switch, port)
                    }
                    ["Oem", "Drystone", "ForwardingTable"] => self.table(switch),
                    _ => Err(ServiceError::not_found(uri)),
                }
            }
            ["Endpoints"] => collection("Endpoint", uri, self.attached.keys()),
            ["Endpoints", id] => {
                let attached = self.attached.get(*id).ok_or_else(|| ServiceError::not_found(uri))?;
                self.endpoint(id, attached)
            }
            ["Zones"] => collection("Zone", uri, lock(&self.record).zones.keys()),
            ["Zones", id] => self.zone(id),
            ["Connections"] => collection("Connection", uri, lock(&self.record).connections.keys()),
            ["Connections", id] => self.connection(id),
            ["AddressPools"] => collection("AddressPool", uri, [] as [&str; 0]),
            _ => Err(ServiceError::not_found(uri)),
        }
    }

    pub(super) fn switch(&self, name: &str) -> Option<&SwitchSpec> {
        self.switches.iter().find(|switch| switch.name == name)
    }

    fn fabric(&self) -> Result<Value, ServiceError> {
        let room = |name: &str| Some(Link::to(self.uri(&format!("/{name}"))));
        let mut fabric = Fabric::at(&self.uri(""), &format!("Fabric {}", self.fabric.id));
        fabric.fabric_type = Some(FABRIC_TYPE.to_owned());
        fabric.uuid = Some(self.fabric.uuid.to_string());
        fabric.max_zones = Some(MAX_ZONES);
        (fabric.switches, fabric.endpoints) = (room("Switches"), room("Endpoints"));
        (fabric.zones, fabric.connections) = (room("Zones"), room("Connections"));
        fabric.address_pools = room("AddressPools");
        fabric.status = Status::healthy("Enabled");
        body(&fabric)
    }

    fn switch_resource(&self, spec: &SwitchSpec) -> Result<Value, ServiceError> {
        let uri = self.uri(&format!("/Switches/{}", spec.name));
        let mut switch = Switch::at(&uri, &spec.name);
        switch.switch_type = Some(FABRIC_TYPE.to_owned());
        switch.uuid = Some(spec.uuid.to_string());
        switch.manufacturer = Some("Drystone".to_owned());
        switch.model = Some("Emulated switch".to_owned());
        switch.power_state = Some(PowerState::On);
        switch.ports = Some(Link::to(format!("{uri}/Ports")));
        switch.status = Status::healthy("Enabled");
        let table = json!({"@odata.type": "#DrystoneSwitch.v1_0_0.Switch",
            "ForwardingTable": {"@odata.id": format!("{uri}/Oem/Drystone/ForwardingTable")}});
        switch.oem.insert("Drystone".to_owned(), table);
        body(&switch)
    }

    fn port(&self, switch: &SwitchSpec, spec: &PortSpec) -> Result<Value, ServiceError> {
        let mut port =
            Port::at(&self.uri(&format!("/Switches/{}/Ports/{}", switch.name, spec.name)), &spec.name);
        let enabled = !lock(&self.record).disabled_ports.contains(&(switch.name.clone(), spec.name.clone()));
        port.port_id = Some(spec.name.clone());
        port.port_protocol = Some("Ethernet".to_owned());
        port.port_type = Some(
            if matches!(spec.cable, Cable::Switch { .. }) { "InterswitchPort" } else { "DownstreamPort" }
                .to_owned(),
        );
        port.link_state = Some(if enabled { "Enabled" } else { "Disabled" }.to_owned());
        port.interface_enabled = Some(enabled);
        port.max_speed_gbps = Some(f64::from(spec.speed_gbps));
        let (mac, up) = match &spec.cable {
            Cable::Unplugged => (None, None),
            Cable::Nic { host, mac, .. } => {
                (Some(mac), Some(self.hosts.get(host).is_some_and(|host| host.is_on())))
            }
            Cable::Gateway { mac } => (Some(mac), Some(true)),
            Cable::Switch { switch: peer, port: peer_port } => {
                port.links.connected_switches = vec![Link::to(self.uri(&format!("/Switches/{peer}")))];
                port.links.connected_switch_ports =
                    vec![Link::to(self.uri(&format!("/Switches/{peer}/Ports/{peer_port}")))];
                (None, Some(true))
            }
        };
        port.link_status = Some(
            match up {
                None => "NoLink",
                Some(up) if up && enabled => "LinkUp",
                Some(_) => "LinkDown",
            }
            .to_owned(),
        );
        // What is plugged in can run at this speed, whether it is on or not.
        port.current_speed_gbps = up.map(|_| f64::from(spec.speed_gbps));
        port.ethernet.associated_mac_addresses = mac.iter().map(ToString::to_string).collect();
        port.links.associated_endpoints =
            endpoint_id(&spec.cable).iter().map(|id| Link::to(self.endpoint_uri(id))).collect();
        port.status = Status::healthy(if enabled { "Enabled" } else { "Disabled" });
        body(&port)
    }

    pub(super) fn endpoint_uri(&self, id: &str) -> String {
        self.uri(&format!("/Endpoints/{id}"))
    }

    fn endpoint(&self, id: &str, attached: &Attached) -> Result<Value, ServiceError> {
        let mut endpoint = Endpoint::at(&self.endpoint_uri(id), id);
        let identifier = Identifier {
            durable_name: Some(attached.mac.to_string()),
            durable_name_format: Some("MACAddress".to_owned()),
        };
        endpoint.endpoint_protocol = Some("Ethernet".to_owned());
        endpoint.identifiers = vec![identifier];
        endpoint.connected_entities = vec![ConnectedEntity {
            entity_type: Some("NetworkController".to_owned()),
            entity_role: Some(if attached.shared { "Target" } else { "Both" }.to_owned()),
            ..ConnectedEntity::default()
        }];
        endpoint.links.connected_ports =
            vec![Link::to(self.uri(&format!("/Switches/{}/Ports/{}", attached.switch, attached.port)))];
        let record = lock(&self.record);
        let zones = record.zones.iter().filter(|(_, zone)| zone.endpoints.contains(id));
        endpoint.links.zones = zones.map(|(id, _)| Link::to(self.uri(&format!("/Zones/{id}")))).collect();
        let connections = record
            .connections
            .iter()
            .filter(|(_, connection)| connection.initiators.contains(id) || connection.targets.contains(id));
        endpoint.links.connections =
            connections.map(|(id, _)| Link::to(self.uri(&format!("/Connections/{id}")))).collect();
        endpoint.status = Status::healthy("Enabled");
        body(&endpoint)
    }

    /// Reads the manager that stands for the service, given by the parts of its path below `Managers`.
    pub(super) fn read_manager(&self, path: &[&str], uri: &str) -> Result<Value, ServiceError> {
        match path {
            [] => collection("Manager", uri, ["1"]),
            ["1"] => {
                let mut manager = Manager::at(faults::MANAGER, &format!("Manager of {}", self.name));
                manager.manager_type = Some("FabricManager".to_owned());
                manager.uuid = Some(self.uuid().to_string());
                manager.firmware_version = Some(env!("CARGO_PKG_VERSION").to_owned());
                manager.power_state = Some(PowerState::On);
                manager.links.manager_for_fabrics = vec![Link::to(self.uri(""))];
                manager.links.manager_for_switches = self
                    .switches
                    .iter()
                    .map(|switch| Link::to(self.uri(&format!("/Switches/{}", switch.name))))
                    .collect();
                manager.status = Status::healthy("Enabled");
                manager.actions.insert("Oem".to_owned(), Faults::actions());
                manager.oem.insert("Drystone".to_owned(), self.faults.shown(Instant::now()));
                body(&manager)
            }
            _ => Err(ServiceError::not_found(uri)),
        }
    }

    /// PATCH of a port: whether its link is up.
    pub(super) async fn change_port(
        &self,
        switch: &str,
        port: &str,
        request: RequestBody,
        uri: &str,
    ) -> Result<Reply, ServiceError> {
        let missing = || ServiceError::not_found(uri);
        let switch = self.switch(switch).ok_or_else(missing)?;
        let port = switch.port(port).ok_or_else(missing)?;
        let mut properties = Properties::update(request.required()?);
        let state = properties.choice("LinkState", &["Enabled", "Disabled"]);
        properties.read_only(&[
            "PortId",
            "PortProtocol",
            "PortType",
            "LinkStatus",
            "InterfaceEnabled",
            "CurrentSpeedGbps",
            "MaxSpeedGbps",
            "Ethernet",
            "Links",
            "Status",
        ]);
        properties.finish()?;
        if let Some(state) = state {
            let up = state == "Enabled";
            let key = (switch.name.clone(), port.name.clone());
            let was_up = !lock(&self.record).disabled_ports.contains(&key);
            self.backend
                .set_port(&switch.name, &port.name, up)
                .await
                .map_err(|error| backend_failed(&error, uri))?;
            let kept = self.update(|record| {
                if up {
                    record.disabled_ports.remove(&key)
                } else {
                    record.disabled_ports.insert(key.clone())
                };
                Ok(())
            });
            if let Err(error) = kept.await {
                // What cannot be kept is not done: the port goes back to what is on record.
                if let Err(error) = self.backend.set_port(&switch.name, &port.name, was_up).await {
                    tracing::error!(%error, "a port is not as it is on record");
                }
                return Err(error);
            }
            self.publish(&changed(uri, "Port"));
        }
        Ok(Reply::updated(self.port(switch, port)?))
    }
}
