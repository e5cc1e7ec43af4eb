//! What one switch holds of one zone, by number: what zones are planned as and what proofs read.

use std::collections::BTreeMap;

use crate::model::{
    EndpointIndex, Fabric, ForwardingTable, ForwardingZone, LinkIndex, Member, PortIndex, SwitchIndex,
};

/// Where frames leave a switch, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Egress(u32);

/// What an [`Egress`] means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// To another switch.
    Link(LinkIndex),
    /// By an edge port.
    Edge(PortIndex),
    /// By a port that neither a link nor an endpoint of the fabric is known at.
    Unknown,
}

const EDGE: u32 = 1 << 31;

impl Egress {
    /// A port that is not known.
    pub const UNKNOWN: Self = Self(u32::MAX);

    /// To another switch.
    pub const fn link(link: LinkIndex) -> Self {
        Self(link)
    }

    /// By an edge port.
    pub const fn edge(port: PortIndex) -> Self {
        Self(port | EDGE)
    }

    /// What it means.
    pub const fn exit(self) -> Exit {
        match self.0 {
            u32::MAX => Exit::Unknown,
            edge if edge & EDGE != 0 => Exit::Edge(edge & !EDGE),
            link => Exit::Link(link),
        }
    }

    /// The name of the port.
    pub fn name(self, fabric: &Fabric) -> &str {
        match self.exit() {
            Exit::Link(link) => fabric.port_name(fabric.link(link).port),
            Exit::Edge(port) => fabric.port_name(port),
            Exit::Unknown => "?",
        }
    }

    /// The port of that name.
    fn of_name(fabric: &Fabric, switch: SwitchIndex, name: &str) -> Self {
        let Some(port) = fabric.port_index(name) else { return Self::UNKNOWN };
        fabric.link_at(switch, port).map_or(Self::edge(port), Self::link)
    }
}

/// One zone in one switch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZoneEntry {
    /// The switch.
    pub switch: SwitchIndex,
    /// The zone's tag.
    pub tag: u32,
    /// Members with their ways out, in order of endpoint.
    pub members: Vec<(EndpointIndex, Egress)>,
    /// Members that may not exchange frames with all others, with those they may, both in order.
    pub peers: Vec<(EndpointIndex, Vec<EndpointIndex>)>,
    /// Ports that broadcasts leave by, in order.
    pub flood: Vec<Egress>,
    /// Addresses that are listed but belong to no endpoint. Planned entries have none.
    pub strangers: Vec<Box<str>>,
}

impl ZoneEntry {
    /// Where frames to an endpoint leave, if it is listed.
    pub fn egress(&self, endpoint: EndpointIndex) -> Option<Egress> {
        let at = self.members.binary_search_by_key(&endpoint, |(index, _)| *index).ok()?;
        Some(self.members[at].1)
    }

    /// Whether an endpoint is listed.
    pub fn lists(&self, endpoint: EndpointIndex) -> bool {
        self.egress(endpoint).is_some()
    }

    /// Whether the switch passes frames from one to the other; both must be listed.
    pub fn permits(&self, from: EndpointIndex, to: EndpointIndex) -> bool {
        self.lists(from) && self.lists(to) && self.hears(from, to) && self.hears(to, from)
    }

    /// Whether `own` is restricted to peers that `other` is not among.
    fn hears(&self, own: EndpointIndex, other: EndpointIndex) -> bool {
        match self.peers.binary_search_by_key(&own, |(index, _)| *index) {
            Ok(at) => self.peers[at].1.binary_search(&other).is_ok(),
            Err(_) => true,
        }
    }

    /// Whether a broadcast from a listed endpoint leaves by one of the flood ports: not by a port whose members are restricted
    /// and none of them is permitted.
    pub fn floods_to(&self, from: EndpointIndex, port: Egress) -> bool {
        if self.peers.is_empty() {
            return true;
        }
        let behind = || self.members.iter().filter(|(_, egress)| *egress == port).map(|(index, _)| *index);
        let restricted =
            behind().any(|index| self.peers.binary_search_by_key(&index, |(own, _)| *own).is_ok());
        !restricted || behind().any(|index| self.permits(from, index))
    }

    /// The entry as a switch takes it. `shared` says which endpoints other zones may contain too.
    pub fn render(&self, fabric: &Fabric, shared: impl Fn(EndpointIndex) -> bool) -> ForwardingZone {
        let mac = |index: EndpointIndex| fabric.endpoint(index).map(|endpoint| endpoint.mac.to_string());
        let mut members: BTreeMap<String, Member> = BTreeMap::new();
        for (index, egress) in &self.members {
            if let Some(mac) = mac(*index) {
                let port = egress.name(fabric).to_owned();
                members.insert(mac, Member { port, shared: shared(*index), peers: None });
            }
        }
        for (index, peers) in &self.peers {
            let mut peers: Vec<String> = peers.iter().filter_map(|peer| mac(*peer)).collect();
            peers.sort_unstable();
            if let Some(member) = mac(*index).and_then(|mac| members.get_mut(&mac)) {
                member.peers = Some(peers);
            }
        }
        let mut flood_ports: Vec<String> =
            self.flood.iter().map(|port| port.name(fabric).to_owned()).collect();
        flood_ports.sort_unstable();
        ForwardingZone { tag: self.tag, members, flood_ports }
    }

    /// Reads an entry that a switch showed.
    pub fn read(fabric: &Fabric, switch: SwitchIndex, zone: &ForwardingZone) -> Self {
        let mut entry = Self {
            switch,
            tag: zone.tag,
            members: Vec::with_capacity(zone.members.len()),
            peers: Vec::new(),
            flood: Vec::with_capacity(zone.flood_ports.len()),
            strangers: Vec::new(),
        };
        // Most members leave by few ports, mostly the one of the member before.
        let mut last: (&str, Egress) = ("", Egress::UNKNOWN);
        for (mac, member) in &zone.members {
            let Some(index) = fabric.endpoint_by_mac(mac) else {
                entry.strangers.push(mac.as_str().into());
                continue;
            };
            if member.port != last.0 {
                last = (&member.port, Egress::of_name(fabric, switch, &member.port));
            }
            entry.members.push((index, last.1));
            if let Some(peers) = &member.peers {
                let mut known: Vec<EndpointIndex> =
                    peers.iter().filter_map(|peer| fabric.endpoint_by_mac(peer)).collect();
                known.sort_unstable();
                entry.peers.push((index, known));
            }
        }
        entry.members.sort_unstable();
        entry.peers.sort_unstable();
        entry.flood.extend(zone.flood_ports.iter().map(|name| Egress::of_name(fabric, switch, name)));
        entry.flood.sort_unstable();
        entry.flood.dedup();
        entry
    }
}

/// Tables by number: what was read back from switches, by zone id, in order of switch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReadTables {
    /// The entries of each zone.
    pub zones: BTreeMap<String, Vec<ZoneEntry>>,
}

impl ReadTables {
    /// Takes in the table of a switch. Each switch once, in order.
    pub fn add(&mut self, fabric: &Fabric, switch: SwitchIndex, table: &ForwardingTable) {
        for (id, zone) in &table.zones {
            let entry = ZoneEntry::read(fabric, switch, zone);
            if let Some(entries) = self.zones.get_mut(id) {
                let place = entries.partition_point(|other| other.switch < switch);
                entries.insert(place, entry);
            } else {
                self.zones.insert(id.clone(), vec![entry]);
            }
        }
    }
}
