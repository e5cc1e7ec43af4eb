//! Taking over what a new crawl saw, so that numbers stay and little has to be computed again.

use std::collections::{BTreeSet, HashMap};

use super::{
    builder::{FabricBuilder, LinkEnd},
    topology::{EndpointIndex, EndpointSpec, Fabric, LinkIndex, SwitchIndex},
};

/// What [`Fabric::adopt`] changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Adoption {
    /// There are cables or switches that were not known before: links are numbered anew. Switches and endpoints keep their
    /// numbers.
    pub cabling: bool,
    /// Links that went up, down, or are of another speed; one direction of each. Empty if `cabling` changed.
    pub links: Vec<LinkIndex>,
    /// Endpoints that appeared, moved, changed or vanished.
    pub endpoints: BTreeSet<EndpointIndex>,
}

impl Adoption {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        !self.cabling && self.links.is_empty() && self.endpoints.is_empty()
    }
}

/// A cable by names, the lesser end first.
type Ends<'a> = [(&'a str, &'a str); 2];

impl Fabric {
    /// Takes over what was seen of the same fabric. Links and switches that were not seen are down from now on, but their cables
    /// are remembered; endpoints that were not seen have vanished.
    pub fn adopt(&mut self, seen: &Self) -> Adoption {
        let mut adoption = Adoption::default();
        let known = self.cables();
        let there = seen.cables();
        adoption.cabling = there.keys().any(|ends| !known.contains_key(ends))
            || seen.switches().any(|(_, switch)| self.switch_by_id(&switch.id).is_none());
        if adoption.cabling {
            *self = self.recabled(seen);
        } else {
            let states: Vec<(LinkIndex, Option<LinkIndex>)> =
                known.iter().map(|(ends, link)| (*link, there.get(ends).copied())).collect();
            adoption.links = self.set_states(seen, &states);
        }
        adoption.endpoints = self.adopt_endpoints(seen);
        adoption
    }

    fn cables(&self) -> HashMap<Ends<'_>, LinkIndex> {
        let mut cables = HashMap::with_capacity(self.link_count() / 2);
        for (switch, record) in self.switches() {
            for (index, link) in self.links_of(switch).filter(|(index, link)| *index < link.twin) {
                let own = (&*record.id, self.port_name(link.port));
                let far = (&*self.switch(link.peer).id, self.port_name(self.link(link.twin).port));
                cables.insert(if own < far { [own, far] } else { [far, own] }, index);
            }
        }
        cables
    }

    /// Sets links to what was seen of them.
    fn set_states(&mut self, seen: &Self, states: &[(LinkIndex, Option<LinkIndex>)]) -> Vec<LinkIndex> {
        let mut changed: BTreeSet<LinkIndex> = BTreeSet::new();
        let before: Vec<bool> = states.iter().map(|(link, _)| self.link(*link).up).collect();
        for switch in 0..self.switch_count() {
            let twin = seen.switch_by_id(&self.switch(switch).id);
            self.set_switch(switch, twin.is_some_and(|twin| seen.switch(twin).up));
        }
        for ((link, twin), before) in states.iter().zip(before) {
            self.set_link(*link, twin.is_some_and(|twin| seen.link(twin).cabled));
            let speed = twin.map(|twin| seen.link(twin).speed_gbps);
            let faster = speed.is_some_and(|speed| speed != self.link(*link).speed_gbps);
            if let Some(speed) = speed {
                for half in [*link, self.link(*link).twin] {
                    self.links[half as usize].speed_gbps = speed;
                }
            }
            if faster || self.link(*link).up != before {
                changed.insert(*link);
            }
        }
        changed.into_iter().collect()
    }

    /// This fabric with the cables of both, and the switches that are new behind the known ones.
    fn recabled(&self, seen: &Self) -> Self {
        let mut builder = FabricBuilder::new(seen.id.clone(), seen.fabric_type.clone());
        for (_, switch) in self.switches() {
            let position = builder.switch(&switch.id, &switch.agent);
            let twin = seen.switch_by_id(&switch.id);
            builder.switch_up(position, twin.is_some_and(|twin| seen.switch(twin).up));
        }
        for (_, switch) in seen.switches().filter(|(_, switch)| self.switch_by_id(&switch.id).is_none()) {
            let position = builder.switch(&switch.id, &switch.agent);
            builder.switch_up(position, switch.up);
        }
        let there = seen.cables();
        let (known, mut remembered) = (self.cables(), Vec::new());
        remembered.extend(known.into_iter().filter(|(ends, _)| !there.contains_key(ends)));
        // What is there now comes first: a port has one cable.
        let now =
            there.into_iter().map(|(ends, link)| (ends, seen.link(link).speed_gbps, seen.link(link).cabled));
        let then = remembered.into_iter().map(|(ends, link)| (ends, self.link(link).speed_gbps, false));
        for (ends, speed_gbps, up) in now.chain(then) {
            let [Some(a), Some(b)] = ends.map(|end| builder.find_switch(end.0)) else { continue };
            let [a, b] = [LinkEnd { switch: a, port: ends[0].1 }, LinkEnd { switch: b, port: ends[1].1 }];
            builder.link(a, b, speed_gbps, up);
        }
        // Cables that had to give way are reported by nobody: they are the past.
        let (mut fabric, _) = builder.build();
        fabric.take_endpoints(self);
        fabric
    }

    /// Takes the endpoints of a fabric with the same switches, present or not, under their numbers.
    fn take_endpoints(&mut self, from: &Self) {
        for endpoint in &from.endpoints {
            let mut record = endpoint.clone();
            record.port = self.ports.intern(from.port_name(endpoint.port));
            self.endpoints.push(record);
        }
        self.by_id.clone_from(&from.by_id);
        self.by_mac.clone_from(&from.by_mac);
        self.attached.iter_mut().zip(&from.attached).for_each(|(own, theirs)| own.clone_from(theirs));
    }

    fn adopt_endpoints(&mut self, seen: &Self) -> BTreeSet<EndpointIndex> {
        let known: HashMap<&str, EndpointIndex> =
            self.endpoints().map(|(index, endpoint)| (&*endpoint.id, index)).collect();
        let mut kept: BTreeSet<EndpointIndex> = BTreeSet::new();
        let mut new: Vec<EndpointSpec> = Vec::new();
        for (_, endpoint) in seen.endpoints() {
            let Some(switch) = self.switch_by_id(&seen.switch(endpoint.switch).id) else { continue };
            let spec = EndpointSpec {
                id: endpoint.id.to_string(),
                mac: endpoint.mac.to_string(),
                switch,
                port: seen.port_name(endpoint.port).to_owned(),
                role: endpoint.role,
                speed_gbps: endpoint.speed_gbps,
            };
            match known.get(&*endpoint.id) {
                Some(index) if self.is_as(*index, &spec, switch) => drop(kept.insert(*index)),
                _ => new.push(spec),
            }
        }
        let gone: BTreeSet<EndpointIndex> =
            known.into_values().filter(|index| !kept.contains(index)).collect();
        // All that change go first, so that addresses can be exchanged.
        for index in &gone {
            self.remove_endpoint(*index);
        }
        let mut changed = gone;
        for spec in new {
            match self.put_endpoint(spec) {
                Ok(index) => drop(changed.insert(index)),
                Err(error) => tracing::warn!(fabric = self.id, "{error}"),
            }
        }
        changed
    }

    fn is_as(&self, index: EndpointIndex, spec: &EndpointSpec, switch: SwitchIndex) -> bool {
        self.endpoint(index).is_some_and(|own| {
            *own.mac == *spec.mac
                && own.switch == switch
                && self.port_name(own.port) == spec.port
                && own.role == spec.role
                && own.speed_gbps == spec.speed_gbps
        })
    }
}
