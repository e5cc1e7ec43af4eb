//! What the cloud has to give: networks with their addresses, images, flavors, hosts.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
};

use ipnet::IpNet;
use uuid::Uuid;

use crate::site::{CloudFlavor, CloudImage, CloudNetwork, CloudSpec, CloudZone};

/// What the site file says that there is.
#[derive(Debug, Clone, Default)]
pub(in crate::cloud) struct Catalogue {
    /// Networks.
    pub(in crate::cloud) networks: Vec<CloudNetwork>,
    /// Images.
    pub(in crate::cloud) images: Vec<CloudImage>,
    /// Flavors.
    pub(in crate::cloud) flavors: Vec<CloudFlavor>,
    /// Availability zones.
    pub(in crate::cloud) zones: Vec<CloudZone>,
}

impl Catalogue {
    /// Of a site's cloud.
    pub(in crate::cloud) fn of(spec: &CloudSpec) -> Self {
        Self {
            networks: spec.networks.clone(),
            images: spec.images.clone(),
            flavors: spec.flavors.clone(),
            zones: spec.zones.clone(),
        }
    }

    /// A network by name or id.
    pub(in crate::cloud) fn network(&self, named: &str) -> Option<&CloudNetwork> {
        self.networks.iter().find(|network| network.name == named || same(network.id, named))
    }

    /// An image by name or id.
    pub(in crate::cloud) fn image(&self, named: &str) -> Option<&CloudImage> {
        self.images.iter().find(|image| image.name == named || same(image.id, named))
    }

    /// A flavor by name or id.
    pub(in crate::cloud) fn flavor(&self, named: &str) -> Option<&CloudFlavor> {
        self.flavors.iter().find(|flavor| flavor.name == named || same(flavor.id, named))
    }
}

/// Whether a text is this id, in any of the forms that ids have.
pub(super) fn same(id: Uuid, text: &str) -> bool {
    Uuid::parse_str(text).is_ok_and(|parsed| parsed == id)
}

/// Addresses that are given out, over all stacks.
#[derive(Debug, Clone, Default)]
pub(in crate::cloud) struct Addresses {
    /// By network and address: the port that has it.
    taken: HashMap<(Uuid, IpAddr), Uuid>,
    /// No address of the network below this one is free.
    lowest: HashMap<Uuid, u128>,
}

impl Addresses {
    /// Notes that a port has an address.
    pub(in crate::cloud) fn take(&mut self, network: Uuid, address: IpAddr, port: Uuid) {
        self.taken.insert((network, address), port);
    }

    /// Gives back what a port had.
    pub(in crate::cloud) fn release(&mut self, network: Uuid, address: IpAddr, port: Uuid) {
        if self.taken.get(&(network, address)) == Some(&port) {
            self.taken.remove(&(network, address));
            let number = number(address);
            self.lowest.entry(network).and_modify(|lowest| *lowest = number.min(*lowest));
        }
    }

    /// Whether none is given out.
    #[cfg(test)]
    pub(in crate::cloud) fn is_empty(&self) -> bool {
        self.taken.is_empty()
    }

    /// The port that has an address.
    pub(super) fn holder(&self, network: Uuid, address: IpAddr) -> Option<Uuid> {
        self.taken.get(&(network, address)).copied()
    }

    /// Gives a port the lowest free address of a network; `None` if there is none left.
    pub(super) fn give(&mut self, network: &CloudNetwork, port: Uuid) -> Option<IpAddr> {
        let range = network.allocation.unwrap_or(network.cidr);
        let (first, last) = (number(range.network()), number(range.broadcast()));
        let start = self.lowest.get(&network.id).copied().unwrap_or(first).max(first);
        let found = (start..=last).find_map(|candidate| {
            let address = address(candidate, network.cidr)?;
            let free = is_usable(network.cidr, address) && self.holder(network.id, address).is_none();
            free.then_some((candidate, address))
        });
        let (candidate, address) = found?;
        self.lowest.insert(network.id, candidate + 1);
        self.take(network.id, address, port);
        Some(address)
    }
}

/// The router's address in a network: the first one.
pub(crate) fn router(cidr: IpNet) -> Option<IpAddr> {
    address(number(cidr.network()) + 1, cidr)
}

/// Whether a machine can have an address: it is in the network, and neither its first, nor its router's, nor its last.
pub(super) fn is_usable(cidr: IpNet, address: IpAddr) -> bool {
    cidr.contains(&address)
        && address != cidr.network()
        && address != cidr.broadcast()
        && Some(address) != router(cidr)
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}

fn address(number: u128, like: IpNet) -> Option<IpAddr> {
    match like {
        IpNet::V4(_) => u32::try_from(number).ok().map(|number| IpAddr::V4(number.into())),
        IpNet::V6(_) => Some(IpAddr::V6(number.into())),
    }
}

/// How many servers there are on each compute host.
#[derive(Debug, Clone, Default)]
pub(in crate::cloud) struct Hosts(BTreeMap<String, u32>);

impl Hosts {
    /// Notes a server on a host.
    pub(in crate::cloud) fn add(&mut self, host: &str) {
        *self.0.entry(host.to_owned()).or_default() += 1;
    }

    /// Notes that a server is gone from a host.
    pub(in crate::cloud) fn remove(&mut self, host: &str) {
        if let Some(count) = self.0.get_mut(host) {
            *count = count.saturating_sub(1);
        }
    }

    /// The emptiest of some hosts, the first by order of those that are equally empty.
    pub(super) fn emptiest<'a>(&self, hosts: impl Iterator<Item = &'a String>) -> Option<&'a String> {
        hosts.min_by_key(|host| self.0.get(*host).copied().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(cidr: &str) -> CloudNetwork {
        CloudNetwork {
            name: "net".to_owned(),
            id: Uuid::from_u128(1),
            subnet: Uuid::from_u128(2),
            cidr: cidr.parse().unwrap(),
            allocation: None,
        }
    }

    #[test]
    fn the_lowest_free_address_is_given() {
        let network = network("10.10.0.0/29");
        let mut addresses = Addresses::default();
        let port = Uuid::from_u128;
        let given: Vec<_> = (0..6).map(|n| addresses.give(&network, port(n))).collect();
        let wanted: Vec<Option<IpAddr>> =
            (2..=6).map(|n| Some(IpAddr::from([10, 10, 0, n]))).chain([None]).collect();
        assert_eq!(given, wanted, "neither the network's, nor the router's, nor the last one");
        addresses.release(network.id, "10.10.0.4".parse().unwrap(), port(1));
        assert_eq!(addresses.give(&network, port(9)), None, "only its holder gives one back");
        addresses.release(network.id, "10.10.0.4".parse().unwrap(), port(2));
        assert_eq!(addresses.give(&network, port(9)), Some("10.10.0.4".parse().unwrap()));
    }

    #[test]
    fn the_emptiest_host_is_taken() {
        let mut hosts = Hosts::default();
        let names = ["a".to_owned(), "b".to_owned()];
        assert_eq!(hosts.emptiest(names.iter()).unwrap(), "a");
        hosts.add("a");
        assert_eq!(hosts.emptiest(names.iter()).unwrap(), "b");
        hosts.remove("a");
        assert_eq!(hosts.emptiest(names.iter()).unwrap(), "a");
    }
}
