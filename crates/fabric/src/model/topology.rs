//! A fabric as a graph: switches and endpoints by index, so that planners can work on vectors.

use std::collections::{BTreeMap, HashMap};

use drystone_api::{EndpointRole, Switch, SwitchStatus};

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
pub struct SwitchNode {
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
    pub switches: Vec<SwitchNode>,
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

/// Merges switches into fabrics: those with the same fabric id and UUID are one fabric. Links that are down and links to
/// unknown switches are left out; they appear once they are up and the agent that knows the switch has been crawled.
pub fn merge<'a>(switches: impl IntoIterator<Item = &'a Switch>) -> Vec<Fabric> {
    let mut groups: BTreeMap<(&str, &str), BTreeMap<&str, &Switch>> = BTreeMap::new();
    for switch in switches {
        let spec = &switch.spec;
        let group = groups.entry((&spec.fabric, &spec.fabric_uuid)).or_default();
        group.entry(&spec.id).or_insert(switch);
    }
    groups.into_values().map(|switches| merge_one(&switches)).collect()
}

fn merge_one(switches: &BTreeMap<&str, &Switch>) -> Fabric {
    let index: HashMap<&str, SwitchIndex> = switches.keys().enumerate().map(|(i, id)| (*id, i)).collect();
    let first = switches.values().next().map(|switch| &switch.spec);
    let mut fabric = Fabric {
        id: first.map(|spec| spec.fabric.clone()).unwrap_or_default(),
        fabric_type: first.map(|spec| spec.fabric_type.clone()).unwrap_or_default(),
        ..Fabric::default()
    };
    let mut endpoints: BTreeMap<&str, Endpoint> = BTreeMap::new();
    let nothing = SwitchStatus::default();
    for (position, (id, switch)) in switches.iter().enumerate() {
        let status = switch.status.as_ref().unwrap_or(&nothing);
        let up = status.links.iter().filter(|link| !link.down);
        let mut links: Vec<Link> = up
            .filter_map(|link| {
                index.get(link.peer_switch.as_str()).map(|peer| Link { port: link.port.clone(), peer: *peer })
            })
            .collect();
        links.sort_by(|a, b| a.port.cmp(&b.port));
        let agent = switch.spec.agent.clone();
        fabric.switches.push(SwitchNode { id: (*id).to_owned(), agent, links });
        for endpoint in &status.endpoints {
            endpoints.entry(&endpoint.id).or_insert_with(|| Endpoint {
                id: endpoint.id.clone(),
                mac: endpoint.mac.to_ascii_lowercase(),
                switch: position,
                port: endpoint.port.clone(),
                shared: endpoint.role == EndpointRole::Target,
            });
        }
    }
    fabric.endpoints = endpoints.into_values().collect();
    fabric.by_mac = fabric.endpoints.iter().enumerate().map(|(i, e)| (e.mac.clone(), i)).collect();
    fabric.by_id = fabric.endpoints.iter().enumerate().map(|(i, e)| (e.id.clone(), i)).collect();
    fabric
}
