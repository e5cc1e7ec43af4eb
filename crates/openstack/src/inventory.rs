//! What is in a stack, as the life cycle of a VNF sees it. Pure.

mod attributes;
mod build;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use serde::{Deserialize, Serialize};

use crate::StackRef;

pub(crate) use build::{build, needs_attributes};

/// How names of resources are read, and which numbers are given already.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Naming {
    /// Names that the VNFD has for VDUs, connection points and storages. A resource `NAME-3` whose first part is among them is
    /// number 3 of it.
    pub names: BTreeSet<String>,
    /// Servers that have a number already: they and what replaces them keep it.
    pub known: Vec<KnownServer>,
}

/// A server that has a number.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KnownServer {
    /// Nova's id.
    pub id: String,
    /// Its VDU.
    pub vdu: String,
    /// Its number.
    pub index: u32,
    /// Name of the member of a group that it is ([`Parent::resource`]): a server that takes its place has another id, but this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_resource: Option<String>,
}

/// What is in a stack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Inventory {
    /// The stack.
    pub stack: StackRef,
    /// Servers, by VDU and number.
    pub servers: Vec<Server>,
    /// Ports, by connection point and number.
    pub ports: Vec<Port>,
    /// Volumes, by storage and number.
    pub volumes: Vec<Volume>,
    /// Networks.
    pub networks: Vec<Network>,
    /// Groups whose size can be changed.
    pub groups: Vec<Group>,
}

/// A virtual machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Server {
    /// Nova's id; empty while there is none.
    pub id: String,
    /// Its VDU in the VNFD.
    pub vdu: String,
    /// Its number among those of its VDU, from 0.
    pub index: u32,
    /// Name of the resource in its template.
    pub resource: String,
    /// The stack whose template names it: with `resource` what is marked unhealthy.
    pub stack: StackRef,
    /// The member of a group, or of the stack above, that its stack is.
    pub parent: Option<Parent>,
    /// Name of the group in the top stack that it belongs to: the scaling aspect.
    pub group: Option<String>,
    /// Its name in Nova.
    pub name: Option<String>,
    /// Nova's status: `ACTIVE`.
    pub status: Option<String>,
    /// Heat's status: `CREATE_COMPLETE`.
    pub resource_status: String,
    /// Availability zone.
    pub zone: Option<String>,
    /// The compute host that it is on; only administrators see it.
    pub host: Option<String>,
    /// When it was made, as Heat writes it.
    pub creation_time: String,
    /// Ids of its ports.
    pub ports: Vec<String>,
    /// Ids of its volumes.
    pub volumes: Vec<String>,
    /// Its addresses as Nova tells them.
    pub addresses: Vec<Address>,
}

/// The resource that a nested stack is, in the stack above.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Parent {
    /// The stack above.
    pub stack: StackRef,
    /// Name of the resource there.
    pub resource: String,
    /// Whether the stack above is that of a group, so that the member can be marked unhealthy to make it the one that goes.
    pub in_group: bool,
}

/// An address of a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Address {
    /// Name of the network.
    pub network: String,
    /// The address.
    pub address: IpAddr,
    /// Whether it is a floating one.
    pub floating: bool,
}

/// A port: an instance of a connection point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Port {
    /// Neutron's id.
    pub id: String,
    /// The connection point in the VNFD.
    pub name: String,
    /// The number of its server, or its own among those that have none.
    pub index: u32,
    /// Name of the resource in its template.
    pub resource: String,
    /// The stack whose template names it.
    pub stack: StackRef,
    /// Nova's id of its server.
    pub server: Option<String>,
    /// Id of its network.
    pub network: Option<String>,
    /// Hardware address.
    pub mac: Option<String>,
    /// Its addresses.
    pub fixed: Vec<Fixed>,
    /// The floating address that leads to it.
    pub floating: Option<IpAddr>,
    /// When it was made, as Heat writes it.
    pub creation_time: String,
}

impl Port {
    /// Where it is reached: its floating address, else its first own.
    pub fn address(&self) -> Option<IpAddr> {
        self.floating.or_else(|| self.fixed.first().map(|fixed| fixed.address))
    }
}

/// An address of a port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Fixed {
    /// The address.
    pub address: IpAddr,
    /// Id of its subnet.
    pub subnet: Option<String>,
}

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Volume {
    /// Cinder's id.
    pub id: String,
    /// The storage in the VNFD.
    pub name: String,
    /// The number of its server, or its own among those that have none.
    pub index: u32,
    /// Name of the resource in its template.
    pub resource: String,
    /// The stack whose template names it.
    pub stack: StackRef,
    /// Nova's id of the server that has it.
    pub server: Option<String>,
    /// The device that it is there: `/dev/vdb`.
    pub device: Option<String>,
    /// When it was made, as Heat writes it.
    pub creation_time: String,
}

/// A network that the stack made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Network {
    /// Neutron's id.
    pub id: String,
    /// Name of the resource: the virtual link in the VNFD.
    pub name: String,
    /// The stack whose template names it.
    pub stack: StackRef,
}

/// A group whose size can be changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Group {
    /// Name of the resource.
    pub name: String,
    /// The stack that its members are in.
    pub stack: StackRef,
    /// Names of the members, the oldest first.
    pub members: Vec<String>,
}

impl Inventory {
    /// A server by VDU and number.
    pub fn server(&self, vdu: &str, index: u32) -> Option<&Server> {
        self.servers.iter().find(|server| server.vdu == vdu && server.index == index)
    }

    /// The servers of a VDU, or of a group (scaling aspect), by number.
    pub fn servers_of<'a>(&'a self, vdu_or_group: &'a str) -> impl Iterator<Item = &'a Server> {
        self.servers
            .iter()
            .filter(move |server| server.vdu == vdu_or_group || server.group.as_deref() == Some(vdu_or_group))
    }

    /// A server's port by connection point.
    pub fn port_of(&self, server: &Server, connection_point: &str) -> Option<&Port> {
        self.ports.iter().find(|port| {
            port.name == connection_point
                && port.server.as_deref() == Some(&server.id)
                && !server.id.is_empty()
        })
    }

    /// A port of the top stack by connection point, such as that of a virtual address.
    pub fn port(&self, connection_point: &str) -> Option<&Port> {
        self.ports.iter().find(|port| port.name == connection_point)
    }

    /// The volumes of a storage, by number.
    pub fn volumes_of<'a>(&'a self, storage: &'a str) -> impl Iterator<Item = &'a Volume> {
        self.volumes.iter().filter(move |volume| volume.name == storage)
    }

    /// The servers with their numbers, to be given to the next [`Naming`].
    pub fn known(&self) -> Vec<KnownServer> {
        let known = self.servers.iter().map(|server| KnownServer {
            id: server.id.clone(),
            vdu: server.vdu.clone(),
            index: server.index,
            parent_resource: server
                .parent
                .as_ref()
                .filter(|parent| parent.in_group)
                .map(|parent| parent.resource.clone()),
        });
        known.collect()
    }

    /// How many servers each VDU has.
    pub fn counts(&self) -> BTreeMap<&str, usize> {
        let mut counts = BTreeMap::new();
        for server in &self.servers {
            *counts.entry(server.vdu.as_str()).or_default() += 1;
        }
        counts
    }
}
