//! Switches, the links between them, and the plugging in of what has a cable.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use uuid::Uuid;

use super::{
    Cable, FabricServices, FabricSpec, MacAddress, PortSpec, SwitchSpec,
    document::{BareEndpoints, FabricDocument, LinkDocument},
    hosts::unused_mac,
    problem::{Problems, some_of},
    topology::{self, MOST_SWITCH_PORTS},
};

/// Switches with the ports that are still free, while a site is being cabled.
pub(super) struct Cabling {
    fabrics: Vec<FabricSpec>,
    /// Name of a switch → (index of fabric, index of switch, first edge port that may be free).
    switches: BTreeMap<Arc<str>, (usize, usize, usize)>,
    /// Names of ports, which are the same on all switches.
    names: HashSet<Arc<str>>,
    /// Endpoints without hosts that are still to be plugged in, by index of fabric.
    bare: Vec<(usize, BareEndpoints)>,
}

impl Cabling {
    /// The switches with their links and nothing else plugged in.
    pub(super) fn new(site: Uuid, documents: Vec<FabricDocument>, problems: &mut Problems) -> Self {
        let mut cabling =
            Self { fabrics: Vec::new(), switches: BTreeMap::new(), names: HashSet::new(), bare: Vec::new() };
        for (index, document) in documents.into_iter().enumerate() {
            cabling.add_fabric(site, index, document, problems);
        }
        cabling
    }

    fn add_fabric(&mut self, site: Uuid, index: usize, document: FabricDocument, problems: &mut Problems) {
        let path = format!("fabrics[{index}]");
        let good = (1..=32).contains(&document.id.len())
            && document.id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        problems.check(good, &format!("{path}.id"), || {
            format!("{:?} must be 1 to 32 letters, digits and dashes", document.id)
        });
        problems.check(
            self.fabrics.iter().all(|other| other.id != document.id),
            &format!("{path}.id"),
            || format!("another fabric is called {:?} too", document.id),
        );
        let mut document = document;
        let topology = document.topology.take();
        let explicit = topology.is_none();
        if let Some(topology) = &topology {
            problems.check(
                document.switches.is_empty() && document.links.is_empty(),
                &format!("{path}.topology"),
                || "a fabric has either a topology or a list of switches and links".to_owned(),
            );
            let path = format!("{path}.topology");
            let generated = topology::generate(&path, &document.id, topology, problems);
            (document.switches, document.links) = (generated.switches, generated.links);
        } else {
            problems.check(!document.switches.is_empty(), &format!("{path}.switches"), || {
                "a fabric has at least one, or a topology".to_owned()
            });
        }
        let mut switches = Vec::with_capacity(document.switches.len());
        for (number, switch) in document.switches.iter().enumerate() {
            let path = if explicit {
                format!("{path}.switches[{number}]")
            } else {
                format!("{path}.topology.prefix")
            };
            if explicit {
                problems.check_name(&format!("{path}.name"), &switch.name, 32);
                problems.check_range(&format!("{path}.ports"), switch.ports, 1, MOST_SWITCH_PORTS);
                problems.check_range(&format!("{path}.speedGbps"), switch.speed_gbps, 1, 10_000);
            }
            let name: Arc<str> = switch.name.as_str().into();
            if self.switches.insert(Arc::clone(&name), (self.fabrics.len(), number, 0)).is_some() {
                let place = if explicit { format!("{path}.name") } else { path };
                problems.add(place, format!("another switch is called {name:?} too"));
            }
            let ports = (1..=switch.ports.min(MOST_SWITCH_PORTS)).map(|number| PortSpec {
                name: self.shared_name(&format!("p{number}")),
                speed_gbps: switch.speed_gbps,
                cable: Cable::Unplugged,
            });
            let ports = ports.collect();
            let uuid = Uuid::new_v5(&site, format!("switch/{name}").as_bytes());
            switches.push(SwitchSpec { name, uuid, ports });
        }
        self.link(&path, &document.id, &document.links, &mut switches, problems);
        switches.iter_mut().for_each(|switch| switch.ports.shrink_to_fit());
        let uuid = Uuid::new_v5(&site, format!("fabric/{}", document.id).as_bytes());
        self.bare.extend(document.bare_endpoints.map(|bare| (self.fabrics.len(), bare)));
        self.fabrics.push(FabricSpec { id: document.id, uuid, services: document.services, switches });
    }

    /// The one copy of a port's name.
    fn shared_name(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.names.get(name) {
            return Arc::clone(known);
        }
        let name: Arc<str> = name.into();
        self.names.insert(Arc::clone(&name));
        name
    }

    /// Adds the links between the switches of a fabric as ports `isl0`, `isl1` … on either side.
    fn link(
        &mut self,
        path: &str,
        fabric: &str,
        links: &[LinkDocument],
        switches: &mut [SwitchSpec],
        problems: &mut Problems,
    ) {
        let places: HashMap<Arc<str>, usize> =
            switches.iter().enumerate().map(|(index, switch)| (Arc::clone(&switch.name), index)).collect();
        // A name that two switches share was reported; which of them it means does not matter any more.
        let mut taken = vec![0_usize; switches.len()];
        for (number, link) in links.iter().enumerate() {
            let path = format!("{path}.links[{number}]");
            problems.check_range(&format!("{path}.speedGbps"), link.speed_gbps, 1, 10_000);
            problems.check_range(&format!("{path}.count"), link.count, 1, 64);
            let mut find = |field: &str, name: &str| {
                let found = places.get(name).copied();
                problems.check(found.is_some(), &format!("{path}.{field}"), || {
                    format!("fabric {fabric} has no switch {name:?}")
                });
                found
            };
            let (Some(from), Some(to)) = (find("from", &link.from), find("to", &link.to)) else { continue };
            if from == to {
                problems.add(format!("{path}.to"), "a link joins two different switches");
                continue;
            }
            for _ in 0..link.count.min(64) {
                let mut next = |at: usize| {
                    let number = taken[at];
                    taken[at] += 1;
                    self.shared_name(&format!("isl{number}"))
                };
                let (from_port, to_port) = (next(from), next(to));
                for (at, name, peer, peer_port) in
                    [(from, &from_port, to, &to_port), (to, &to_port, from, &from_port)]
                {
                    let cable = Cable::Switch {
                        switch: Arc::clone(&switches[peer].name),
                        port: Arc::clone(peer_port),
                    };
                    let port = PortSpec { name: Arc::clone(name), speed_gbps: link.speed_gbps, cable };
                    switches[at].ports.push(port);
                }
            }
        }
    }

    /// Plugs endpoints without hosts into edge ports that are left, once everything else has its place: the first free
    /// port of every switch, then the second, until there are as many as wanted.
    pub(super) fn plug_bare(&mut self, site: Uuid, macs: &mut BTreeSet<MacAddress>, problems: &mut Problems) {
        for (index, wanted) in std::mem::take(&mut self.bare) {
            let Some(fabric) = self.fabrics.get_mut(index) else { continue };
            let mut free: Vec<(usize, Vec<usize>)> = Vec::new();
            for (number, switch) in fabric.switches.iter().enumerate() {
                let ports = switch.ports.iter().enumerate();
                let unplugged =
                    ports.filter(|(_, port)| port.cable == Cable::Unplugged).map(|(port, _)| port);
                free.push((number, unplugged.collect()));
            }
            let room: usize = free.iter().map(|(_, ports)| ports.len()).sum();
            let wanted = match wanted {
                BareEndpoints::All => room,
                BareEndpoints::Count(count) => count as usize,
            };
            if wanted > room {
                let path = format!("fabrics[{index}].bareEndpoints");
                problems.add(path, format!("{wanted} are more than the {room} edge ports that are left"));
                continue;
            }
            let rounds = free.iter().map(|(_, ports)| ports.len()).max().unwrap_or(0);
            let places = (0..rounds).flat_map(|round| {
                free.iter().filter_map(move |(switch, ports)| Some((*switch, *ports.get(round)?)))
            });
            for (switch, port) in places.take(wanted) {
                let switch = &mut fabric.switches[switch];
                let port = &mut switch.ports[port];
                let mac = unused_mac(site, macs, &["endpoint", &switch.name, &port.name]);
                port.cable = Cable::Endpoint { mac };
            }
        }
    }

    /// Plugs a cable into the named edge port. Returns the port's speed, or adds a problem.
    pub(super) fn plug(
        &mut self,
        path: &str,
        switch: &str,
        port: &str,
        cable: Cable,
        problems: &mut Problems,
    ) -> Option<u32> {
        let found = self.switch_mut(path, switch, problems)?.0;
        let Some(spec) = found
            .ports
            .iter_mut()
            .find(|spec| *spec.name == *port && !matches!(spec.cable, Cable::Switch { .. }))
        else {
            let edge = found.ports.iter().filter(|spec| !matches!(spec.cable, Cable::Switch { .. })).count();
            problems.add(
                format!("{path}.port"),
                format!("{port:?} is no edge port of switch {switch}; it has p1 to p{edge}"),
            );
            return None;
        };
        if spec.cable != Cable::Unplugged {
            let holder = holder(&spec.cable);
            problems
                .add(format!("{path}.port"), format!("port {port} of switch {switch} is taken by {holder}"));
            return None;
        }
        spec.cable = cable;
        Some(spec.speed_gbps)
    }

    /// Plugs a cable into the lowest free edge port. Returns the port's name and speed, or adds a problem.
    pub(super) fn plug_anywhere(
        &mut self,
        path: &str,
        switch: &str,
        cable: Cable,
        problems: &mut Problems,
    ) -> Option<(String, u32)> {
        let (found, next) = self.switch_mut(path, switch, problems)?;
        let free =
            found.ports.iter().enumerate().skip(*next).find(|(_, port)| port.cable == Cable::Unplugged);
        let Some((index, _)) = free else {
            problems.add(
                format!("{path}.switch"),
                format!("switch {switch} has no free port left; give it more ports"),
            );
            return None;
        };
        *next = index + 1;
        let port = &mut found.ports[index];
        port.cable = cable;
        Some((port.name.to_string(), port.speed_gbps))
    }

    fn switch_mut(
        &mut self,
        path: &str,
        name: &str,
        problems: &mut Problems,
    ) -> Option<(&mut SwitchSpec, &mut usize)> {
        if !self.switches.contains_key(name) {
            let known = some_of(self.switches.keys());
            problems
                .add(format!("{path}.switch"), format!("the site has no switch {name:?}; it has {known}"));
            return None;
        }
        let (fabric, index, next) = self.switches.get_mut(name)?;
        // A name that two switches share was reported before; its place is that of the later one, which may lie outside
        // of a list that was cut short.
        Some((self.fabrics.get_mut(*fabric)?.switches.get_mut(*index)?, next))
    }

    /// The fabrics, cabled.
    pub(super) fn finish(self) -> Vec<FabricSpec> {
        self.fabrics
    }
}

/// Names of the Redfish services that fabrics have: a switch's name, or the id of a fabric with an agent.
pub(super) fn service_names(fabrics: &[FabricSpec]) -> Vec<String> {
    let names = fabrics.iter().flat_map(|fabric| match fabric.services {
        FabricServices::Agent => vec![fabric.id.clone()],
        FabricServices::PerSwitch => fabric.switches.iter().map(|switch| switch.name.to_string()).collect(),
    });
    names.collect()
}

fn holder(cable: &Cable) -> String {
    match cable {
        Cable::Unplugged => "nothing".to_owned(),
        Cable::Nic { host, nic, .. } => format!("{nic} of host {host}"),
        Cable::Gateway { .. } => "the gateway".to_owned(),
        Cable::Endpoint { .. } => "an endpoint without a host".to_owned(),
        Cable::Switch { switch, port } => format!("port {port} of switch {switch}"),
    }
}
