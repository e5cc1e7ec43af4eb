//! Switches, the links between them, and the plugging in of what has a cable.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::{
    Cable, FabricServices, FabricSpec, PortSpec, SwitchSpec, document::FabricDocument, problem::Problems,
};

/// Switches with the ports that are still free, while a site is being cabled.
pub(super) struct Cabling {
    fabrics: Vec<FabricSpec>,
    /// Name of a switch → (index of fabric, index of switch, first edge port that may be free).
    switches: BTreeMap<String, (usize, usize, usize)>,
}

impl Cabling {
    /// The switches with their links and nothing else plugged in.
    pub(super) fn new(site: Uuid, documents: Vec<FabricDocument>, problems: &mut Problems) -> Self {
        let mut cabling = Self { fabrics: Vec::new(), switches: BTreeMap::new() };
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
        problems.check(!document.switches.is_empty(), &format!("{path}.switches"), || {
            "a fabric has at least one".to_owned()
        });
        let mut switches = Vec::new();
        for (number, switch) in document.switches.iter().enumerate() {
            let path = format!("{path}.switches[{number}]");
            problems.check_name(&format!("{path}.name"), &switch.name, 32);
            problems.check_range(&format!("{path}.ports"), switch.ports, 1, 1024);
            problems.check_range(&format!("{path}.speedGbps"), switch.speed_gbps, 1, 10_000);
            let place = (self.fabrics.len(), number, 0);
            if self.switches.insert(switch.name.clone(), place).is_some() {
                problems
                    .add(format!("{path}.name"), format!("another switch is called {:?} too", switch.name));
            }
            let ports = (1..=switch.ports.min(1024)).map(|number| PortSpec {
                name: format!("p{number}"),
                speed_gbps: switch.speed_gbps,
                cable: Cable::Unplugged,
            });
            let uuid = Uuid::new_v5(&site, format!("switch/{}", switch.name).as_bytes());
            switches.push(SwitchSpec { name: switch.name.clone(), uuid, ports: ports.collect() });
        }
        link(&path, &document, &mut switches, problems);
        let uuid = Uuid::new_v5(&site, format!("fabric/{}", document.id).as_bytes());
        self.fabrics.push(FabricSpec { id: document.id, uuid, services: document.services, switches });
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
            .find(|spec| spec.name == port && !matches!(spec.cable, Cable::Switch { .. }))
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
        Some((port.name.clone(), port.speed_gbps))
    }

    fn switch_mut(
        &mut self,
        path: &str,
        name: &str,
        problems: &mut Problems,
    ) -> Option<(&mut SwitchSpec, &mut usize)> {
        if !self.switches.contains_key(name) {
            let known = self.switches.keys().cloned().collect::<Vec<_>>().join(", ");
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
        FabricServices::PerSwitch => fabric.switches.iter().map(|switch| switch.name.clone()).collect(),
    });
    names.collect()
}

fn holder(cable: &Cable) -> String {
    match cable {
        Cable::Unplugged => "nothing".to_owned(),
        Cable::Nic { host, nic, .. } => format!("{nic} of host {host}"),
        Cable::Gateway { .. } => "the gateway".to_owned(),
        Cable::Switch { switch, port } => format!("port {port} of switch {switch}"),
    }
}

/// Adds the links between the switches of a fabric as ports `isl0`, `isl1` … on either side.
fn link(path: &str, document: &FabricDocument, switches: &mut [SwitchSpec], problems: &mut Problems) {
    for (number, link) in document.links.iter().enumerate() {
        let path = format!("{path}.links[{number}]");
        problems.check_range(&format!("{path}.speedGbps"), link.speed_gbps, 1, 10_000);
        problems.check_range(&format!("{path}.count"), link.count, 1, 64);
        let mut find = |field: &str, name: &str| {
            let found = switches.iter().position(|switch| switch.name == name);
            problems.check(found.is_some(), &format!("{path}.{field}"), || {
                format!("fabric {} has no switch {name:?}", document.id)
            });
            found
        };
        let (Some(from), Some(to)) = (find("from", &link.from), find("to", &link.to)) else { continue };
        if from == to {
            problems.add(format!("{path}.to"), "a link joins two different switches");
            continue;
        }
        for _ in 0..link.count.min(64) {
            let (from_port, to_port) = (next_link_port(&switches[from]), next_link_port(&switches[to]));
            for (at, name, peer, peer_port) in
                [(from, &from_port, &link.to, &to_port), (to, &to_port, &link.from, &from_port)]
            {
                let cable = Cable::Switch { switch: peer.clone(), port: peer_port.clone() };
                switches[at].ports.push(PortSpec { name: name.clone(), speed_gbps: link.speed_gbps, cable });
            }
        }
    }
}

fn next_link_port(switch: &SwitchSpec) -> String {
    let taken = switch.ports.iter().filter(|port| matches!(port.cable, Cable::Switch { .. })).count();
    format!("isl{taken}")
}
