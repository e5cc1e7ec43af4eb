//! The records of one Service.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use drystone_cni::dataplane::model::Protocol;
use hickory_proto::rr::{Name, RData, Record, rdata::SRV};
use k8s_openapi::api::{
    core::v1::Service,
    discovery::v1::{Endpoint, EndpointSlice},
};

use super::{Hosts, TTL, address_record};
use crate::networking::services::{cluster_addresses, endpoint_address, is_ready, protocol};

/// All are equally good.
const PRIORITY: u16 = 0;
const WEIGHT: u16 = 100;

/// Name and protocol of a port, as labels: `_https`, `_tcp`.
type PortLabels = (String, String);

/// What is known of a Service.
#[derive(Debug)]
pub(super) enum Entry {
    /// It has addresses of its own.
    Cluster { addresses: BTreeSet<Ipv4Addr>, ports: BTreeMap<PortLabels, u16> },
    /// Its endpoints are found by name.
    Headless { hosts: Hosts, ports: BTreeMap<PortLabels, BTreeSet<(String, u16)>> },
    /// It is another name for something outside.
    External(Name),
}

impl Entry {
    /// Reads a Service; none if it has no records, as a headless one without ready endpoints.
    pub(super) fn new(service: &Service, slices: &[&EndpointSlice], own: &Name) -> Option<Self> {
        let spec = service.spec.as_ref()?;
        if spec.type_.as_deref() == Some("ExternalName") {
            let mut target = Name::from_ascii(spec.external_name.as_deref()?.trim()).ok()?;
            target.set_fqdn(true);
            // A name that leads to itself leads nowhere.
            return (!target.is_root() && target != *own).then_some(Self::External(target));
        }
        let addresses = cluster_addresses(service);
        if !addresses.is_empty() {
            let ports = spec.ports.iter().flatten().filter_map(|port| {
                let labels = port_labels(port.name.as_deref(), port.protocol.as_deref())?;
                Some((labels, u16::try_from(port.port).ok()?))
            });
            return Some(Self::Cluster { addresses, ports: ports.collect() });
        }
        let is_headless = spec.cluster_ip.as_deref() == Some("None");
        let ignores_readiness = spec.publish_not_ready_addresses == Some(true);
        is_headless.then(|| Self::headless(slices, ignores_readiness)).flatten()
    }

    fn headless(slices: &[&EndpointSlice], ignores_readiness: bool) -> Option<Self> {
        let mut hosts = Hosts::new();
        let mut ports: BTreeMap<PortLabels, BTreeSet<(String, u16)>> = BTreeMap::new();
        for slice in slices {
            let numbers: Vec<(PortLabels, u16)> = slice
                .ports
                .iter()
                .flatten()
                .filter_map(|port| {
                    let labels = port_labels(port.name.as_deref(), port.protocol.as_deref())?;
                    Some((labels, u16::try_from(port.port?).ok()?))
                })
                .collect();
            for endpoint in slice.endpoints.iter().filter(|endpoint| ignores_readiness || is_ready(endpoint))
            {
                let Some(address) = endpoint_address(endpoint) else { continue };
                let host = host_name(endpoint, address);
                for (labels, number) in &numbers {
                    ports.entry(labels.clone()).or_default().insert((host.clone(), *number));
                }
                hosts.entry(host).or_default().insert(address);
            }
        }
        (!hosts.is_empty()).then_some(Self::Headless { hosts, ports })
    }

    /// The addresses of the Service's own name.
    pub(super) fn addresses(&self) -> BTreeSet<Ipv4Addr> {
        match self {
            Self::Cluster { addresses, .. } => addresses.clone(),
            Self::Headless { hosts, .. } => hosts.values().flatten().copied().collect(),
            Self::External(_) => BTreeSet::new(),
        }
    }

    /// The addresses of one of its hosts.
    pub(super) fn host(&self, host: &str) -> Option<BTreeSet<Ipv4Addr>> {
        match self {
            Self::Headless { hosts, .. } => hosts.get(host).cloned(),
            _ => None,
        }
    }

    /// Whether it has a named port of a protocol (`_tcp`).
    pub(super) fn has_protocol(&self, protocol: &str) -> bool {
        let is_same = |(_, other): &PortLabels| other == protocol;
        match self {
            Self::Cluster { ports, .. } => ports.keys().any(is_same),
            Self::Headless { ports, .. } => ports.keys().any(is_same),
            Self::External(_) => false,
        }
    }

    /// The SRV records of a port, and the addresses of the hosts that they name. `own` is the Service's name.
    pub(super) fn service_records(
        &self,
        asked: &Name,
        own: &Name,
        port: &str,
        protocol: &str,
    ) -> Option<(Vec<Record>, Vec<Record>)> {
        let labels = (port.to_owned(), protocol.to_owned());
        let record = |target: Name, number: u16| {
            Record::from_rdata(asked.clone(), TTL, RData::SRV(SRV::new(PRIORITY, WEIGHT, number, target)))
        };
        match self {
            Self::Cluster { addresses, ports } => {
                let number = ports.get(&labels)?;
                let additionals = addresses.iter().map(|address| address_record(own, *address));
                Some((vec![record(own.clone(), *number)], additionals.collect()))
            }
            Self::Headless { hosts, ports } => {
                let targets = ports.get(&labels)?;
                let named: Vec<(Name, &str, u16)> = targets
                    .iter()
                    .filter_map(|(host, number)| {
                        Some((own.prepend_label(host.as_str()).ok()?, host.as_str(), *number))
                    })
                    .collect();
                let addresses = named.iter().flat_map(|(name, host, _)| {
                    hosts.get(*host).into_iter().flatten().map(move |address| address_record(name, *address))
                });
                let additionals = addresses.collect();
                Some((named.into_iter().map(|(name, _, number)| record(name, number)).collect(), additionals))
            }
            Self::External(_) => None,
        }
    }

    /// The names of addresses.
    pub(super) fn pointers(&self, own: &Name) -> Vec<(Ipv4Addr, Name)> {
        match self {
            Self::Cluster { addresses, .. } => {
                addresses.iter().map(|address| (*address, own.clone())).collect()
            }
            Self::Headless { hosts, .. } => {
                let named = hosts.iter().filter_map(|(host, addresses)| {
                    Some((own.prepend_label(host.as_str()).ok()?, addresses))
                });
                named
                    .flat_map(|(name, addresses)| {
                        addresses.iter().map(move |address| (*address, name.clone()))
                    })
                    .collect()
            }
            Self::External(_) => Vec::new(),
        }
    }
}

/// The endpoint's own name, or one made of its address.
fn host_name(endpoint: &Endpoint, address: Ipv4Addr) -> String {
    let own = endpoint.hostname.as_deref().filter(|name| !name.is_empty());
    own.map_or_else(|| address.to_string().replace('.', "-"), str::to_ascii_lowercase)
}

/// None for a port without a name: it has no SRV record.
fn port_labels(name: Option<&str>, protocol_name: Option<&str>) -> Option<PortLabels> {
    let name = name.filter(|name| !name.is_empty())?;
    let protocol = match protocol(protocol_name)? {
        Protocol::Tcp => "_tcp",
        Protocol::Udp => "_udp",
        Protocol::Sctp => "_sctp",
    };
    Some((format!("_{}", name.to_ascii_lowercase()), protocol.to_owned()))
}
