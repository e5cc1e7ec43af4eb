//! Making a [`Fabric`] out of its parts.

use std::collections::HashMap;

use super::{
    names::Names,
    topology::{
        Endpoint, EndpointIndex, EndpointSpec, Fabric, FabricError, Link, LinkIndex, Switch, SwitchIndex,
    },
};

/// One end of a link: switch and name of its port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkEnd<'a> {
    /// The switch.
    pub switch: SwitchIndex,
    /// Its port.
    pub port: &'a str,
}

/// Collects switches, links and endpoints; [`FabricBuilder::build`] lays them out.
#[derive(Debug, Clone, Default)]
pub struct FabricBuilder {
    id: String,
    fabric_type: String,
    switches: Vec<Switch>,
    switch_by_id: HashMap<Box<str>, SwitchIndex>,
    cables: Vec<Cable>,
    ports: Names,
    endpoints: Vec<EndpointSpec>,
}

#[derive(Debug, Clone, Copy)]
struct Cable {
    ends: [(SwitchIndex, u32); 2],
    speed_gbps: u32,
    up: bool,
}

impl FabricBuilder {
    /// A builder of the fabric with an id and a Redfish `FabricType`.
    pub fn new(id: impl Into<String>, fabric_type: impl Into<String>) -> Self {
        Self { id: id.into(), fabric_type: fabric_type.into(), ..Self::default() }
    }

    /// Adds a switch; an id that is known already keeps its first meaning.
    pub fn switch(&mut self, id: &str, agent: &str) -> SwitchIndex {
        if let Some(known) = self.switch_by_id.get(id) {
            return *known;
        }
        let index = u32::try_from(self.switches.len()).unwrap_or(SwitchIndex::MAX);
        self.switches.push(Switch { id: id.into(), agent: agent.into(), up: true });
        self.switch_by_id.insert(id.into(), index);
        index
    }

    /// Finds a switch that was added.
    pub fn find_switch(&self, id: &str) -> Option<SwitchIndex> {
        self.switch_by_id.get(id).copied()
    }

    /// Says whether a switch forwards; switches do unless told otherwise.
    pub fn switch_up(&mut self, switch: SwitchIndex, up: bool) {
        if let Some(record) = self.switches.get_mut(switch as usize) {
            record.up = up;
        }
    }

    /// Adds a cable between two switches. Links of a switch to itself and to switches that were not added are left out.
    pub fn link(&mut self, a: LinkEnd<'_>, b: LinkEnd<'_>, speed_gbps: u32, up: bool) {
        let known = |end: &LinkEnd<'_>| (end.switch as usize) < self.switches.len();
        if a.switch == b.switch || !known(&a) || !known(&b) {
            return;
        }
        let ends = [a, b].map(|end| (end.switch, self.ports.intern(end.port)));
        self.cables.push(Cable { ends, speed_gbps, up });
    }

    /// Adds an endpoint.
    pub fn endpoint(&mut self, endpoint: EndpointSpec) {
        self.endpoints.push(endpoint);
    }

    /// The fabric. Of two cables in one port, and of two endpoints with one id or address, the first one counts; the second
    /// value says what was left out.
    pub fn build(self) -> (Fabric, Vec<FabricError>) {
        let mut left_out = Vec::new();
        let cables = self.usable_cables(&mut left_out);
        let (offsets, links) = self.adjacency(&cables);
        let count = self.switches.len();
        let mut fabric = Fabric {
            id: self.id,
            fabric_type: self.fabric_type,
            ports: self.ports,
            switches: self.switches,
            switch_by_id: self.switch_by_id,
            offsets,
            links,
            endpoints: Vec::with_capacity(self.endpoints.len()),
            attached: vec![Vec::new(); count],
            by_id: HashMap::with_capacity(self.endpoints.len()),
            by_mac: HashMap::with_capacity(self.endpoints.len()),
        };
        for endpoint in self.endpoints {
            if let Some(other) = fabric.endpoint_by_id(&endpoint.id) {
                left_out.push(FabricError::TwiceNamed { id: endpoint.id, position: other });
            } else if let Err(error) = fabric.put_endpoint(endpoint) {
                left_out.push(error);
            }
        }
        for switch in 0..fabric.switch_count() {
            if !fabric.switch(switch).up {
                fabric.refresh_links(switch);
            }
        }
        (fabric, left_out)
    }

    fn usable_cables(&self, left_out: &mut Vec<FabricError>) -> Vec<Cable> {
        let mut used = std::collections::HashSet::new();
        let mut usable = Vec::with_capacity(self.cables.len());
        for cable in &self.cables {
            match cable.ends.iter().find(|end| used.contains(*end)) {
                None => {
                    used.extend(cable.ends);
                    usable.push(*cable);
                }
                Some((switch, port)) => left_out.push(FabricError::PortTaken {
                    switch: self.switches[*switch as usize].id.to_string(),
                    port: self.ports.name(*port).to_owned(),
                }),
            }
        }
        usable
    }

    /// Links of all switches, one switch after the other, in order of port name; and where each switch's links begin.
    fn adjacency(&self, cables: &[Cable]) -> (Vec<u32>, Vec<Link>) {
        let mut halves: Vec<(SwitchIndex, &str, usize, usize)> = Vec::with_capacity(cables.len() * 2);
        for (index, cable) in cables.iter().enumerate() {
            for (side, (switch, port)) in cable.ends.iter().enumerate() {
                halves.push((*switch, self.ports.name(*port), index, side));
            }
        }
        halves.sort_unstable();
        let mut position = vec![[0 as LinkIndex; 2]; cables.len()];
        for (at, (_, _, cable, side)) in (0..).zip(&halves) {
            position[*cable][*side] = at;
        }
        let mut offsets = vec![0_u32; self.switches.len() + 1];
        let mut links = Vec::with_capacity(halves.len());
        for (switch, name, index, side) in halves {
            let cable = cables[index];
            let (peer, _) = cable.ends[1 - side];
            links.push(Link {
                port: cable.ends[side].1,
                peer,
                twin: position[index][1 - side],
                speed_gbps: cable.speed_gbps,
                key: super::topology::stable_key(&[&self.switches[switch as usize].id, name]),
                cabled: cable.up,
                up: cable.up,
            });
            offsets[switch as usize + 1] += 1;
        }
        for at in 1..offsets.len() {
            offsets[at] += offsets[at - 1];
        }
        (offsets, links)
    }
}

/// An endpoint as the fabric keeps it.
pub(super) fn record(fabric: &mut Fabric, spec: &EndpointSpec) -> Endpoint {
    Endpoint {
        id: spec.id.as_str().into(),
        mac: spec.mac.to_ascii_lowercase().into(),
        switch: spec.switch,
        port: fabric.ports.intern(&spec.port),
        role: spec.role,
        speed_gbps: spec.speed_gbps,
        flow: super::topology::stable_key(&[&spec.id]),
        present: true,
    }
}

/// The next free position of an endpoint.
pub(super) fn next_position(fabric: &Fabric) -> EndpointIndex {
    u32::try_from(fabric.endpoints.len()).unwrap_or(EndpointIndex::MAX)
}
