//! Forwarding tables as they are kept in memory: the switches of a large fabric have millions of entries between them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::{
    backend::{ForwardingMember, ForwardingZone, ForwardingZones},
    site::{MacAddress, SwitchSpec},
};

/// The forwarding table of one switch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct CompactTable {
    /// How often it has changed.
    changes: u64,
    zones: BTreeMap<Box<str>, CompactZone>,
}

/// One zone of it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct CompactZone {
    tag: u32,
    /// In order of address, for texts of one length are in the order of what they stand for.
    members: Box<[CompactMember]>,
    /// Peers of members that are restricted, by index of the member.
    peers: Box<[(u32, Box<[MacAddress]>)]>,
    /// Indices of ports.
    flood: Box<[u16]>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct CompactMember {
    mac: MacAddress,
    port: u16,
    shared: bool,
}

impl CompactTable {
    /// Packs a table that has been checked against the switch. What names no port of it, or no address, is left out: only
    /// the table of another site file's switch can.
    pub(super) fn pack(zones: &ForwardingZones, switch: &SwitchSpec) -> Self {
        let ports = ports(switch);
        let zones = zones.iter().map(|(id, zone)| (id.as_str().into(), CompactZone::pack(zone, &ports)));
        Self { changes: 0, zones: zones.collect() }
    }

    /// The table as the rest of the emulator has it.
    pub(super) fn unpack(&self, switch: &SwitchSpec) -> ForwardingZones {
        self.zones.iter().map(|(id, zone)| (id.to_string(), zone.unpack(switch))).collect()
    }

    /// How often the table has changed.
    pub(super) const fn changes(&self) -> u64 {
        self.changes
    }

    /// One zone.
    pub(super) fn zone(&self, id: &str, switch: &SwitchSpec) -> Option<ForwardingZone> {
        self.zones.get(id).map(|zone| zone.unpack(switch))
    }

    /// Changes some zones, which counts as one change; `None` removes.
    pub(super) fn change(&mut self, zones: &BTreeMap<String, Option<ForwardingZone>>, switch: &SwitchSpec) {
        self.changes += 1;
        let ports = ports(switch);
        for (id, zone) in zones {
            match zone {
                Some(zone) => drop(self.zones.insert(id.as_str().into(), CompactZone::pack(zone, &ports))),
                None => drop(self.zones.remove(id.as_str())),
            }
        }
    }

    /// The zone beside one of this id that has a tag.
    pub(super) fn with_tag(&self, tag: u32, id: &str) -> Option<&str> {
        self.zones.iter().find(|(other, zone)| zone.tag == tag && ***other != *id).map(|(other, _)| &**other)
    }

    /// The zone beside one of this id that has a member, and whether it is shared there.
    pub(super) fn with_member(&self, mac: MacAddress, id: &str) -> Option<(&str, bool)> {
        self.zones.iter().filter(|(other, _)| ***other != *id).find_map(|(other, zone)| {
            let at = zone.members.binary_search_by_key(&mac, |member| member.mac).ok()?;
            Some((&**other, zone.members[at].shared))
        })
    }
}

/// Indices of a switch's ports by their names.
fn ports(switch: &SwitchSpec) -> HashMap<&str, u16> {
    switch.ports.iter().zip(0..).map(|(port, index)| (&*port.name, index)).collect()
}

impl CompactZone {
    fn pack(zone: &ForwardingZone, ports: &HashMap<&str, u16>) -> Self {
        let port = |name: &String| ports.get(name.as_str()).copied();
        let mut members = Vec::with_capacity(zone.members.len());
        let mut peers = Vec::new();
        for (mac, member) in &zone.members {
            let (Ok(mac), Some(port)) = (mac.parse(), port(&member.port)) else { continue };
            if let (Some(list), Ok(index)) = (&member.peers, u32::try_from(members.len())) {
                peers.push((index, list.iter().filter_map(|mac| mac.parse().ok()).collect()));
            }
            members.push(CompactMember { mac, port, shared: member.shared });
        }
        Self {
            tag: zone.tag,
            members: members.into(),
            peers: peers.into(),
            flood: zone.flood_ports.iter().filter_map(port).collect(),
        }
    }

    fn unpack(&self, switch: &SwitchSpec) -> ForwardingZone {
        let name = |index: u16| {
            switch.ports.get(usize::from(index)).map(|port| port.name.to_string()).unwrap_or_default()
        };
        let mut peers: BTreeMap<u32, BTreeSet<String>> = BTreeMap::new();
        for (index, list) in &self.peers {
            peers.insert(*index, list.iter().map(ToString::to_string).collect());
        }
        let members = self.members.iter().zip(0_u32..).map(|(member, index)| {
            let peers = peers.remove(&index);
            (
                member.mac.to_string(),
                ForwardingMember { port: name(member.port), shared: member.shared, peers },
            )
        });
        ForwardingZone {
            tag: self.tag,
            members: members.collect(),
            flood_ports: self.flood.iter().map(|index| name(*index)).collect(),
        }
    }
}
