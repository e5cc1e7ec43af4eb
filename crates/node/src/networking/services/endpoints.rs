//! The endpoints of one port of a Service.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    net::Ipv4Addr,
};

use drystone_cni::dataplane::model::{Endpoint, Protocol};
use k8s_openapi::api::discovery::v1::{self, EndpointPort, EndpointSlice};

use super::{number, protocol};

/// The endpoints of all slices for a port, without duplicates: an endpoint may be in two slices while it moves from one to the
/// other. `ignores_readiness` is the Service's `publishNotReadyAddresses`.
pub(super) fn merged(
    slices: &[&EndpointSlice],
    port_name: &str,
    wanted: Protocol,
    ignores_readiness: bool,
    node: &str,
) -> Vec<Endpoint> {
    let is_wanted = |port: &&EndpointPort| {
        port.name.as_deref().unwrap_or_default() == port_name
            && protocol(port.protocol.as_deref()) == Some(wanted)
    };
    let mut merged: BTreeMap<(Ipv4Addr, u16), Endpoint> = BTreeMap::new();
    for slice in slices {
        let port = slice.ports.iter().flatten().find(is_wanted);
        let Some(port) = port.and_then(|port| number(port.port?)) else { continue };
        for found in &slice.endpoints {
            let Some(address) = address(found) else { continue };
            let endpoint = endpoint(found, address, port, ignores_readiness, node);
            match merged.entry((address, port)) {
                Entry::Vacant(entry) => drop(entry.insert(endpoint)),
                Entry::Occupied(mut entry) => {
                    let known = entry.get_mut();
                    known.local |= endpoint.local;
                    known.ready |= endpoint.ready;
                    known.serving |= endpoint.serving;
                }
            }
        }
    }
    merged.into_values().collect()
}

/// The first address; further ones have no meaning. An address that stands for the node itself would open what listens there
/// for nobody else.
pub(crate) fn address(endpoint: &v1::Endpoint) -> Option<Ipv4Addr> {
    let address: Ipv4Addr = endpoint.addresses.first()?.parse().ok()?;
    let is_special = address.is_unspecified()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_broadcast();
    (!is_special).then_some(address)
}

/// Whether an endpoint is ready; a condition that is not set counts as met.
pub(crate) fn is_ready(endpoint: &v1::Endpoint) -> bool {
    endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true)
}

fn endpoint(
    found: &v1::Endpoint,
    address: Ipv4Addr,
    port: u16,
    ignores_readiness: bool,
    node: &str,
) -> Endpoint {
    let conditions = found.conditions.as_ref();
    let serves = conditions.and_then(|conditions| conditions.serving).unwrap_or(true);
    let terminates = conditions.and_then(|conditions| conditions.terminating).unwrap_or(false);
    Endpoint {
        address,
        port,
        local: found.node_name.as_deref() == Some(node),
        ready: ignores_readiness || is_ready(found),
        serving: serves && terminates,
    }
}
