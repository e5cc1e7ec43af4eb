//! What a site file means in namespaces and interfaces: a pure translation. The site file has been checked (every cable
//! has two ends, names and addresses are unique), so little can go wrong here.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use ipnet::IpNet;

use super::{names, ruleset::SwitchPorts};
use crate::site::{Cable, GatewaySpec, HostSpec, SiteFile, SwitchSpec};

/// Everything that the site may have in the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SitePlan {
    /// Name of the site.
    pub(super) site: String,
    /// Switches by name.
    pub(super) switches: BTreeMap<String, SwitchPlan>,
    /// Cables between switches.
    pub(super) links: Vec<[Port; 2]>,
    /// NICs of every host, by host name.
    pub(super) hosts: BTreeMap<String, Vec<NicPlan>>,
    /// The gateway, if the site has one.
    pub(super) gateway: Option<GatewayPlan>,
}

/// A switch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SwitchPlan {
    /// Its network namespace.
    pub(super) namespace: String,
    /// Its ports, by interface name.
    pub(super) ports: SwitchPorts,
}

/// A port of a switch.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Port {
    /// The switch's network namespace.
    pub(super) namespace: String,
    /// The port's interface name there.
    pub(super) interface: String,
}

/// A network interface of a host or of the gateway, and the port that its cable leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NicPlan {
    /// Interface name in the host.
    pub(super) interface: String,
    /// MAC address.
    pub(super) mac: String,
    /// Where the cable leads.
    pub(super) port: Port,
}

/// The gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct GatewayPlan {
    /// Its network namespace.
    pub(super) namespace: String,
    /// Its interface to the site's fabric.
    pub(super) uplink: NicPlan,
    /// Its address on the node network, the default gateway of hosts.
    pub(super) node_address: IpNet,
    /// Its address on the campus network.
    pub(super) campus_address: IpNet,
    /// Prefixes that hosts answer for on the node network although they lie outside it.
    pub(super) external: Vec<IpNet>,
    /// What hosts use to reach Drystone.
    pub(super) controller: SocketAddr,
    /// The namespace that the proxy dials from, with its address on the campus network.
    pub(super) proxy: CampusHost,
    /// Clients on the campus network.
    pub(super) clients: Vec<CampusHost>,
}

/// A namespace on the campus network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CampusHost {
    /// The namespace.
    pub(super) namespace: String,
    /// Its address.
    pub(super) address: IpNet,
}

/// Why a site cannot be built from namespaces.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum PlanError {
    /// The proxy needs an address of its own.
    #[error("gateway.campusAddress: the campus network {0} has no address left for the gateway's proxy")]
    CampusFull(IpNet),
}

/// The plan of a site.
pub(super) fn of_site(site: &SiteFile) -> Result<SitePlan, PlanError> {
    let switches = site
        .switches()
        .map(|switch| {
            let namespace = names::switch(&site.name, &switch.name);
            (switch.name.to_string(), SwitchPlan { namespace, ports: switch_ports(switch) })
        })
        .collect();
    let hosts = site.hosts.iter().map(|host| (host.name.clone(), nics(&site.name, host))).collect();
    let gateway = site.gateway.as_ref().map(|gateway| gateway_plan(&site.name, gateway)).transpose()?;
    Ok(SitePlan { site: site.name.clone(), switches, links: links(site), hosts, gateway })
}

fn switch_ports(switch: &SwitchSpec) -> SwitchPorts {
    let mut ports = SwitchPorts::default();
    for port in &switch.ports {
        let interface = names::interface(&port.name);
        let allowed = match &port.cable {
            Cable::Switch { .. } => {
                ports.interswitch.insert(interface);
                continue;
            }
            Cable::Nic { mac, .. } | Cable::Gateway { mac } | Cable::Endpoint { mac } => {
                BTreeSet::from([mac.to_string()])
            }
            Cable::Unplugged => BTreeSet::new(),
        };
        ports.edge.insert(interface, allowed);
    }
    ports
}

fn port(site: &str, switch: &str, port: &str) -> Port {
    Port { namespace: names::switch(site, switch), interface: names::interface(port) }
}

fn nics(site: &str, host: &HostSpec) -> Vec<NicPlan> {
    let plan = |nic: &crate::site::NicSpec| NicPlan {
        interface: names::interface(&nic.name),
        mac: nic.mac.to_string(),
        port: port(site, &nic.switch, &nic.port),
    };
    host.nics.iter().map(plan).collect()
}

/// Every cable between switches, once.
fn links(site: &SiteFile) -> Vec<[Port; 2]> {
    let mut found = BTreeSet::new();
    for switch in site.switches() {
        for near in &switch.ports {
            if let Cable::Switch { switch: other, port: far } = &near.cable {
                let mut ends = [port(&site.name, &switch.name, &near.name), port(&site.name, other, far)];
                ends.sort();
                found.insert(ends);
            }
        }
    }
    found.into_iter().collect()
}

fn gateway_plan(site: &str, gateway: &GatewaySpec) -> Result<GatewayPlan, PlanError> {
    let campus = gateway.campus_address;
    let on_campus =
        |address| IpNet::new(address, campus.prefix_len()).unwrap_or_else(|_| IpNet::from(address));
    let external: Vec<IpNet> = gateway.external_ranges().collect();
    let mut taken: BTreeSet<IpAddr> = gateway.clients.iter().map(|client| client.address).collect();
    taken.insert(campus.addr());
    let proxy =
        free_address(campus, &taken, &external).ok_or_else(|| PlanError::CampusFull(campus.trunc()))?;
    let client = |client: &crate::site::CampusClient| CampusHost {
        namespace: names::campus_client(site, &client.name),
        address: on_campus(client.address),
    };
    Ok(GatewayPlan {
        namespace: names::gateway(site),
        uplink: NicPlan {
            interface: names::UPLINK.to_owned(),
            mac: gateway.mac.to_string(),
            port: port(site, &gateway.switch, &gateway.port),
        },
        node_address: gateway.node_address,
        campus_address: campus,
        external,
        controller: SocketAddr::new(gateway.node_address.addr(), gateway.controller_port),
        proxy: CampusHost { namespace: names::campus(site), address: on_campus(proxy) },
        clients: gateway.clients.iter().map(client).collect(),
    })
}

/// The highest address of the network that nobody has and that lies in no external range.
fn free_address(network: IpNet, taken: &BTreeSet<IpAddr>, external: &[IpNet]) -> Option<IpAddr> {
    /// More addresses than anybody has clients.
    const TRIES: u128 = 4096;
    let free =
        |address: &IpAddr| !taken.contains(address) && !external.iter().any(|range| range.contains(address));
    let (first, last): (u128, u128) = match (network.network(), network.broadcast()) {
        (IpAddr::V4(first), IpAddr::V4(last)) => (u32::from(first).into(), u32::from(last).into()),
        (IpAddr::V6(first), IpAddr::V6(last)) => (first.into(), last.into()),
        _ => return None,
    };
    let lowest = (first + 1).max(last.saturating_sub(TRIES));
    let candidates = (lowest..last).rev().map(|number| match network {
        IpNet::V4(_) => u32::try_from(number).ok().map(|number| IpAddr::V4(number.into())),
        IpNet::V6(_) => Some(IpAddr::V6(number.into())),
    });
    candidates.flatten().find(free)
}

impl SitePlan {
    /// Every network namespace that the site may have.
    pub(super) fn namespaces(&self) -> Vec<String> {
        let hosts = self.hosts.keys().map(|host| names::host(&self.site, host));
        let switches = self.switches.values().map(|switch| switch.namespace.clone());
        let gateway = self.gateway.iter().flat_map(|gateway| {
            let campus =
                [&gateway.proxy].into_iter().chain(&gateway.clients).map(|host| host.namespace.clone());
            [gateway.namespace.clone()].into_iter().chain(campus)
        });
        hosts.chain(switches).chain(gateway).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SITE: &str = "
name: rack
fabrics:
- {id: Ethernet, switches: [{name: eth-a, ports: 2, speedGbps: 25}, {name: eth-b, ports: 2, speedGbps: 25}],
   links: [{from: eth-a, to: eth-b, speedGbps: 100, count: 2}]}
hosts:
- {name: c01, processor: {cores: 4}, memoryMiB: 1024,
   nics: [{name: eth0, switch: eth-a, port: p2, mac: '02:d5:00:00:00:01'}]}
gateway:
  nodeAddress: 10.20.0.1/16
  campusAddress: 203.0.113.1/29
  mac: '02:d5:00:00:00:09'
  switch: eth-b
  port: p1
  clients: [{name: laptop, address: 203.0.113.6}]
";

    #[test]
    fn a_small_site() {
        let plan = of_site(&SiteFile::parse(SITE).unwrap()).unwrap();
        let a = &plan.switches["eth-a"].ports;
        assert_eq!(a.edge["p2"], BTreeSet::from(["02:d5:00:00:00:01".to_owned()]));
        assert!(a.edge["p1"].is_empty());
        assert_eq!(a.interswitch, BTreeSet::from(["isl0".to_owned(), "isl1".to_owned()]));
        assert_eq!(plan.links.len(), 2, "each cable once");
        assert_eq!(plan.links[0][1], port("rack", "eth-b", "isl0"));
        let gateway = plan.gateway.as_ref().unwrap();
        assert_eq!(gateway.proxy.address, "203.0.113.5/29".parse().unwrap());
        assert_eq!(gateway.controller, "10.20.0.1:6443".parse().unwrap());
        assert_eq!(
            plan.namespaces(),
            [
                "ds-rack-c01",
                "ds-rack.sw.eth-a",
                "ds-rack.sw.eth-b",
                "ds-rack.gw",
                "ds-rack.campus",
                "ds-rack.campus.laptop"
            ]
        );
    }

    #[test]
    fn a_full_campus_is_refused() {
        let full = SITE.replace("203.0.113.1/29", "203.0.113.1/30").replace("203.0.113.6", "203.0.113.2");
        let error = of_site(&SiteFile::parse(&full).unwrap()).unwrap_err();
        assert_eq!(error, PlanError::CampusFull("203.0.113.0/30".parse().unwrap()));
        let external = ["2001:db8::fff0/124".parse().unwrap()];
        let found = free_address("2001:db8::1/112".parse().unwrap(), &BTreeSet::new(), &external);
        assert_eq!(found, Some("2001:db8::ffef".parse().unwrap()));
    }
}
