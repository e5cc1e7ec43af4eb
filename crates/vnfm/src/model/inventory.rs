//! The resources of a VNF as the VIM has them: output of the step `vnfm.inventory`.

use serde::{Deserialize, Serialize};

/// The resources of a VNF as the VIM has them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Inventory {
    /// The stack: `NAME/ID`.
    pub stack: String,
    /// Servers, ordered by VDU and index.
    pub servers: Vec<Server>,
    /// Ports that belong to no server: the virtual address of a control plane.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Port>,
    /// Volumes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<Volume>,
    /// Internal networks: name of the virtual link, and id at the VIM.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<(String, String)>,
}

/// A server: a VNFC.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Server {
    /// VDU that it is an instance of.
    pub vdu: String,
    /// Which one of the VDU's. A server keeps its index for life, and its replacement gets the same; new ones take the lowest free.
    pub index: u32,
    /// Id at the VIM.
    pub id: String,
    /// Name at the VIM.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The VIM's host that it runs on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Availability zone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// When it was made, as the VIM writes it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub created: String,
    /// The stack (`NAME/ID`) that it is directly in: the one of a member of a group, or the VNF's.
    pub stack: String,
    /// Name of the resource in that stack.
    pub resource: String,
    /// For members of a group whose size can be changed: the group's stack (`NAME/ID`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent_stack: Option<String>,
    /// For members of a group: their name in the group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent_resource: Option<String>,
    /// Its ports.
    pub ports: Vec<Port>,
    /// Ids of the volumes attached to it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<String>,
}

/// A port.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Port {
    /// Connection point that it is an instance of.
    pub name: String,
    /// Id at the VIM.
    pub id: String,
    /// Its addresses.
    pub addresses: Vec<Address>,
    /// Floating address that leads to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub floating: Option<String>,
}

/// An address of a port.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Address {
    /// The address.
    pub address: String,
    /// Id of its subnet.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub subnet: String,
}

/// A volume.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Volume {
    /// Storage of the VNFD that it is an instance of: the name of its resource.
    pub name: String,
    /// Id at the VIM.
    pub id: String,
    /// The stack (`NAME/ID`) whose template has it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub stack: String,
    /// Name of the resource in that stack.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource: String,
    /// The server that it is attached to: id at the VIM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// The device that the VIM says it is there: `/dev/vdb`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
}

impl Inventory {
    /// The server of a VDU with that index.
    pub fn server(&self, vdu: &str, index: u32) -> Option<&Server> {
        self.servers.iter().find(|server| server.vdu == vdu && server.index == index)
    }

    /// All servers of a VDU, by index.
    pub fn servers_of<'a>(&'a self, vdu: &'a str) -> impl Iterator<Item = &'a Server> {
        self.servers.iter().filter(move |server| server.vdu == vdu)
    }

    /// A port of that name that belongs to no server.
    pub fn port(&self, name: &str) -> Option<&Port> {
        self.ports.iter().find(|port| port.name == name)
    }

    /// The volume of that name.
    pub fn volume(&self, name: &str) -> Option<&Volume> {
        self.volumes.iter().find(|volume| volume.name == name)
    }
}

impl Server {
    /// Its port of that name.
    pub fn port(&self, name: &str) -> Option<&Port> {
        self.ports.iter().find(|port| port.name == name)
    }
}

impl Port {
    /// The address inside of the network.
    pub fn fixed(&self) -> Option<&str> {
        self.addresses.first().map(|address| address.address.as_str())
    }

    /// The address by which it is reached from outside: the floating one if there is one.
    pub fn reachable(&self) -> Option<&str> {
        self.floating.as_deref().or_else(|| self.fixed())
    }
}
