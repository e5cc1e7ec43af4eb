//! Who is told what when switches, cables and hosts change.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use drystone_redfish::{
    message::{Message, Severity},
    server::Happening,
};

use super::{
    super::{FabricService, endpoint_id, lock},
    FabricLinks, Link, PortAt, State,
};
use crate::{
    bmc::changed,
    site::{Cable, FabricServices},
};

impl FabricLinks {
    /// Looks which hosts have been switched on or off, and tells of their links.
    pub(crate) fn observe_hosts(&self) {
        let mut told: BTreeMap<u32, Vec<Happening>> = BTreeMap::new();
        for host in &self.site.hosts {
            let on = self.hosts.get(&host.name).is_some_and(|hardware| hardware.is_on());
            // The first look tells nothing.
            if self.was_on(&host.name, on) == on {
                continue;
            }
            for nic in &host.nics {
                let Some(at) = self.port_at(&nic.switch, &nic.port) else { continue };
                let live = lock(&self.state).is_live(at);
                if live {
                    let told = told.entry(at.0).or_default();
                    self.tell_port(at, if on { Link::Up } else { Link::Down }, told);
                }
            }
        }
        self.publish(told);
    }

    /// Notes whether a host is on, and tells whether it was at the last look; at the first it was as it is.
    fn was_on(&self, host: &str, on: bool) -> bool {
        let mut lit = lock(&self.lit);
        match lit.get_mut(host) {
            Some(was) => std::mem::replace(was, on),
            None => {
                lit.insert(host.to_owned(), on);
                on
            }
        }
    }

    /// Events of a change, by the services that see it. A switch without power tells nothing.
    pub(super) fn tell(&self, before: &State, after: &State, touched: &BTreeSet<PortAt>) {
        let mut told: BTreeMap<u32, Vec<Happening>> = BTreeMap::new();
        for switch in before.dark.symmetric_difference(&after.dark) {
            let dark = after.dark.contains(switch);
            told.entry(*switch).or_default().extend(self.switch_happening(*switch, dark));
        }
        for at in touched {
            let peer = self.peer(*at);
            let (was, is) = (self.link_in(before, *at, peer), self.link_in(after, *at, peer));
            let happenings = told.entry(at.0).or_default();
            if before.cut.contains(at) != after.cut.contains(at) {
                happenings.extend(self.port_happening(*at, after.cut.contains(at)));
            }
            if before.unplugged.contains(at) != after.unplugged.contains(at) {
                happenings.extend(self.endpoint_happening(*at, after.unplugged.contains(at)));
            }
            if (was == Link::Up) != (is == Link::Up) {
                self.tell_port(*at, is, happenings);
            }
        }
        if self.spec().services == FabricServices::PerSwitch {
            told.retain(|switch, _| !after.dark.contains(switch));
        }
        self.publish(told);
    }

    fn publish(&self, told: BTreeMap<u32, Vec<Happening>>) {
        let mut by_service: Vec<(Arc<FabricService>, Vec<Happening>)> = Vec::new();
        for (switch, happenings) in told {
            let Some(service) = self.service_of(switch) else { continue };
            match by_service.last_mut() {
                Some((last, list)) if Arc::ptr_eq(last, &service) => list.extend(happenings),
                _ => by_service.push((service, happenings)),
            }
        }
        for (service, happenings) in by_service {
            service.publish_all(&happenings);
        }
    }

    fn port_uri(&self, at: PortAt) -> Option<(String, &str, &str)> {
        let (switch, port) = (&self.switch(at.0)?.name, &self.port(at)?.name);
        let uri = format!("/redfish/v1/Fabrics/{}/Switches/{switch}/Ports/{port}", self.spec().id);
        Some((uri, switch, port))
    }

    /// The link of a port has come or gone: as the registry calls it, and as a change of the resource.
    fn tell_port(&self, at: PortAt, link: Link, told: &mut Vec<Happening>) {
        let Some((uri, switch, port)) = self.port_uri(at) else { return };
        let up = link == Link::Up;
        let between = self.port(at).is_some_and(|port| matches!(port.cable, Cable::Switch { .. }));
        let (key, text) = match (between, up) {
            (true, true) => {
                ("InterswitchLinkEstablished", "The interswitch link of switch %1, port %2 is up.")
            }
            (true, false) => {
                ("InterswitchLinkDropped", "The interswitch link of switch %1, port %2 is down.")
            }
            (false, true) => {
                ("DownstreamLinkEstablished", "The downstream link of switch %1, port %2 is up.")
            }
            (false, false) => ("DownstreamLinkDropped", "The downstream link of switch %1, port %2 is down."),
        };
        told.push(happening(key, text, !up, &[switch, port], &uri, "Port"));
        told.push(changed(&uri, "Port"));
    }

    fn port_happening(&self, at: PortAt, failed: bool) -> Option<Happening> {
        let (uri, switch, port) = self.port_uri(at)?;
        let (key, text) = if failed {
            ("PortFailed", "Port %2 of switch %1 has failed.")
        } else {
            ("PortOK", "Port %2 of switch %1 works.")
        };
        Some(happening(key, text, failed, &[switch, port], &uri, "Port"))
    }

    fn switch_happening(&self, at: u32, failed: bool) -> Option<Happening> {
        let switch = &self.switch(at)?.name;
        let uri = format!("/redfish/v1/Fabrics/{}/Switches/{switch}", self.spec().id);
        let (key, text) =
            if failed { ("SwitchFailed", "Switch %1 has failed.") } else { ("SwitchOK", "Switch %1 works.") };
        Some(happening(key, text, failed, &[switch], &uri, "Switch"))
    }

    fn endpoint_happening(&self, at: PortAt, gone: bool) -> Option<Happening> {
        let id = endpoint_id(&self.switch(at.0)?.name, self.port(at)?)?;
        let fabric = &self.spec().id;
        let uri = format!("/redfish/v1/Fabrics/{fabric}/Endpoints/{id}");
        let (key, text) = if gone {
            ("EndpointRemoved", "The endpoint %1 of the fabric %2 is gone.")
        } else {
            ("EndpointCreated", "The endpoint %1 of the fabric %2 is there.")
        };
        Some(happening(key, text, false, &[&id, fabric], &uri, "Endpoint"))
    }
}

/// An event of the registry `Fabric`.
pub(in crate::fabric) fn happening(
    key: &str,
    text: &str,
    critical: bool,
    args: &[&str],
    origin: &str,
    resource_type: &'static str,
) -> Happening {
    let severity = if critical { Severity::Critical } else { Severity::OK };
    let message = Message::new("Fabric.1.0", key, severity, text, args, "None.");
    Happening { message, origin: origin.to_owned(), resource_type: resource_type.into() }
}
