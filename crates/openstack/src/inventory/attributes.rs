//! Attributes of resources: what Nova, Neutron and Cinder say of a server, a port, a volume. Whatever is not understood is not there.

use std::net::IpAddr;

use serde_json::{Map, Value};

use super::{Address, Fixed};
use crate::Resource;

/// An attribute that is a text.
pub(super) fn text<'a>(resource: &'a Resource, name: &str) -> Option<&'a str> {
    in_map(resource.attributes.as_ref()?, name)
}

fn in_map<'a>(map: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    map.get(name)?.as_str().filter(|text| !text.is_empty())
}

fn list<'a>(resource: &'a Resource, name: &str) -> impl Iterator<Item = &'a Map<String, Value>> {
    let attribute = resource.attributes.as_ref().and_then(|attributes| attributes.get(name));
    attribute.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_object)
}

fn address(map: &Map<String, Value>, name: &str) -> Option<IpAddr> {
    in_map(map, name)?.parse().ok()
}

/// A floating address.
pub(super) fn floating(resource: &Resource) -> Option<IpAddr> {
    address(resource.attributes.as_ref()?, "floating_ip_address")
}

/// The addresses of a port.
pub(super) fn fixed(port: &Resource) -> Vec<Fixed> {
    let fixed = |entry| {
        Some(Fixed {
            address: address(entry, "ip_address")?,
            subnet: in_map(entry, "subnet_id").map(str::to_owned),
        })
    };
    list(port, "fixed_ips").filter_map(fixed).collect()
}

/// The addresses of a server.
pub(super) fn addresses(server: &Resource) -> Vec<Address> {
    let attribute = server.attributes.as_ref().and_then(|attributes| attributes.get("addresses"));
    let Some(networks) = attribute.and_then(Value::as_object) else { return Vec::new() };
    let mut addresses = Vec::new();
    for (network, entries) in networks {
        for entry in entries.as_array().into_iter().flatten().filter_map(Value::as_object) {
            let Some(address) = address(entry, "addr") else { continue };
            let floating = in_map(entry, "OS-EXT-IPS:type") == Some("floating");
            addresses.push(Address { network: network.clone(), address, floating });
        }
    }
    addresses
}

/// Where a volume is: server and device.
pub(super) fn attachment(volume: &Resource) -> (Option<String>, Option<String>) {
    let Some(attachment) = list(volume, "attachments").next() else { return (None, None) };
    let text = |name| in_map(attachment, name).map(str::to_owned);
    (text("server_id"), text("device"))
}
