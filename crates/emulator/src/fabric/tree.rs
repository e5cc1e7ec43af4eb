//! Fabric, switches, ports, endpoints and the manager that stands for them.

use drystone_redfish::{
    error::ServiceError,
    server::{Properties, Reply, RequestBody},
    types::{ConnectedEntity, Endpoint, Fabric, Identifier, Link, Manager, Port, PowerState, Status, Switch},
};
use serde_json::{Value, json};

use super::{
    Attached, FabricService, endpoint_id,
    links::{Change, Link as Cabled, PortAt},
    links_failed, lock,
};
use crate::{
    bmc::{body, changed, collection},
    faults,
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
            ["Switches"] => collection("Switch", uri, self.switches().iter().map(|switch| &*switch.name)),
            ["Switches", name, rest @ ..] => {
                let missing = || ServiceError::not_found(uri);
                let at = self.switch_at(name).ok_or_else(missing)?;
                let switch = self.links.switch(at).ok_or_else(missing)?;
                match rest {
                    [] => self.switch_resource(at, switch),
                    ["Ports"] => collection("Port", uri, switch.ports.iter().map(|port| &*port.name)),
                    ["Ports", port] => {
                        let place = self.links.port_at(name, port).ok_or_else(missing)?;
                        self.port(place, switch, self.links.port(place).ok_or_else(missing)?)
                    }
                    ["Oem", "Drystone", "ForwardingTable"] => self.table(at),
                    ["Oem", "Drystone", "ForwardingTable", "Zones", zone] => self.table_zone(at, zone, uri),
                    _ => Err(missing()),
                }
            }
            ["Endpoints"] => collection("Endpoint", uri, self.attached_ids()),
            ["Endpoints", id] => {
                let attached = self.attached(id).ok_or_else(|| ServiceError::not_found(uri))?;
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

    fn fabric(&self) -> Result<Value, ServiceError> {
        let room = |name: &str| Some(Link::to(self.uri(&format!("/{name}"))));
        let mut fabric = Fabric::at(&self.uri(""), &format!("Fabric {}", self.spec().id));
        fabric.fabric_type = Some(FABRIC_TYPE.to_owned());
        fabric.uuid = Some(self.spec().uuid.to_string());
        fabric.max_zones = Some(MAX_ZONES);
        (fabric.switches, fabric.endpoints) = (room("Switches"), room("Endpoints"));
        (fabric.zones, fabric.connections) = (room("Zones"), room("Connections"));
        fabric.address_pools = room("AddressPools");
        fabric.status = Status::healthy("Enabled");
        body(&fabric)
    }

    fn switch_resource(&self, at: u32, spec: &SwitchSpec) -> Result<Value, ServiceError> {
        let dark = self.links.is_dark(at);
        let uri = self.uri(&format!("/Switches/{}", spec.name));
        let mut switch = Switch::at(&uri, &spec.name);
        switch.switch_type = Some(FABRIC_TYPE.to_owned());
        switch.uuid = Some(spec.uuid.to_string());
        switch.manufacturer = Some("Drystone".to_owned());
        switch.model = Some("Emulated switch".to_owned());
        switch.power_state = Some(if dark { PowerState::Off } else { PowerState::On });
        switch.ports = Some(Link::to(format!("{uri}/Ports")));
        switch.status = if dark { failed("UnavailableOffline") } else { Status::healthy("Enabled") };
        let table = json!({"@odata.type": "#DrystoneSwitch.v1_0_0.Switch",
            "ForwardingTable": {"@odata.id": format!("{uri}/Oem/Drystone/ForwardingTable")}});
        switch.oem.insert("Drystone".to_owned(), table);
        body(&switch)
    }

    fn port(&self, at: PortAt, switch: &SwitchSpec, spec: &PortSpec) -> Result<Value, ServiceError> {
        let mut port =
            Port::at(&self.uri(&format!("/Switches/{}/Ports/{}", switch.name, spec.name)), &spec.name);
        let (enabled, link) = (self.links.is_enabled(at), self.links.link(at));
        let between = matches!(spec.cable, Cable::Switch { .. });
        port.port_id = Some(spec.name.to_string());
        port.port_protocol = Some("Ethernet".to_owned());
        port.port_type = Some(if between { "InterswitchPort" } else { "DownstreamPort" }.to_owned());
        port.link_state = Some(if enabled { "Enabled" } else { "Disabled" }.to_owned());
        port.interface_enabled = Some(enabled);
        port.max_speed_gbps = Some(f64::from(spec.speed_gbps));
        if let Cable::Switch { switch: peer, port: peer_port } = &spec.cable {
            port.links.connected_switches = vec![Link::to(self.uri(&format!("/Switches/{peer}")))];
            port.links.connected_switch_ports =
                vec![Link::to(self.uri(&format!("/Switches/{peer}/Ports/{peer_port}")))];
        }
        let status = match link {
            Cabled::None => "NoLink",
            Cabled::Up => "LinkUp",
            Cabled::Down => "LinkDown",
        };
        port.link_status = Some(status.to_owned());
        if link != Cabled::None {
            // What is plugged in can run at this speed, whether it is on or not.
            port.current_speed_gbps = Some(f64::from(spec.speed_gbps));
            port.links.associated_endpoints =
                endpoint_id(&switch.name, spec).iter().map(|id| Link::to(self.endpoint_uri(id))).collect();
        }
        port.ethernet.associated_mac_addresses = spec.cable.mac().iter().map(ToString::to_string).collect();
        port.status = match enabled {
            false => Status::healthy("Disabled"),
            true if self.links.is_cut(at) || self.links.is_dark(at.0) => failed("UnavailableOffline"),
            true => Status::healthy("Enabled"),
        };
        body(&port)
    }

    pub(super) fn endpoint_uri(&self, id: &str) -> String {
        self.uri(&format!("/Endpoints/{id}"))
    }

    fn endpoint(&self, id: &str, attached: Attached<'_>) -> Result<Value, ServiceError> {
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
        endpoint.links.connected_ports = vec![Link::to(
            self.uri(&format!("/Switches/{}/Ports/{}", attached.switch.name, attached.port.name)),
        )];
        let membership = lock(&self.membership);
        endpoint.links.zones =
            membership.zones(id).map(|id| Link::to(self.uri(&format!("/Zones/{id}")))).collect();
        endpoint.links.connections =
            membership.connections(id).map(|id| Link::to(self.uri(&format!("/Connections/{id}")))).collect();
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
                    .switches()
                    .iter()
                    .map(|switch| Link::to(self.uri(&format!("/Switches/{}", switch.name))))
                    .collect();
                manager.status = Status::healthy("Enabled");
                manager.actions.insert("Oem".to_owned(), self.faults.actions());
                manager.oem.insert("Drystone".to_owned(), self.shown_faults());
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
        let spec = self.switch(switch).ok_or_else(missing)?;
        let at = self.links.port_at(switch, port).ok_or_else(missing)?;
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
            let enabled = state == "Enabled";
            let differs = self.links.is_enabled(at) != enabled;
            self.links
                .apply(&[Change::Enabled(at, enabled)])
                .await
                .map_err(|error| links_failed(&error, uri))?;
            if differs {
                self.publish(&changed(uri, "Port"));
            }
        }
        Ok(Reply::updated(self.port(at, spec, self.links.port(at).ok_or_else(missing)?)?))
    }
}

/// The status of what does not work.
fn failed(state: &str) -> Status {
    Status { health: Some("Critical".to_owned()), ..Status::healthy(state) }
}
