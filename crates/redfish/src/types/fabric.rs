//! Fabrics: switches, ports, endpoints, zones, connections.

use serde_json::{Map, Value};

use super::{Identifier, Link, Status, part, resource};

resource! {
    /// A fabric, or the part of it that one service knows.
    Fabric, "#Fabric.v1_4_0.Fabric" {
        /// `Ethernet`, `InfiniBand`, `CXL` …
        fabric_type: Option<String>,
        /// UUID; equal in every service that shows a part of the fabric.
        #[serde(rename = "UUID")]
        uuid: Option<String>,
        /// Most zones that it can have.
        max_zones: Option<u32>,
        /// Its switches.
        switches: Option<Link>,
        /// Its endpoints.
        endpoints: Option<Link>,
        /// Its zones.
        zones: Option<Link>,
        /// Its connections.
        connections: Option<Link>,
        /// Its pools of addresses.
        address_pools: Option<Link>,
        /// State and health.
        status: Status,
    }
}

resource! {
    /// A switch.
    Switch, "#Switch.v1_11_0.Switch" {
        /// `Ethernet`, `PCIe` …
        switch_type: Option<String>,
        /// UUID.
        #[serde(rename = "UUID")]
        uuid: Option<String>,
        /// Model.
        model: Option<String>,
        /// Who made it.
        manufacturer: Option<String>,
        /// Whether it is on.
        power_state: Option<super::PowerState>,
        /// Its ports.
        ports: Option<Link>,
        /// State and health.
        status: Status,
        /// What the standard does not have.
        oem: Map<String, Value>,
    }
}

resource! {
    /// A port of a switch.
    Port, "#Port.v1_18_0.Port" {
        /// Label of the port.
        port_id: Option<String>,
        /// `Ethernet` …
        port_protocol: Option<String>,
        /// `DownstreamPort` (edge), `InterswitchPort` …
        port_type: Option<String>,
        /// What the link should be: `Enabled` or `Disabled`.
        link_state: Option<String>,
        /// What the link is: `LinkUp`, `LinkDown`, `NoLink` …
        link_status: Option<String>,
        /// Whether the interface is switched on.
        interface_enabled: Option<bool>,
        /// Speed in Gbit/s.
        current_speed_gbps: Option<f64>,
        /// Highest speed in Gbit/s.
        max_speed_gbps: Option<f64>,
        /// Ethernet properties.
        ethernet: PortEthernet,
        /// Links.
        links: PortLinks,
        /// State and health.
        status: Status,
    }
}

part! {
    /// Ethernet properties of a port.
    PortEthernet {
        /// MAC addresses that the port accepts frames from.
        #[serde(rename = "AssociatedMACAddresses")]
        associated_mac_addresses: Vec<String>,
    }
}

part! {
    /// Links of a port.
    PortLinks {
        /// Endpoints behind the port.
        associated_endpoints: Vec<Link>,
        /// Ports of other switches at the other end.
        connected_switch_ports: Vec<Link>,
        /// Switches at the other end.
        connected_switches: Vec<Link>,
    }
}

resource! {
    /// What is attached to a fabric.
    Endpoint, "#Endpoint.v1_8_2.Endpoint" {
        /// `Ethernet`, `CXL` …
        endpoint_protocol: Option<String>,
        /// What it stands for.
        connected_entities: Vec<ConnectedEntity>,
        /// Lasting names.
        identifiers: Vec<Identifier>,
        /// Links.
        links: EndpointLinks,
        /// State and health.
        status: Status,
    }
}

part! {
    /// What an endpoint stands for.
    ConnectedEntity {
        /// `NetworkController`, `Processor`, `Drive` …
        entity_type: Option<String>,
        /// `Initiator`, `Target` or `Both`.
        entity_role: Option<String>,
        /// The resource.
        entity_link: Option<Link>,
        /// Lasting names.
        identifiers: Vec<Identifier>,
    }
}

part! {
    /// Links of an endpoint.
    EndpointLinks {
        /// Ports at the far side: those of the switch.
        connected_ports: Vec<Link>,
        /// Zones that it is in.
        zones: Vec<Link>,
        /// Connections that it takes part in.
        connections: Vec<Link>,
        /// Pools that its addresses come from.
        address_pools: Vec<Link>,
        /// Endpoints that may not be in a zone while this one is.
        mutually_exclusive_endpoints: Vec<Link>,
    }
}

resource! {
    /// Endpoints that may exchange traffic.
    Zone, "#Zone.v1_6_3.Zone" {
        /// `Default`, `ZoneOfEndpoints`, `ZoneOfZones` or `ZoneOfResourceBlocks`.
        zone_type: Option<String>,
        /// Note for people.
        description: Option<String>,
        /// Whether the fabric routes among all members by itself.
        default_routing_enabled: Option<bool>,
        /// Links.
        links: ZoneLinks,
        /// State and health.
        status: Status,
        /// Actions, by name: `#Zone.AddEndpoint`.
        actions: Map<String, Value>,
    }
}

part! {
    /// Links of a zone.
    ZoneLinks {
        /// Members.
        endpoints: Vec<Link>,
        /// Switches that may carry its traffic; any if absent.
        involved_switches: Vec<Link>,
        /// Pools that the members' addresses come from.
        address_pools: Vec<Link>,
        /// Zones that contain it.
        contained_by_zones: Vec<Link>,
    }
}

resource! {
    /// Which endpoints may use what of each other.
    Connection, "#Connection.v1_4_0.Connection" {
        /// `Storage` or `Memory`; absent for plain traffic.
        connection_type: Option<String>,
        /// Note for people.
        description: Option<String>,
        /// Links.
        links: ConnectionLinks,
        /// State and health.
        status: Status,
    }
}

part! {
    /// Links of a connection.
    ConnectionLinks {
        /// Who uses.
        initiator_endpoints: Vec<Link>,
        /// What is used.
        target_endpoints: Vec<Link>,
    }
}

resource! {
    /// A pool of addresses.
    AddressPool, "#AddressPool.v1_3_0.AddressPool" {
        /// State and health.
        status: Status,
    }
}
