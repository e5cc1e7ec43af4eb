//! A fabric as a graph, small enough to keep whole: switches, links and endpoints by number, ports by interned name.
//!
//! Links and switches go down and up, endpoints come, move and go, without anything being laid out anew. Numbers of
//! endpoints stay: one that vanished keeps its number in case it comes back.

use std::{collections::HashMap, ops::Range};

use super::{builder, names::Names};

/// Position of a switch in its fabric.
pub type SwitchIndex = u32;

/// Position of an endpoint in its fabric.
pub type EndpointIndex = u32;

/// Position of a link (one direction of a cable) in its fabric.
pub type LinkIndex = u32;

/// Number of a port name in its fabric.
pub type PortIndex = u32;

/// A switch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Switch {
    /// Id in the fabric.
    pub id: Box<str>,
    /// Name of the FabricAgent through which it is programmed.
    pub agent: Box<str>,
    /// Whether it forwards.
    pub up: bool,
}

/// One direction of a cable between two switches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// Port of the switch that it leaves.
    pub port: PortIndex,
    /// The switch at the other end.
    pub peer: SwitchIndex,
    /// The same cable in the other direction.
    pub twin: LinkIndex,
    /// Speed in Gbit/s; 0 if not known.
    pub speed_gbps: u32,
    /// Number made of the names of switch and port, the same in every fabric that has them.
    pub key: u32,
    /// Whether the cable itself works.
    pub(super) cabled: bool,
    /// Whether frames can pass: the cable works and both switches are up.
    pub up: bool,
}

/// What an endpoint does on the fabric (Redfish `EntityRole`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Begins exchanges.
    Initiator,
    /// Serves others: a gateway, a memory appliance.
    Target,
    /// Either.
    #[default]
    Both,
}

/// An endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Id in the fabric.
    pub id: Box<str>,
    /// MAC address, lower case.
    pub mac: Box<str>,
    /// The switch it is cabled to.
    pub switch: SwitchIndex,
    /// Port of that switch.
    pub port: PortIndex,
    /// Role.
    pub role: Role,
    /// Speed in Gbit/s; 0 if not known.
    pub speed_gbps: u32,
    /// Number made of the id; it decides which of several equal ways frames to this endpoint take.
    pub flow: u32,
    pub(super) present: bool,
}

impl Endpoint {
    /// Whether zones that are otherwise exclusive may have it in common.
    pub fn is_service(&self) -> bool {
        self.role == Role::Target
    }
}

/// An endpoint that appears, moves or changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EndpointSpec {
    /// Id in the fabric.
    pub id: String,
    /// MAC address, in any case.
    pub mac: String,
    /// The switch it is cabled to.
    pub switch: SwitchIndex,
    /// Port of that switch.
    pub port: String,
    /// Role.
    pub role: Role,
    /// Speed in Gbit/s; 0 if not known.
    pub speed_gbps: u32,
}

/// What a fabric cannot contain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FabricError {
    /// No such switch.
    #[error(
        "endpoint {endpoint} is cabled to switch number {switch}, and the fabric has {count}; crawl the agent of that switch"
    )]
    UnknownSwitch {
        /// The endpoint.
        endpoint: String,
        /// The number.
        switch: SwitchIndex,
        /// Number of switches.
        count: u32,
    },
    /// Two endpoints with one address.
    #[error("endpoints {first} and {second} have the same address {mac}; correct one of them")]
    AddressTaken {
        /// The one that has it.
        first: String,
        /// The one that wants it.
        second: String,
        /// The address.
        mac: String,
    },
    /// Two endpoints with one id.
    #[error("endpoint {id} is listed twice; the first one counts")]
    TwiceNamed {
        /// The id.
        id: String,
        /// Position of the first.
        position: EndpointIndex,
    },
    /// The port leads to another switch.
    #[error("port {port} of switch {switch} has a cable already; what else is said of it is left out")]
    PortTaken {
        /// The switch.
        switch: String,
        /// The port.
        port: String,
    },
}

/// A fabric, merged out of what its agents serve.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fabric {
    /// Id.
    pub id: String,
    /// Redfish `FabricType`.
    pub fabric_type: String,
    pub(super) ports: Names,
    pub(super) switches: Vec<Switch>,
    pub(super) switch_by_id: HashMap<Box<str>, SwitchIndex>,
    /// Where the links of each switch begin; one more than there are switches.
    pub(super) offsets: Vec<u32>,
    pub(super) links: Vec<Link>,
    pub(super) endpoints: Vec<Endpoint>,
    /// Endpoints of each switch.
    pub(super) attached: Vec<Vec<EndpointIndex>>,
    pub(super) by_id: HashMap<Box<str>, EndpointIndex>,
    pub(super) by_mac: HashMap<Box<str>, EndpointIndex>,
}

impl Fabric {
    /// Number of switches.
    pub fn switch_count(&self) -> u32 {
        u32::try_from(self.switches.len()).unwrap_or(u32::MAX)
    }

    /// All switches with their positions.
    pub fn switches(&self) -> impl Iterator<Item = (SwitchIndex, &Switch)> {
        (0..).zip(&self.switches)
    }

    /// A switch. Positions come from this fabric; any other is a mistake of the caller.
    pub fn switch(&self, index: SwitchIndex) -> &Switch {
        &self.switches[index as usize]
    }

    /// Finds a switch by its id.
    pub fn switch_by_id(&self, id: &str) -> Option<SwitchIndex> {
        self.switch_by_id.get(id).copied()
    }

    /// Number of links, each cable counted in both directions.
    pub fn link_count(&self) -> usize {
        self.links.len()
    }

    /// A link.
    pub fn link(&self, index: LinkIndex) -> &Link {
        &self.links[index as usize]
    }

    /// The positions of a switch's links, whether up or down.
    pub fn link_range(&self, switch: SwitchIndex) -> Range<LinkIndex> {
        self.offsets[switch as usize]..self.offsets[switch as usize + 1]
    }

    /// The links of a switch with their positions, whether up or down, in order of port name.
    pub fn links_of(&self, switch: SwitchIndex) -> impl Iterator<Item = (LinkIndex, &Link)> {
        let range = self.link_range(switch);
        range.clone().zip(&self.links[range.start as usize..range.end as usize])
    }

    /// The two switches that a link connects, its own one first.
    pub fn ends_of(&self, link: LinkIndex) -> Option<(SwitchIndex, SwitchIndex)> {
        let record = self.links.get(link as usize)?;
        Some((self.links.get(record.twin as usize)?.peer, record.peer))
    }

    /// The link that leaves a switch by a port.
    pub fn link_at(&self, switch: SwitchIndex, port: PortIndex) -> Option<LinkIndex> {
        self.links_of(switch).find(|(_, link)| link.port == port).map(|(index, _)| index)
    }

    /// The name of a port.
    pub fn port_name(&self, port: PortIndex) -> &str {
        self.ports.name(port)
    }

    /// The number of a port name that occurs in the fabric.
    pub fn port_index(&self, name: &str) -> Option<PortIndex> {
        self.ports.find(name)
    }

    /// All endpoints that are present, with their positions.
    pub fn endpoints(&self) -> impl Iterator<Item = (EndpointIndex, &Endpoint)> {
        (0..).zip(&self.endpoints).filter(|(_, endpoint)| endpoint.present)
    }

    /// One more than the greatest position of an endpoint, whether present or not.
    pub fn endpoint_limit(&self) -> usize {
        self.endpoints.len()
    }

    /// An endpoint, if it is present.
    pub fn endpoint(&self, index: EndpointIndex) -> Option<&Endpoint> {
        self.endpoints.get(index as usize).filter(|endpoint| endpoint.present)
    }

    /// The id of an endpoint, also of one that has vanished; for messages.
    pub fn endpoint_name(&self, index: EndpointIndex) -> &str {
        self.endpoints.get(index as usize).map_or("?", |endpoint| &endpoint.id)
    }

    /// Finds an endpoint by its MAC address, in any case.
    pub fn endpoint_by_mac(&self, mac: &str) -> Option<EndpointIndex> {
        if let Some(found) = self.by_mac.get(mac) {
            return Some(*found);
        }
        self.by_mac.get(mac.to_ascii_lowercase().as_str()).copied()
    }

    /// Finds an endpoint by its id.
    pub fn endpoint_by_id(&self, id: &str) -> Option<EndpointIndex> {
        self.by_id.get(id).copied().filter(|index| self.endpoint(*index).is_some())
    }

    /// The endpoints at a port of a switch.
    pub fn endpoints_at(&self, switch: SwitchIndex, port: PortIndex) -> impl Iterator<Item = EndpointIndex> {
        let attached = self.attached.get(switch as usize).into_iter().flatten().copied();
        attached.filter(move |index| self.endpoints[*index as usize].port == port)
    }

    /// The endpoints of a switch.
    pub fn endpoints_of(&self, switch: SwitchIndex) -> &[EndpointIndex] {
        self.attached.get(switch as usize).map_or(&[], Vec::as_slice)
    }

    /// Notes that a cable works or fails, in both directions. Returns whether that changed what frames can pass.
    pub fn set_link(&mut self, link: LinkIndex, up: bool) -> bool {
        let Some(twin) = self.links.get(link as usize).map(|link| link.twin) else { return false };
        let before = self.link(link).up;
        for half in [link, twin] {
            self.links[half as usize].cabled = up;
        }
        self.refresh_link(link);
        before != self.link(link).up
    }

    /// Notes that a switch forwards or fails. Returns the links whose state changed, one direction of each.
    pub fn set_switch(&mut self, switch: SwitchIndex, up: bool) -> Vec<LinkIndex> {
        let Some(record) = self.switches.get_mut(switch as usize) else { return Vec::new() };
        record.up = up;
        self.refresh_links(switch)
    }

    pub(super) fn refresh_links(&mut self, switch: SwitchIndex) -> Vec<LinkIndex> {
        let mut changed = Vec::new();
        for link in self.link_range(switch) {
            let before = self.link(link).up;
            self.refresh_link(link);
            if self.link(link).up != before {
                changed.push(link);
            }
        }
        changed
    }

    fn refresh_link(&mut self, link: LinkIndex) {
        let Link { peer, twin, cabled, .. } = *self.link(link);
        let own = self.link(twin).peer;
        let up = cabled && self.switch(peer).up && self.switch(own).up;
        for half in [link, twin] {
            self.links[half as usize].up = up;
        }
    }

    /// Notes an endpoint that appears, moves or changes. Nothing changes when it is refused.
    pub fn put_endpoint(&mut self, spec: EndpointSpec) -> Result<EndpointIndex, FabricError> {
        if spec.switch >= self.switch_count() {
            let (switch, count) = (spec.switch, self.switch_count());
            return Err(FabricError::UnknownSwitch { endpoint: spec.id, switch, count });
        }
        let known = self.by_id.get(spec.id.as_str()).copied();
        // Endpoints of fabrics without such addresses have none; they are told apart by id alone.
        let taken = Some(&spec.mac).filter(|mac| !mac.is_empty()).and_then(|mac| self.endpoint_by_mac(mac));
        if let Some(other) = taken.filter(|other| Some(*other) != known) {
            let first = self.endpoint_name(other).to_owned();
            return Err(FabricError::AddressTaken { first, second: spec.id, mac: spec.mac });
        }
        if self.port_index(&spec.port).is_some_and(|port| self.link_at(spec.switch, port).is_some()) {
            let switch = self.switch(spec.switch).id.to_string();
            return Err(FabricError::PortTaken { switch, port: spec.port });
        }
        let index = known.unwrap_or_else(|| builder::next_position(self));
        if known.is_some() {
            self.remove_endpoint(index);
        }
        let record = builder::record(self, &spec);
        if !record.mac.is_empty() {
            self.by_mac.insert(record.mac.clone(), index);
        }
        let attached = &mut self.attached[record.switch as usize];
        let place = attached.partition_point(|other| *other < index);
        attached.insert(place, index);
        if known.is_some() {
            self.endpoints[index as usize] = record;
        } else {
            self.by_id.insert(record.id.clone(), index);
            self.endpoints.push(record);
        }
        Ok(index)
    }

    /// Notes that an endpoint has vanished. Returns whether it was there.
    pub fn remove_endpoint(&mut self, index: EndpointIndex) -> bool {
        let Some(record) = self.endpoints.get_mut(index as usize).filter(|record| record.present) else {
            return false;
        };
        record.present = false;
        self.attached[record.switch as usize].retain(|other| *other != index);
        self.by_mac.remove(&record.mac);
        true
    }
}

/// A number made of names, equal wherever the names are equal (FNV-1a, folded to 32 bits).
pub(super) fn stable_key(names: &[&str]) -> u32 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for name in names {
        for byte in name.bytes().chain([0xff]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    // The low bits of FNV are weak; fold and mix once more.
    let folded = (hash ^ (hash >> 32)) & 0xffff_ffff;
    let mixed = (folded ^ (folded >> 16)).wrapping_mul(0x7feb_352d) & 0xffff_ffff;
    u32::try_from((mixed ^ (mixed >> 15)) & 0xffff_ffff).unwrap_or(0)
}
