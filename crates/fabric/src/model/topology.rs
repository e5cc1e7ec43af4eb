//! A fabric as a graph: switches and endpoints by index, so that planners can work on vectors.

use std::collections::{BTreeMap, HashMap};

use drystone_api::FabricTopology;

/// Position of a switch in [`Fabric::switches`].
pub type SwitchIndex = usize;

/// Position of an endpoint in [`Fabric::endpoints`].
pub type EndpointIndex = usize;

/// A link from one switch to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Own port.
    pub port: String,
    /// The switch at the other end.
    pub peer: SwitchIndex,
}

/// A switch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Switch {
    /// Id in the fabric.
    pub id: String,
    /// Name of the FabricAgent through which it is programmed.
    pub agent: String,
    /// Links to other switches, in order of port.
    pub links: Vec<Link>,
}

/// An endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Id in the fabric.
    pub id: String,
    /// MAC address, lower case.
    pub mac: String,
    /// The switch it is cabled to.
    pub switch: SwitchIndex,
    /// Port of that switch.
    pub port: String,
    /// Whether several zones may contain it.
    pub shared: bool,
}

/// A fabric, merged out of what its agents serve.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fabric {
    /// Id.
    pub id: String,
    /// Redfish `FabricType`.
    pub fabric_type: String,
    /// Switches in order of id.
    pub switches: Vec<Switch>,
    /// Endpoints in order of id.
    pub endpoints: Vec<Endpoint>,
    by_mac: HashMap<String, EndpointIndex>,
    by_id: HashMap<String, EndpointIndex>,
}

impl Fabric {
    /// Finds an endpoint by its MAC address, in any case.
    pub fn endpoint_by_mac(&self, mac: &str) -> Option<EndpointIndex> {
        self.by_mac.get(&mac.to_ascii_lowercase()).copied()
    }

    /// Finds an endpoint by its id.
    pub fn endpoint_by_id(&self, id: &str) -> Option<EndpointIndex> {
        self.by_id.get(id).copied()
    }

    /// The link that leaves a switch by a port.
    pub fn link(&self, switch: SwitchIndex, port: &str) -> Option<&Link> {
        self.switches[switch].links.iter().find(|link| link.port == port)
    }
}

/// Merges what agents serve into fabrics: parts with the same id and UUID are one fabric. Endpoints on unknown switches
/// and links to unknown switches are left out; they appear once the agent that knows the switch has been crawled.
pub fn merge<'a>(parts: impl IntoIterator<Item = (&'a str, &'a FabricTopology)>) -> Vec<Fabric> {
    let mut groups: BTreeMap<(String, String), Vec<(&str, &FabricTopology)>> = BTreeMap::new();
    for (agent, part) in parts {
        groups.entry((part.fabric.clone(), part.uuid.clone())).or_default().push((agent, part));
    }
    groups.into_values().map(|parts| merge_one(&parts)).collect()
}

fn merge_one(parts: &[(&str, &FabricTopology)]) -> Fabric {
    let mut switches: BTreeMap<&str, (&str, &drystone_api::FabricSwitch)> = BTreeMap::new();
    for (agent, part) in parts {
        for switch in &part.switches {
            switches.entry(&switch.id).or_insert((agent, switch));
        }
    }
    let index: HashMap<&str, SwitchIndex> = switches.keys().enumerate().map(|(i, id)| (*id, i)).collect();
    let mut fabric = Fabric {
        id: parts.first().map(|(_, part)| part.fabric.clone()).unwrap_or_default(),
        fabric_type: parts.first().map(|(_, part)| part.fabric_type.clone()).unwrap_or_default(),
        ..Fabric::default()
    };
    for (id, (agent, switch)) in &switches {
        let mut links: Vec<Link> = switch
            .links
            .iter()
            .filter_map(|link| {
                index.get(link.peer_switch.as_str()).map(|peer| Link { port: link.port.clone(), peer: *peer })
            })
            .collect();
        links.sort_by(|a, b| a.port.cmp(&b.port));
        fabric.switches.push(Switch { id: (*id).to_owned(), agent: (*agent).to_owned(), links });
    }
    let mut endpoints: BTreeMap<&str, Endpoint> = BTreeMap::new();
    for (_, part) in parts {
        for endpoint in &part.endpoints {
            let Some(switch) = index.get(endpoint.switch.as_str()) else { continue };
            endpoints.entry(&endpoint.id).or_insert_with(|| Endpoint {
                id: endpoint.id.clone(),
                mac: endpoint.mac.to_ascii_lowercase(),
                switch: *switch,
                port: endpoint.port.clone(),
                shared: endpoint.shared,
            });
        }
    }
    fabric.endpoints = endpoints.into_values().collect();
    fabric.by_mac = fabric.endpoints.iter().enumerate().map(|(i, e)| (e.mac.clone(), i)).collect();
    fabric.by_id = fabric.endpoints.iter().enumerate().map(|(i, e)| (e.id.clone(), i)).collect();
    fabric
}
